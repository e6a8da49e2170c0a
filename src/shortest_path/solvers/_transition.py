"""Steps without memory, as three numbers for every coefficient.

The ancestral and the DDIM solver move from time t to s < t by

    u_s = w_t ⊙ u_t + w_0 ⊙ û_0 + σ ⊙ z,    z ~ N(0, I)

With a_{t|s} = a_t / a_s and s²_{t|s} = s_t² − a²_{t|s} s_s², the posterior q(u_s | u_t, u_0) has the variances

    "small": s²_{t|s} s_s² / s_t²        "large": s²_{t|s}

and a step that keeps a fraction η of the small deviation has w_t = √(s_s² − η² small) / s_t, w_0 = a_s − a_t w_t,
σ = η √small: DDIM. η = 1 is the posterior itself; ancestral sampling takes its mean, and either variance.

Source: Ho et al. 2020, arXiv:2006.11239, equation 7; Song et al. 2021, arXiv:2010.02502, equation 12;
per coefficient, docs/theory.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..corruptions import Point
from ._numbers import StepNumbers, add_scaled


def noise_ratio(here: Point, there: Point) -> Tensor:
    """Return s_s / s_t; where both are 0, before a coefficient's own start, a_s / a_t, which keeps it as it is."""
    return torch.where(here.noise > 0, there.noise / here.noise, there.signal / here.signal)


class StepWeights(NamedTuple):
    """The numbers of u_s = w_t u_t + w_0 û_0 + σ z, broadcastable to coefficients."""

    w_t: Tensor
    w_0: Tensor
    sigma: Tensor


class ForwardWeights(NamedTuple):
    """The numbers of u_t = ratio u_s + σ z, broadcastable to coefficients."""

    ratio: Tensor
    sigma: Tensor


def forward_weights(early: Point, late: Point) -> ForwardWeights:
    """Return the weights of the corruption's own step from s to t > s: a_t / a_s, and s_{t|s}.

    Args:
        early: The point at s, float64.
        late: The point at t, float64.
    """
    # A coefficient whose signal has vanished at s already (0/0) starts again from pure noise: ratio 0.
    ratio = torch.where(early.signal > 0, late.signal / early.signal, torch.zeros_like(late.signal * early.signal))
    # Below 0 by rounding only: the signal-to-noise ratio does not increase.
    variance = (late.noise**2 - ratio**2 * early.noise**2).clamp(min=0)
    return ForwardWeights(ratio, variance.sqrt())


def posterior_weights(here: Point, there: Point, large: Tensor, kept: float) -> StepWeights:
    """Return the weights of the step from t to s < t that keeps a fraction of the posterior's variance.

    Differences of nearly equal squares are taken, so pass float64 scales.

    Args:
        here: The point at t, its noise positive.
        there: The point at s.
        large: s_{t|s}, as `forward_weights` returns it.
        kept: Fraction of the small variance: 0 is deterministic, 1 the posterior.
    """
    ratio = noise_ratio(here, there)
    variance = large**2 * ratio**2 * kept
    w_t = torch.where(here.noise > 0, (there.noise**2 - variance).clamp(min=0).sqrt() / here.noise, ratio)
    return StepWeights(w_t, there.signal - here.signal * w_t, variance.sqrt())


class Transitions:
    """The steps u_s = w_t u_t + w_0 û_0 + σ z of one run.

    Args:
        weights: `weights(here, there)` returns (w_t, w_0, σ), elementwise, or (w_t, w_0) of a step without noise.
        ends: Whether the step to t = 0 returns û_0.
    """

    memory: tuple[Tensor, ...] = ()

    def __init__(self, weights: Callable[[Point, Point], tuple[Tensor, ...]], *, ends: bool) -> None:
        self._weights, self._ends = StepNumbers(weights), ends

    def foresee(self, points: Sequence[Point], dtype: torch.dtype) -> None:
        """Find the weights of all steps along the points; see `Step`."""
        self._weights.foresee(points, dtype)

    def __call__(self, u_t: Tensor, u_0: Tensor, here: Point, there: Point, noise: Callable[[], Tensor]) -> Tensor:
        """Return u_s; see `Step`."""
        if self._ends and there.time == 0:
            return u_0
        w_t, w_0, *sigma = self._weights(here, there, dtype=u_t.dtype)
        u_s = add_scaled(w_t * u_t, w_0, u_0)
        return add_scaled(u_s, sigma[0], noise()) if sigma else u_s
