"""Isotropic Gaussian noise: the corruption of DDPM and of flow matching."""

from __future__ import annotations

from typing import get_args

from torch import Tensor
from typing_extensions import override

from .._checks import check_choice, check_time
from ..bases import PixelBasis
from ._diagonal import DiagonalCorruption
from ._scales import per_sample
from ._schedules import SCHEDULES, Schedule, ScheduleName


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
            self._schedule = SCHEDULES[check_choice("schedule", schedule, get_args(ScheduleName))]

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
        if isinstance(self.schedule, str):
            return f"schedule={self.schedule!r}"
        # Without the address that repr shows: a checkpoint compares this text with that of another process.
        return f"schedule={getattr(self.schedule, '__qualname__', type(self.schedule).__qualname__)}"


def _check_pair(pair: object, t: Tensor) -> None:
    """Raise unless what a schedule returned is (a_t, s_t), each with one value for a time."""
    form = "a schedule must return (a_t, s_t), two tensors of the shape of t"
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(scale, Tensor) for scale in pair)):
        raise TypeError(f"{form}, got {type(pair).__name__}")
    if any(scale.numel() != t.numel() for scale in pair):
        found = " and ".join(str(tuple(scale.shape)) for scale in pair)
        raise ValueError(f"{form}, {tuple(t.shape)}, got {found}")
