"""Promises under attack: what is written can be read, what is good is kept, what does not fit changes nothing."""

from __future__ import annotations

import copy
import io
import multiprocessing
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from shortest_path.training import load_checkpoint
from shortest_path.training._folder import Folder

IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0)).mul(0.3).clamp(-1, 1)
BATCHES = [IMAGES[:8], IMAGES[8:]]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = self.layer(x_t)
        return answer


def trainer(
    model: nn.Module | None = None, corruption: sp.Corruption | None = None, **options: Any
) -> sp.DiffusionTrainer:
    torch.manual_seed(0)
    return sp.DiffusionTrainer(
        Net() if model is None else model, corruption or sp.GaussianCorruption("flow"), **options
    )


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# --- what is written can be read --------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [np.float64(1e-3), np.float32(1e-3)])
def test_numpys_numbers_are_numbers(tmp_path: Path, rate: np.floating) -> None:
    def make() -> sp.DiffusionTrainer:
        net = Net()
        optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=np.float64(0.01))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: np.float64(1 / (1 + step)))
        return trainer(net, optimizer=optimizer, scheduler=scheduler, seed=np.int64(3), metadata={"rate": rate})

    make().fit(BATCHES, steps=2, checkpoint_dir=tmp_path)
    again = make()
    again.fit(BATCHES, steps=4, checkpoint_dir=tmp_path)
    assert again.step == 4
    assert load_checkpoint(tmp_path / "checkpoint-00000004.pt")["metadata"] == {"rate": pytest.approx(1e-3)}


@pytest.mark.parametrize("value", [Path("a"), np.arange(3), {1, 2}, sp.GaussianCorruption(), object(), lambda: 0])
def test_what_could_not_be_read_back_is_refused_by_name_before_the_first_step(tmp_path: Path, value: object) -> None:
    one = trainer(metadata={"run": {"things": [1, value]}})
    with pytest.raises(TypeError, match=r"got \w+ at metadata\['run'\]\['things'\]\[1\]; convert it"):
        one.fit(BATCHES, steps=2, checkpoint_dir=tmp_path)
    assert one.step == 0
    one.fit(BATCHES, steps=1)  # without checkpoints, metadata are nobody's business


def test_other_files_are_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-00000001.pt"
    torch.save({"path": Path("a")}, path)
    with pytest.raises(ValueError, match=r"holds pathlib\S*, but only tensors .*if you trust its origin") as error:
        load_checkpoint(path)
    assert "damaged" not in str(error.value)
    path.write_bytes(b"\x80\x02}q\x00." + bytes(200) + b"PK\x05\x06" + bytes(18))
    with pytest.raises(ValueError, match="does not begin as the zip archives of torch.save do"):
        load_checkpoint(path)
    torch.save({"x": torch.zeros(1000)}, plain := io.BytesIO())
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ValueError, match="holds compressed members, which torch.save does not write"):
        load_checkpoint(path)


# --- retention and ownership ------------------------------------------------------------------------------


def test_a_new_training_does_not_mix_with_later_checkpoints(tmp_path: Path) -> None:
    trainer().fit(BATCHES, steps=6, checkpoint_dir=tmp_path, checkpoint_every=2)
    other = trainer(learning_rate=0.1)
    with pytest.raises(ValueError, match="resume=False requires a folder without checkpoints of later steps than 0"):
        other.fit(BATCHES, steps=3, checkpoint_dir=tmp_path, resume=False)
    assert other.step == 0
    assert len(list(tmp_path.glob("checkpoint-*.pt"))) == 3


def test_what_is_named_like_a_checkpoint_costs_no_good_one(tmp_path: Path) -> None:
    trainer().fit(BATCHES, steps=2, checkpoint_dir=tmp_path, checkpoint_every=1)
    for step in (50, 60):
        (tmp_path / f"checkpoint-{step:08d}.pt").write_bytes(b"broken")
    (tmp_path / "checkpoint-00000070.pt").mkdir()
    precious = tmp_path / "elsewhere.pt"
    precious.write_bytes(b"precious")
    (tmp_path / "checkpoint-00000001.pt").unlink()
    (tmp_path / "checkpoint-00000001.pt").symlink_to(precious)
    for steps in (6, 8):
        again = trainer()
        with pytest.warns(RuntimeWarning, match="is not a checkpoint: .*; trying the one before"):
            again.fit(BATCHES, steps=steps, checkpoint_dir=tmp_path, checkpoint_every=1, keep_checkpoints=1)
        assert again.step == steps
        assert load_checkpoint(tmp_path / f"checkpoint-{steps:08d}.pt")["step"] == steps
    assert precious.read_bytes() == b"precious"


def test_the_folder_is_tried_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = trainer()
    with pytest.raises(OSError, match="cannot write checkpoints to .*file.*choose another folder"):
        one.fit(BATCHES, steps=5, checkpoint_dir=tmp_path / "file")
    assert one.step == 0


def test_a_second_training_in_one_folder_is_told(tmp_path: Path) -> None:
    seen: list[str] = []

    def meanwhile(first: sp.DiffusionTrainer, step: object) -> None:
        with pytest.raises(ValueError, match="another training writes checkpoints to"):
            trainer().fit(BATCHES, steps=1, checkpoint_dir=tmp_path)
        seen.append("told")

    trainer().fit(BATCHES, steps=2, checkpoint_dir=tmp_path, callbacks=[meanwhile])
    assert seen == ["told"] * 2
    trainer().fit(BATCHES, steps=3, checkpoint_dir=tmp_path)
    assert not list(tmp_path.glob("*.lock"))


def test_files_torn_by_a_kill_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-00000001.pt.0123abcd.tmp").write_bytes(b"torn")
    (tmp_path / "notes.tmp").write_bytes(b"mine")
    trainer().fit(BATCHES, steps=1, checkpoint_dir=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000001.pt", "notes.tmp"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_of_a_killed_training_does_not_hold_its_folder(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    child = multiprocessing.get_context("fork").Process(target=_check_closed, args=(folder.lock,))
    child.start()
    child.join()
    assert child.exitcode == 0
    with pytest.raises(ValueError, match="another training writes checkpoints to"):
        Folder(tmp_path)
    folder.release()


def _check_closed(lock: IO[bytes]) -> None:
    assert lock.closed


def test_checkpoints_of_another_training_are_never_deleted(tmp_path: Path) -> None:
    trainer(seed=1).fit(BATCHES, steps=9, checkpoint_dir=tmp_path, checkpoint_every=3)
    theirs = {path.name for path in tmp_path.glob("*.pt")}
    one = trainer(seed=2)
    one.fit(BATCHES, steps=10)
    one.fit(BATCHES, steps=13, checkpoint_dir=tmp_path, checkpoint_every=1, keep_checkpoints=1, resume=False)
    assert {path.name for path in tmp_path.glob("*.pt")} == {*theirs, "checkpoint-00000013.pt"}
    one.fit(BATCHES, steps=14)
    one.save(tmp_path, keep=1)
    assert {path.name for path in tmp_path.glob("*.pt")} == {*theirs, "checkpoint-00000014.pt"}
    again = trainer(seed=3)
    again.fit(BATCHES, steps=15, checkpoint_dir=tmp_path, keep_checkpoints=1, allow_changes=("seed",))  # goes on
    assert {path.name for path in tmp_path.glob("*.pt")} == {*theirs, "checkpoint-00000015.pt"}


def test_the_mark_of_a_training_is_under_the_checksum(tmp_path: Path) -> None:
    trainer().fit(BATCHES, steps=1, checkpoint_dir=tmp_path)
    path = tmp_path / "checkpoint-00000001.pt"
    whole = path.read_bytes()
    place = whole.rindex(b"training:") + len("training:")
    path.write_bytes(whole[:place] + b"0" * 16 + whole[place + 16 :])
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(path)
    assert torch.load(io.BytesIO(whole), weights_only=True)["step"] == 1


# --- all or nothing ---------------------------------------------------------------------------------------


def spoilt(state: dict[str, Any]) -> dict[str, Callable[[], None]]:
    def drop(name: str) -> Callable[[], None]:
        return lambda: state.pop(name)

    others = ("format", "version", "sampler", "settings", "scales", "parameters", "training")  # five are new
    changes = {f"no {name}": drop(name) for name in state if name not in others}
    changes["model of another shape"] = lambda: state["model"].update({"layer.weight": torch.zeros(1)})
    changes["average without a weight"] = lambda: state["ema"].pop("layer.bias")
    changes["optimizer of fewer weights"] = lambda: state["optimizer"]["param_groups"][0]["params"].pop()
    changes["random numbers of another torch"] = lambda: state["random"]["ranks"][0].update(cpu=torch.zeros(7))
    return changes


@pytest.mark.parametrize("name", spoilt(trainer().state_dict()))
def test_a_state_that_does_not_fit_changes_nothing(name: str) -> None:
    one, other = trainer(), trainer()
    other.fit(BATCHES, steps=2)
    state = copy.deepcopy(other.state_dict())
    spoilt(state)[name]()
    before = copy.deepcopy(one.state_dict())
    with pytest.raises(ValueError, match=r"the (state|checkpoint)"):
        one.load_state_dict(state)
    after = one.state_dict()
    assert torch.equal(weights(one.model), torch.cat([value.flatten() for value in before["model"].values()]))
    assert after["step"] == before["step"]
    assert torch.equal(after["random"]["trainer"], before["random"]["trainer"])


@pytest.mark.parametrize("first", [True, False])
def test_compiled_and_plain_models_share_checkpoints(tmp_path: Path, first: bool) -> None:
    straight = trainer()
    straight.fit(BATCHES, steps=4)
    for compiled, steps in ((first, 2), (not first, 4)):
        torch.manual_seed(0)
        net = Net()
        one = trainer(torch.compile(net, backend="eager") if compiled else net)
        one.fit(BATCHES, steps=steps, checkpoint_dir=tmp_path)
    assert torch.equal(weights(net), weights(straight.model))


def test_a_state_of_another_kind_of_device_is_reseeded_aloud() -> None:
    one, other = trainer(seed=5), trainer(seed=5)
    other.fit(BATCHES, steps=2)
    state = copy.deepcopy(other.state_dict())
    state["random"]["trainer"] = torch.zeros(16, dtype=torch.uint8)  # as a GPU's generator
    with pytest.warns(RuntimeWarning, match="another kind of device than cpu.* seed 5 and the step 2"):
        one.load_state_dict(state)
    assert torch.equal(weights(one.model), weights(other.model))
    assert one.step == 2


def test_a_schedule_that_is_trained_is_continued(tmp_path: Path) -> None:
    class Learned(sp.DiagonalCorruption):
        def __init__(self) -> None:
            super().__init__(sp.PixelBasis())
            self.rate = nn.Parameter(torch.zeros(()))

        def angle(self, t: Tensor) -> Tensor:
            return (torch.pi / 2 * t ** torch.exp(self.rate)).view(-1, 1, 1, 1)

        def signal(self, t: Tensor) -> Tensor:
            return torch.cos(self.angle(t))

        def noise(self, t: Tensor) -> Tensor:
            return torch.sin(self.angle(t))

    def make() -> sp.DiffusionTrainer:
        torch.manual_seed(0)
        net, corruption = Net(), Learned()
        optimizer = torch.optim.SGD([*net.parameters(), *corruption.parameters()], lr=0.1)
        return trainer(net, corruption, optimizer=optimizer, prediction="data")

    straight, one = make(), make()
    straight.fit(BATCHES, steps=5)
    one.fit(BATCHES, steps=3, checkpoint_dir=tmp_path)
    two = make()
    two.fit(BATCHES, steps=5, checkpoint_dir=tmp_path)
    assert two.corruption.rate.item() == straight.corruption.rate.item() != 0
    assert torch.equal(weights(two.model), weights(straight.model))


def test_a_trained_schedule_of_another_type_is_refused() -> None:
    class Learned(sp.GaussianCorruption):
        def __init__(self, kind: torch.dtype, *shape: int) -> None:
            super().__init__("flow")
            self.rate = nn.Parameter(torch.zeros(shape, dtype=kind))

    def make(kind: torch.dtype, *shape: int) -> sp.DiffusionTrainer:
        net, corruption = Net(), Learned(kind, *shape)
        optimizer = torch.optim.SGD([*net.parameters(), *corruption.parameters()], lr=0.1)
        return trainer(net, corruption, optimizer=optimizer)

    double, single, other = make(torch.float64), make(torch.float32), make(torch.float32, 2)
    with torch.no_grad():
        double.corruption.rate.fill_(0.1)
    state = double.state_dict()
    with pytest.raises(ValueError, match=r"corruption.rate: \(\) torch.float64 in the checkpoint, \(\) torch.float32"):
        single.load_state_dict(state)
    single.load_state_dict(state, allow_changes=("corruption",))
    assert single.corruption.rate.item() == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"corruption.rate: \(\) torch.float64 in the checkpoint, \(2,\) torch.flo"):
        other.load_state_dict(state)
    for found in ({}, state["corruption"]):
        other.load_state_dict({**state, "corruption": found}, allow_changes=("corruption",))
        assert other.corruption.rate.tolist() == [0, 0]  # what does not fit begins anew


# --- averages ---------------------------------------------------------------------------------------------


class Scale(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10, dtype=dtype))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        if not hasattr(self, "cache"):
            self.register_buffer("cache", torch.zeros(x_t.shape[-1]), persistent=False)
        self.count += 1
        return x_t * self.weight.float().mean() + self.cache


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("warmup", [None, False])
def test_averages_are_those_of_float32(tmp_path: Path, dtype: torch.dtype, warmup: bool | None) -> None:
    def make() -> sp.DiffusionTrainer:
        model = Scale(dtype)
        still = torch.optim.SGD(model.parameters(), lr=0.0)
        return trainer(model, optimizer=still, ema_decay=0.999, ema_warmup=warmup)

    one = make()
    with torch.no_grad():
        one.model.weight.fill_(2.0)
        one.model.frozen.fill_(7.0)
    one.fit([IMAGES[:4]], steps=60, checkpoint_dir=tmp_path)
    resumed = make()
    resumed.fit([IMAGES[:4]], steps=100, checkpoint_dir=tmp_path)
    left = np.prod([0.999 if warmup is False else min(0.999, (1 + k) / (10 + k)) for k in range(100)])
    assert resumed.ema_model.weight.float().mean().item() == pytest.approx(2 - left, rel=0.004)
    assert resumed.ema_model.frozen.item() == 7
    assert resumed.ema_model.count.item() == 100
    assert resumed.ema_model.cache.shape == (8,)


@pytest.mark.parametrize(("warmup", "decays"), [(True, [1 / 10, 2 / 11, 0.2]), (False, [0.2, 0.2, 0.2])])
def test_the_warm_up_of_an_average_is_tensorflows(warmup: bool, decays: list[float]) -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    average = sp.training.ExponentialMovingAverage(model, 0.2, warmup=warmup)
    expected = model.weight.item()
    for step, decay in enumerate(decays):
        nn.init.constant_(model.weight, step)
        average.update(model)
        expected = decay * expected + (1 - decay) * step
        assert average.model.weight.item() == pytest.approx(expected, rel=1e-12)


def test_a_short_training_forgets_the_first_weights() -> None:
    one = trainer(prediction="data", learning_rate=1e-2)
    first = weights(one.model).clone()
    one.fit(BATCHES, steps=300)
    moved, averaged = ((weights(model) - first).norm() for model in (one.model, one.ema_model))
    assert averaged > 0.5 * moved


def test_no_average(tmp_path: Path) -> None:
    one = trainer(ema_decay=None)
    one.fit(BATCHES, steps=2, checkpoint_dir=tmp_path)
    assert one.ema_model is one.model
    assert one.sampler(steps=2).model is one.model
    again = trainer(ema_decay=None)
    again.fit(BATCHES, steps=3, checkpoint_dir=tmp_path)
    assert again.step == 3
    with pytest.raises(ValueError, match="ema_warmup=True has no effect with ema_decay=None"):
        trainer(ema_decay=None, ema_warmup=True)


# --- options and inputs -----------------------------------------------------------------------------------


def test_optimizers_that_cannot_work_are_refused() -> None:
    net, parts = Net(), type("ZeroRedundancyOptimizer", (torch.optim.SGD,), {})
    cases: list[tuple[Any, type[Exception], str]] = [
        (
            torch.optim.AdamW,
            TypeError,
            r"a torch.optim.Optimizer, got the class AdamW; pass AdamW\(model.parameters\(\), ",
        ),
        ("adam", TypeError, r"got 'adam'; pass e.g. torch.optim.AdamW\(model.parameters\(\), lr=2e-4\)"),
        (lambda: 0, TypeError, r"got function; pass e.g. torch.optim.AdamW\(model.parameters\(\), lr=2e-4\)"),
        (Net, TypeError, r"got the class Net; pass e.g. torch.optim.AdamW\("),
        (torch.optim.AdamW(Net().parameters()), ValueError, "optimizer AdamW has no parameter of the model"),
        (
            torch.optim.AdamW([*net.parameters(), torch.nn.Parameter(torch.zeros(3))]),
            ValueError,
            "AdamW trains 1 parameter of neither the model nor the corruption as modules, which checkpoints ",
        ),
        (torch.optim.LBFGS(net.parameters()), TypeError, "optimizer LBFGS requires a closure in every step"),
        (parts(net.parameters(), lr=0.1), TypeError, "ZeroRedundancyOptimizer holds its state in parts.*pass one of"),
    ]
    for optimizer, error, message in cases:
        with pytest.raises(error, match=message):
            trainer(net, optimizer=optimizer)
    right = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="scheduler ReduceLROnPlateau requires a measure"):
        trainer(net, optimizer=right, scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau(right))


def test_batches_that_are_mappings() -> None:
    rows = [{"image": IMAGES, "label": torch.zeros(16, dtype=torch.long)}]
    with pytest.raises(TypeError, match="mappings with the keys 'image', 'label', and none is named; pass image_key"):
        trainer().fit(rows, steps=1)
    with pytest.raises(TypeError, match="image_key='img' is not among them"):
        sp.PowerSpectrum.estimate(rows, image_key="img")
    plain, keyed = trainer(), trainer(image_key="image")
    plain.fit([IMAGES], steps=2)
    keyed.fit(rows, steps=2)
    assert torch.equal(weights(plain.model), weights(keyed.model))
    measured = sp.PowerSpectrum.estimate(rows, image_key="image")
    assert torch.equal(measured.power, sp.PowerSpectrum.estimate([IMAGES]).power)

    class Labelled(Net):
        def forward(self, x_t: Tensor, t: Tensor, *, y: Tensor) -> Tensor:
            return super().forward(x_t, t) + y.view(-1, 1, 1, 1)

    trainer(Labelled(), image_key="image", label_name="y", label_key="label").fit(rows, steps=1)
    with pytest.raises(TypeError, match="label_name='y' requires label_key"):
        trainer(Labelled(), image_key="image", label_name="y").fit(rows, steps=1)
    with pytest.raises(ValueError, match="label_key='label' has no effect without label_name"):
        trainer(label_key="label")


def test_images_without_a_channel_axis_are_read_as_signals_aloud() -> None:
    with pytest.warns(RuntimeWarning, match=r"\(4, 28, 28\) is read as signals of 28 channels.*images\[:, None\]"):
        sp.PowerSpectrum.estimate([torch.randn(4, 28, 28).clamp(-1, 1)])
    for shape in ((4, 28, 30), (9, 4, 4)):  # these may well be signals
        sp.PowerSpectrum.estimate([torch.randn(shape).clamp(-1, 1)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 1.5}, "steps must be a whole number of 0 or more, got 1.5"),
        ({"steps": 1, "checkpoint_every": 1.5}, "checkpoint_every must be a whole number of 1 or more"),
    ],
)
def test_numbers_that_are_not_whole_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        trainer().fit(BATCHES, **arguments)


def test_saving_keeps_what_it_has_written(tmp_path: Path) -> None:
    one = trainer()
    for keep in (0, -1):
        with pytest.raises(ValueError, match=f"keep must be 1 or more, got {keep}"):
            one.save(tmp_path, keep=keep)
    one.save(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000000.pt"]


def test_a_users_corruption_without_repr_is_continued(tmp_path: Path) -> None:
    class Fade:
        basis = sp.PixelBasis()

        def signal(self, t: Tensor) -> Tensor:
            return 1 - t.view(-1, 1, 1, 1)

        def noise(self, t: Tensor) -> Tensor:
            return t.view(-1, 1, 1, 1)

    for steps in (2, 4):
        one = trainer(corruption=Fade())
        one.fit(BATCHES, steps=steps, checkpoint_dir=tmp_path)
        assert one.step == steps


def test_an_average_of_another_model_is_refused() -> None:
    average = sp.training.ExponentialMovingAverage(nn.Conv2d(3, 3, 1), 0.9)
    for other in (nn.Conv2d(1, 1, 1), nn.BatchNorm1d(2), nn.Sequential(nn.Conv2d(3, 3, 1))):
        with pytest.raises(ValueError, match="the average follows another model: it has no weight"):
            average.update(other)


def test_an_average_follows_all_weights() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    average = sp.training.ExponentialMovingAverage(layers, 0.9)
    with pytest.raises(ValueError, match="the average follows another model: this one has no weight '1.bias'"):
        average.update(layers[:1])


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_weights_are_averaged(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.full((3,), 1 + 1j, dtype=dtype))
    for bad in (None, torch.tensor(False)):
        average = sp.training.ExponentialMovingAverage(model, 0.75, warmup=False)
        with torch.no_grad():
            model.weight.add_(1 - 2j)
        average.update(model, unless=bad)
        expected = (model.weight - 1 + 2j) + 0.25 * (1 - 2j)
        torch.testing.assert_close(average.model.weight, expected)


def test_weights_of_errors_are_not_negative() -> None:
    loss = sp.DiffusionLoss(sp.GaussianCorruption("flow"), weighting=lambda t, signal, noise: -torch.ones_like(t))
    with pytest.raises(ValueError, match="weighting must return weights of 0 or more, got -1"):
        loss(Net(), IMAGES)
