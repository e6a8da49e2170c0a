"""What all plots share: an axis, and checks of what is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from .._checks import check_floating, check_has_values, check_time, kind_of
from ..spectra import PowerSpectrum

TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)


@contextmanager
def drawing(axis: Axes | None) -> Iterator[Axes]:
    """Yield the axis, or that of a new figure, which is closed if what is drawn raises.

    Raises:
        TypeError: `axis` is not a matplotlib Axes or None.
        ValueError: `axis` is polar, in three dimensions or of another projection.
    """
    if axis is not None:
        if not isinstance(axis, Axes):
            raise TypeError(
                f"axis must be a matplotlib Axes or None, got {kind_of(axis)}; pass figure.add_subplot(), or one of "
                "several, e.g. axes[0]"
            )
        if axis.name != "rectilinear":
            raise ValueError(
                f"axis must have two straight axes, got the projection {axis.name!r}; pass figure.add_subplot() "
                "without projection"
            )
        yield axis
        return
    figure, axis = plt.subplots(layout="constrained")
    try:
        yield axis
    except BaseException:
        plt.close(figure)
        raise


def check_some(x: Tensor, name: str) -> None:
    """Raise unless `x` is floating point, has values and is not empty."""
    check_floating(x, name)
    check_has_values(x, name)
    if not x.numel():
        raise ValueError(f"{name} must hold one image or more, got shape {tuple(x.shape)}")


def check_spectrum(name: str, spectrum: object) -> None:
    """Raise a TypeError unless `spectrum` is a power spectrum."""
    if not isinstance(spectrum, PowerSpectrum):
        raise TypeError(f"{name} must be a PowerSpectrum, got {kind_of(spectrum)}; see PowerSpectrum.estimate")


def checked_times(times: object) -> list[float]:
    """Return times as numbers.

    Raises:
        TypeError: `times` is not a sequence of numbers.
        ValueError: no times, or times outside [0, 1].
    """
    found = as_list("times", times, "numbers in [0, 1]", "(0, 0.5, 1)")
    try:
        numbers = [float(each) for each in found]
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"times must be a sequence of numbers in [0, 1], got {found!r}") from None
    if not numbers:
        raise ValueError("times must hold one time or more, got none; pass e.g. times=(0, 0.5, 1)")
    check_time(torch.tensor(numbers, dtype=torch.float64, device="cpu"))
    return numbers


def as_list(name: str, values: object, what: str, example: str) -> list[Any]:
    """Return values as a list; raise a TypeError for a string, or for what cannot be iterated."""
    if isinstance(values, str) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"{name} must be a sequence of {what}, got {values!r}; pass e.g. {name}={example}")
    return list(values)
