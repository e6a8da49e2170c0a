"""Closer together at either end, as a power."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .._checks import check_numbers
from ._protocol import falling_fractions, strictly_falling


@dataclass(frozen=True)
class Power:
    """Closer together at either end, as a power.

        t = start (1 − (1 − r^q)^p),    r falling from 1 to 0 in equal steps

    Args:
        at_noise: p, for the end at noise; 1 is even.
        at_data: q, for the end at the data; 1 is even.

    Raises:
        ValueError: a power that is not positive.
    """

    at_noise: float = 2.5
    at_data: float = 1.5

    def __post_init__(self) -> None:
        check_numbers(at_noise=self.at_noise, at_data=self.at_data)
        if not (0 < self.at_noise < math.inf and 0 < self.at_data < math.inf):
            raise ValueError(f"powers must be positive, got at_noise={self.at_noise}, at_data={self.at_data}")

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        return strictly_falling(
            start * (1 - (1 - falling_fractions(steps, start) ** self.at_data) ** self.at_noise), self
        )
