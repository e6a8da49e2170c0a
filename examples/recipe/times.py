"""Discrete times, of DDPM and of the paper's code, and what a network of theirs is told of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class EvenTimes:
    """DDPM's times k / T, k = 1 … T, each equally likely: a distribution of times for `time_sampling`.

    Args:
        steps: T.
    """

    steps: int

    def __call__(self, uniform: Tensor) -> Tensor:
        """Return the times of uniform numbers in [0, 1)."""
        return ((uniform * self.steps).floor().clamp(max=self.steps - 1) + 1) / self.steps


@dataclass(frozen=True)
class ScaledIndex:
    """What a network of the paper's code is told of a time: its scaled index 1000 k / T, k = 0 … T − 1.

    Args:
        steps: T.
        even: Whether the times are DDPM's, t = (k + 1) / T; else t = τ_k / T with τ = linspace(1, T − 1, T).
    """

    steps: int
    even: bool = False

    def __call__(self, t: Tensor) -> Tensor:
        """Return the scaled index of times t, smooth between the discrete ones."""
        return self.slope * t + self.shift

    @property
    def slope(self) -> float:
        """Factor of t."""
        return 1000 * (1 if self.even else (self.steps - 1) / (self.steps - 2))

    @property
    def shift(self) -> float:
        """What is added, so that the first time has index 0."""
        return -self.slope / self.steps
