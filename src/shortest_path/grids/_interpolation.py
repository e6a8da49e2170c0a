"""Grids from a function of time: fine times, scales along them, and the inverse."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .._devices import device_of
from .._exact import exact_dtype
from ..corruptions import Corruption, ElementwiseCorruption, Pick, both_scales

CELLS = 256  # pieces of [0, 1] in which a density of times is taken as constant


def fine_times(start: float, end: float) -> Tensor:
    """Return rising times from `end` to `start`, closest together at both: (257,), float64."""
    rising = (1 - torch.cos(math.pi * torch.linspace(0, 1, CELLS + 1, dtype=torch.float64, device="cpu"))) / 2
    return end + (start - end) * rising


def coefficients_shape(corruption: Corruption) -> tuple[int, ...]:
    """Return the shape (C or 1, *spatial or 1) to which a corruption's scales broadcast."""
    pair = scales_at(corruption, torch.tensor([0.5], dtype=torch.float64, device="cpu"))
    return np.broadcast_shapes(*(tuple(scale.shape[1:]) for scale in pair))


def scales_at(corruption: Corruption, times: Tensor, pick: Pick | None = None) -> tuple[Tensor, Tensor]:
    """Return (signal, noise) at times, float64, on the CPU; of some coefficients alone, if `pick` takes them."""
    device = device_of(corruption)
    times = times.to(device, exact_dtype(device))
    if pick is None:
        signal, noise = both_scales(corruption, times)
    elif isinstance(corruption, ElementwiseCorruption):
        signal, noise = corruption.scales_of(times, pick)
    else:  # one by one: all coefficients at all times may be more than fits into memory
        pairs = [[pick(scale) for scale in both_scales(corruption, time)] for time in times[:, None]]
        signal, noise = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return signal.detach().cpu().double(), noise.detach().cpu().double()


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
