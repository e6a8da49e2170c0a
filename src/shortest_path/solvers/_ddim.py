"""Denoising diffusion implicit models, per coefficient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..corruptions import Point
from ._options import check_eta
from ._protocol import Step
from ._transition import Transitions, forward_weights, posterior_weights


@dataclass(frozen=True)
class DDIM:
    """First order, deterministic or with a fraction of the posterior's noise.

        u_s = w_t u_t + (a_s − a_t w_t) û_0 + σ z,    w_t = √(s_s² − σ²) / s_t,    σ = η s_{t|s} s_s / s_t

    Args:
        eta: Fraction of the posterior's noise, in [0, 1]: 0 is deterministic, 1 the posterior.

    Raises:
        ValueError: `eta` outside [0, 1].

    Source: Song et al. 2021, arXiv:2010.02502, equation 12.

    Example:
        >>> DDIM(eta=0.5).deterministic
        False
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        check_eta(self.eta)

    elementwise = True

    @property
    def deterministic(self) -> bool:
        """Whether no step draws noise."""
        return self.eta == 0

    def start(self, power: Tensor | None, at: Callable[[float], Point]) -> Step:
        """Return the step function of one run; see `Solver`."""
        return Transitions(self._weights, ends=True)

    def _weights(self, here: Point, there: Point) -> tuple[Tensor, ...]:
        weights = posterior_weights(here, there, forward_weights(there, here).sigma, self.eta**2)
        return weights[:2] if self.deterministic else weights
