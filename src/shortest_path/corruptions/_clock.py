"""Any angle and any radius: the freedom that equation 1 leaves, made explicit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from typing_extensions import override

from .._checks import check_function, values_are_readable
from .._exact import exact_dtype
from ..spectra import PowerSpectrum
from ._elementwise import ElementwiseCorruption, Pick
from ._end import check_spectrum

OfTime: TypeAlias = Callable[[Tensor], Tensor]
_ROUNDING = 1e-5


class ClockCorruption(ElementwiseCorruption):
    """A corruption given by an angle and a radius for every coefficient and time.

        a_t = r_t cos θ_t / √S,    s_t = r_t sin θ_t,    √(a_t² S + s_t²) = r_t

    The angle alone, the clock, decides what a network must learn: tan²θ is the ratio of noise to signal of a
    coefficient of power S. The radius only scales what the network sees.

    Args:
        spectrum: The data's power spectrum S; its basis becomes the corruption's, its mean is m.
        angle: θ as a function of times (B, 1, …, 1): broadcastable to coefficients (B, C, *spatial), in [0, π/2],
            0 at t = 0 and not falling with t.
        radius: r likewise, positive; None (default) is the radius at which a² + s² = 1.

    Raises:
        TypeError: `spectrum` is not a `PowerSpectrum`, or `angle` or `radius` not a function.
        ValueError: `t` outside [0, 1], an empty coefficient, an angle outside [0, π/2] or a radius that is not
            positive.

    Source: docs/theory.md, "What Fisher length does not decide".

    Example:
        >>> import math, shortest_path as sp
        >>> law = sp.PowerSpectrum.power_law((3, 8, 8), amplitude=1.59, offset=0.0086, exponent=2.0)
        >>> equal_snr = ClockCorruption(law, lambda t: math.pi / 2 * t)
        >>> snr = (equal_snr.signal(torch.tensor([0.5])) / equal_snr.noise(torch.tensor([0.5]))) ** 2 * law.power
        >>> bool(torch.allclose(snr, torch.ones(3, 8, 8, dtype=torch.float64)))
        True
    """

    power: Tensor
    picks = False  # the angle is a function of the caller's, with tables of its own

    def __init__(self, spectrum: PowerSpectrum, angle: OfTime, radius: OfTime | None = None) -> None:
        check_spectrum(spectrum)
        form = "times (B, 1, …, 1)"
        if angle is None:
            raise TypeError(f"angle must be a function of {form}, got NoneType")
        check_function("angle", angle, form)
        check_function("radius", radius, form)
        super().__init__(copy.deepcopy(spectrum.basis), mean=spectrum.mean)
        self.register_buffer("power", spectrum.power.clone())
        self.angle, self.radius = angle, radius

    @override
    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        dtype, time = time.dtype, time.to(exact_dtype(time.device))  # near π/2, little of an angle is left
        angle = self.angle(time)
        if values_are_readable(angle) and not bool(((angle > -_ROUNDING) & (angle < math.pi / 2 + _ROUNDING)).all()):
            raise ValueError(
                f"angle must return values in [0, π/2], got {float(angle.min()):.6g} … {float(angle.max()):.6g}"
            )
        deviation = self.power.sqrt().to(time.dtype)
        # The sine of what is left to π/2: never below 0, where π/2 rounds to more.
        cosine, sine = torch.sin(math.pi / 2 - angle).clamp(min=0), torch.sin(angle).clamp(min=0)
        if self.radius is None:
            radius = 1 / torch.hypot(cosine / deviation, sine)
        else:
            radius = self.radius(time)
            if values_are_readable(radius) and not bool((radius > 0).all()):
                raise ValueError(f"radius must return positive values, got {float(radius.min()):.6g}")
        return pick(radius * cosine / deviation).to(dtype), pick(radius * sine).to(dtype)

    @override
    def extra_repr(self) -> str:
        named = {"angle": self.angle, "radius": self.radius}
        return ", ".join(
            f"{name}={getattr(value, '__qualname__', type(value).__qualname__)}"
            for name, value in named.items()
            if value is not None
        )
