"""Laws of training: losses, averages, exact resume, errors."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import shortest_path as sp
from conftest import CORRUPTIONS, SHAPE, correlated_images, gaussian_world, spectrum
from shortest_path.checkpoint import latest_checkpoint, load_checkpoint


class Net(nn.Module):
    """A small network with dropout and batch statistics: all that exact resume has to restore."""

    def __init__(self, *, dropout: float = 0.2) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        hidden = torch.tanh(self.norm(self.first(x_t)) + t.view(-1, 1, 1, 1))
        return self.last(self.drop(hidden))


class LabelledNet(Net):
    """Takes labels, 4 of which means none, and remembers all conditioning it was given."""

    def __init__(self, **arguments: float) -> None:
        super().__init__(**arguments)
        self.embedding = nn.Embedding(5, 3)
        self.seen: list[dict[str, Tensor]] = []

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor, **others: Tensor) -> Tensor:
        self.seen.append({"y": y, **others})
        return super().forward(x_t + self.embedding(y).view(-1, 3, 1, 1), t)


def net(seed: int = 0, **arguments: float) -> Net:
    torch.manual_seed(seed)
    return Net(**arguments)


def trainer(corruption: str = "shortest-cosine", **arguments: object) -> sp.DiffusionTrainer:
    return sp.DiffusionTrainer(net(), CORRUPTIONS[corruption](), ema_decay=0.9, **arguments)  # type: ignore[arg-type]


def batches(count: int = 6, size: int = 8) -> list[Tensor]:
    return list(correlated_images(count * size).float().split(size))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([value.double().flatten() for value in module.state_dict().values()])


# --- the loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "heat"])
@pytest.mark.parametrize("prediction", ["noise", "data", "velocity", "whitened-velocity"])
@pytest.mark.parametrize("weighting", [None, "noise", "data", "velocity", "whitened-velocity"])
def test_the_exact_denoisers_loss_is_the_bayes_error(name: str, prediction: str, weighting: str | None) -> None:
    corruption = CORRUPTIONS[name]()
    world = gaussian_world(corruption, prediction)
    world.model.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    spectrum = sp.PowerSpectrum(corruption.basis, world.power)
    oracle = sp.DiffusionTrainer(
        world.model,
        corruption,
        prediction=prediction,  # type: ignore[arg-type]
        weighting=weighting,  # type: ignore[arg-type]
        spectrum=spectrum,
    )
    generator = torch.Generator().manual_seed(1)
    u_0 = world.power.sqrt() * torch.randn(4000, *SHAPE, generator=generator, dtype=torch.float64)
    t = torch.full((4000,), 0.4, dtype=torch.float64)
    eps = torch.randn(4000, *SHAPE, generator=generator, dtype=torch.float64)
    loss = oracle.loss(corruption.basis.synthesize(u_0), t=t, eps=eps).item()
    signal, noise = corruption.signal(t[:1]), corruption.noise(t[:1])
    total = signal**2 * world.power + noise**2
    error = {
        "noise": signal**2 * world.power / total,
        "data": noise**2 * world.power / total,
        "velocity": (signal**2 + noise**2) ** 2 * world.power / total,
        "whitened-velocity": torch.ones_like(total),
    }[weighting or prediction]
    assert loss == pytest.approx(error.mean().item(), rel=0.01)


def test_the_loss_is_the_mean_square_over_pixels_of_the_stated_target() -> None:
    corruption, x_0, eps = CORRUPTIONS["shortest-fourier"](), batches(1)[0], torch.randn(8, *SHAPE)
    t = torch.rand(8)
    signal, noise = corruption.signal(t), corruption.noise(t)
    basis = corruption.basis
    targets = {
        "noise": eps,
        "data": x_0,
        "velocity": basis.synthesize(signal * basis.analyze(eps) - noise * basis.analyze(x_0)),
    }
    for prediction, target in targets.items():
        seen: list[Tensor] = []

        class Spy(Net):
            def forward(self, x_t: Tensor, t: Tensor, seen: list[Tensor] = seen) -> Tensor:
                seen.append(x_t)
                return super().forward(x_t, t)

        torch.manual_seed(0)
        model = Spy(dropout=0.0).eval()
        loss = sp.DiffusionTrainer(model, corruption, prediction=prediction).loss(x_0, t=t, eps=eps)  # type: ignore[arg-type]
        torch.testing.assert_close(seen[0], corruption.corrupt(x_0, t, eps))
        torch.testing.assert_close(loss, (model(seen[0], t) - target).square().mean())


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
        time_sampling="discrete",
        ema_decay=0.99,
    )
    fitted._draws.times = lambda batch: torch.full((batch,), 0.5)  # type: ignore[method-assign]
    power = corruption.power
    data = [
        corruption.basis.synthesize(power.sqrt() * torch.randn(512, 1, 3, dtype=torch.float64)).float()
        for _ in range(4)
    ]
    fitted.fit(data, steps=900)
    t = torch.tensor([0.5], dtype=torch.float64)
    signal, noise = corruption.signal(t)[0], corruption.noise(t)[0]
    expected = noise / (signal**2 * power + noise**2)
    torch.testing.assert_close(fitted.ema_model.gain.detach().double(), expected, rtol=0.05, atol=0.02)


# --- drawing times ----------------------------------------------------------------------------------------


def test_stratified_times_have_one_in_each_interval() -> None:
    times = trainer(time_sampling="stratified")._draws.times(64)
    assert sorted((times * 64).floor().tolist()) == list(range(64))
    assert times.tolist() != sorted(times.tolist())


def test_discrete_times_are_the_references() -> None:
    times = trainer(time_sampling="discrete", discrete_steps=10)._draws.times(2000).double()
    grid = sp.reference_times(10)[:-1]
    nearest = (times[:, None] - grid).abs().min(1)
    assert nearest.values.max() < 1e-6
    assert torch.bincount(nearest.indices, minlength=10).min() > 120


def test_uniform_times_fill_the_unit_interval() -> None:
    times = trainer()._draws.times(4000)
    assert 0 <= times.min() < 0.01
    assert 0.99 < times.max() <= 1
    assert times.mean().item() == pytest.approx(0.5, abs=0.03)


def test_the_seed_decides() -> None:
    draws = [trainer(seed=seed)._draws.noise(torch.zeros(2, *SHAPE)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


# --- steps ------------------------------------------------------------------------------------------------


def test_accumulated_batches_equal_one_large_batch() -> None:
    x, t, eps = batches(1)[0], torch.rand(8), torch.randn(8, *SHAPE)
    whole = sp.DiffusionTrainer(net(dropout=0).eval(), CORRUPTIONS["shortest-cosine"]())
    whole.loss(x, t=t, eps=eps).backward()
    parts = sp.DiffusionTrainer(net(dropout=0).eval(), CORRUPTIONS["shortest-cosine"]())
    for part in (slice(0, 4), slice(4, 8)):
        (parts.loss(x[part], t=t[part], eps=eps[part]) / 2).backward()
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    step = trainer(accumulation=3).train_step(batches(3))
    assert step.step == 1


def test_ema_follows_the_weights_and_copies_buffers() -> None:
    average = trainer()
    before = copy.deepcopy(average.ema_model)
    average.train_step(batches(1))
    for mine, old, new in zip(
        average.ema_model.parameters(), before.parameters(), average.model.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, 0.9 * old + 0.1 * new)
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


def test_fit_counts_steps_calls_back_and_passes_again_over_the_data() -> None:
    class Data:
        epochs: list[int]

        def __init__(self) -> None:
            self.epochs = []

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

        def __iter__(self) -> object:
            return iter(batches(3))

    seen: list[tuple[int, float]] = []
    data, trained = Data(), trainer()
    trained.fit(data, steps=7, callbacks=[lambda who, step: seen.append((step.step, step.loss.item()))])
    assert [step for step, _ in seen] == list(range(1, 8))
    assert data.epochs == [0, 1, 2]
    assert trained.step == 7


# --- dropped conditioning ---------------------------------------------------------------------------------


def dropping(rate: float = 0.3, *, null: object = 4, **arguments: object) -> sp.DiffusionTrainer:
    torch.manual_seed(0)
    options: dict[str, object] = {"label_name": "y", "drop_conditioning": rate, "null_conditioning": {"y": null}}
    return sp.DiffusionTrainer(LabelledNet(), CORRUPTIONS["shortest-cosine"](), **{**options, **arguments})  # type: ignore[arg-type]


def labelled(count: int = 6) -> list[tuple[Tensor, Tensor]]:
    return [(images, torch.arange(len(images)) % 4) for images in batches(count)]


@pytest.mark.parametrize("kind", ["tuple", "mapping"])
def test_conditioning_is_dropped_at_the_stated_rate(kind: str) -> None:
    x, y = torch.zeros(3000, *SHAPE), torch.arange(3000) % 4
    trained = dropping(0.3)
    for _ in range(2):
        trained.train_step([(x, y) if kind == "tuple" else (x, {"y": y})])
    dropped = torch.stack([seen["y"] == 4 for seen in trained.model.seen])
    assert all(torch.equal(seen["y"][seen["y"] != 4], y[seen["y"] != 4]) for seen in trained.model.seen)
    assert not torch.equal(dropped[0], dropped[1])
    # four standard deviations of a binomial distribution
    assert dropped.double().mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / dropped.numel()))


def test_all_named_entries_of_an_image_are_dropped_together_and_no_others() -> None:
    y, text, size = torch.arange(64) % 4, torch.randn(64, 5, 2), torch.ones(64)
    null = torch.full((5, 2), -1.0)
    trained = dropping(0.5, null_conditioning={"y": 4, "text": null})
    trained.train_step([(torch.zeros(64, *SHAPE), {"y": y, "text": text, "size": size})])
    seen = trained.model.seen[0]
    dropped = seen["y"] == 4
    assert 0 < dropped.sum() < 64
    assert torch.equal(seen["text"], torch.where(dropped.view(-1, 1, 1), null, text))
    assert seen["size"] is size


def test_the_seed_decides_what_is_dropped() -> None:
    for seed in (0, 1):
        trained = dropping(0.5, seed=seed)
        trained.train_step(labelled(1))
        expected = torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.5
        assert torch.equal(trained.model.seen[0]["y"] == 4, expected)


def test_the_loss_takes_conditioning_as_it_is() -> None:
    trained, (x, y) = dropping(0.99), labelled(1)[0]
    trained.loss(x, conditioning={"y": y})
    assert trained.model.seen[0]["y"] is y


def test_random_numbers_of_training_without_dropping_stay_the_same() -> None:
    plain, unused = dropping(0.0, null_conditioning=None), dropping(0.0)
    expected = torch.Generator().manual_seed(0)
    torch.rand(8, generator=expected)
    torch.randn(8, *SHAPE, generator=expected)
    for trained in (plain, unused):
        trained.train_step(labelled(1))
        assert torch.equal(trained.generator.get_state(), expected.get_state())
        assert torch.equal(trained.model.seen[0]["y"], labelled(1)[0][1])


def test_dropping_resumes_bit_exactly(tmp_path: Path) -> None:
    straight, first, second = (dropping(null=torch.tensor(4)) for _ in range(3))
    torch.manual_seed(5)
    straight.fit(labelled(), steps=9)
    torch.manual_seed(5)
    first.fit(labelled(), steps=4, checkpoint_dir=tmp_path)
    torch.manual_seed(99)
    second.fit(labelled(), steps=9, checkpoint_dir=tmp_path)
    assert torch.equal(weights(second.model), weights(straight.model))
    assert torch.equal(second.model.seen[-1]["y"], straight.model.seen[-1]["y"])


def test_a_resume_with_other_dropping_is_refused(tmp_path: Path) -> None:
    trained = dropping(np.float64(0.3), null=np.int64(4))  # type: ignore[arg-type]  # numpy's numbers become plain
    trained.fit(labelled(), steps=1, checkpoint_dir=tmp_path)
    state = load_checkpoint(latest_checkpoint(tmp_path) or "")
    dropping(0.3, null=torch.tensor(4)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"drop_conditioning: 0.3 in the checkpoint, 0.2 here\. Use the same options"):
        dropping(0.2).load_state_dict(state)
    with pytest.raises(
        ValueError, match=r"null_conditioning: {'y': 4} in the checkpoint, {'y': \[3.0, 3.0,.{250,}\.\.\. here"
    ):
        dropping(null=torch.full((999,), 3.0)).load_state_dict(state)


def test_checkpoints_from_before_dropping_still_load() -> None:
    state = trainer().state_dict()
    del state["config"]["drop_conditioning"], state["config"]["null_conditioning"]
    trainer().load_state_dict(state)
    message = (
        r"drop_conditioning: 0.0 in the checkpoint, 0.5 here; null_conditioning: {} in the checkpoint, {'y': 4} here"
    )
    with pytest.raises(ValueError, match=message):
        trainer(drop_conditioning=0.5, null_conditioning={"y": 4}).load_state_dict(state)


def test_dropping_what_a_batch_has_not_is_explained() -> None:
    for batch, has in ((labelled(1)[0], "no entries"), ((batches(1)[0], {"text": torch.zeros(8)}), r"\['text'\]")):
        with pytest.raises(ValueError, match=rf"given for \['y'\], but the conditioning has {has}; use the same names"):
            dropping(label_name=None).train_step([batch])


# --- resume -----------------------------------------------------------------------------------------------


def loader() -> DataLoader:
    return DataLoader(TensorDataset(correlated_images(48).float()), batch_size=8, shuffle=True)


@pytest.mark.parametrize("kind", ["list", "shuffled-loader"])
@pytest.mark.parametrize("stop", [4, 6, 9])
def test_resume_is_bit_exact(tmp_path: Path, kind: str, stop: int) -> None:
    def data() -> object:
        return batches() if kind == "list" else loader()

    torch.manual_seed(5)
    straight = trainer(accumulation=1)
    torch.manual_seed(5)
    straight.fit(data(), steps=11)

    first = trainer(accumulation=1)
    torch.manual_seed(5)
    first.fit(data(), steps=stop, checkpoint_dir=tmp_path)
    torch.manual_seed(99)  # a new process begins with another random state
    second = trainer(accumulation=1)
    second.fit(data(), steps=11, checkpoint_dir=tmp_path)
    assert second.step == 11
    assert torch.equal(weights(second.model), weights(straight.model))
    assert torch.equal(weights(second.ema_model), weights(straight.ema_model))


def test_fit_can_be_called_again_in_the_same_process() -> None:
    torch.manual_seed(5)
    straight = trainer()
    straight.fit(loader(), steps=11)
    torch.manual_seed(5)
    twice = trainer()
    data = loader()
    for steps in (4, 4, 11):
        twice.fit(data, steps=steps)
    assert torch.equal(weights(twice.model), weights(straight.model))


def test_checkpoints_are_kept_and_cleared(tmp_path: Path) -> None:
    trained = trainer()
    trained.fit(batches(), steps=7, checkpoint_dir=tmp_path, checkpoint_every=2, keep_checkpoints=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000006.pt", "checkpoint-00000007.pt"]
    again = trainer()
    again.fit(batches(), steps=7, checkpoint_dir=tmp_path, resume=True)
    assert again.step == 7
    assert torch.equal(weights(again.ema_model), weights(trained.ema_model))


def test_a_resumed_one_shot_iterable_is_skipped_ahead(tmp_path: Path) -> None:
    straight = trainer()
    straight.fit(batches(), steps=5)
    first = trainer()
    first.fit(iter(batches()), steps=2, checkpoint_dir=tmp_path)
    second = trainer()
    second.fit(iter(batches()), steps=5, checkpoint_dir=tmp_path)
    assert torch.equal(weights(second.model), weights(straight.model))


def test_fewer_batches_than_before_are_an_error(tmp_path: Path) -> None:
    trainer().fit(batches(6), steps=5, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="batches ended after 3, but training stopped after 5; use the same data"):
        trainer().fit(batches(3), steps=7, checkpoint_dir=tmp_path)


def test_random_transforms_of_a_data_set_resume_too(tmp_path: Path) -> None:
    class Jittered(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Tensor:
            return correlated_images(6)[index].float() + 0.1 * torch.randn(())

    def data() -> DataLoader:
        return DataLoader(Jittered(), batch_size=2, shuffle=True)

    torch.manual_seed(5)
    straight = trainer()
    torch.manual_seed(6)
    straight.fit(data(), steps=7)
    first, second = trainer(), trainer()
    torch.manual_seed(6)
    first.fit(data(), steps=5, checkpoint_dir=tmp_path)
    torch.manual_seed(99)
    second.fit(data(), steps=7, checkpoint_dir=tmp_path)
    assert torch.equal(weights(second.model), weights(straight.model))


def test_a_changed_configuration_is_listed(tmp_path: Path) -> None:
    trainer().fit(batches(), steps=1, checkpoint_dir=tmp_path)
    state = load_checkpoint(latest_checkpoint(tmp_path) or "")
    with pytest.raises(ValueError, match=r"precision: 'fp32' in the checkpoint, 'bf16' here; prediction: 'noise' in"):
        trainer(precision="bf16", prediction="data").load_state_dict(state)
    other = sp.ShortestPathCorruption(sp.PowerSpectrum.estimate([correlated_images(seed=3)]))
    with pytest.raises(ValueError, match=r"corruption.log_power: other values"):
        sp.DiffusionTrainer(net(), other, ema_decay=0.9).load_state_dict(state)
    for changed, message in (({"format": "else"}, "format 'else', expected"), ({"version": 9}, "has version 9")):
        with pytest.raises(ValueError, match=message):
            trainer().load_state_dict(state | changed)


def test_named_changes_are_accepted_and_no_others(tmp_path: Path) -> None:
    first = trainer()
    first.fit(batches(), steps=2, checkpoint_dir=tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint-00000002.pt")
    changed = sp.DiffusionTrainer(net(), CORRUPTIONS["blur"](), ema_decay=0.8, prediction="data")
    with pytest.raises(ValueError, match=r"; ema_decay: 0.9 in the checkpoint, 0.8 here; prediction: 'noise' in"):
        changed.load_state_dict(state, allow_changes=("corruption",))
    changed.fit(batches(), steps=3, checkpoint_dir=tmp_path, allow_changes=("corruption", "ema_decay", "prediction"))
    assert changed.step == 3
    with pytest.raises(ValueError, match=r"tuple of option names, got \['ema_deca'\]; choose from accumulation, corr"):
        trainer().fit(batches(), steps=1, allow_changes=("ema_deca",))
    with pytest.raises(ValueError, match=r"tuple of option names, got \['seed'\]"):
        trainer().load_state_dict(state, allow_changes="seed")


def test_what_is_changed_begins_anew(tmp_path: Path) -> None:
    trainer().fit(batches(), steps=2, checkpoint_dir=tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint-00000002.pt")
    seeded = trainer(seed=3)
    fresh = seeded.generator.get_state()
    seeded.load_state_dict(state, allow_changes=("seed",))
    assert torch.equal(seeded.generator.get_state(), fresh)
    model = net()
    other = sp.DiffusionTrainer(
        model,
        CORRUPTIONS["shortest-cosine"](),
        ema_decay=0.9,
        optimizer=torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
    )
    other.load_state_dict(state, allow_changes=("optimizer",))
    assert (other.optimizer.param_groups[0]["lr"], other.step) == (0.1, 2)
    other.fit(batches(), steps=3)


def scheduled(kind: str) -> sp.DiffusionTrainer:
    schedulers = torch.optim.lr_scheduler
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    scheduler = {
        "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, 9),
        "cycle": lambda: schedulers.OneCycleLR(optimizer, 0.1, 12),
        "function": lambda: schedulers.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
        "milestones": lambda: schedulers.MultiStepLR(optimizer, [2, 5]),
        "sequence": lambda: schedulers.SequentialLR(
            optimizer, [schedulers.ConstantLR(optimizer, 0.1, 3), schedulers.CosineAnnealingLR(optimizer, 6)], [3]
        ),
    }[kind]()
    corruption = CORRUPTIONS["shortest-cosine"]()
    return sp.DiffusionTrainer(model, corruption, ema_decay=0.9, optimizer=optimizer, scheduler=scheduler)


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # torch 2.4's own
@pytest.mark.parametrize("kind", ["cosine", "cycle", "function", "milestones", "sequence"])
def test_schedules_resume_too(tmp_path: Path, kind: str) -> None:
    rates: list[float] = []
    straight, first, second = (scheduled(kind) for _ in range(3))
    torch.manual_seed(5)
    straight.fit(batches(), steps=9, callbacks=[lambda who, step: rates.append(who.optimizer.param_groups[0]["lr"])])
    assert len(set(rates)) > 2
    torch.manual_seed(5)
    first.fit(batches(), steps=4, checkpoint_dir=tmp_path)
    second.fit(batches(), steps=9, checkpoint_dir=tmp_path)
    assert second.optimizer.param_groups[0]["lr"] == rates[-1]
    assert torch.equal(weights(second.model), weights(straight.model))


def test_schedules_are_part_of_the_configuration(tmp_path: Path) -> None:
    scheduled("cosine").fit(batches(), steps=1, checkpoint_dir=tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint-00000001.pt")
    with pytest.raises(ValueError, match="scheduler: 'CosineAnnealingLR' in the checkpoint, 'MultiStepLR' here"):
        scheduled("milestones").load_state_dict(state)
    scheduled("milestones").load_state_dict(state, allow_changes=("scheduler",))
    other = scheduled("cosine")
    with pytest.raises(ValueError, match="the scheduler is of another optimizer; pass the trainer optimizer=scheduler"):
        sp.DiffusionTrainer(net(), CORRUPTIONS["blur"](), scheduler=other.scheduler)


def test_a_skipped_step_is_none_of_the_schedules() -> None:
    trained = scheduled("function")
    weight = trained.model.first.weight
    handle = weight.register_hook(lambda grad: grad * math.nan)
    assert trained.train_step(batches(1)).skipped
    assert trained.optimizer.param_groups[0]["lr"] == 0.1
    handle.remove()
    trained.train_step(batches(1))
    assert trained.optimizer.param_groups[0]["lr"] == 0.05


def as_version_1(state: dict) -> dict:
    """The state as it was before the random state of each rank was kept."""
    own = state["random"]["ranks"][0]
    old = {name: state[name] for name in ("format", "metadata", "step", "model", "ema", "corruption", "optimizer")}
    config = {name: value for name, value in state["config"].items() if name != "scheduler"}
    random = {"trainer": state["random"]["trainer"], "cpu": own["cpu"], "cuda": None}
    return {**old, "version": 1, "config": config, "data": {**state["data"], "random": own["pass"]}, "random": random}


def test_version_1_resumes_bit_exactly() -> None:
    straight, first, second = trainer(), trainer(), trainer()
    torch.manual_seed(5)
    straight.fit(loader(), steps=11)
    torch.manual_seed(5)
    first.fit(loader(), steps=4)
    state = as_version_1(copy.deepcopy(first.state_dict()))
    torch.manual_seed(99)
    second.load_state_dict(state)
    second.fit(loader(), steps=11)
    assert torch.equal(weights(second.model), weights(straight.model))
    assert torch.equal(weights(second.ema_model), weights(straight.ema_model))


# --- the spectrum of a whitened velocity ------------------------------------------------------------------


def test_a_checkpoint_of_another_spectrum_or_weighting_is_refused() -> None:
    def make(power: float, weighting: str | None = None) -> sp.DiffusionTrainer:
        spectrum = sp.PowerSpectrum(sp.CosineBasis(), torch.full(SHAPE, power, dtype=torch.float64))
        return sp.DiffusionTrainer(
            Net(),
            sp.GaussianCorruption(),
            prediction="whitened-velocity",
            weighting=weighting,  # type: ignore[arg-type]
            spectrum=spectrum,
        )

    state = make(0.5).state_dict()
    make(0.5).load_state_dict(state)
    with pytest.raises(ValueError, match=r"spectrum: .*power 0.5 .* in the checkpoint.*spectrum.power: other values"):
        make(0.25).load_state_dict(state)
    with pytest.raises(ValueError, match="weighting: None in the checkpoint, 'velocity' here"):
        make(0.5, "velocity").load_state_dict(state)
    make(0.25, "velocity").load_state_dict(state, allow_changes=("spectrum", "weighting"))


def test_another_learning_rate_is_taken_only_if_allowed() -> None:
    first, other = (sp.DiffusionTrainer(Net(), sp.GaussianCorruption(), learning_rate=rate) for rate in (1e-3, 5e-5))
    first.fit(batches(2), steps=2)
    state = first.state_dict()
    with pytest.raises(ValueError, match="learning_rate: 0.001 in the checkpoint, 5e-05 here"):
        other.load_state_dict(state)
    other.load_state_dict(state, allow_changes=("learning_rate",))
    assert other.optimizer.param_groups[0]["lr"] == 5e-5
    assert other.optimizer.state_dict()["state"][0]["step"] == 2  # what it had learned of the gradients is kept
    del state["config"]["learning_rate"]  # as an earlier version wrote it
    other.load_state_dict(state)


def test_an_isotropic_corruption_is_trained_in_the_basis_of_the_spectrum() -> None:
    x_0, eps, t = batches(1)[0], torch.randn(8, *SHAPE), torch.rand(8)
    spectrum = sp.PowerSpectrum.estimate(batches(4))
    corruption = sp.GaussianCorruption()
    silent = Net(dropout=0.0)
    for value in silent.parameters():
        torch.nn.init.zeros_(value)
    trained = sp.DiffusionTrainer(silent, corruption, prediction="whitened-velocity", spectrum=spectrum)
    a, s, S = corruption.signal(t), corruption.noise(t), spectrum.power.float()
    u_0, u_eps = spectrum.basis.analyze(x_0), spectrum.basis.analyze(eps)
    wanted = (a * S.sqrt() * u_eps - s * u_0 / S.sqrt()) / (a**2 * S + s**2).sqrt()
    assert trained.loss(x_0, t=t, eps=eps).item() == pytest.approx(wanted.square().mean().item(), rel=1e-4)


# --- wrong input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"prediction": "score"},
            "unknown prediction 'score'; choose one of 'noise', 'data', 'velocity', 'whitened-velocity'",
        ),
        ({"weighting": "snr"}, "unknown weighting 'snr'; choose one of 'noise', 'data', 'velocity', 'whitened-vel"),
        ({"prediction": "whitened-velocity"}, "'whitened-velocity' is measured in the data's power"),
        ({"weighting": "whitened-velocity"}, "'whitened-velocity' is measured in the data's power"),
        ({"precision": "fp16"}, "unknown precision 'fp16'; choose one of 'fp32', 'bf16'"),
        (
            {"time_sampling": "logit"},
            "unknown time_sampling 'logit'; choose one of 'uniform', 'stratified', 'discrete'",
        ),
        ({"accumulation": 0}, "accumulation must be 1 or more, got 0"),
        ({"discrete_steps": 2}, "discrete_steps must be 3 or more"),
        ({"max_grad_norm": -1.0}, "max_grad_norm must be positive"),
        ({"drop_conditioning": 1.0}, r"drop_conditioning must be a probability in \[0, 1\), got 1.0"),
        ({"drop_conditioning": -0.1}, r"drop_conditioning must be a probability in \[0, 1\), got -0.1"),
        (
            {"drop_conditioning": 0.1},
            "drop_conditioning is 0.1, but .* pass null_conditioning={'class_labels': 10}, say, a class of its own",
        ),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_options_are_explained(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sp.DiffusionTrainer(net(), CORRUPTIONS["blur"](), **arguments)


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
    with pytest.raises(TypeError, match="must have basis, signal and noise, got Net"):
        sp.DiffusionTrainer(net(), net())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 2 batches for a step, got 1"):
        trainer(accumulation=2).train_step([GOOD])
    with pytest.raises(ValueError, match="steps must be 0 or more"):
        trainer().fit([GOOD], steps=-1)
    with pytest.raises(ValueError, match="the corruption is on cpu, the images are on meta"):
        sp.DiffusionTrainer(nn.Linear(1, 1, device="meta"), CORRUPTIONS["blur"]())


class _Wide(Net):
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.first(x_t)


def test_large_values_are_allowed_on_request() -> None:
    trainer(check_range=False).fit([GOOD + 200], steps=1)


def test_metadata_travel_with_every_checkpoint(tmp_path: Path) -> None:
    measured = spectrum()
    metadata = {"settings": {"width": 4, "name": "tiny"}, "spectrum": measured.state_dict()}
    trainer = sp.DiffusionTrainer(Net(), sp.ShortestPathCorruption(measured), metadata=metadata)
    trainer.fit([correlated_images(4).float()], steps=1, checkpoint_dir=tmp_path)
    kept = load_checkpoint(tmp_path / "checkpoint-00000001.pt")["metadata"]
    assert kept["settings"] == metadata["settings"]
    corruption = sp.ShortestPathCorruption(sp.PowerSpectrum.from_state_dict(kept["spectrum"]))
    again = sp.DiffusionTrainer(Net(), corruption)  # not a part of the configuration
    again.load_state_dict(load_checkpoint(tmp_path / "checkpoint-00000001.pt"))
    assert again.step == 1
