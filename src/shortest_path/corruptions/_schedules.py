"""Schedules (a_t, s_t) of isotropic noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from .._checks import check_count
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


@dataclass(frozen=True)
class LinearSchedule:
    """DDPM's linear schedule for any number of steps T: β from 0.1 / T to 20 / T, smooth between the times k / T.

        −log ᾱ(k / T) = −Σ_{i<k} log(1 − β_i),    α_t = √ᾱ,    σ_t = √(1 − ᾱ)

    `GaussianCorruption("linear")` has T = 1000, DDPM's own. At the same t, tables of other T differ, as log(1 − β) is
    not −β: ᾱ at t = 1 is 5 % larger for T = 4000 than for T = 1000. It equals the table to 1e-11 relative for T = 1000
    and more, to 1e-9 for T = 101. For T = 100 and less the smooth curve is not monotone near t = 0.

    Args:
        steps: T, 101 or more.

    Raises:
        ValueError: `steps` below 101.

    Source: Ho et al. 2020, arXiv:2006.11239, section 4; scaled with T as in Nichol & Dhariwal 2021, arXiv:2102.09672.

    Example:
        >>> import torch
        >>> signal, noise = LinearSchedule(4000)(torch.tensor([1.0], dtype=torch.float64))
        >>> print(f"{signal.item() ** 2:.4e}")
        4.2467e-05
    """

    steps: int = 1000
    _coefficients: list[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_count("steps", self.steps, least=101)
        object.__setattr__(self, "_coefficients", _minus_log_coefficients(self.steps))

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (α_t, σ_t), each the shape of `t`."""
        # A polynomial without constant term, so that 1 − ᾱ keeps its digits at small t. For few times, adding scaled
        # products of two powers is faster than Horner's scheme, whose constants each become a tensor.
        powers, log_signal = [t], t * (-self._coefficients[0] / 2)
        rounding = torch.finfo(t.dtype).eps * max(self._coefficients) / 8
        for degree, coefficient in enumerate(self._coefficients[1:], start=2):
            if coefficient < rounding:  # and so are those after it
                break
            larger = (degree + 1) // 2
            if larger > len(powers):
                powers.append(powers[-1] * t)
            log_signal = torch.addcmul(
                log_signal, powers[larger - 1], powers[degree - larger - 1], value=-coefficient / 2
            )
        return torch.exp(log_signal), root(-torch.expm1(log_signal + log_signal))


def _minus_log_coefficients(count: int) -> list[float]:
    """Return the coefficients of t, t², … in −log ᾱ of the linear schedule.

    The sum over i < k is the integral over i from −½ to k − ½ with its first Euler–Maclaurin correction.
    With b = β(−½) and e = β(k − ½) = b + r t, the series −log(1 − β) = Σ βⁿ/n gives

        −log ᾱ = Σ_n (eⁿ⁺¹ − bⁿ⁺¹) / (n (n+1) δ) − δ² k / (24 (1 − b) (1 − e)),    δ = β_1 − β_0

    The terms that are left out are below 1e-12: seven for DDPM's β ≤ 0.02, more for fewer steps.
    """
    first, last = 0.1 / count, 20 / count
    terms = max(7, math.ceil(27 / -math.log(last)))
    step = (last - first) / (count - 1)
    begin, rise = first - step / 2, count * step
    coefficients = [0.0] * (terms + 1)
    for n in range(1, terms + 1):
        for m in range(1, n + 2):
            power = math.comb(n + 1, m) * begin ** (n + 1 - m) * rise**m
            coefficients[m - 1] += power / (n * (n + 1) * step)
    for n in range(terms - 2):  # 1 / (1 − e) = Σ eⁿ
        for m in range(n + 1):
            power = math.comb(n, m) * begin ** (n - m) * rise**m
            coefficients[m] -= count * step**2 / (24 * (1 - begin)) * power
    return coefficients


def flow_schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (1 − t, t)."""
    return 1 - t, t


SCHEDULES: dict[ScheduleName, Schedule] = {
    "cosine": cosine_schedule,
    "linear": LinearSchedule(),
    "flow": flow_schedule,
}
