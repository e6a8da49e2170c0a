"""Rows of coefficients: the parts of a large image that are computed one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of coefficients along the first spatial axis; a `Pick`."""

    axis: int
    """The axis, counted from the end."""
    first: int
    last: int
    """The row after the last one."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return these rows of a tensor (..., *spatial), in its memory, or all of one that has a single row or none."""
        if x.ndim < -self.axis or x.shape[self.axis] == 1:
            return x
        return x.narrow(self.axis, self.first, self.last - self.first)


def divided(rows: int, parts: int, dims: int) -> list[Rows]:
    """Return the rows of `dims` spatial axes, in parts of nearly equal size."""
    return [Rows(-dims, rows * k // parts, rows * (k + 1) // parts) for k in range(parts)]


def in_parts(find: Callable[[Rows], Sequence[Tensor]], parts: Sequence[Rows], dtype: torch.dtype) -> list[Tensor]:
    """Return what `find` returns for each part, joined, in a type.

    Args:
        find: Returns tensors (..., rows or 1, *others) for rows.
        parts: All rows, in parts of at least two: one row is what holds for all.
        dtype: Type of the result.
    """
    whole: list[Tensor] = []
    for rows in parts:
        for which, part in enumerate(find(rows)):
            if which == len(whole):
                shape = list(part.shape)
                shape[rows.axis] = 1 if shape[rows.axis] == 1 else parts[-1].last
                whole.append(part.new_empty(shape, dtype=dtype))
            rows(whole[which]).copy_(part)
    return whole
