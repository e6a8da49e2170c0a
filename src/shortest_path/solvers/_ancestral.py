"""The reverse chain of DDPM and of the paper, per coefficient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from .._checks import check_choice
from ..corruptions import Point
from ._protocol import Step
from ._transition import forward_weights, posterior_weights

Variance: TypeAlias = Literal["large", "small"]


@dataclass(frozen=True)
class Ancestral:
    """Stochastic: the mean of the posterior q(u_s | u_t, û_0), and noise. The last step, to t = 0, returns û_0.

        u_s = w_t u_t + (a_s − a_t w_t) û_0 + σ z,    w_t = √(s_s² − s²_{t|s} s_s² / s_t²) / s_t

    Args:
        variance: `"large"`, σ = s_{t|s} (the paper's), or `"small"`, σ = s_{t|s} s_s / s_t.

    Raises:
        ValueError: an unknown variance.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 7; Das et al. 2023, arXiv:2306.00501, algorithm 2.

    Example:
        >>> Ancestral()
        Ancestral(variance='large')
    """

    variance: Variance = "large"

    def __post_init__(self) -> None:
        check_choice("variance", self.variance, get_args(Variance))

    @property
    def deterministic(self) -> bool:
        """Whether no step draws noise."""
        return False

    def start(self, power: Tensor | None, at: Callable[[float], Point]) -> Step:
        """Return the step function of one run; see `Solver`."""
        return self._step

    def _step(self, u_t: Tensor, u_0: Tensor, here: Point, there: Point, noise: Callable[[], Tensor]) -> Tensor:
        if there.time == 0:
            return u_0
        large = forward_weights(there, here).sigma
        w_t, w_0, small = posterior_weights(here, there, large, 1.0)
        # A coefficient whose noise ends here is clean from here on.
        sigma = torch.where(there.noise > 0, large if self.variance == "large" else small, 0.0)
        u_s = (w_t.to(u_t.dtype) * u_t).addcmul_(w_0.to(u_t.dtype), u_0)
        return u_s.addcmul_(sigma.to(u_t.dtype), noise())
