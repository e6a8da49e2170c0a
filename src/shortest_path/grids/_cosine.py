"""Closer together at both ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._protocol import falling_fractions, strictly_falling


@dataclass(frozen=True)
class Cosine:
    """Equal steps of the angle arccos(1 − 2t): closer together at both ends."""

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        return strictly_falling(start * (1 - torch.cos(math.pi * falling_fractions(steps, start))) / 2, self)
