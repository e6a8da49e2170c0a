"""A part of the coefficients that stands for all of them: for grids and checks of large images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .._picked import coefficients_shape, picker, strongest
from ..corruptions import Corruption, Pick

_MOST = 4096  # coefficients looked at one by one; 32×32 images have 3072
_STRONGEST = 1024
_CANDIDATES = 2**17


def evenly(shape: Sequence[int]) -> Pick | None:
    """Return a function that takes coefficients spread evenly over `shape`, (C, *spatial); None takes all of a few."""
    size = math.prod(shape)
    if size <= _MOST:
        return None
    return picker(shape, torch.linspace(0, size - 1, _MOST, dtype=torch.float64, device="cpu").long())


def by_power(power: Tensor) -> tuple[Pick | None, Tensor]:
    """Return a function that takes coefficients for sums weighted by their power, and how many each stands for.

    The strongest stand for themselves. The others, in the order of their power, are divided into groups of equal size,
    and the one in the middle stands for its group. Of more than 131,072, as many that are spread
    over all are ordered.

    Args:
        power: S, (C, *spatial), on the CPU.
    """
    if power.numel() <= _MOST:
        return None, torch.ones((), dtype=torch.float64, device="cpu")
    first, rest = strongest(power.flatten(), _STRONGEST, candidates=_CANDIDATES)
    every = (power.numel() - _STRONGEST) / len(rest)
    borders = torch.linspace(0, len(rest), _MOST - _STRONGEST + 1, dtype=torch.float64, device="cpu").long()
    index = torch.cat([first, rest[(borders[1:] + borders[:-1]) // 2]])
    alone = torch.ones(_STRONGEST, dtype=torch.float64, device="cpu")
    return picker(power.shape, index), torch.cat([alone, every * borders.diff().double()])


def of_coefficients(power: Tensor, corruption: Corruption) -> Tensor:
    """Return the power of every coefficient, (C, *spatial), float64, on the CPU.

    Raises:
        ValueError: the power does not broadcast against the coefficients.
    """
    power, shape = power.detach().cpu().to(torch.float64), coefficients_shape(corruption)
    try:
        if power.ndim > len(shape):
            raise ValueError("more axes than coefficients have")
        return power.expand(np.broadcast_shapes(tuple(power.shape), shape))
    except ValueError as reason:
        raise ValueError(
            f"power of shape {tuple(power.shape)} does not broadcast against the coefficients of "
            f"{type(corruption).__name__}, {shape}"
        ) from reason
