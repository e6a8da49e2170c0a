"""What a corruption is saved as, and made again from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.corruptions import _registry, both_scales, corruption_from_state, corruption_state, register
from tests.worlds import CORRUPTIONS, spectrum

OF_FUNCTIONS = {name for name, make in CORRUPTIONS.items() if "clock" in name or "callable" in name}


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget afterwards what a test registers."""
    monkeypatch.setattr(_registry, "_REGISTERED", dict(_registry._REGISTERED))


class Dimming(sp.DiagonalCorruption):
    """A user's own, with a number, a tensor, a spectrum and a trained parameter."""

    argument_names = ("power_of_t", "weights", "like")

    def __init__(self, power_of_t: float, weights: Tensor, like: sp.PowerSpectrum) -> None:
        super().__init__(like.basis)
        self.power_of_t, self.like = power_of_t, like
        self.register_buffer("weights", weights)
        self.trained = torch.nn.Parameter(torch.ones(()))

    def signal(self, t: Tensor) -> Tensor:
        return (1 - t**self.power_of_t * self.trained).view(-1, 1, 1, 1)

    def noise(self, t: Tensor) -> Tensor:
        return (t**self.power_of_t).view(-1, 1, 1, 1) * self.weights


def written() -> dict[str, Callable[[], sp.Corruption]]:
    found = {}
    for name, make in CORRUPTIONS.items():
        try:
            corruption_state(make())
        except (TypeError, ValueError):
            continue
        found[name] = make
    return found


def test_every_class_of_the_library_can_be_saved() -> None:
    saved = {type(make()) for make in written().values()}
    assert saved >= {
        sp.GaussianCorruption, sp.ShortestPathCorruption, sp.BlurCorruption, sp.HeatDissipationCorruption,
        sp.StaggeredCorruption,
    }  # fmt: skip


@pytest.mark.parametrize("name", list(written()))
def test_a_corruption_comes_back_to_the_last_bit(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    state = corruption_state(corruption)
    again = corruption_from_state(state)
    assert type(again) is type(corruption)
    assert repr(again) == repr(corruption)
    for t in (torch.rand(5, dtype=torch.float64), torch.rand(5)):
        assert torch.equal(again.signal(t), corruption.signal(t))
        assert torch.equal(again.noise(t), corruption.noise(t))
    mean, ours = getattr(again, "mean", None), getattr(corruption, "mean", None)
    assert (mean is None) == (ours is None)
    assert mean is None or torch.equal(mean, ours)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(again.basis.analyze(x), corruption.basis.analyze(x))
    for value in state.values():
        if isinstance(value, Tensor):
            value.zero_()  # a copy: the corruption is not changed
    assert torch.equal(again.signal(t), corruption.signal(t))


def test_a_registered_corruption_of_ones_own_comes_back() -> None:
    register(Dimming)
    corruption = Dimming(2.0, torch.rand(3, 8, 8), spectrum())
    with torch.no_grad():
        corruption.trained.fill_(0.25)
    delayed = sp.StaggeredCorruption(corruption, torch.zeros(1, 1, 1), spread=0.5)
    again = corruption_from_state(corruption_state(delayed))
    assert isinstance(again, sp.StaggeredCorruption)
    assert isinstance(again.corruption, Dimming)
    assert again.corruption.trained.item() == 0.25
    t = torch.rand(4)
    assert torch.equal(again.noise(t), delayed.noise(t))
    assert torch.equal(again.corruption.like.power, spectrum().power)


def test_a_linear_schedule_of_any_length_comes_back() -> None:
    again = corruption_from_state(corruption_state(sp.GaussianCorruption(sp.corruptions.LinearSchedule(4000))))
    assert repr(again) == repr(sp.GaussianCorruption(sp.corruptions.LinearSchedule(4000)))


def test_what_cannot_be_saved_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"cannot save Dimming: it is not a registered corruption; decorate its class"):
        corruption_state(Dimming(2.0, torch.rand(3, 8, 8), spectrum()))
    clock = sp.ClockCorruption(spectrum(), lambda t: torch.pi / 2 * t)
    with pytest.raises(TypeError, match=r"cannot save ClockCorruption: its argument angle is a function"):
        corruption_state(clock)
    with pytest.raises(TypeError, match=r"its argument schedule is a function.* Write a subclass .* and register it"):
        corruption_state(sp.GaussianCorruption(lambda t: (1 - t, t)))
    state = corruption_state(sp.GaussianCorruption())
    with pytest.raises(ValueError, match=r"the corruption 'Other' is not registered .*; first import the module"):
        corruption_from_state({**state, "class": "Other"})
    with pytest.raises(KeyError, match="schedule"):
        corruption_from_state({"class": "GaussianCorruption"})
    path = corruption_state(sp.ShortestPathCorruption(spectrum()))
    with pytest.raises(ValueError, match="the saved tensors of ShortestPathCorruption do not fit its class"):
        corruption_from_state({**path, "tensors.log_ratio": torch.zeros(3, 4, 4)})


def test_a_class_whose_arguments_are_not_listed_cannot_be_registered() -> None:
    wrong: Any = object()
    with pytest.raises(TypeError, match="register requires a class, got <object"):
        register(wrong)

    class Own(sp.DiagonalCorruption):
        def __init__(self, strength: float) -> None:
            super().__init__(sp.PixelBasis(2))

    with pytest.raises(TypeError, match=r"argument_names of Own must be a tuple of .* \['strength'\], got \(\)"):
        register(Own)
    Own.argument_names = ("tensors",)
    with pytest.raises(ValueError, match="argument 'tensors' of Own has the name of what is saved beside; rename it"):
        register(Own)
    Own.argument_names = ("strength",)
    register(Own)
    with pytest.raises(ValueError, match="Own has no attribute 'strength', which its argument_names lists"):
        corruption_state(Own(1.0))

    class Local:
        class GaussianCorruption(Own):
            pass

    with pytest.raises(ValueError, match="a corruption named GaussianCorruption is already registered, from shortest"):
        register(Local.GaussianCorruption)


def test_damaged_tensors_are_refused() -> None:
    state = corruption_state(sp.ShortestPathCorruption(spectrum()))
    table = state["tensors.log_ratio"]
    for damaged, message in (
        (table * float("nan"), r"the saved tensors\.log_ratio of ShortestPathCorruption has NaN: it is damaged; downl"),
        (table.long(), r"the saved log_ratio of ShortestPathCorruption is of torch\.int64, expected torch\.float64; s"),
        (table + float("inf"), "the saved log_ratio of ShortestPathCorruption is not finite: it is damaged; download"),
    ):
        with pytest.raises(ValueError, match=message):
            corruption_from_state({**state, "tensors.log_ratio": damaged})


@sp.bases.register
class Scheduled(sp.PixelBasis):
    """A basis with arguments that are named as parts of a corruption are."""

    argument_names = ("dims", "schedule", "spectrum", "corruption", "tensors", "steps")

    def __init__(
        self,
        dims: int = 2,
        schedule: str = "",
        spectrum: str = "",
        corruption: str = "",
        tensors: Any = (),
        steps: int = 1,
        channel_rotation: Tensor | None = None,
    ) -> None:
        super().__init__(dims, channel_rotation)
        self.schedule, self.spectrum, self.corruption = schedule, spectrum, corruption
        self.tensors, self.steps = tensors, steps


class Holding(sp.DiagonalCorruption):
    """A corruption that keeps any value, and a table and a count of its own."""

    argument_names = ("value",)

    def __init__(self, value: Any) -> None:
        super().__init__(sp.PixelBasis(2))
        self.value = value
        self.register_buffer("table", torch.ones(3))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int32))

    def signal(self, t: Tensor) -> Tensor:
        return (1 - t).view(-1, 1, 1, 1)

    def noise(self, t: Tensor) -> Tensor:
        return t.view(-1, 1, 1, 1)


def test_arguments_of_a_basis_may_be_named_as_parts_of_a_corruption() -> None:
    register(Holding)
    basis = Scheduled(2, "a", "b", "c", [torch.ones(2)], 7)
    again: Any = corruption_from_state(corruption_state(Holding(basis)))
    assert isinstance(again.value, Scheduled)
    assert [getattr(again.value, name) for name in ("schedule", "spectrum", "corruption", "steps")] == [
        "a",
        "b",
        "c",
        7,
    ]
    assert torch.equal(again.value.tensors[0], torch.ones(2))


def test_tables_come_back_in_the_type_that_they_had() -> None:
    register(Holding)
    corruption: Any = Holding(None)
    corruption.table = torch.full((3,), 1 / 3, dtype=torch.float64)
    corruption.count = torch.tensor([2**40 + 7])
    again: Any = corruption_from_state(corruption_state(corruption))
    for name in ("table", "count"):
        assert getattr(again, name).dtype == getattr(corruption, name).dtype
        assert torch.equal(getattr(again, name), getattr(corruption, name))


def test_what_could_not_be_read_again_is_refused_by_name() -> None:
    register(Holding)
    nan = float("nan")
    holed: Any = Holding(None)
    holed.table[1] = nan
    for corruption, message in (
        (holed, r"cannot save Holding: its tensors\.table has NaN, which stands for damage; use another value"),
        (Holding(torch.tensor([1, nan])), "cannot save Holding: its value has NaN"),
        (
            Holding(nan),
            r"cannot save Holding\.value = nan: numbers are written as JSON, which are finite; pass a tensor",
        ),
        (Holding([1, [float("inf")]]), r"cannot save Holding\.value\[1\]\[0\] = inf: numbers are written as JSON"),
        (Holding(torch.ones(2).to_sparse()), r"cannot save Holding\.value, a tensor that is sparse or quantized"),
    ):
        with pytest.raises(ValueError, match=message):
            corruption_state(corruption)


def test_numbers_of_numpy_come_back_as_those_of_python() -> None:
    register(Holding)
    again: Any = corruption_from_state(corruption_state(Holding([np.float32(0.5), np.int64(3), np.bool_(True)])))
    assert again.value == [0.5, 3, True]
    assert [type(each) for each in again.value] == [float, int, bool]


def test_an_end_state_in_proportion_to_the_data_comes_back() -> None:
    """Whether channels are alike is found from rounded numbers, and so may be found otherwise when they are read."""
    power = torch.tensor([[0.7], [1.4], [2.8]], dtype=torch.float64) * (1 + torch.arange(4, dtype=torch.float64))
    basis = sp.CosineBasis(1)
    made = sp.ShortestPathCorruption(
        sp.PowerSpectrum(basis, power), final=sp.PowerSpectrum(basis, power / power[:, :1] * torch.ones(4))
    )
    rounded = copy.deepcopy(made)
    for own in (made.log_ratio[:1].clone(), made.log_ratio.expand(3, 4).clone()):
        rounded._buffers["log_ratio"] = own
        state = sp.corruptions.corruption_state(made) | {
            name: value for name, value in sp.corruptions.corruption_state(rounded).items() if "log_ratio" in name
        }
        again = sp.corruptions.corruption_from_state(state)
        t = torch.tensor([0.3, 0.8], dtype=torch.float64)
        torch.testing.assert_close(both_scales(again, t), both_scales(rounded, t))
