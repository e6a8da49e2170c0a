"""Equal steps of the log signal-to-noise ratio."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import check_numbers
from .._picked import coefficients_shape, scales_at
from ..corruptions import Corruption, check_corruption
from ._coefficients import evenly
from ._interpolation import fine_times, times_at
from ._protocol import falling_fractions, strictly_falling

_FAR = 15.0  # logarithms beyond are those of nothing left


@dataclass(frozen=True)
class LogSnr:
    """Equal steps of log(signal / noise), averaged over coefficients, and a last step to 0.

    The mean is over 4096 coefficients, evenly spread, if there are more.

    Args:
        corruption: Any corruption.
        end: The last time before 0, where the ratio may grow without bound; the first is at most 1 − `end`.

    Raises:
        TypeError: `corruption` does not implement `Corruption`.
        ValueError: `end` not in (0, 0.5); when called, also a start that is not above `end`, or a ratio that does
            not change.
    """

    corruption: Corruption
    end: float = 1e-3

    def __post_init__(self) -> None:
        check_corruption(self.corruption)
        check_numbers(end=self.end)
        if not 0 < self.end < 0.5:
            raise ValueError(f"end must lie in (0, 0.5), got {self.end}")

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        falling_fractions(steps, start)
        if not start > self.end:
            raise ValueError(f"start must be above end={self.end}, the last time before 0, got {start}")
        fine = fine_times(min(start, 1 - self.end), self.end)
        signal, noise = scales_at(self.corruption, fine, evenly(coefficients_shape(self.corruption)))
        ratio = (noise / signal).log().clamp(-_FAR, _FAR).flatten(1).mean(1)
        equal = torch.linspace(float(ratio[-1]), float(ratio[0]), steps, dtype=torch.float64, device="cpu")
        return strictly_falling(
            torch.cat([times_at(equal, ratio, fine), torch.zeros(1, dtype=torch.float64, device="cpu")]), self
        )
