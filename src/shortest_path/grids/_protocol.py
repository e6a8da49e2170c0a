"""What a time grid is, and the checks that all grids share."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .._checks import check_count


class TimeGrid(Protocol):
    """A grid: any function of this form."""

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return strictly falling times from `start`, in (0, 1], to 0: (steps + 1,), float64, on the CPU.

        Raises:
            TypeError: `steps` is not a whole number.
            ValueError: `steps` below 1, `start` outside (0, 1], or a grid that would repeat a time.
        """
        ...


def falling_fractions(steps: int, start: float) -> Tensor:
    """Return equal steps from 1 to 0, for a grid that begins at `start`."""
    if not 0 < start <= 1:
        raise ValueError(f"start must lie in (0, 1], got {start}")
    return torch.linspace(1, 0, check_count("steps", steps) + 1, dtype=torch.float64, device="cpu")


def strictly_falling(times: Tensor, grid: TimeGrid) -> Tensor:
    """Return `times`, after checking that they fall strictly."""
    if not bool((times[1:] < times[:-1]).all()):
        raise ValueError(
            f"{type(grid).__name__} of {len(times) - 1} steps from {float(times[0]):g} repeats a time; take fewer "
            "steps, or a more even grid, such as grid='uniform'"
        )
    return times
