"""Reverse steps as three per-coefficient numbers, shared by the sampler and the exact analysis.

Every one-step solver here moves from time t to s < t by

    u_s = w_t ⊙ u_t + w_0 ⊙ û_0 + σ ⊙ z,    z ~ N(0, I)

With a_{t|s} = a_t / a_s and s²_{t|s} = s_t² − a²_{t|s} s_s², the posterior q(u_s | u_t, u_0) has the variances

    "small": s²_{t|s} s_s² / s_t²        "large": s²_{t|s}

and a step that keeps a share η of it has w_t = √(s_s² − η² small) / s_t, w_0 = a_s − a_t w_t, σ = η √small:
DDIM. η = 1 is the posterior itself; ancestral sampling takes its mean, and either variance.

Source: Ho et al. 2020, arXiv:2006.11239, equation 7; Song et al. 2021, arXiv:2010.02502, equation 12;
per coefficient, docs/theory.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from .checks import check_choice, check_has_values

Solver: TypeAlias = Literal["ancestral", "ddim"]
Variance: TypeAlias = Literal["large", "small"]


class StepWeights(NamedTuple):
    """The numbers of u_s = w_t u_t + w_0 û_0 + σ z, broadcastable to coefficients."""

    w_t: Tensor
    w_0: Tensor
    sigma: Tensor


def step_weights(
    at_t: tuple[Tensor, Tensor],
    at_s: tuple[Tensor, Tensor],
    *,
    solver: Solver = "ancestral",
    variance: Variance = "large",
    eta: float = 0.0,
) -> StepWeights:
    """Return the weights of the step from t to s < t.

    Differences of nearly equal squares are taken, so pass float64 scales.

    Args:
        at_t: (signal, noise) at t, the noise positive.
        at_s: (signal, noise) at s.
        solver: `"ancestral"` or `"ddim"`.
        variance: Of the ancestral step.
        eta: Of the DDIM step; 0 is deterministic, 1 the posterior.
    """
    signal_t, noise_t = at_t
    signal_s, noise_s = at_s
    large = forward_weights(at_s, at_t).sigma ** 2
    small = large * (noise_s / noise_t) ** 2
    kept = small * (1.0 if solver == "ancestral" else eta**2)
    w_t = (noise_s**2 - kept).clamp(min=0).sqrt() / noise_t
    sigma = (large if solver == "ancestral" and variance == "large" else kept).sqrt()
    return StepWeights(w_t, signal_s - signal_t * w_t, sigma)


class ForwardWeights(NamedTuple):
    """The numbers of u_t = ratio u_s + σ z, broadcastable to coefficients."""

    ratio: Tensor
    sigma: Tensor


def forward_weights(at_s: tuple[Tensor, Tensor], at_t: tuple[Tensor, Tensor]) -> ForwardWeights:
    """Return the weights of the corruption's own step from s to t > s: a_t / a_s, and s_{t|s}.

    Args:
        at_s: (signal, noise) at s, float64.
        at_t: (signal, noise) at t, float64.
    """
    (signal_s, noise_s), (signal_t, noise_t) = at_s, at_t
    # A coefficient whose signal has vanished at s already (0/0) starts again from pure noise: ratio 0.
    ratio = torch.where(signal_s > 0, signal_t / signal_s, torch.zeros_like(signal_t * signal_s))
    variance = (noise_t**2 - ratio**2 * noise_s**2).clamp(min=0)  # below 0 by rounding only: the SNR does not increase
    return ForwardWeights(ratio, variance.sqrt())


def final_step(at_t: tuple[Tensor, Tensor]) -> StepWeights:
    """Return the weights of the last step, to t = 0: the denoised image itself, without noise."""
    zero = torch.zeros_like(at_t[0] * at_t[1])
    return StepWeights(zero, torch.ones_like(zero), zero)


def prior_deviation(at_t: tuple[Tensor, Tensor], power: Tensor | None) -> Tensor | None:
    """Return the standard deviation of the coefficients that sampling starts from, or None if it cannot.

        √(a² S + s²) where the data's power S is known, else s

    It cannot start from white noise while much of the image is left: more than half of a coefficient's
    variance or, where S is unknown, a signal of more than 5 % beside the noise (a² > 0.05 (a² + s²)).

    Args:
        at_t: (signal, noise) at the first time.
        power: S, broadcastable to coefficients, or None.
    """
    signal, noise = at_t[0] ** 2, at_t[1] ** 2
    if power is None:
        return None if bool((signal > 0.05 * (signal + noise)).any()) else at_t[1]
    kept = signal * power.to(signal)
    return None if bool((kept > noise).any()) else (kept + noise).sqrt()


def check_solver(solver: str, variance: str, eta: float, solvers: Sequence[str] = get_args(Solver)) -> None:
    """Raise a ValueError for a solver not among `solvers`, an unknown variance, an η outside [0, 1], or one too many.

    The variance is the ancestral solver's, η that of the others.
    """
    check_choice("solver", solver, solvers)
    check_choice("variance", variance, get_args(Variance))
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1] (0 = deterministic, 1 = posterior), got {eta}")
    if solver == "ancestral" and eta != 0:
        raise ValueError(f"eta is not of the ancestral solver, got eta={eta:g}; say solver='ddim' or leave it out")
    if solver != "ancestral" and variance != "large":
        raise ValueError(f"variance={variance!r} is of the ancestral solver, got solver={solver!r}; say 'ancestral'")


def check_times(times: Tensor) -> None:
    """Raise unless `times` is a real tensor that falls strictly, within [0, 1], over at least two values."""
    if not isinstance(times, Tensor) or times.is_complex():
        kind = str(times.dtype) if isinstance(times, Tensor) else type(times).__name__
        raise TypeError(f"times must be a 1-D tensor of real numbers that falls strictly, got {kind}")
    check_has_values(times, "times")
    if times.ndim != 1 or len(times) < 2 or not bool((times[1:] < times[:-1]).all()):
        raise ValueError(
            f"times must be a 1-D tensor that falls strictly, of two values or more, got shape {tuple(times.shape)} "
            f"with values {times.flatten()[:6].tolist()}…; sort it with torch.sort(times, descending=True)"
        )
    if float(times[-1]) < 0 or float(times[0]) > 1:
        raise ValueError(f"times must lie in [0, 1], got {float(times[0])} … {float(times[-1])}")
