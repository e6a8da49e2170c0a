"""Gaussian noise, white or of any colour: the corruption of DDPM and of flow matching."""

from __future__ import annotations

import copy
from dataclasses import is_dataclass
from typing import Any, get_args

import torch
from torch import Tensor
from typing_extensions import override

from .._checks import check_choice
from ..bases import FourierBasis, PixelBasis
from ..spectra import PowerSpectrum
from ._elementwise import ElementwiseCorruption, Pick
from ._registry import register
from ._schedules import SCHEDULES, Schedule, ScheduleName


@register
class GaussianCorruption(ElementwiseCorruption):
    """The same signal scale for every coefficient, and noise that is white or has a given power spectrum Q.

        x_t = m + α_t (x_0 − m) + σ_t Bᵀ √Q ⊙ B ε

    | schedule | α_t | σ_t |
    |---|---|---|
    | `"cosine"` | cos θ_t / cos θ_0, θ_t = (t + 0.008) / 1.008 · π/2 | √(1 − α_t²) |
    | `"linear"` | √ᾱ with DDPM's β from 1e-4 to 0.02 over 1000 steps; `LinearSchedule(T)` for T | √(1 − α_t²) |
    | `"flow"` | 1 − t | t |
    | a callable | first value of `schedule(t)` | second value |

    `"linear"` equals DDPM's table ᾱ_k at t = k / 1000 to 1e-11 relative, and is smooth in between.

    With `noise=None`, Q = 1, B is the identity and m is 0. `noise=spectrum`, the data's own, is equal-SNR diffusion:
    every coefficient has the same signal-to-noise ratio; `noise=spectrum.tempered(γ)` goes from white noise (γ = 0) to
    it (γ = 1). Coefficients in which Q is 0 stay as they are (a = 1, s = 0).

    Args:
        schedule: A name, or a function of times (B,) that returns (α_t, σ_t), each (B,). A module's parameters can be
            trained with the model's.
        noise: Power spectrum of the noise at t = 1; its basis becomes the corruption's, its mean is m. None is white.
        dims: Number of spatial axes of the data: 2 (default) for images, 0 for vectors. Not used with `noise`.

    Raises:
        TypeError: a callable that does not return two tensors, or `noise` is not a `PowerSpectrum`.
        ValueError: unknown schedule name, `t` outside [0, 1], a callable that does not return one value for a time, or
            `dims` beside `noise`.

    Source: Ho et al. 2020, arXiv:2006.11239, section 4 (linear); Nichol & Dhariwal 2021, arXiv:2102.09672,
        equation 17 (cosine); Lipman et al. 2023, arXiv:2210.02747 (flow); Falck et al. 2025, arXiv:2505.11278 (equal
        SNR); Lim et al. 2023, arXiv:2302.07400 (coloured noise).

    Example:
        >>> import torch
        >>> GaussianCorruption("cosine").signal(torch.tensor([0.0, 1.0])).flatten().tolist()
        [1.0, 0.0]
    """

    argument_names = ("schedule", "noise", "dims")
    color: Tensor | None

    def __init__(
        self,
        schedule: ScheduleName | Schedule = "cosine",
        *,
        noise: PowerSpectrum | None = None,
        dims: int | None = None,
    ) -> None:
        if noise is None:
            super().__init__(PixelBasis(2 if dims is None else dims))
        elif not isinstance(noise, PowerSpectrum):
            raise TypeError(f"noise must be a PowerSpectrum, got {type(noise).__name__}; see PowerSpectrum.estimate")
        elif dims is not None:
            raise ValueError(f"noise has its own number of spatial axes, {noise.basis.dims}; omit dims={dims}")
        else:
            super().__init__(copy.deepcopy(noise.basis), mean=noise.mean)
            # PowerSpectrum checks the symmetry of its power.
            self._even = isinstance(noise.basis, FourierBasis) and self._keeps_scales_of(GaussianCorruption)
        self.register_buffer("color", None if noise is None else noise.power.to(torch.float64).sqrt())
        self._stays = _has_zeros(self.color)
        if not callable(schedule):
            check_choice("schedule", schedule, get_args(ScheduleName))
        self.schedule: ScheduleName | Schedule = schedule

    @override
    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._stays = _has_zeros(self.color)

    @override
    def arguments(self) -> dict[str, Any]:
        if self.color is None:
            return {"schedule": self.schedule, "noise": None, "dims": self.basis.dims}
        noise = PowerSpectrum(self.basis, self.color.square(), mean=self.mean)
        return {"schedule": self.schedule, "noise": noise, "dims": None}

    @override
    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        if callable(self.schedule):
            times = time.flatten()
            pair = self.schedule(times)
            _check_pair(pair, times)
            signal, noise = (scale.reshape(time.shape) for scale in pair)
        else:
            signal, noise = SCHEDULES[self.schedule](time)
        if self.color is None:
            return signal, noise
        color = pick(self.color).to(time.dtype)
        return torch.where(color > 0, signal, 1.0) if self._stays else signal, noise * color

    @override
    def extra_repr(self) -> str:
        noise = "" if self.color is None else f", noise={'×'.join(map(str, self.color.shape))} spectrum"
        if isinstance(self.schedule, str) or is_dataclass(self.schedule):
            return f"schedule={self.schedule!r}{noise}"
        # Without the address that repr shows: a checkpoint compares this text with that of another process.
        return f"schedule={getattr(self.schedule, '__qualname__', type(self.schedule).__qualname__)}{noise}"


def _has_zeros(color: Tensor | None) -> bool:
    return color is not None and bool((color == 0).any())


def _check_pair(pair: object, t: Tensor) -> None:
    """Raise unless what a schedule returned is (α_t, σ_t), each with one value for a time."""
    form = "a schedule must return (a_t, s_t), two tensors of the shape of t"
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(scale, Tensor) for scale in pair)):
        raise TypeError(f"{form}, got {type(pair).__name__}")
    if any(scale.numel() != t.numel() for scale in pair):
        found = " and ".join(str(tuple(scale.shape)) for scale in pair)
        raise ValueError(f"{form}, {tuple(t.shape)}, got {found}")
