"""The grid that follows the data: equal fractions of the error of a second-order solver.

In the rotation form (`solvers.Rotation`) a step turns the whitened coefficient f by the
angle Δθ_f, and a solver of second order errs by a multiple of Δθ_f³ ∂²v̂_f/∂θ². Taking the unknown derivative as of one
size for all f, and the error of pixels as the root mean square over coefficients, each with its power S_f, a step of
length Δt errs by

    e(t) Δt³,    e(t) = ( Σ_f S_f θ'_f(t)⁶ )^½

and the sum over a given number of steps is least if every step has the same fraction of it: equal steps of ∫ e^⅓ dt.
That follows the data and the corruption alone; a change of the corruption's clock changes the times, not the images.

Source: the equidistribution of local errors, de Boor 1973, "Good approximation by splines with variable knots";
Kingma et al. 2021, arXiv:2107.00630 (log signal-to-noise ratio).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import check_floating, check_has_values
from .._picked import scales_at
from ..corruptions import Corruption, Point, check_corruption, known_power
from ..solvers import Rotation
from ._coefficients import by_power, of_coefficients
from ._interpolation import fine_times, times_at
from ._protocol import falling_fractions, strictly_falling

_TOGETHER = 32  # times whose scales are in memory together


@dataclass(frozen=True)
class Spectrum:
    """Equal fractions of the error of a second-order solver, as the data's power spectrum predicts it; see above.

    For images of more than 4096 coefficients the sum is over 4096 that stand for all: the 1024 strongest, and others
    spread evenly over the order of power.

    Args:
        corruption: The corruption to sample.
        power: S, broadcastable to its coefficients (C, *spatial); None takes what the corruption knows.

    Raises:
        TypeError: `corruption` does not implement `Corruption`, or `power` not a floating-point tensor.
        ValueError: no power is given, and the corruption has none; or the power is not positive and finite, or does not
            broadcast to the coefficients.
    """

    corruption: Corruption
    power: Tensor | None = None

    def __post_init__(self) -> None:
        check_corruption(self.corruption)
        if self.power is not None:
            check_floating(self.power, "power")
            check_has_values(self.power, "power")
            if not self.power.numel() or not bool(((self.power > 0) & (self.power < math.inf)).all()):
                raise ValueError("power must be positive and finite, as a PowerSpectrum is; pass spectrum.power")
        if self.power is None and known_power(self.corruption) is None:
            raise ValueError(
                f"{type(self.corruption).__name__} has no power of the data; pass the spectrum, or grid='cosine'"
            )

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        falling = falling_fractions(steps, start)
        fine, error = self._cumulative_error(start)
        times = times_at(falling * error[-1], error, fine)
        times[-1] = 0  # also where nothing happens near the data
        return strictly_falling(times, self)

    def _cumulative_error(self, start: float) -> tuple[Tensor, Tensor]:
        """Return rising times, and ∫ e^⅓ dt up to each of them."""
        power = self.power if self.power is not None else known_power(self.corruption)
        assert power is not None  # looked at when the grid was made
        power = of_coefficients(power, self.corruption)
        fine = fine_times(start, 0.0)
        pick, count = by_power(power)
        if pick is not None:
            power = pick(power)
        errors = []
        for first in range(0, len(fine) - 1, _TOGETHER):
            times = fine[first : first + _TOGETHER + 1]
            angle = Rotation(power).whitened(Point(start, *scales_at(self.corruption, times, pick))).angle
            errors.append((count * power * angle.diff(dim=0) ** 6).flatten(1).sum(1))
        steps = torch.cat(errors) ** (1 / 6)  # e^⅓ Δt
        return fine, torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), steps.cumsum(0)])
