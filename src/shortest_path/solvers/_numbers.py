"""The numbers of steps, found for many steps at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from .._checks import values_are_readable
from ..corruptions import Point

Number: TypeAlias = "Tensor | float"
Numbers: TypeAlias = tuple[Number, ...]


class StepNumbers:
    """Numbers of a step that follow from its times alone, found for many steps at once where a sampler can.

    Where the noise is isotropic each is a single value, and the dozens of operations that find them take longer than a
    step with a small image does. `foresee` finds those of many steps with the same number of operations.

    Args:
        find: `find(*points)` returns the numbers of one step, tensors that broadcast to coefficients. It works
            elementwise, so that points stacked along the first axis give the numbers of several steps.
        reach: Number of consecutive points that `find` takes: 2 for t and s, 3 for the time before them too.

    Example:
        >>> import torch
        >>> from shortest_path.corruptions import Point
        >>> here, there = (Point(t, *torch.tensor([[1 - t], [t]])) for t in (0.5, 0.25))
        >>> kept = StepNumbers(lambda here, there: (there.noise / here.noise,))
        >>> kept(here, there, dtype=torch.float32)
        (tensor([0.5000]),)
    """

    def __init__(self, find: Callable[..., tuple[Tensor, ...]], reach: int = 2) -> None:
        self._find, self._reach = find, reach
        self._points: list[Point] = []
        self._known: dict[tuple[int, ...], Numbers] = {}

    def foresee(self, points: Sequence[Point], dtype: torch.dtype) -> None:
        """Find the numbers of all steps along the points of a run.

        Args:
            points: Consecutive points, each with a first axis of size 1.
            dtype: Type of the state.
        """
        self._points = list(points)  # kept, as their identities are the keys
        windows = [self._points[first:] for first in range(self._reach)]
        steps = list(zip(*windows, strict=False))
        if not steps:
            self._known = {}
            return
        signal, noise = (torch.cat(scales) for scales in list(zip(*self._points, strict=True))[1:])
        rows_of = [slice(first, first + len(steps)) for first in range(self._reach)]
        found = self._find(*(Point(self._points[0].time, signal[rows], noise[rows]) for rows in rows_of))
        rows = list(zip(*(_rows(numbers, len(steps), dtype) for numbers in found), strict=True)) or [()] * len(steps)
        self._known = {tuple(map(id, step)): row for step, row in zip(steps, rows, strict=True)}

    def __call__(self, *points: Point, dtype: torch.dtype) -> Numbers:
        """Return the numbers of the step along `points`, in the type of the state; foreseen single values as floats."""
        known = self._known.get(tuple(map(id, points)))
        return tuple(number.to(dtype) for number in self._find(*points)) if known is None else known


def _rows(numbers: Tensor, count: int, dtype: torch.dtype) -> Sequence[Number]:
    every = numbers.to(dtype).expand(count, *numbers.shape[1:])
    if every.numel() == count and values_are_readable(every):  # floats are made faster than tensors
        found: list[float] = every.flatten().tolist()
        return found
    return torch.split(every, 1)


def add_scaled(u: Tensor, number: Number, v: Tensor) -> Tensor:
    """Return u + number ⊙ v, in the memory of u."""
    return u.add_(v, alpha=number) if isinstance(number, float) else u.addcmul_(number, v)
