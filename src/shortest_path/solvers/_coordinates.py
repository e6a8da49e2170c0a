"""Coordinates in which the probability-flow ODE is nearly straight, coefficient by coefficient.

A form turns the clean image that the model predicts at time t into a *slope*, and moves the state along it. A slope
that did not change over a step would make the step exact, so a solver has only to follow its change.

**Rotation**, where the data's power S is known (equation 4 of docs/theory.md). In whitened coordinates

    y = u_t / r,    r = √(a² S + s²),    ξ = u_0 / √S,    θ = atan2(s, a √S),    y = cos θ ξ + sin θ ε

the ODE of any diagonal Gaussian process is dy = v̂ dθ with the slope v̂ = E[−sin θ ξ + cos θ ε | y], which is zero for
Gaussian data: a step of any length is exact for them.

**Exponential**, where it is not known. In λ = log(a / s) the slope is û_0 itself, and

    u_s = (s_s / s_t) u_t + (a_s − a_t s_s / s_t) û_0

which is DDIM at first order and the form of DPM-Solver++ above, with a step length for every coefficient.

Source: docs/theory.md; Lu et al. 2022, arXiv:2211.01095, section 4 (exponential form).
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .._exact import exact_dtype
from ..corruptions import Point
from ._transition import noise_ratio

_STARTED = 1e-30
"""Angle below which nothing of a coefficient is noise; weights of slopes there would be infinite in float32."""


class Form(Protocol):
    """Coordinates for the steps of a solver, falling or rising in time."""

    most: float
    """Largest weight of an extrapolation: half the ratio of a step to the one before."""

    def slope_weights(self, here: Point) -> tuple[Tensor, ...]:
        """Return (p, q) of the slope p u_t + q û_0 at time t, float64, or nothing where it is û_0 itself.

        û_0 is the clean image that the model predicts from u_t.
        """
        ...

    def length(self, here: Point, there: Point) -> Tensor:
        """Return the length of the step from t to s, per coefficient, float64; the same sign for the same direction."""
        ...

    def later_fraction(self, length: Tensor) -> Tensor:
        """Return the weight of the later slope in the mean over a step, for a slope linear in the coordinate."""
        ...

    def correction_weight(self, before: Point, here: Point) -> Tensor:
        """Return the weight, in [0, 1] and near 1 for short steps, with which the end of a step is corrected.

        The correction has a slope of the state that it corrects, and so a multiple of that state's error.
        """
        ...

    def move_weights(self, here: Point, there: Point) -> tuple[Tensor, Tensor]:
        """Return (k, g) of u_s = k u_t + g slope, with one slope for the whole step, float64."""
        ...


class Whitened(NamedTuple):
    """Angle θ and radius r of every coefficient at one time, float64."""

    angle: Tensor
    radius: Tensor


class Rotation:
    """The rotation form.

    Args:
        power: S, broadcastable to coefficients, positive.
    """

    # From a much shorter step nothing can be extrapolated: noise in the model would be magnified by the ratio of the
    # steps. The bound does not touch the order, as ratios tend to 1.
    most = 1.0

    def __init__(self, power: Tensor) -> None:
        self.deviation = power.to(exact_dtype(power.device)).sqrt()
        self._known: list[tuple[Point, Whitened]] = []

    def whitened(self, point: Point) -> Whitened:
        """Return (θ, r) at a point; a step asks several times for them, and the last two are kept."""
        kept = [each for each in self._known if each[0] is not point]
        if len(kept) < len(self._known):
            ((_, found),) = (each for each in self._known if each[0] is point)
        else:
            signal = point.signal * self.deviation
            found = Whitened(torch.atan2(point.noise, signal), torch.hypot(signal, point.noise))
        self._known = [*kept[-1:], (point, found)]
        return found

    def slope(self, u_t: Tensor, u_0: Tensor, here: Point) -> Tensor:
        """Return v̂ = (cos θ y − ξ̂) / sin θ."""
        of_state, of_data = (weight.to(u_t.dtype) for weight in self.slope_weights(here))
        return (of_state * u_t).addcmul_(of_data, u_0)

    def slope_weights(self, here: Point) -> tuple[Tensor, ...]:
        """Return 1 / (r tan θ) and −1 / (√S sin θ); see `Form`."""
        angle, radius = self.whitened(here)
        started = angle > _STARTED  # else the coefficient is still the clean one, and stays
        of_state = torch.where(started, 1 / (radius * torch.tan(angle)), 0.0)
        return of_state, torch.where(started, -1 / (self.deviation * torch.sin(angle)), 0.0)

    def length(self, here: Point, there: Point) -> Tensor:
        """Return θ_s − θ_t; see `Form`."""
        return self.whitened(there).angle - self.whitened(here).angle

    def later_fraction(self, length: Tensor) -> Tensor:
        """Return one half; see `Form`."""
        return length.new_full((1,) * length.ndim, 0.5)

    def correction_weight(self, before: Point, here: Point) -> Tensor:
        """Return 1 / (1 + h / 2 tan θ_s)² for a step of h = θ_t − θ_s > 0, and 1 to more noise; see `Form`.

        Where the data are known so well that ξ̂ does not change with y, the slope changes with y by 1 / tan θ. The
        trapezoid then turns an error δ of y into −δ h / 2 tan θ_s, many times δ if little of the angle is left.
        Divided by 1 + h / 2 tan θ_s, the correction takes δ away, as the implicit trapezoidal rule does. It is divided
        twice, as the next step goes along the slope of the uncorrected state. For short steps the weight tends to 1.
        """
        magnified = -0.5 * self.length(before, here) / torch.tan(self.whitened(here).angle)
        return (1 + magnified.clamp(min=0)).square().reciprocal()

    def move_weights(self, here: Point, there: Point) -> tuple[Tensor, Tensor]:
        """Return r_s / r_t and r_s (θ_s − θ_t); see `Form`."""
        (angle_t, radius_t), (angle_s, radius_s) = self.whitened(here), self.whitened(there)
        return radius_s / radius_t, radius_s * (angle_s - angle_t)


class Exponential:
    """The exponential form."""

    # No grid in use comes near it; DPM-Solver++ has no bound, and magnifies rounding after a much shorter step.
    most = 8.0

    def slope_weights(self, here: Point) -> tuple[Tensor, ...]:
        """Return nothing; see `Form`."""
        return ()

    def length(self, here: Point, there: Point) -> Tensor:
        """Return λ_s − λ_t: infinite where signal or noise vanishes, 0 where they had vanished before; see `Form`."""
        later, now = ((point.signal / point.noise).clamp(min=0).log() for point in (there, here))  # rounded below 0: 0
        length = later - now
        return length.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)

    def later_fraction(self, length: Tensor) -> Tensor:
        """Return the mean of τ / h with weight exp(τ) over 0 < τ < h: near one half if h is small; see `Form`."""
        fraction = -1 / torch.expm1(-length) - 1 / length
        return torch.where(length.abs() < 1e-3, 0.5 + length / 12, fraction)

    def correction_weight(self, before: Point, here: Point) -> Tensor:
        """Return 1, as the slope is the clean image, which changes little with the state; see `Form`."""
        return here.noise.new_ones((1,) * here.noise.ndim)

    def move_weights(self, here: Point, there: Point) -> tuple[Tensor, Tensor]:
        """Return s_s / s_t and a_s − a_t s_s / s_t; see `Form`."""
        kept = noise_ratio(here, there)
        return kept, there.signal - here.signal * kept


def extrapolation(ahead: Tensor, behind: Tensor, most: float) -> Tensor:
    """Return the weight of (slope − slope before) that extrapolates slopes to the middle of the step ahead.

    Args:
        ahead: Length of the step to take.
        behind: Length of the step before; the weight is 0 where it is 0, or either infinite.
        most: Largest weight, of a form.
    """
    weight = ahead / (2 * behind)
    return weight.masked_fill_(~weight.isfinite(), 0.0).clamp_(max=most)
