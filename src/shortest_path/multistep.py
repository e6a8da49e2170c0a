"""Second-order multistep solvers of the probability-flow ODE, coefficient by coefficient.

**Rotation form**, where the data's power S is known (DESIGN equation 4). In whitened coordinates

    y = u_t / √(a² S + s²),    ξ = u_0 / √S,    θ = atan2(s, a √S),    y = cos θ ξ + sin θ ε

the ODE of any diagonal Gaussian process is dy = v̂ dθ with v̂ = E[−sin θ ξ + cos θ ε | y], which is zero for
Gaussian data. So a step is exact for them whatever its length, and the solver has only the rest to follow.

**Exponential form**, where it is not known. In λ = log(a / s), with h = λ_s − λ_t,

    u_s = (s_s / s_t) u_t + a_s (1 − e^(−h)) D̂,    D̂ extrapolates û_0 linearly in λ

which is the form of DPM-Solver++(2M), with a step size for every coefficient.

Both are of second order from one model call a step, by remembering the last one.

Source: DESIGN section 2; Lu et al. 2022, arXiv:2211.01095, algorithm 2 (exponential form).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Scales = tuple[Tensor, Tensor]
_MOST = 1.0  # largest weight of the extrapolation: a step of twice the length of the one before


class Stepper(Protocol):
    """Moves coefficients from time t to s < t, remembering what it needs of earlier steps."""

    def step(self, u_t: Tensor, u_0: Tensor, at_t: Scales, at_s: Scales, *, last: bool) -> Tensor:
        """Return u_s.

        Args:
            u_t: Coefficients at t.
            u_0: The clean coefficients that the model predicts at t.
            at_t: (signal, noise) at t, float64.
            at_s: (signal, noise) at s, float64.
            last: Whether s is 0, where the clean coefficients are wanted.
        """
        ...


class _Whitened(NamedTuple):
    """Angle θ and radius √(a² S + s²) at one time; their coefficients' tensors are float64."""

    angle: Tensor
    radius: Tensor


class RotationMultistep:
    """Adams–Bashforth 2 in the angle θ.

    Args:
        power: S, broadcastable to coefficients, positive.
    """

    def __init__(self, power: Tensor) -> None:
        self._deviation = power.to(torch.float64).sqrt()
        self._before: tuple[Tensor, Tensor] | None = None

    def step(self, u_t: Tensor, u_0: Tensor, at_t: Scales, at_s: Scales, *, last: bool) -> Tensor:
        """Return u_s; see `Stepper`."""
        dtype = u_t.dtype
        here = self._whitened(at_t)
        # At angle 0 the whitened state is the clean image.
        there = _Whitened(torch.zeros_like(here.angle), self._deviation) if last else self._whitened(at_s)
        turn = there.angle - here.angle
        # v̂ = (cos θ y − ξ̂) / sin θ
        of_state = 1 / (here.radius * torch.tan(here.angle))
        of_data = 1 / (self._deviation * torch.sin(here.angle))
        velocity = (of_state.to(dtype) * u_t).addcmul_(of_data.to(dtype), u_0, value=-1)
        y = u_t * (1 / here.radius).to(dtype)
        if self._before is None:
            y = y.addcmul_(turn.to(dtype), velocity)
        else:
            last_turn, last_velocity = self._before
            # From a much shorter step nothing can be extrapolated: noise in the model would be magnified by the
            # ratio of the steps. The bound does not touch the order, as ratios tend to 1.
            share = torch.where(last_turn == 0, torch.zeros_like(turn), turn / (2 * last_turn)).clamp(max=_MOST)
            y = y.addcmul_((turn * (1 + share)).to(dtype), velocity)
            y = y.addcmul_((turn * share).to(dtype), last_velocity, value=-1)
        self._before = turn, velocity
        return y.mul_(there.radius.to(dtype))

    def _whitened(self, scales: Scales) -> _Whitened:
        signal = scales[0] * self._deviation
        noise = scales[1].expand_as(signal)
        return _Whitened(torch.atan2(noise, signal), torch.hypot(signal, noise))


class ExponentialMultistep:
    """The exponential integrator of second order in log a / s."""

    def __init__(self) -> None:
        self._before: tuple[Tensor, Tensor] | None = None

    def step(self, u_t: Tensor, u_0: Tensor, at_t: Scales, at_s: Scales, *, last: bool) -> Tensor:
        """Return u_s; see `Stepper`."""
        if last:
            return u_0
        dtype = u_t.dtype
        (signal_t, noise_t), (signal_s, noise_s) = at_t, at_s
        length = (signal_s / noise_s).log() - (signal_t / noise_t).log()
        estimate = u_0
        if self._before is not None:
            last_length, last_u_0 = self._before
            share = length / (2 * last_length)
            share = torch.where(torch.isfinite(share), share, torch.zeros_like(share)).to(dtype)
            estimate = ((1 + share) * u_0).addcmul_(share, last_u_0, value=-1)
        self._before = length, u_0
        kept = noise_s / noise_t
        return (kept.to(dtype) * u_t).addcmul_((signal_s - signal_t * kept).to(dtype), estimate)
