"""Schedules (a_t, s_t) of isotropic noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ._scales import root

ScheduleName: TypeAlias = Literal["cosine", "linear", "flow"]
Schedule: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]


def cosine_schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (a_t, s_t) of the cosine schedule, each the shape of `t`."""
    quarter = math.pi / 2 / 1.008
    start = 0.008 * quarter
    # cos θ_t as a sine of 1 − t, and cos²θ_0 − cos²θ_t as a product of sines: no cancellation at either end.
    signal = torch.sin((1 - t) * quarter) / math.cos(start)
    noise = root(torch.sin(t * quarter) * torch.sin(t * quarter + 2 * start)) / math.cos(start)
    return signal, noise


def linear_schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (a_t, s_t) of DDPM's linear schedule, each the shape of `t`.

    log ᾱ_k = Σ_{i<k} log(1 − β_i), as a polynomial in t = k / 1000 without constant term, so that 1 − ᾱ
    keeps its digits at small t.
    """
    minus_log = t * _LINEAR_COEFFICIENTS[-1]
    for coefficient in reversed(_LINEAR_COEFFICIENTS[:-1]):
        minus_log = (minus_log + coefficient) * t
    return torch.exp(-minus_log / 2), root(-torch.expm1(-minus_log))


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


SCHEDULES: dict[ScheduleName, Schedule] = {
    "cosine": cosine_schedule,
    "linear": linear_schedule,
    "flow": flow_schedule,
}
