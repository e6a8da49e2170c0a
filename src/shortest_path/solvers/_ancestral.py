"""The reverse chain of DDPM and of the paper, per coefficient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from .._checks import check_choice
from .._exact import exact_dtype
from ..corruptions import Point
from ._protocol import Step
from ._transition import StepWeights, Transitions, forward_weights, posterior_weights

Variance: TypeAlias = Literal["large", "small", "exact"]


@dataclass(frozen=True)
class Ancestral:
    """Stochastic: the mean of the posterior q(u_s | u_t, û_0), and noise.

        u_s = w_t u_t + (a_s − a_t w_t) û_0 + σ z,    w_t = √(s_s² − s²_{t|s} s_s² / s_t²) / s_t

    | variance | σ² | last step, to t = 0 |
    |---|---|---|
    | `"large"` | s²_{t|s} | returns û_0 |
    | `"small"` | s²_{t|s} s_s² / s_t² | returns û_0 |
    | `"exact"` | s²_{t|s} Σ_s / Σ_t, Σ = a² S + s² | adds noise like the others |

    `"large"` is the paper's. `"exact"` is the variance of u_s given u_t for Gaussian data of the power S, which it
    samples without error in any number of steps; it requires the data's power.

    Args:
        variance: `"large"`, `"small"` or `"exact"`.

    Raises:
        ValueError: an unknown variance; when sampling, `"exact"` without the data's power.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 7; Das et al. 2023, arXiv:2306.00501, algorithm 2; Bao et al.
        2022, arXiv:2201.06503, theorem 1 ("exact", for Gaussian data and per coefficient).

    Example:
        >>> Ancestral()
        Ancestral(variance='large')
    """

    variance: Variance = "large"

    def __post_init__(self) -> None:
        check_choice("variance", self.variance, get_args(Variance))

    elementwise = True

    @property
    def deterministic(self) -> bool:
        """Whether no step draws noise."""
        return False

    def start(self, power: Tensor | None, at: Callable[[float], Point]) -> Step:
        """Return the step function of one run; see `Solver`."""
        if self.variance != "exact":
            return Transitions(self._weights, ends=True)
        if power is None:
            raise ValueError(
                "variance='exact' requires the data's power spectrum; pass spectrum=PowerSpectrum.estimate(batches), "
                "or use variance='large'"
            )
        exact = power.to(exact_dtype(power.device))
        return Transitions(lambda here, there: _exact_weights(exact, here, there), ends=False)

    def _weights(self, here: Point, there: Point) -> StepWeights:
        large = forward_weights(there, here).sigma
        w_t, w_0, small = posterior_weights(here, there, large, 1.0)
        # A coefficient whose noise ends here is clean from here on.
        sigma = torch.where(there.noise > 0, large if self.variance == "large" else small, 0.0)
        return StepWeights(w_t, w_0, sigma)


def _exact_weights(power: Tensor, here: Point, there: Point) -> StepWeights:
    """Return the weights of a step with the variance that Gaussian data of a known power have."""
    large = forward_weights(there, here).sigma
    w_t, w_0, _ = posterior_weights(here, there, large, 1.0)
    total_t, total_s = (point.signal**2 * power + point.noise**2 for point in (here, there))
    return StepWeights(w_t, w_0, large * (total_s / total_t).sqrt())
