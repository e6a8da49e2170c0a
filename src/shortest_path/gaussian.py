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

    `"linear"` equals DDPM's table ᾱ_k at t = k / 1000 to 2e-8 relative, and is smooth in between.

    Args:
        schedule: A name, or a function of times (B,) that returns (a_t, s_t), each (B,).
        dims: Number of spatial axes of the data: 2 for images, 0 for vectors.

    Raises:
        ValueError: unknown schedule name, or `t` outside [0, 1].

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
        signal, noise = self._schedule(t)
        return per_sample(signal, self.basis.dims), per_sample(noise, self.basis.dims)

    @override
    def extra_repr(self) -> str:
        return f"schedule={self.schedule!r}"


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

    log ᾱ_k = Σ_{i<k} log(1 − β_i) is evaluated as the midpoint integral over i, a smooth function of
    k = 1000 t, with the logarithm's series integrated term by term:

        ∫ β^n = k / (n + 1) Σ_j e^j b^(n−j),    b = β(−½),  e = β(k − ½)
    """
    first, last, count = 1e-4, 0.02, 1000
    slope = (last - first) / (count - 1)
    k = count * t
    begin = first - slope / 2
    end = begin + slope * k
    log_alpha_bar = torch.zeros_like(t)
    for n in range(1, 6):  # β ≤ 0.02, so the sixth term is below 1e-11
        powers = sum((end**j * begin ** (n - j) for j in range(n + 1)), torch.zeros_like(t))
        log_alpha_bar = log_alpha_bar - k * powers / (n * (n + 1))
    return torch.exp(log_alpha_bar / 2), (-torch.expm1(log_alpha_bar)).sqrt()


def flow_schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (1 − t, t)."""
    return 1 - t, t


_SCHEDULES: dict[ScheduleName, Schedule] = {
    "cosine": cosine_schedule,
    "linear": linear_schedule,
    "flow": flow_schedule,
}
