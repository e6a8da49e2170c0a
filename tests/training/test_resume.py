"""Laws of continuing: bit-exact, and from the same configuration only."""

from __future__ import annotations

import copy
import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

import shortest_path as sp
from shortest_path.models import WhitenedInput
from shortest_path.training import latest_checkpoint, load_checkpoint
from shortest_path.training._options import described
from tests.training.networks import Net, batches, layer, net, trainer, weights
from tests.training.processes import together
from tests.worlds import CORRUPTIONS, SHAPE, correlated_images, spectrum


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


def test_several_trainers_may_continue_from_one_state() -> None:
    first = trainer()
    first.fit(batches(3), steps=2)
    state = first.state_dict()
    kept, others = copy.deepcopy(state), [trainer(), trainer()]
    for each in others:
        each.load_state_dict(state)
    for each in others:
        torch.set_rng_state(state["random"]["ranks"][0]["cpu"])
        each.fit(batches(3), steps=5)
    assert torch.equal(weights(others[0].model), weights(others[1].model))
    torch.testing.assert_close(state["optimizer"], kept["optimizer"], rtol=0, atol=0)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_state_stays_as_it_was(kind: torch.dtype) -> None:
    class Learned(sp.GaussianCorruption):
        def __init__(self) -> None:
            super().__init__("flow")
            self.rate = torch.nn.Parameter(torch.ones(()))

        def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
            signal, noise = super().scales(t)
            return signal, noise * self.rate

    def make() -> sp.DiffusionTrainer:
        model, corruption = net().to(kind), Learned()
        rate = torch.tensor(1e-2)
        optimizer = torch.optim.AdamW([*model.parameters(), *corruption.parameters()], lr=rate, capturable=False)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        options = {"time_sampling": "loss-second-moment", "prediction": "data", "metadata": {"note": note}}
        return sp.DiffusionTrainer(
            model, corruption, ema_decay=(0.9, 0.5), optimizer=optimizer, scheduler=scheduler, **options
        )

    note = torch.zeros(3)
    straight, one = make(), make()
    torch.manual_seed(5)
    straight.fit(batches(), steps=4)
    torch.manual_seed(5)
    one.fit(batches(), steps=2)
    state, averages = one.state_dict(), one.ema_models
    kept = copy.deepcopy(state)
    one.fit(batches(), steps=5)
    note.fill_(7.0)
    for part in ("model", "ema", "average", "optimizer", "corruption", "metadata", "random"):
        torch.testing.assert_close(state[part], kept[part], rtol=0, atol=0)
    one.load_state_dict(state)
    one.fit(batches(), steps=4)
    assert torch.equal(weights(one.model), weights(straight.model))
    for decay, model in averages.items():
        assert torch.equal(weights(model), weights(straight.ema_models[decay]))
    with torch.no_grad():
        state["model"]["first.weight"].zero_()  # it is the caller's
    assert one.model.first.weight.any()


def test_a_state_holds_equal_tensors_once(tmp_path: Path) -> None:
    """A file of it is as large as a checkpoint."""
    one = sp.DiffusionTrainer(net(), sp.ShortestPathCorruption(spectrum()), metadata={"graph": torch.ones(2).sin()})
    one.save(tmp_path / "own")
    sp.training.save_checkpoint(tmp_path / "given", 0, one.state_dict(), keep=1)
    own, given = ((tmp_path / name / "checkpoint-00000000.pt").stat().st_size for name in ("own", "given"))
    assert own == given


def test_checkpoints_copy_the_weights_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(*_: object) -> None:
        raise AssertionError("a state that is written at once was copied before")

    one = trainer()
    monkeypatch.setattr("shortest_path.training._continued.copied", copied)
    one.fit(batches(), steps=3, checkpoint_dir=tmp_path, checkpoint_every=1)
    one.save(tmp_path)
    trainer().fit(batches(), steps=4, checkpoint_dir=tmp_path)
    with pytest.raises(AssertionError, match="copied"):
        one.state_dict()


def test_the_devices_random_state_is_continued_too(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, given = torch.device("cuda", 1), []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.tensor([device.index, 7], dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: given.append((state.tolist(), device)))
    first, second, elsewhere = trainer(), trainer(), trainer()
    for each in (first, second):
        each._position._device = gpu
    state = first.state_dict()
    elsewhere.load_state_dict(state)  # on the CPU there is none to continue
    assert given == []
    second.load_state_dict(state)
    assert given == [([1, 7], gpu)]


def load_views(rank: int, ranks: int, folder: str) -> None:
    """Continue from a state whose random numbers are parts of larger tensors."""

    def part(value: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(value), value])[len(value) :]

    straight, again = trainer(), trainer()
    straight.fit(batches(3), steps=2)
    state = straight.state_dict()
    own = state["random"]["ranks"][0]
    own = {name: part(each) if isinstance(each, Tensor) else each for name, each in own.items()}
    state["random"] = {"trainer": part(state["random"]["trainer"]), "ranks": {0: own}}
    again.load_state_dict(state)
    for one in (again, straight):  # both use torch's random state
        torch.set_rng_state(own["cpu"].clone())
        one.fit(batches(3), steps=5)
    assert torch.equal(weights(again.model), weights(straight.model))


def test_random_states_may_be_views(tmp_path: Path) -> None:
    together(load_views, tmp_path, ranks=1)  # torch 2.13 reads past the end of a view, which ends the process


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


# --- a changed configuration ------------------------------------------------------------------------------


def test_a_changed_configuration_is_listed(tmp_path: Path) -> None:
    trainer().fit(batches(), steps=1, checkpoint_dir=tmp_path)
    state = load_checkpoint(latest_checkpoint(tmp_path) or "")
    with pytest.raises(ValueError, match=r"precision: 'fp32' in the checkpoint, 'bf16' here; prediction: 'noise' in"):
        trainer(precision="bf16", prediction="data").load_state_dict(state)
    other = sp.ShortestPathCorruption(sp.PowerSpectrum.estimate([correlated_images(seed=3)]))
    with pytest.raises(ValueError, match=r"corruption.log_ratio: other values"):
        sp.DiffusionTrainer(net(), other, ema_decay=0.9).load_state_dict(state)
    for changed, message in (({"format": "else"}, "format 'else', expected"), ({"version": 9}, "has version 9")):
        with pytest.raises(ValueError, match=message):
            trainer().load_state_dict(state | changed)


class Paced:
    """A corruption that says nothing of its argument."""

    basis = sp.PixelBasis(2)

    def __init__(self, pace: float) -> None:
        self.pace = pace

    def signal(self, t: Tensor) -> Tensor:
        return (1 - t**self.pace).view(-1, 1, 1, 1)

    def noise(self, t: Tensor) -> Tensor:
        return (t**self.pace).view(-1, 1, 1, 1)


class PacedModule(sp.DiagonalCorruption):
    def __init__(self, pace: float) -> None:
        super().__init__(sp.PixelBasis(2))
        self.pace = pace

    signal, noise = Paced.signal, Paced.noise  # type: ignore[assignment]


class Tabled(Paced):
    """A corruption with a table that is no buffer, whose values are reversed."""

    def noise(self, t: Tensor) -> Tensor:
        table = torch.linspace(0.5, 1, 8).view(1, 1, 1, 8)
        return t.view(-1, 1, 1, 1) * (table if self.pace == 1 else table.flip(-1))

    def signal(self, t: Tensor) -> Tensor:
        return 1 - t.view(-1, 1, 1, 1)


def _turning(pace: float) -> sp.ClockCorruption:
    return sp.ClockCorruption(spectrum(), lambda t: 1.5 * t**pace)


@pytest.mark.parametrize("make", [Paced, PacedModule, Tabled, _turning])
def test_a_corruption_with_other_scales_is_another_whatever_it_tells_of_itself(
    tmp_path: Path, make: Callable[[float], sp.Corruption]
) -> None:
    def trainer_of(pace: float) -> sp.DiffusionTrainer:
        return sp.DiffusionTrainer(net(), make(pace), prediction="velocity")

    trainer_of(1.0).fit(batches(), steps=1, checkpoint_dir=tmp_path)
    trainer_of(1.0).fit(batches(), steps=2, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="of another configuration; corruption: another signal or noise, of the same "):
        trainer_of(3.0).fit(batches(), steps=3, checkpoint_dir=tmp_path)
    trainer_of(3.0).fit(batches(), steps=3, checkpoint_dir=tmp_path, allow_changes=("corruption",))


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
    with pytest.raises(TypeError, match=r"a tuple of option names, got the string 'seed'; pass \('seed',\)"):
        trainer().load_state_dict(state, allow_changes="seed")
    for wrong in (None, 1):
        with pytest.raises(
            TypeError, match=rf"a tuple of option names, got {type(wrong).__name__}; pass e.g. \('seed',"
        ):
            trainer().load_state_dict(state, allow_changes=wrong)
    with pytest.raises(ValueError, match=r"tuple of option names, got \[1, 'a'\]; choose from"):
        trainer().load_state_dict(state, allow_changes=("a", 1))


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


def test_schedules_are_part_of_the_configuration(tmp_path: Path) -> None:
    scheduled("cosine").fit(batches(), steps=1, checkpoint_dir=tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint-00000001.pt")
    with pytest.raises(ValueError, match="scheduler: 'CosineAnnealingLR' in the checkpoint, 'MultiStepLR' here"):
        scheduled("milestones").load_state_dict(state)
    scheduled("milestones").load_state_dict(state, allow_changes=("scheduler",))
    other = scheduled("cosine")
    with pytest.raises(ValueError, match="scheduler belongs to another optimizer; pass optimizer=scheduler.optimizer"):
        sp.DiffusionTrainer(net(), CORRUPTIONS["blur"](), scheduler=other.scheduler)


def optimized(scheduler: Callable[..., Any] | None = None, groups: int = 1, **options: Any) -> sp.DiffusionTrainer:
    """Return a trainer with an AdamW of the user's and a schedule of it."""
    model = net()
    parameters: list[Any] = list(model.parameters())
    if groups == 2:
        parameters = [{"params": parameters[:2]}, {"params": parameters[2:], "weight_decay": 0.5}]
    optimizer = torch.optim.AdamW(parameters, **{"lr": 0.1, **options})
    schedule = None if scheduler is None else scheduler(optimizer)
    return sp.DiffusionTrainer(
        model, CORRUPTIONS["shortest-cosine"](), ema_decay=0.9, optimizer=optimizer, scheduler=schedule
    )


schedules = torch.optim.lr_scheduler


class Warmup:
    """A schedule with a setting, as an object that torch saves."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, step: int) -> float:
        return min(1.0, (1 + step) / self.steps)


def _sequence(last: int, switch: int = 2) -> Callable[..., Any]:
    return lambda optimizer: schedules.SequentialLR(
        optimizer,
        [schedules.ConstantLR(optimizer, 0.1, 2), schedules.CosineAnnealingLR(optimizer, last)],
        [switch],
    )


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # torch 2.4's own
@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        (lambda o: schedules.CosineAnnealingLR(o, 6), lambda o: schedules.CosineAnnealingLR(o, 12), "T_max: 6 .* 12 h"),
        (lambda o: schedules.OneCycleLR(o, 0.1, 20), lambda o: schedules.OneCycleLR(o, 0.1, 30), "total_steps: 20 in"),
        (
            lambda o: schedules.OneCycleLR(o, 0.1, 20, div_factor=10),
            lambda o: schedules.OneCycleLR(o, 0.2, 20, div_factor=20),
            r"param_groups.0.max_lr: 0.1 in the checkpoint, 0.2 here",
        ),
        (
            lambda o: schedules.MultiStepLR(o, [2, 5]),
            lambda o: schedules.MultiStepLR(o, [2, 6]),
            "milestones: {2: 1, 5",
        ),
        (_sequence(6), _sequence(12), r"_schedulers.1.T_max: 6 in"),
        (_sequence(6), _sequence(6, 3), r"_milestones: \[2\] in"),
        (lambda o: schedules.LambdaLR(o, Warmup(5)), lambda o: schedules.LambdaLR(o, Warmup(9)), "steps: 5 in"),
        (
            lambda o: schedules.CosineAnnealingWarmRestarts(o, 3),
            lambda o: schedules.CosineAnnealingWarmRestarts(o, 4),
            "T_0: 3 in the checkpoint, 4 here",
        ),
    ],
)
def test_another_setting_of_a_schedule_is_refused_and_if_allowed_begins_anew(
    tmp_path: Path, theirs: Callable[..., Any], ours: Callable[..., Any], message: str
) -> None:
    optimized(theirs).fit(batches(), steps=4, checkpoint_dir=tmp_path)
    optimized(theirs).fit(batches(), steps=5, checkpoint_dir=tmp_path)
    other, fresh = optimized(ours), optimized(ours)
    with pytest.raises(ValueError, match=f"another configuration; .*scheduler.*{message}"):
        other.fit(batches(), steps=8, checkpoint_dir=tmp_path)
    rates: dict[sp.DiffusionTrainer, list[float]] = {other: [], fresh: []}

    def note(who: sp.DiffusionTrainer, step: object) -> None:
        rates[who].append(who.optimizer.param_groups[0]["lr"])

    other.fit(batches(), steps=8, checkpoint_dir=tmp_path, allow_changes=("scheduler",), callbacks=[note])
    fresh.fit(batches(), steps=3, callbacks=[note])
    assert rates[other] == rates[fresh]
    assert other.optimizer.state_dict()["state"][0]["step"] == 8  # what it has learned of the gradients is kept
    optimized(ours).fit(batches(), steps=9, checkpoint_dir=tmp_path)


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ({}, {"weight_decay": 0.3}, r"optimizer.param_groups.0.weight_decay: 0.01 in the checkpoint, 0.3 here"),
        ({}, {"betas": (0.5, 0.6)}, r"param_groups.0.betas: \[0.9, 0.999\] in the checkpoint, \[0.5, 0.6\] here"),
        ({}, {"lr": 0.2}, r"param_groups.0.lr: 0.1 in the checkpoint, 0.2 here"),
        ({"groups": 2}, {"groups": 2, "eps": 1e-3}, r"param_groups.0.eps: .*; optimizer.param_groups.1.eps: 1e-08 in"),
    ],
)
def test_another_setting_of_an_optimizer_is_taken_only_if_allowed(
    tmp_path: Path, theirs: dict[str, Any], ours: dict[str, Any], message: str
) -> None:
    optimized(**theirs).fit(batches(), steps=2, checkpoint_dir=tmp_path)
    optimized(**theirs).fit(batches(), steps=3, checkpoint_dir=tmp_path)
    other = optimized(**ours)
    wanted = copy.deepcopy(other.optimizer.state_dict()["param_groups"])
    with pytest.raises(ValueError, match=message):
        other.fit(batches(), steps=4, checkpoint_dir=tmp_path)
    other.fit(batches(), steps=4, checkpoint_dir=tmp_path, allow_changes=("optimizer",))
    found = other.optimizer.state_dict()
    assert found["param_groups"] == wanted
    assert found["state"][0]["step"] == 4
    optimized(**ours).fit(batches(), steps=5, checkpoint_dir=tmp_path)


def test_what_changes_in_training_and_how_an_optimizer_computes_may_differ(tmp_path: Path) -> None:
    def lower(who: sp.DiffusionTrainer, step: object) -> None:
        who.optimizer.param_groups[0]["lr"] = 0.1 / who.step

    optimized(betas=(0.9, 0.99)).fit(batches(), steps=2, checkpoint_dir=tmp_path / "callback", callbacks=[lower])
    again = optimized(betas=[0.9, 0.99], foreach=True)
    again.fit(batches(), steps=3, checkpoint_dir=tmp_path / "callback")
    assert again.optimizer.param_groups[0]["lr"] == 0.05
    scale = 1.0
    first = optimized(lambda o: schedules.LambdaLR(o, lambda step: scale))
    first.fit(batches(), steps=2, checkpoint_dir=tmp_path / "function")
    scale = 0.5
    optimized(lambda o: schedules.LambdaLR(o, lambda step: scale)).fit(
        batches(), steps=3, checkpoint_dir=tmp_path / "function"
    )
    cosine = optimized(lambda o: schedules.CosineAnnealingLR(o, 9))
    cosine.fit(batches(), steps=2, checkpoint_dir=tmp_path / "used")
    used = sp.DiffusionTrainer(  # in one process, with a schedule that was already followed
        cosine.model, cosine.corruption, ema_decay=0.9, optimizer=cosine.optimizer, scheduler=cosine.scheduler
    )
    used.fit(batches(), steps=4, checkpoint_dir=tmp_path / "used")
    optimized(lambda o: schedules.CosineAnnealingLR(o, 9)).fit(batches(), steps=5, checkpoint_dir=tmp_path / "used")
    state = load_checkpoint(tmp_path / "used" / "checkpoint-00000005.pt")
    del state["settings"]  # as an earlier version wrote it: what it has now is compared
    optimized(lambda o: schedules.CosineAnnealingLR(o, 9)).load_state_dict(state)
    other = optimized(lambda o: schedules.CosineAnnealingLR(o, 7))
    with pytest.raises(ValueError, match=r"scheduler.T_max: 9 in the checkpoint, 7 here"):
        other.load_state_dict(state)
    other.load_state_dict(state, allow_changes=("scheduler",))


@pytest.mark.parametrize("scheduled", [False, True])
def test_what_is_allowed_is_taken_also_where_training_has_changed_it(tmp_path: Path, scheduled: bool) -> None:
    def lower(who: sp.DiffusionTrainer, step: object) -> None:
        who.optimizer.param_groups[0]["lr"] = 0.05

    schedule = (lambda o: schedules.CosineAnnealingLR(o, 9)) if scheduled else None
    optimized(schedule).fit(batches(), steps=3, checkpoint_dir=tmp_path, callbacks=() if scheduled else [lower])
    state = load_checkpoint(tmp_path / "checkpoint-00000003.pt")
    other = optimized(schedule, weight_decay=0.3)
    other.load_state_dict(state, allow_changes=("optimizer",))
    group = other.optimizer.param_groups[0]
    assert group["weight_decay"] == 0.3
    assert group["lr"] == (state["optimizer"]["param_groups"][0]["lr"] if scheduled else 0.1)  # the schedule's, or ours
    with pytest.raises(ValueError, match=r"param_groups.0.lr: 0.1 in the checkpoint, 0.2 here"):
        optimized(schedule, lr=0.2).load_state_dict(state)


def test_an_optimizer_that_keeps_other_numbers_begins_anew(tmp_path: Path) -> None:
    optimized().fit(batches(), steps=2, checkpoint_dir=tmp_path)
    other = optimized(amsgrad=True)
    other.fit(batches(), steps=3, checkpoint_dir=tmp_path, allow_changes=("optimizer",))
    assert other.optimizer.state_dict()["state"][0]["step"] == 1


def test_the_same_schedule_goes_on_with_another_optimizer_and_another_one_changes_nothing_else(tmp_path: Path) -> None:
    def heavier(who: sp.DiffusionTrainer, step: object) -> None:
        who.optimizer.param_groups[0]["weight_decay"] = 0.5

    def cosine(last: int) -> Callable[..., Any]:
        return lambda o: schedules.CosineAnnealingLR(o, last)

    first = optimized(cosine(9))
    first.fit(batches(), steps=3, callbacks=[heavier])
    state, rate = first.state_dict(), first.optimizer.param_groups[0]["lr"]
    assert rate < 0.1
    model = net()
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    other = sp.DiffusionTrainer(
        model, first.corruption, ema_decay=0.9, optimizer=adam, scheduler=schedules.CosineAnnealingLR(adam, 9)
    )
    other.load_state_dict(state, allow_changes=("optimizer",))
    assert (adam.param_groups[0]["lr"], other.scheduler.last_epoch) == (rate, 3)
    assert not adam.state
    first.fit(batches(), steps=4, resume=False)
    other.fit(batches(), steps=4, resume=False)
    assert adam.param_groups[0]["lr"] == first.optimizer.param_groups[0]["lr"]
    longer = optimized(cosine(20))
    longer.load_state_dict(state, allow_changes=("scheduler",))
    assert longer.optimizer.param_groups[0]["lr"] == 0.1
    assert longer.optimizer.param_groups[0]["weight_decay"] == 0.5


def test_what_was_set_after_the_trainer_was_made_is_compared() -> None:
    state, other = optimized().state_dict(), optimized()
    other.optimizer.param_groups[0]["weight_decay"] = 0.7
    with pytest.raises(ValueError, match=r"param_groups.0.weight_decay: 0.01 in the checkpoint, 0.7 here"):
        other.load_state_dict(state)
    other.load_state_dict(state, allow_changes=("optimizer",))
    assert other.optimizer.param_groups[0]["weight_decay"] == 0.7


@pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6), reason="torch keeps names from 2.6 on")
class Twice(nn.Module):
    """Two layers of one shape."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = self.two(torch.tanh(self.one(x_t)))
        return answer


@pytest.mark.parametrize("named", [False, True])
def test_parameters_in_another_order_keep_what_was_learned_of_them(named: bool) -> None:
    def make(order: Sequence[str]) -> sp.DiffusionTrainer:
        model = Twice()
        by_name = dict(model.named_parameters())
        given: list[Any] = [(name, by_name[name]) if named else by_name[name] for name in order]
        return sp.DiffusionTrainer(model, sp.GaussianCorruption(), optimizer=torch.optim.AdamW(given, lr=0.1))

    names = [name for name, _ in Twice().named_parameters()]
    straight, first, other = make(names), make(names), make(names[::-1])
    straight.fit(batches(), steps=4)
    first.fit(batches(), steps=2)
    other.load_state_dict(first.state_dict())
    if named:
        assert other.optimizer.param_groups[0]["param_names"] == names[::-1]
    other.fit(batches(), steps=4)
    torch.testing.assert_close(weights(other.model), weights(straight.model))
    with pytest.raises(ValueError, match=r"\[4\] parameters, this trainer's \[3\]; pass the same"):
        make(names[1:]).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"group 0: two.bias there, one.weight here"):
        make(names[:2]).load_state_dict(make(names[1::2]).state_dict())


def test_named_parameters_of_a_state_that_does_not_tell_its_parameters_are_not_mixed_up() -> None:
    def make(turned: bool | None) -> sp.DiffusionTrainer:
        model = net()
        named: list[Any] = list(model.named_parameters())
        given = list(model.parameters()) if turned is None else named[::-1] if turned else named
        return sp.DiffusionTrainer(model, sp.GaussianCorruption(), optimizer=torch.optim.AdamW(given, lr=0.1))

    first, other, unnamed = make(False), make(True), make(None)
    first.fit(batches(), steps=1)
    state = {name: value for name, value in first.state_dict().items() if name not in ("parameters", "training")}
    unnamed.load_state_dict(state)
    assert unnamed.optimizer.state_dict()["state"][0]["step"] == 1
    make(False).load_state_dict(unnamed.state_dict())
    with pytest.raises(ValueError, match="pass the same optimizer"):
        other.load_state_dict(state)
    other.load_state_dict(state, allow_changes=("optimizer",))
    assert not other.optimizer.state
    other.fit(batches(), steps=2, resume=False)


@pytest.mark.parametrize("own", [False, True])
def test_what_is_set_between_two_calls_of_fit_is_not_lost_in_silence(tmp_path: Path, own: bool) -> None:
    model = net()
    given = {"optimizer": torch.optim.AdamW(model.parameters(), lr=0.1)} if own else {"learning_rate": 0.1}
    one = sp.DiffusionTrainer(model, sp.GaussianCorruption(), **given)
    one.fit(batches(), steps=2, checkpoint_dir=tmp_path)
    one.fit(batches(), steps=3, checkpoint_dir=tmp_path)
    one.optimizer.param_groups[0]["lr"] = 1e-3
    with pytest.raises(ValueError, match=r"optimizer.param_groups.0.lr: 0.1 in the checkpoint, 0.001 here"):
        one.fit(batches(), steps=4, checkpoint_dir=tmp_path)
    one.fit(batches(), steps=4, checkpoint_dir=tmp_path, allow_changes=("optimizer",))
    assert one.optimizer.param_groups[0]["lr"] == 1e-3
    one.fit(batches(), steps=5, checkpoint_dir=tmp_path)
    one.optimizer.param_groups[0]["lr"] = 0.1  # as at first
    with pytest.raises(ValueError, match=r"optimizer.param_groups.0.lr: 0.001 in the checkpoint, 0.1 here"):
        one.fit(batches(), steps=6, checkpoint_dir=tmp_path)
    one.optimizer.param_groups[0]["lr"] = 1e-3

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.fit(batches(), steps=7, checkpoint_dir=tmp_path, checkpoint_every=6, callbacks=[interrupt])
    one.optimizer.param_groups[0]["lr"] = 0.2
    with pytest.raises(ValueError, match=r"optimizer.param_groups.0.lr: 0.001 in the checkpoint, 0.2 here"):
        one.fit(batches(), steps=7, checkpoint_dir=tmp_path)


def test_options_of_a_group_that_the_optimizer_does_not_know_are_compared() -> None:
    first, other = optimized(), optimized()
    for each, name in ((first, "body"), (other, "head")):
        each.optimizer.param_groups[0]["name"] = name
    first, other = (
        sp.DiffusionTrainer(each.model, each.corruption, ema_decay=0.9, optimizer=each.optimizer)
        for each in (first, other)
    )
    with pytest.raises(ValueError, match=r"param_groups.0.name: 'body' in the checkpoint, 'head' here"):
        other.load_state_dict(first.state_dict())


def test_a_schedule_without_a_state_is_refused() -> None:
    class Constant:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

        def step(self) -> None:
            pass

    with pytest.raises(TypeError, match=r"scheduler Constant has no state_dict and no load_state_dict, with which"):
        optimized(Constant)


class Signs(torch.optim.Optimizer):
    """Moves every weight by the same step: an optimizer without a learning rate."""

    def __init__(self, parameters: Any, size: float) -> None:
        super().__init__(parameters, {"size": size})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data -= group["size"] * parameter.grad.sign()


def test_an_optimizer_without_a_learning_rate_is_continued(tmp_path: Path) -> None:
    def make(size: float) -> sp.DiffusionTrainer:
        model = net()
        return sp.DiffusionTrainer(model, sp.GaussianCorruption(), optimizer=Signs(model.parameters(), size))

    make(1e-3).fit(batches(), steps=2, checkpoint_dir=tmp_path)
    make(1e-3).fit(batches(), steps=3, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"param_groups.0.size: 0.001 in the checkpoint, 0.002 here"):
        make(2e-3).fit(batches(), steps=4, checkpoint_dir=tmp_path)


def test_other_groups_of_parameters_begin_anew_if_allowed(tmp_path: Path) -> None:
    optimized().fit(batches(), steps=2, checkpoint_dir=tmp_path)
    other = optimized(groups=2)
    with pytest.raises(ValueError, match=r"groups of \[6\] parameters, this trainer's \[2, 4\]; pass the same"):
        other.fit(batches(), steps=3, checkpoint_dir=tmp_path)
    other.fit(batches(), steps=3, checkpoint_dir=tmp_path, allow_changes=("optimizer",))
    assert other.optimizer.state_dict()["state"][0]["step"] == 1


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


class Holds(nn.Module):
    """A network of the user's, with the trainer's corruption inside, or with a table of the spectrum."""

    def __init__(self, corruption: nn.Module | None = None, spectrum: sp.PowerSpectrum | None = None) -> None:
        super().__init__()
        self.inside, self.corruption = nn.ModuleList([nn.Conv2d(3, 3, 1)]), corruption
        if spectrum is not None:
            self.table_names = ("deviation",)
            self.register_buffer("deviation", spectrum.power.sqrt().float())

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.inside[0](x_t)
        return output


@pytest.mark.parametrize("average", [None, 0.9, (0.9, 0.5)])
@pytest.mark.parametrize("kind", ["whitened", "own", "own table", "another class", "another spectrum"])
def test_another_corruption_inside_the_model_is_trained_with(tmp_path: Path, kind: str, average: Any) -> None:
    measured = spectrum()
    other = sp.PowerSpectrum(measured.basis, measured.power.sqrt())

    def make(power: sp.PowerSpectrum) -> sp.DiffusionTrainer:
        corruption: sp.Corruption = sp.ShortestPathCorruption(power)
        if kind == "another spectrum" or (kind == "another class" and power is other):
            corruption = sp.GaussianCorruption()
        model: nn.Module = WhitenedInput(layer(), corruption, power, alone=True)
        if kind.startswith("own"):
            model = Holds(spectrum=power) if kind == "own table" else Holds(corruption)
        return sp.DiffusionTrainer(model, corruption, prediction="whitened-velocity", spectrum=power, ema_decay=average)

    make(measured).fit(batches(), steps=2, checkpoint_dir=tmp_path)
    changed, fresh = make(other), make(other)
    allowed = {"checkpoint_dir": tmp_path, "allow_changes": ("corruption", "spectrum")}
    changed.fit(batches(), steps=2, **allowed)
    x_0, t = batches()[0], torch.rand(8)
    assert torch.equal(*(sp.corrupt(each.corruption, x_0, t, x_0) for each in (changed, fresh)))
    if kind == "own table":
        assert torch.equal(changed.model.deviation, other.power.sqrt().float())
    if not kind.startswith("own"):
        for model in (changed.model, *changed.ema_models.values()):
            assert torch.equal(model.whiten(x_0, t), fresh.model.whiten(x_0, t))
    weight = load_checkpoint(tmp_path / "checkpoint-00000002.pt")["model"]
    learned = dict(changed.model.named_parameters())
    assert learned
    assert all(torch.equal(each, weight[name]) for name, each in learned.items())
    changed.fit(batches(), steps=4, **allowed)
    again = make(other)
    again.fit(batches(), steps=4, checkpoint_dir=tmp_path)
    assert torch.equal(weights(again.model), weights(changed.model))
    if not kind.startswith("own"):
        changed.save_pretrained(tmp_path / "shared", steps=3)
        saved = sp.Sampler.from_pretrained(tmp_path / "shared", layer())
        noise = torch.randn(2, *SHAPE)
        samples = (each.sample(noise.shape, x_1=noise) for each in (saved, changed.sampler(steps=3)))
        assert torch.equal(*samples)


def test_a_spectrum_inside_the_model_alone_is_not_changed_in_silence() -> None:
    law = spectrum()
    images = correlated_images(300) + 0.5
    shifted = sp.PowerSpectrum.estimate([images])

    def make(known: sp.PowerSpectrum, corruption: Callable[..., Any] = sp.GaussianCorruption) -> sp.DiffusionTrainer:
        made = corruption() if corruption is sp.GaussianCorruption else corruption(known)
        return sp.DiffusionTrainer(WhitenedInput(layer(), made, known, alone=True), made, ema_decay=0.9)

    trained, other = make(law), make(law.tempered(0.5))
    trained.fit(batches(), steps=1)
    state = trained.state_dict()
    before = {name: value.clone() for name, value in other.model.state_dict().items()}
    with pytest.raises(ValueError, match=r"model has another corruption or spectrum inside \(power\); make it with"):
        other.load_state_dict(state)
    assert all(torch.equal(value, before[name]) for name, value in other.model.state_dict().items())
    other.load_state_dict(state, allow_changes=("spectrum",))
    assert torch.equal(other.model.power, before["power"])
    assert torch.equal(weights(other.model.network), weights(trained.model.network))
    # A mean that the corruption knew becomes one that it was not told.
    state, other = make(shifted, sp.ShortestPathCorruption).state_dict(), make(shifted)
    before = {name: value.clone() for name, value in other.model.state_dict().items()}
    other.load_state_dict(state, allow_changes=("corruption", "spectrum"))
    for name in ("power", "shift"):
        assert torch.equal(other.model.state_dict()[name], before[name])


def test_a_corruption_inside_several_parts_of_the_model_is_replaced_in_all() -> None:
    law = spectrum()

    class Two(nn.Module):
        def __init__(self, corruption: sp.Corruption, known: sp.PowerSpectrum) -> None:
            super().__init__()
            self.parts = nn.ModuleList(WhitenedInput(layer(), corruption, known, alone=True) for _ in range(2))

        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            output: Tensor = self.parts[0](x_t, t) + self.parts[1](x_t, t)
            return output

    def make(known: sp.PowerSpectrum) -> sp.DiffusionTrainer:
        corruption = sp.ShortestPathCorruption(known)
        return sp.DiffusionTrainer(Two(corruption, known), corruption, ema_decay=0.9)

    other, fresh = make(law.tempered(0.5)), make(law.tempered(0.5))
    other.load_state_dict(make(law).state_dict(), allow_changes=("corruption", "spectrum"))
    assert torch.equal(other.corruption.log_ratio, fresh.corruption.log_ratio)
    for mine, theirs in zip(other.model.state_dict().values(), fresh.model.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("kind", ["path", "gaussian", "fourier"])
@pytest.mark.parametrize(("factor", "alike"), [(1e-7, True), (1e-3, False)])
def test_tables_may_be_rounded_as_on_another_machine(kind: str, factor: float, alike: bool) -> None:
    """What is computed from the same images elsewhere has other last digits."""
    images = correlated_images(64) + 0.5

    def made(factor: float) -> sp.DiffusionTrainer:
        found = sp.PowerSpectrum.estimate([images], "fourier" if kind == "fourier" else "cosine")
        generator = torch.Generator().manual_seed(0)
        errors = [1 + factor * torch.randn(each.shape, generator=generator) for each in (found.power, found.mean)]
        if kind == "fourier":
            errors[0] = (errors[0] + found.basis.mirror(errors[0])) / 2
        known = sp.PowerSpectrum(found.basis, found.power * errors[0], mean=found.mean * errors[1])
        corruption = sp.GaussianCorruption() if kind == "gaussian" else sp.ShortestPathCorruption(known)
        torch.manual_seed(0)
        model = WhitenedInput(layer(), corruption, known, alone=True)
        return sp.DiffusionTrainer(model, corruption, prediction="velocity", spectrum=known, ema_decay=0.9)

    before, after = made(0.0), made(factor)
    before.fit(batches(3), steps=2)
    state = before.state_dict()
    if not alike:
        with pytest.raises(ValueError, match="other values|another corruption"):
            after.load_state_dict(state)
        return
    after.load_state_dict(state)
    after.fit(batches(3), steps=4)
    again = made(factor).ema_model
    again.load_state_dict(before.ema_model.state_dict())
    assert torch.equal(weights(again), weights(before.ema_model))


@pytest.mark.parametrize("other", [math.nan, math.inf, -math.inf])
def test_tables_that_are_not_finite_are_compared_too(other: float) -> None:
    class Tabled(Net):
        table_names = ("table",)

        def __init__(self, value: float) -> None:
            super().__init__()
            self.register_buffer("table", torch.tensor([other, value]))

    def make(value: float) -> sp.DiffusionTrainer:
        return sp.DiffusionTrainer(Tabled(value), sp.GaussianCorruption())

    make(2.0).load_state_dict(make(2.0).state_dict())
    with pytest.raises(ValueError, match=r"another corruption or spectrum inside \(table\)"):
        make(3.0).load_state_dict(make(2.0).state_dict())


def test_spectra_estimated_in_other_batches_are_the_same() -> None:
    images = correlated_images(100).double()
    centred, grey = images - images.mean(0), images[:, :1].expand(-1, 3, -1, -1)

    def made_of(images: Tensor, size: int) -> sp.DiffusionTrainer:
        found = sp.PowerSpectrum.estimate(images.split(size), progress=False)
        path = sp.ShortestPathCorruption(found)
        return sp.DiffusionTrainer(WhitenedInput(net(), path, found, alone=True), path)

    for each in (centred, grey):
        made_of(each, 40).load_state_dict(made_of(each, 50).state_dict())
    with pytest.raises(ValueError, match="corruption.mean: other values"):
        made_of(centred, 40).load_state_dict(made_of(centred + 1e-4, 40).state_dict())


def test_a_state_without_the_numbers_of_its_corruption_is_continued_from() -> None:
    state = trainer().state_dict()
    del state["scales"]
    trainer().load_state_dict(state)


def test_functions_inside_options_are_compared_without_their_addresses() -> None:
    def make() -> sp.DiffusionTrainer:
        return trainer(time_sampling=functools.partial(lambda shape, u: shape(u), lambda u: u))

    make().load_state_dict(make().state_dict())


def test_another_learning_rate_is_taken_only_if_allowed() -> None:
    first, other = (sp.DiffusionTrainer(Net(), sp.GaussianCorruption(), learning_rate=rate) for rate in (1e-3, 5e-5))
    first.fit(batches(2), steps=2)
    state = first.state_dict()
    with pytest.raises(ValueError, match="learning_rate: 0.001 in the checkpoint, 5e-05 here"):
        other.load_state_dict(state)
    other.load_state_dict(state, allow_changes=("learning_rate",))
    assert other.optimizer.param_groups[0]["lr"] == 5e-5
    assert other.optimizer.state_dict()["state"][0]["step"] == 2  # what it had learned of the gradients is kept
    model = net()
    own = sp.DiffusionTrainer(model, sp.GaussianCorruption(), optimizer=torch.optim.AdamW(model.parameters(), lr=5e-5))
    with pytest.raises(ValueError, match=r"optimizer.param_groups.0.lr: 0.0002 in the checkpoint, 5e-05 here"):
        own.load_state_dict(own_state := sp.DiffusionTrainer(net(), sp.GaussianCorruption()).state_dict())
    own.load_state_dict(own_state, allow_changes=("optimizer",))
    assert own.optimizer.param_groups[0]["lr"] == 5e-5


@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize(("theirs", "ours"), [("float64", "float32"), ("float32", "bfloat16"), ("bfloat16", "float32")])
def test_weights_of_another_type_are_refused(tmp_path: Path, theirs: str, ours: str, decay: float | None) -> None:
    def make(kind: str) -> sp.DiffusionTrainer:
        return sp.DiffusionTrainer(net().to(getattr(torch, kind)), sp.GaussianCorruption("flow"), ema_decay=decay)

    first, other = make(theirs), make(ours)
    data = [batch.to(getattr(torch, theirs)) for batch in batches()]
    first.fit(data, steps=1, checkpoint_dir=tmp_path)
    before = weights(other.model)
    message = (
        rf"the state's model does not fit this trainer's: first.bias torch.{theirs} instead of torch.{ours}, .* and "
        rf"\d+ more; to continue exactly, make the trainer of model.to\(torch.{theirs}\)"
    )
    with pytest.raises(ValueError, match=message):
        other.fit(data, steps=2, checkpoint_dir=tmp_path)
    assert torch.equal(weights(other.model), before)
    again = make(theirs)
    again.fit(data, steps=2, checkpoint_dir=tmp_path)
    assert again.step == 2


def test_functions_are_compared_by_name() -> None:
    def late(uniform: Tensor) -> Tensor:
        return uniform.sqrt()

    def early(uniform: Tensor) -> Tensor:
        return uniform.square()

    state = trainer(time_sampling=late).state_dict()
    trainer(time_sampling=late).load_state_dict(state)
    with pytest.raises(ValueError, match=r"time_sampling: 'tests.*late' in the checkpoint, 'tests.*early' here"):
        trainer(time_sampling=early).load_state_dict(state)


@pytest.mark.parametrize("old", [False, True])
def test_a_spectrum_of_another_basis_or_mean_is_another(old: bool) -> None:
    power = torch.full(SHAPE, 0.5, dtype=torch.float64)
    turned = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]

    def make(basis: sp.bases.Basis, mean: float | None = None) -> sp.DiffusionTrainer:
        whole = None if mean is None else torch.full(SHAPE, mean)
        measured = sp.PowerSpectrum(basis, power, mean=whole)
        return sp.DiffusionTrainer(Net(), sp.GaussianCorruption(), prediction="whitened-velocity", spectrum=measured)

    state = make(sp.CosineBasis(), 0.5).state_dict()
    if old:
        state["spectrum"] = {"power": power}
    make(sp.CosineBasis(), 0.5).load_state_dict(state)
    others = [make(sp.CosineBasis(2, turned), 0.5), make(sp.FourierBasis(), 0.5), make(sp.bases.WaveletBasis(), 0.5)]
    if not old:
        others += [make(sp.CosineBasis(), 0.0), make(sp.CosineBasis())]
        rotated = make(sp.CosineBasis(2, turned)).state_dict()
        with pytest.raises(ValueError, match="spectrum.basis.channel_rotation: other values"):
            make(sp.CosineBasis(2, turned.roll(1, 0))).load_state_dict(rotated)
    for other in others:
        with pytest.raises(ValueError, match="spectrum"):
            other.load_state_dict(state)


def test_one_average_in_a_sequence_is_one_average() -> None:
    def make(decay: Any) -> sp.DiffusionTrainer:
        return sp.DiffusionTrainer(Net(), sp.GaussianCorruption(), ema_decay=decay)

    make(0.9).load_state_dict(make([0.9]).state_dict())
    make((0.9,)).load_state_dict(make(0.9).state_dict())


def test_parameters_of_a_layer_that_is_compiled_later_are_the_same() -> None:
    def make(early: bool) -> sp.DiffusionTrainer:
        model = Twice()
        if early:
            model.one = torch.compile(model.one, backend="eager")
        made = sp.DiffusionTrainer(model, sp.GaussianCorruption(), ema_decay=None)
        if not early:
            model.one = torch.compile(model.one, backend="eager")
        return made

    late = make(early=False)
    late.fit(batches(), steps=1)
    make(early=True).load_state_dict(late.state_dict())


def test_a_generator_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    class Data(list):
        generator: Any = None

    for steps, generator in enumerate(
        (torch.Generator(), np.random.default_rng(0), np.random.Generator(np.random.MT19937(0)))
    ):
        data = Data(batches())
        data.generator = generator
        trainer().fit(data, steps=5 + steps, checkpoint_dir=tmp_path)


def test_a_spectrum_that_rounds_otherwise_is_the_same() -> None:
    def make(power: float) -> sp.DiffusionTrainer:
        spectrum = sp.PowerSpectrum(sp.CosineBasis(), torch.full(SHAPE, power, dtype=torch.float64))
        return sp.DiffusionTrainer(Net(), sp.GaussianCorruption(), spectrum=spectrum)

    make(1.065 - 1e-10).load_state_dict(make(1.065 + 1e-10).state_dict())  # shown as 1.06 and 1.07


@dataclass
class Warp:
    of: Any

    def __call__(self, u: Tensor) -> Tensor:
        return u


def test_a_description_is_the_same_in_every_process_and_tells_tables_apart() -> None:
    table, endless = torch.arange(3000.0), Warp(None)
    endless.of = [endless]
    same: list[tuple[Any, Any]] = [
        ({"a", "b", "c"}, {"c", "b", "a"}),
        (frozenset({"a", "b"}), frozenset({"b", "a"})),
        (torch.device("cuda", 0), torch.device("cuda", 1)),
        (functools.partial(Warp, {"d", "c"}), functools.partial(Warp, {"c", "d"})),
        (Warp([torch.device("cuda", 0)]), Warp([torch.device("cuda", 1)])),
        (table, table * (1 + 1e-7)),
        (np.ones(3), np.ones(3)),
        (np.arange(4.0)[::-1], np.arange(4.0)[::-1].copy()),
        (np.ones(3, ">f4"), np.ones(3, ">f4")),
        (np.ones(3, np.longdouble), np.ones(3, np.longdouble)),
        (torch.eye(3).to_sparse(), torch.eye(3).to_sparse()),
        (torch.zeros(0), torch.zeros(0)),
        (endless, endless),
    ]
    for one, other in same:
        assert described(one) == described(other)
    different: list[tuple[Any, Any]] = [
        (table, table.flip(0)),
        (Warp(table), Warp(table[:-1])),
        (Warp({"a": 1}), Warp({"a": 2})),
        (functools.partial(Warp, (1,)), functools.partial(Warp, [1])),
        (np.array(["a"]), np.array(["b"])),
        (torch.ones(2, device="meta"), torch.ones(3, device="meta")),
    ]
    for one, other in different:
        assert described(one) != described(other)


def test_metadata_travel_with_every_checkpoint(tmp_path: Path) -> None:
    measured = spectrum()
    metadata = {"settings": {"width": 4, "name": "tiny"}, "spectrum": measured.state_dict()}
    first = sp.DiffusionTrainer(Net(), sp.ShortestPathCorruption(measured), metadata=metadata)
    first.fit(batches(1), steps=1, checkpoint_dir=tmp_path)
    kept = load_checkpoint(tmp_path / "checkpoint-00000001.pt")["metadata"]
    assert kept["settings"] == metadata["settings"]
    corruption = sp.ShortestPathCorruption(sp.PowerSpectrum.from_state_dict(kept["spectrum"]))
    again = sp.DiffusionTrainer(Net(), corruption)  # not a part of the configuration
    again.load_state_dict(load_checkpoint(tmp_path / "checkpoint-00000001.pt"))
    assert again.step == 1


class Augmented(Dataset):
    """Images that are shifted at random, by a generator of the whole process."""

    def __init__(self, source: str) -> None:
        self.images, self.source = correlated_images(24).float(), source
        self.generator = np.random.Generator(np.random.MT19937(5))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        shift = {
            "torch": lambda: torch.rand(()).item(),
            "numpy": lambda: np.random.normal(),
            "own": lambda: self.generator.normal(),
            "python": lambda: random.gauss(0, 1),
        }[self.source]()
        return self.images[index] + 0.1 * shift


def own_generator(kind: str) -> DataLoader:
    data, generator = Augmented("torch"), torch.Generator().manual_seed(3)
    if kind == "loader":
        return DataLoader(data, batch_size=8, shuffle=True, generator=generator)
    sampler = RandomSampler(data, generator=generator)
    if kind == "numpy's own":
        data = Augmented("own")
        return DataLoader(data, batch_size=8, generator=generator)
    if kind == "sampler":
        return DataLoader(data, batch_size=8, sampler=sampler)
    return DataLoader(data, batch_sampler=BatchSampler(sampler, 8, drop_last=False))


@pytest.mark.parametrize("stop", [2, 3, 4])
@pytest.mark.parametrize("kind", ["loader", "sampler", "batch sampler", "numpy", "numpy's own", "python"])
def test_resume_is_exact_whatever_draws_the_random_numbers(tmp_path: Path, kind: str, stop: int) -> None:
    def data() -> DataLoader:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        if kind in ("numpy", "python"):
            return DataLoader(Augmented(kind), batch_size=8, shuffle=True)
        return own_generator(kind)

    straight, first, second = trainer(), trainer(), trainer()
    straight.fit(data(), steps=5)
    first.fit(data(), steps=stop, checkpoint_dir=tmp_path)
    loader = data()
    random.random(), np.random.rand(), torch.rand(())  # a new process begins with other random states
    second.fit(loader, steps=5, checkpoint_dir=tmp_path)
    assert torch.equal(weights(second.model), weights(straight.model))


def test_what_cannot_continue_exactly_is_told_once(tmp_path: Path) -> None:
    images = TensorDataset(correlated_images(24).float())
    trainer().fit(DataLoader(images, batch_size=8), steps=5, checkpoint_dir=tmp_path)
    with pytest.warns(RuntimeWarning, match="use batch_size=8 to continue exactly"):
        trainer().fit(DataLoader(images, batch_size=4), steps=6, checkpoint_dir=tmp_path)

    class Persistent(list):  # as a DataLoader with persistent_workers=True
        persistent_workers = True

    with pytest.warns(RuntimeWarning, match="use persistent_workers=False to continue exactly"):
        trainer().fit(Persistent(batches()), steps=7, checkpoint_dir=tmp_path)


# --- from a file ------------------------------------------------------------------------------------------


def test_a_named_file_begins_another_folder_which_then_continues_by_itself(tmp_path: Path) -> None:
    straight, old, new = trainer(), tmp_path / "old", tmp_path / "new"
    torch.manual_seed(5)
    straight.fit(batches(), steps=9)
    first = trainer()
    torch.manual_seed(5)
    first.fit(batches(), steps=8, checkpoint_dir=old, checkpoint_every=4, keep_checkpoints=9)
    file = old / "checkpoint-00000004.pt"
    for steps in (6, 9):  # the same call, after an interruption
        branch = trainer()
        branch.fit(batches(), steps=steps, checkpoint_dir=new, resume=file)
    assert torch.equal(weights(branch.ema_model), weights(straight.ema_model))
    assert sorted(path.name for path in new.glob("*.pt")) == ["checkpoint-00000006.pt", "checkpoint-00000009.pt"]
    moved = file.rename(tmp_path / "moved.pt")
    trainer().fit(batches(), steps=9, checkpoint_dir=new, resume=file)  # it is not needed any more
    moved.rename(file)
    without = trainer()
    without.fit(batches(), steps=9, resume=str(file))
    assert torch.equal(weights(without.model), weights(straight.model))
    with pytest.raises(ValueError, match=r"must not hold later checkpoints, got checkpoint-00000008.pt; move them"):
        trainer().fit(batches(), steps=9, checkpoint_dir=old, resume=file)
    trainer().fit(batches(), steps=9, checkpoint_dir=old, resume=old / "checkpoint-00000008.pt")


def test_a_file_that_cannot_be_continued_from_is_named(tmp_path: Path) -> None:
    trainer().fit(batches(), steps=1, checkpoint_dir=tmp_path / "old")
    (tmp_path / "notes.pt").write_text("not a checkpoint")
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(FileNotFoundError, match=r"nowhere.pt does not exist; pass a file that a trainer wrote"):
        trainer().fit(batches(), steps=2, checkpoint_dir=tmp_path / "new", resume=tmp_path / "nowhere.pt")
    for file, options, message in (
        ("notes.pt", {}, "notes.pt is not a checkpoint: it does not begin as"),
        ("weights.pt", {}, "not a trainer's state: expected what DiffusionTrainer.state_dict returned"),
        ("old", {}, "old is a folder; pass a file in it"),
        ("old/checkpoint-00000001.pt", {"max_grad_norm": 1.0}, "of another configuration; max_grad_norm: None in the"),
    ):
        other = trainer(**options)
        with pytest.raises(ValueError, match=message):
            other.fit(batches(), steps=2, checkpoint_dir=tmp_path / "new", resume=tmp_path / file)
        assert other.step == 0
    with pytest.raises(TypeError, match="resume must be a path, got int"):
        trainer().fit(batches(), steps=2, resume=3)
    with pytest.raises(ValueError, match="resume is empty; pass True"):
        trainer().fit(batches(), steps=2, resume="")


@pytest.mark.parametrize("step", [None, "100", math.nan, {}])
def test_a_file_with_a_step_that_is_no_number_is_named(tmp_path: Path, step: object) -> None:
    torch.save({"step": step, "model": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a trainer's state"):
        trainer().fit(batches(2), steps=2, resume=tmp_path / "other.pt")


def test_functions_of_a_script_are_the_same_in_processes_that_it_spawns() -> None:
    def weight(t: Tensor) -> Tensor:
        return t

    def make(module: str) -> sp.DiffusionTrainer:
        weight.__module__ = module
        return trainer(weighting=weight)

    make("__main__").load_state_dict(make("__mp_main__").state_dict())
