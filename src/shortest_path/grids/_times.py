"""Times from the options that samplers and the exact analysis share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._checks import check_has_values, is_true_or_false, kind_of
from ..corruptions import Corruption
from ..solvers import Solver
from ._names import GridName, make_grid
from ._protocol import TimeGrid

_STEPS = 50
_ROUNDING = 1e-6  # shorter steps are looked at
_NOTHING = 1e-3  # of a neighbouring step


def make_times(
    times: Tensor | Sequence[float] | None,
    steps: int | None,
    grid: GridName | TimeGrid | None,
    *,
    solver: Solver,
    corruption: Corruption,
    power: Tensor | None,
    start: float = 1.0,
) -> Tensor:
    """Return falling times, float64, on the CPU.

    Args:
        times: Explicit times, instead of `steps` and `grid`.
        steps: Number of steps; None is 50.
        grid: The name of a grid, or any function of its form; None is the solver's default.
        solver: The solver that steps along them.
        corruption: The corruption to sample.
        power: The data's power in its coefficients, if known.
        start: First time of a grid.

    Raises:
        TypeError: an argument of another type.
        ValueError: `times` beside `steps` or `grid`, an unknown name, times that do not fall strictly, or a grid of
            other times than were asked for.
    """
    if times is not None:
        given = [f"{name}={value!r}" for name, value in (("steps", steps), ("grid", grid)) if value is not None]
        if given:
            raise ValueError(f"times takes the place of steps and grid, got also {' and '.join(given)}; omit one side")
        return falling_times(times)
    if grid is None:
        default = getattr(solver, "default_grid", None)
        grid = "uniform" if default is None else default(power is not None)
    if isinstance(grid, str):
        grid = make_grid(grid, corruption, power)
    if isinstance(grid, type) or not callable(grid):
        mend = f"; make one, e.g. grid={grid.__name__}()" if isinstance(grid, type) else ""
        raise TypeError(f"grid must be a name or a function of (steps, start), got {kind_of(grid)}{mend}")
    steps = _STEPS if steps is None else steps
    _check_form(grid, steps, start)
    found = falling_times(grid(steps, start=start))
    first, last = float(found[0]), float(found[-1])
    too_early = first > start + _ROUNDING and not has_own_start(grid)
    if len(found) != steps + 1 or too_early or last > _ROUNDING:
        raise ValueError(
            f"a grid returns steps + 1 times that fall from start to 0; for steps={steps} and start={start:g} this one "
            f"returned {len(found)} times from {first:g} to {last:g}; if they are meant so, pass them as times=..."
        )
    return found


def has_own_start(grid: object) -> bool:
    """Return whether a grid, or the one of a name, begins where it does, whatever `start` is."""
    return grid == "reference" or getattr(grid, "own_start", False) is True


def _check_form(grid: Callable[..., Tensor], steps: int, start: float) -> None:
    """Raise a TypeError unless a grid can be called as samplers do."""
    try:
        form = inspect.signature(grid)
    except ValueError:  # of a function that is not written in Python
        return
    try:
        form.bind(steps, start=start)
    except TypeError as error:
        raise TypeError(
            f"a grid is called as grid(steps, start=1.0) and returns steps + 1 times that fall from start to 0, got a "
            f"function of {form} ({error}); write e.g. grid=lambda steps, start: torch.linspace(start, 0, steps + 1)"
        ) from None


def falling_times(times: object) -> Tensor:
    """Return times as a tensor, float64, on the CPU, after checking that they fall strictly within [0, 1].

    Raises:
        TypeError: `times` is neither a real tensor nor a sequence of numbers.
        ValueError: fewer than two times, times that do not fall strictly or differ by rounding only, or times outside
            [0, 1].
    """
    if not isinstance(times, Tensor):
        try:
            if is_true_or_false(times):
                raise TypeError
            times = torch.as_tensor(times, dtype=torch.float64, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"times must be a tensor or a sequence of falling numbers, got {times!r}") from error
    if times.is_complex() or times.dtype == torch.bool:
        raise TypeError(f"times must be a 1-D tensor of real numbers that falls strictly, got {times.dtype}")
    check_has_values(times, "times")
    if times.ndim != 1 or len(times) < 2 or not bool((times[1:] < times[:-1]).all()):
        raise ValueError(
            f"times must be a 1-D tensor that falls strictly, of two values or more, got shape {tuple(times.shape)} "
            f"with values {times.flatten()[:6].tolist()}…; sort it with torch.sort(times, descending=True)"
        )
    if float(times[-1]) < 0 or float(times[0]) > 1:
        raise ValueError(f"times must lie in [0, 1], got {float(times[0])} … {float(times[-1])}")
    times = times.detach().to("cpu", torch.float64)
    _check_steps(times)
    return times


def _check_steps(times: Tensor) -> None:
    """Raise a ValueError for a step that is made of rounding: tiny, and nothing beside its neighbours."""
    steps = -times.diff()
    neighbours = torch.nn.functional.pad(steps, (1, 1))
    tiny = (steps < _ROUNDING) & (steps < _NOTHING * torch.maximum(neighbours[:-2], neighbours[2:]))
    if bool(tiny.any()):
        at = int(tiny.nonzero()[0])
        raise ValueError(
            f"times {float(times[at])!r} and {float(times[at + 1])!r} differ by rounding only, which makes a step of "
            f"{float(steps[at]):.2g} beside steps of {float(steps.max()):.2g}; leave one of them out"
        )
