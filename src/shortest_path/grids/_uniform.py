"""Equal steps of time."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._protocol import falling_fractions, strictly_falling


@dataclass(frozen=True)
class Uniform:
    """Equal steps of time."""

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        return strictly_falling(start * falling_fractions(steps, start), self)
