"""Isotropic Gaussian noise: the corruption of DDPM and of flow matching."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from typing_extensions import override

from .basis import PixelBasis
from .checks import check_choice, check_time
from .corruption import DiagonalCorruption, per_sample

ScheduleName: TypeAlias = Literal["cosine", "linear", "flow"]
Schedule: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]


class GaussianCorruption(DiagonalCorruption):
    """The same signal and noise scale for every pixel.

        x_t = a_t x_0 + s_t ε

    | schedule | a_t | s_t |
    |---|---|---|
    | `"cosine"` | cos θ_t / cos θ_0, θ_t = (t + 0.008) / 1.008 · π/2 | √(1 − a_t²) |
    | `"linear"` | √ᾱ with DDPM's β from 1e-4 to 0.02 over 1000 steps | √(1 − a_t²) |
    | `"flow"` | 1 − t | t |
    | a callable | first value of `schedule(t)` | second value |

    `"linear"` equals DDPM's table ᾱ_k at t = k / 1000 to 1e-11 relative, and is smooth in between.

    Args:
        schedule: A name, or a function of times (B,) that returns (a_t, s_t), each (B,).
        dims: Number of spatial axes of the data: 2 for images, 0 for vectors.

    Raises:
        TypeError: a callable that does not return two tensors.
        ValueError: unknown schedule name, `t` outside [0, 1], or a callable that does not return one value for a time.

    Source: Ho et al. 2020, arXiv:2006.11239, section 4 (linear); Nichol & Dhariwal 2021, arXiv:2102.09672,
        equation 17 (cosine); Lipman et al. 2023, arXiv:2210.02747 (flow).

    Example:
        >>> import torch
        >>> GaussianCorruption("cosine").signal(torch.tensor([0.0, 1.0])).flatten().tolist()
        [1.0, 0.0]
    """

    def __init__(self, schedule: ScheduleName | Schedule = "cosine", *, dims: int = 2) -> None:
        super().__init__(PixelBasis(dims))
        self.schedule = schedule
        if callable(schedule):
            self._schedule: Schedule = schedule
        else:
            self._schedule = _SCHEDULES[check_choice("schedule", schedule, get_args(ScheduleName))]

    @override
    def signal(self, t: Tensor) -> Tensor:
        return self.scales(t)[0]

    @override
    def noise(self, t: Tensor) -> Tensor:
        return self.scales(t)[1]

    @override
    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        check_time(t)
        pair = self._schedule(t)
        if callable(self.schedule):
            _check_pair(pair, t)
        signal, noise = pair
        return per_sample(signal, self.basis.dims), per_sample(noise, self.basis.dims)

    @override
    def extra_repr(self) -> str:
        return f"schedule={self.schedule!r}"


def _check_pair(pair: object, t: Tensor) -> None:
    """Raise unless what a schedule returned is (a_t, s_t), each with one value for a time."""
    form = "a schedule must return (a_t, s_t), two tensors of the shape of t"
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(scale, Tensor) for scale in pair)):
        raise TypeError(f"{form}, got {type(pair).__name__}")
    if any(scale.numel() != t.numel() for scale in pair):
        found = " and ".join(str(tuple(scale.shape)) for scale in pair)
        raise ValueError(f"{form}, {tuple(t.shape)}, got {found}")


def cosine_schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (a_t, s_t) of the cosine schedule, each the shape of `t`."""
    quarter = math.pi / 2 / 1.008
    start = 0.008 * quarter
    # cos θ_t as a sine of 1 − t, and cos²θ_0 − cos²θ_t as a product of sines: no cancellation at either end.
    signal = torch.sin((1 - t) * quarter) / math.cos(start)
    noise = (torch.sin(t * quarter) * torch.sin(t * quarter + 2 * start)).sqrt() / math.cos(start)
    return signal, noise


def linear_schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (a_t, s_t) of DDPM's linear schedule, each the shape of `t`.

    log ᾱ_k = Σ_{i<k} log(1 − β_i), as a polynomial in t = k / 1000 without constant term, so that 1 − ᾱ
    keeps its digits at small t.
    """
    minus_log = t * _LINEAR_COEFFICIENTS[-1]
    for coefficient in reversed(_LINEAR_COEFFICIENTS[:-1]):
        minus_log = (minus_log + coefficient) * t
    return torch.exp(-minus_log / 2), (-torch.expm1(-minus_log)).sqrt()


def _linear_coefficients() -> list[float]:
    """Return the coefficients of t, t², … in −log ᾱ of DDPM's linear schedule.

    The sum over i < k is the integral over i from −½ to k − ½ with its first Euler–Maclaurin correction.
    With b = β(−½) and e = β(k − ½) = b + r t, the series −log(1 − β) = Σ βⁿ/n gives

        −log ᾱ = Σ_n (eⁿ⁺¹ − bⁿ⁺¹) / (n (n+1) δ) − δ² k / (24 (1 − b) (1 − e)),    δ = β_1 − β_0

    Seven terms (β ≤ 0.02) leave an error below 1e-13.
    """
    first, last, count = 1e-4, 0.02, 1000
    step = (last - first) / (count - 1)
    begin, rise = first - step / 2, count * step
    coefficients = [0.0] * 8
    for n in range(1, 8):
        for m in range(1, n + 2):
            power = math.comb(n + 1, m) * begin ** (n + 1 - m) * rise**m
            coefficients[m - 1] += power / (n * (n + 1) * step)
    for n in range(5):  # 1 / (1 − e) = Σ eⁿ
        for m in range(n + 1):
            power = math.comb(n, m) * begin ** (n - m) * rise**m
            coefficients[m] -= count * step**2 / (24 * (1 - begin)) * power
    return coefficients


_LINEAR_COEFFICIENTS = _linear_coefficients()


def flow_schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (1 − t, t)."""
    return 1 - t, t


_SCHEDULES: dict[ScheduleName, Schedule] = {
    "cosine": cosine_schedule,
    "linear": linear_schedule,
    "flow": flow_schedule,
}
