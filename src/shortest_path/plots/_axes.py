"""What all plots share: an axis, and checks of what is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from .._checks import check_floating, check_time

TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)


def make_axis(axis: Axes | None) -> Axes:
    """Return the axis, or that of a new figure."""
    return plt.subplots(layout="constrained")[1] if axis is None else axis


def check_some(x: Tensor, name: str) -> None:
    """Raise unless `x` is floating point and not empty."""
    check_floating(x, name)
    if not x.numel():
        raise ValueError(f"{name} must hold one image or more, got shape {tuple(x.shape)}")


def checked_times(times: Sequence[float]) -> Tensor:
    """Return times in float64; raise a ValueError for none, or for such as lie outside [0, 1]."""
    found = torch.tensor(list(times), dtype=torch.float64)
    if not len(found):
        raise ValueError("times must hold one time or more, got none; pass e.g. times=(0, 0.5, 1)")
    check_time(found)
    return found
