"""Time grids: at which falling times a sampler calls the model."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from .checks import check_choice

Grid: TypeAlias = Literal["uniform", "cosine", "reference"]


def make_grid(grid: Grid, steps: int, *, start: float = 1.0) -> Tensor:
    """Return a named grid of falling times from `start` to 0.

    Args:
        grid: `"uniform"`, `"cosine"` or `"reference"`; the last has a start of its own.
        steps: Number of model calls.
        start: First time, in (0, 1].

    Returns:
        Times (steps + 1,), float64.

    Raises:
        ValueError: unknown grid, or too few steps.
    """
    check_choice("grid", grid, get_args(Grid))
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, got {steps}")
    if grid == "reference":
        return reference_times(steps)
    falling = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return start * (falling if grid == "uniform" else (1 - torch.cos(math.pi * falling)) / 2)


def reference_times(steps: int) -> Tensor:
    """Return the falling times of the paper's code, t_k = τ_k / T with τ = linspace(1, T − 1, T), then 0.

    Args:
        steps: T, 3 or more.

    Returns:
        Times (T + 1,), float64.
    """
    if steps < 3:
        raise ValueError(f"the reference grid needs 3 steps or more, got {steps}")
    rising = torch.linspace(1, steps - 1, steps, dtype=torch.float64) / steps
    return torch.cat([rising.flip(0), torch.zeros(1, dtype=torch.float64)])
