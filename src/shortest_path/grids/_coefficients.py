"""A part of the coefficients that stands for all of them: for grids and checks of large images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..corruptions import Pick

_MOST = 4096  # coefficients looked at one by one; 32×32 images have 3072
_STRONGEST = 1024


def evenly(shape: Sequence[int]) -> Pick | None:
    """Return a function that takes coefficients spread evenly over `shape`, (C, *spatial); None takes all of a few."""
    size = math.prod(shape)
    if size <= _MOST:
        return None
    return _picker(shape, torch.linspace(0, size - 1, _MOST, dtype=torch.float64, device="cpu").long())


def by_power(power: Tensor) -> tuple[Pick | None, Tensor]:
    """Return a function that takes coefficients for sums weighted by their power, and how many each stands for.

    The strongest stand for themselves. The others, in the order of their power, are divided into groups of equal size,
    and the one in the middle stands for its group.

    Args:
        power: S, (C, *spatial), on the CPU.
    """
    if power.numel() <= _MOST:
        return None, torch.ones((), dtype=torch.float64, device="cpu")
    order = power.flatten().argsort(descending=True)
    borders = torch.linspace(_STRONGEST, len(order), _MOST - _STRONGEST + 1, dtype=torch.float64, device="cpu").long()
    middle = (borders[1:] + borders[:-1]) // 2
    index = torch.cat([order[:_STRONGEST], order[middle]])
    return _picker(power.shape, index), torch.cat([torch.ones(_STRONGEST, device="cpu"), borders.diff()]).double()


def _picker(shape: Sequence[int], index: Tensor) -> Pick:
    axes = len(shape)
    place = torch.unravel_index(index, tuple(shape))

    def pick(x: Tensor) -> Tensor:
        """Return what x (..., C or 1, *spatial or 1) holds at the chosen places, (..., 1, …, 1, n)."""
        flat = torch.zeros_like(index)
        for here, size in zip(place, x.shape[-axes:], strict=True):
            flat = flat * size + (here if size > 1 else 0)
        picked = x.flatten(-axes)[..., flat.to(x.device)]
        return picked.reshape(*picked.shape[:-1], *(1,) * (axes - 1), len(index))

    return pick
