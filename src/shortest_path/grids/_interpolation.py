"""Grids from a function of time: fine times, and the inverse."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CELLS = 256  # pieces of [0, 1] in which a density of times is taken as constant


def fine_times(start: float, end: float) -> Tensor:
    """Return rising times from `end` to `start`, closest together at both: (257,), float64."""
    rising = (1 - torch.cos(math.pi * torch.linspace(0, 1, CELLS + 1, dtype=torch.float64, device="cpu"))) / 2
    return end + (start - end) * rising


def times_at(values: Tensor, rising: Tensor, times: Tensor) -> Tensor:
    """Return the times at which a function with the given rising values at `times` takes `values`.

    Interpolated by monotone cubics, as a kink in the density of times would show in the error of a solver.

    Source: Fritsch & Butland 1984, "A method for constructing local monotone piecewise cubic interpolants".
    """
    if not bool(torch.isfinite(rising).all()) or float(rising[0]) == float(rising[-1]):
        raise ValueError(
            "this grid follows the corruption's scales, but they do not change or are not finite; use another"
        )
    rising, kept = torch.unique_consecutive(rising.cummax(0).values, return_inverse=True)
    times = torch.zeros_like(rising).index_copy_(0, kept, times)  # of equal values, the last
    width = rising.diff()
    slope = times.diff() / width
    inner = 2 / (1 / slope[1:] + 1 / slope[:-1])
    tangent = torch.cat([slope[:1], inner, slope[-1:]])
    index = torch.searchsorted(rising, values).clamp(1, len(rising) - 1)
    h, left, right = width[index - 1], tangent[index - 1], tangent[index]
    x = (values - rising[index - 1]) / h
    low, high = times[index - 1], times[index]
    return low + (high - low) * x**2 * (3 - 2 * x) + h * x * (1 - x) * (left * (1 - x) - right * x)
