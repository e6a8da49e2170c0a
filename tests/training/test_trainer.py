"""Laws of the trainer: its options, its steps, and what it hands on to a sampler."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from shortest_path.training import TrainingOptions
from tests.training.networks import LabelledNet, Net, batches, layer, net, trainer
from tests.worlds import CORRUPTIONS, SHAPE, correlated_images, spectrum


def test_training_approaches_the_exact_denoiser() -> None:
    # A model that is linear per coefficient can represent the exact denoiser at a fixed time.
    corruption = sp.ShortestPathCorruption(
        sp.PowerSpectrum(sp.CosineBasis(1), torch.tensor([[4.0, 1.0, 0.1]], dtype=torch.float64))
    )

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.zeros(1, 3))

        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            return corruption.basis.synthesize(self.gain * corruption.basis.analyze(x_t))

    model = Linear()
    fitted = sp.DiffusionTrainer(
        model,
        corruption,
        optimizer=torch.optim.Adam(model.parameters(), 0.05),
        time_sampling=lambda uniform: torch.full_like(uniform, 0.5),
        ema_decay=0.99,
    )
    power = corruption.power
    data = [
        corruption.basis.synthesize(power.sqrt() * torch.randn(512, 1, 3, dtype=torch.float64)).float()
        for _ in range(4)
    ]
    fitted.fit(data, steps=600)
    t = torch.tensor([0.5], dtype=torch.float64)
    signal, noise = corruption.signal(t)[0], corruption.noise(t)[0]
    expected = noise / (signal**2 * power + noise**2)
    torch.testing.assert_close(fitted.ema_model.gain.detach().double(), expected, rtol=0.05, atol=0.02)


# --- options ----------------------------------------------------------------------------------------------


def test_options_are_frozen_and_seen_in_the_signature() -> None:
    made = trainer(accumulation=2, seed=4)
    assert made.options == TrainingOptions(ema_decay=0.9, accumulation=2, seed=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.options.seed = 5  # type: ignore[misc]
    parameters = inspect.signature(sp.DiffusionTrainer).parameters
    own = ["model", "corruption", "spectrum", "optimizer", "scheduler", "metadata"]
    fields = {field.name: field.default for field in dataclasses.fields(TrainingOptions)}
    assert list(parameters) == [*own, *fields]
    assert {name: parameters[name].default for name in fields} == fields
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in [*own[2:], *fields])
    documented = sp.DiffusionTrainer.__doc__ or ""
    assert all(f"        {name}: " in documented for name in parameters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "unknown precision 'fp8'; choose one of 'fp32', 'bf16', 'fp16'"),
        ({"accumulation": 0}, "accumulation must be 1 or more, got 0"),
        ({"max_skipped": -1}, "max_skipped must be 0 or more, got -1"),
        ({"max_grad_norm": -1.0}, "max_grad_norm must be positive, got -1.0; None does not clip"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\), or be None for no average, got 1.0"),
        ({"ema_decay": (0.9, 1.0)}, r"ema_decay must lie in \[0, 1\), or be None for no average, got 1.0"),
        ({"ema_decay": []}, r"a sequence of ema_decay must hold one or more different decays, got \(\)"),
        ({"ema_decay": (0.9, 0.9)}, r"must hold one or more different decays, got \(0.9, 0.9\)"),
        ({"drop_conditioning": 1.0}, r"drop_conditioning must be a probability in \[0, 1\), got 1.0"),
        ({"drop_conditioning": -0.1}, r"drop_conditioning must be a probability in \[0, 1\), got -0.1"),
        ({"drop_conditioning": 0.1}, "=0.1 requires null_conditioning, e.g. {'class_labels': 10}"),
        ({"null_conditioning": {"y": 4}}, "null_conditioning has no effect with drop_conditioning=0; pass drop_condi"),
    ],
)
def test_wrong_options_are_explained(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)
    with pytest.raises(ValueError, match=message):
        sp.DiffusionTrainer(net(), CORRUPTIONS["blur"](), **options)


def test_unknown_options_and_a_rate_beside_an_optimizer_are_refused() -> None:
    with pytest.raises(TypeError, match=r"unknown options ema, lr; choose from accumulation, check_range, .*weighting"):
        trainer(lr=1e-3, ema=0.9)
    model = net()
    with pytest.raises(ValueError, match="learning_rate=0.001 has no effect beside optimizer; set it in the"):
        sp.DiffusionTrainer(
            model, CORRUPTIONS["blur"](), optimizer=torch.optim.SGD(model.parameters(), 1.0), learning_rate=1e-3
        )
    assert trainer().optimizer.param_groups[0]["lr"] == 2e-4
    assert trainer(learning_rate=0.5).optimizer.param_groups[0]["lr"] == 0.5


def test_the_seed_decides() -> None:
    losses = [trainer(seed=seed).loss(batches(1)[0]).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_a_trainer_says_what_it_trains() -> None:
    model = net()
    made = sp.DiffusionTrainer(
        model, sp.GaussianCorruption(), prediction="velocity", optimizer=torch.optim.SGD(model.parameters(), 0.1)
    )
    said = f"DiffusionTrainer(Net, {made.corruption!r}, prediction='velocity', SGD, "
    assert repr(made) == f"{said}0 steps)"
    made.train_step(batches(1))
    handle = model.first.weight.register_hook(lambda grad: grad * math.nan)
    made.train_step(batches(1))
    handle.remove()
    assert repr(made) == f"{said}2 steps, 1 skipped)"


# --- the sampler ------------------------------------------------------------------------------------------


def test_the_sampler_is_of_what_was_trained() -> None:
    measured = spectrum()
    trained = sp.DiffusionTrainer(
        net(), sp.GaussianCorruption(), prediction="whitened-velocity", spectrum=measured, ema_decay=0.5
    )
    trained.train_step(batches(1))
    sampler = trained.sampler(steps=3)
    assert sampler.model is trained.ema_model
    assert (sampler.corruption, sampler.prediction, sampler.steps) == (trained.corruption, "whitened-velocity", 3)
    same = sp.Sampler(trained.ema_model, trained.corruption, prediction="whitened-velocity", spectrum=measured, steps=3)
    ours, theirs = (each.sample((2, *SHAPE), generator=torch.Generator().manual_seed(0)) for each in (sampler, same))
    assert torch.equal(ours, theirs)
    again = trained.sampler(steps=3, solver="ddim")
    assert again.solver == sp.solvers.DDIM()
    with pytest.raises(TypeError, match="stepz"):
        trained.sampler(stepz=3)


def test_guidance_takes_the_null_conditioning_of_training() -> None:
    null = {"y": torch.tensor(4)}
    trained = sp.DiffusionTrainer(
        LabelledNet(), CORRUPTIONS["blur"](), label_name="y", drop_conditioning=0.5, null_conditioning=null
    )
    shape, labels = (2, *SHAPE), {"y": torch.tensor([0, 1])}
    trained.sampler(guidance_scale=2.0, steps=1).sample(shape, conditioning=labels)
    seen = torch.cat([each["y"] for each in trained.ema_model.seen])
    assert sorted(seen.tolist()) == [0, 1, 4, 4]
    trained.ema_model.seen.clear()
    trained.sampler(guidance_scale=2.0, null_conditioning={"y": 3}, steps=1).sample(shape, conditioning=labels)
    assert sorted(torch.cat([each["y"] for each in trained.ema_model.seen]).tolist()) == [0, 1, 3, 3]
    trained.sampler(steps=1).sample(shape, conditioning=labels)  # no guidance, and nothing refused
    with pytest.raises(ValueError, match=r"guidance_scale=2 requires null_conditioning, the same as in training"):
        trainer().sampler(guidance_scale=2.0)


# --- steps --------------------------------------------------------------------------------------------------


def test_a_step_of_several_batches_has_the_mean_of_their_gradients() -> None:
    corruption, data = CORRUPTIONS["blur"](), batches(3)
    one, other = (sp.DiffusionTrainer(layer(), corruption, accumulation=3) for _ in range(2))
    loss = sum(other.loss(x_0) for x_0 in data) / 3  # with the same random numbers
    loss.backward()
    step = one.train_step(data)
    torch.testing.assert_close(step.loss, loss.detach())
    torch.testing.assert_close(one.model.weight.grad, other.model.weight.grad)


def test_ema_follows_the_weights_and_copies_buffers() -> None:
    average = trainer()
    before = copy.deepcopy(average.ema_model)
    average.train_step(batches(1))
    for mine, old, new in zip(
        average.ema_model.parameters(), before.parameters(), average.model.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, 0.1 * old + 0.9 * new)  # the warm-up: (1 + 0) / (10 + 0)
    for mine, new in zip(average.ema_model.buffers(), average.model.buffers(), strict=True):
        assert torch.equal(mine, new)
    assert not average.ema_model.training
    assert not any(parameter.requires_grad for parameter in average.ema_model.parameters())


def test_gradients_are_clipped_and_reported() -> None:
    model = net()
    clipped = sp.DiffusionTrainer(
        model, CORRUPTIONS["blur"](), optimizer=torch.optim.SGD(model.parameters(), 1.0), max_grad_norm=1e-3
    )
    before = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    step = clipped.train_step(batches(1))
    after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(1e-3, rel=1e-2)
    unclipped = trainer().train_step(batches(1))
    assert step.grad_norm.item() > 1e-3
    assert unclipped.grad_norm.item() > 0


def test_bf16_runs_the_model_alone_in_bfloat16() -> None:
    kinds: list[tuple[torch.dtype, torch.dtype]] = []

    class Spy(Net):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            output = super().forward(x_t, t)
            kinds.append((x_t.dtype, output.dtype))
            return output

    half = sp.DiffusionTrainer(Spy(), CORRUPTIONS["shortest-cosine"](), precision="bf16")
    loss = half.train_step(batches(1)).loss
    assert kinds == [(torch.float32, torch.bfloat16)]
    assert loss.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in half.model.parameters())


def test_a_model_gets_images_in_the_type_of_its_weights() -> None:
    seen: list[torch.dtype] = []
    for dtype in (torch.float64, torch.bfloat16):
        model = net(dropout=0.0).to(dtype)
        model.first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
        step = sp.DiffusionTrainer(model, CORRUPTIONS["shortest-cosine"]()).train_step(batches(1))
        assert not step.skipped
    assert seen == [torch.float64, torch.bfloat16]


def test_labels_and_conditioning_reach_the_model() -> None:
    seen: list[dict[str, object]] = []

    class Spy(Net):
        def forward(self, x_t: Tensor, t: Tensor, **conditioning: object) -> Tensor:
            seen.append(conditioning)
            return super().forward(x_t, t)

    x, labels = batches(1)[0], torch.arange(8)
    for batch, name in (((x, labels), "classes"), ((x, labels), None), ((x, {"text": labels}), None), ([x], None)):
        sp.DiffusionTrainer(Spy(), CORRUPTIONS["blur"](), label_name=name).train_step([batch])
    assert [list(conditioning) for conditioning in seen] == [["classes"], [], ["text"], []]
    assert seen[0]["classes"] is labels


def test_fit_counts_steps_calls_back_and_passes_again_over_the_data(tmp_path: Path) -> None:
    class Data:
        def __init__(self) -> None:
            self.epochs: list[int] = []

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

        def __iter__(self) -> object:
            return iter([(x, torch.full((8,), number)) for number, x in enumerate(batches(3))])

    def fit(steps: int, folder: Path | None = None) -> tuple[list[int], list[int], list[int]]:
        seen: list[int] = []
        data, model = Data(), LabelledNet()
        trained = sp.DiffusionTrainer(model, CORRUPTIONS["blur"](), label_name="y")
        trained.fit(data, steps=steps, checkpoint_dir=folder, callbacks=[lambda who, done: seen.append(done.step)])
        assert trained.step == steps
        return seen, data.epochs, [call["y"][0].item() for call in model.seen]

    assert fit(7) == ([1, 2, 3, 4, 5, 6, 7], [0, 1, 2], [0, 1, 2, 0, 1, 2, 0])
    assert fit(4, tmp_path) == ([1, 2, 3, 4], [0, 1], [0, 1, 2, 0])
    assert fit(7, tmp_path) == ([5, 6, 7], [1, 2], [1, 2, 0])  # in the middle of a pass


# --- wrong input --------------------------------------------------------------------------------------------


GOOD = torch.zeros(2, *SHAPE)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([], ValueError, "batches yielded nothing"),
        (iter([]), ValueError, "batches yielded nothing"),
        (iter([GOOD]), ValueError, "batches ended after 1 before the last step; pass something that can be iterated"),
        (["cat.png"], TypeError, "must yield tensors .* got str"),
        (GOOD, TypeError, r"iterable of batches, got one tensor of shape \(2, 3, 8, 8\); pass batches.split"),
        ([GOOD.double()], TypeError, "images are torch.float64, the model's weights torch.float32; pass images.float"),
        ([GOOD.byte()], TypeError, "images must be a floating-point tensor, got torch.uint8"),
        ([GOOD + 200], ValueError, r"images span \[200, 200\], expected about \[-1, 1\]; scale 8-bit images"),
        ([GOOD * math.nan], ValueError, "NaN or infinite values"),
        ([GOOD[:, :2]], ValueError, "rotation is for 3 channels, got 2|does not broadcast"),
        ([GOOD[..., :4]], ValueError, "does not broadcast against images of shape"),
    ],
)
def test_wrong_data_are_explained(data: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trainer().fit(data, steps=2)  # type: ignore[arg-type]


def test_wrong_models_and_requests_are_explained() -> None:
    with pytest.raises(
        ValueError, match=r"must return a tensor of the shape of x_t, \(2, 3, 8, 8\), got \(2, 8, 8, 8\)"
    ):
        sp.DiffusionTrainer(_Wide(), CORRUPTIONS["blur"]()).fit([GOOD], steps=1)
    with pytest.raises(TypeError, match=r"model is called with \(x_t, t\), got Conv2d of \(input\); wrap it in"):
        sp.DiffusionTrainer(nn.Conv2d(3, 3, 1), CORRUPTIONS["blur"]()).fit([GOOD], steps=1)
    with pytest.raises(TypeError, match="does not implement `Corruption`: Net has no basis, signal, noise"):
        sp.DiffusionTrainer(net(), net())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 2 batches for a step, got 1"):
        trainer(accumulation=2).train_step([GOOD])
    with pytest.raises(ValueError, match="steps must be 0 or more"):
        trainer().fit([GOOD], steps=-1)
    with pytest.raises(ValueError, match="checkpoint_every must be 1 or more, got 0"):
        trainer().fit([GOOD], steps=1, checkpoint_every=0)
    with pytest.raises(ValueError, match="the corruption is on cpu, the images are on meta"):
        sp.DiffusionTrainer(net().to("meta"), CORRUPTIONS["blur"]())


class _Wide(Net):
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.first(x_t)


def test_unscaled_images_are_told_of() -> None:
    unit = torch.linspace(0, 1, GOOD.numel()).view_as(GOOD)
    with pytest.warns(
        RuntimeWarning, match=r"images span \[0, 1\], .* scale images in \[0, 1\] with x \* 2 - 1"
    ) as told:
        trainer().fit([unit], steps=2)
    assert (len(told), told[0].filename) == (1, __file__)
    for other in (unit[:1], unit * 2 - 1, unit * 0.8, unit * 0.8 + 0.2, unit * 0, unit * 0 + 1):
        trainer().fit([other], steps=1)  # the suite turns warnings into errors
    trainer(check_range=False).fit([unit], steps=1)


def test_large_values_are_allowed_on_request() -> None:
    trainer(check_range=False).fit([GOOD + 200], steps=1)


def test_every_image_counts_the_same_in_accumulated_batches() -> None:
    batches = [correlated_images(8).float(), correlated_images(3, seed=1).float()]
    trained = sp.DiffusionTrainer(layer(), sp.GaussianCorruption(), accumulation=2, seed=4)
    by_hand, loss, generator = layer(), sp.DiffusionLoss(sp.GaussianCorruption()), torch.Generator().manual_seed(4)
    by_hand.load_state_dict(trained.model.state_dict())
    total = sum(loss(by_hand, batch, generator=generator) * len(batch) for batch in batches) / 11
    total.backward()
    report = trained.train_step(batches)
    torch.testing.assert_close(report.loss, total.detach())
    for ours, theirs in zip(trained.model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_batch_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="got a batch without images; leave it out"):
        sp.DiffusionTrainer(layer(), sp.GaussianCorruption()).train_step([torch.zeros(0, 3, 8, 8)])
