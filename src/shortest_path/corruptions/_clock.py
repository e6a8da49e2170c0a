"""Any angle and any radius: the freedom that equation 1 leaves, made explicit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from typing_extensions import override

from .._checks import broadcasts, check_function, values_are_readable
from .._exact import exact_dtype
from ..spectra import PowerSpectrum
from ._elementwise import ElementwiseCorruption, Pick
from ._end import check_spectrum
from ._registry import register

OfTime: TypeAlias = Callable[[Tensor], Tensor]
_ROUNDING = 1e-5


@register
class ClockCorruption(ElementwiseCorruption):
    """A corruption given by an angle and a radius for every coefficient and time.

        a_t = r_t cos θ_t / √S,    s_t = r_t sin θ_t,    √(a_t² S + s_t²) = r_t

    The angle alone, the clock, decides what a network must learn: tan²θ is the ratio of noise to signal of a
    coefficient of power S. The radius only scales what the network sees.

    Args:
        spectrum: The data's power spectrum S; its basis becomes the corruption's, its mean is m.
        angle: θ as a function of times (B, 1, …, 1): broadcastable to coefficients (B, C, *spatial), in [0, π/2],
            not falling with t; 0 at t = 0 if that is to be the clean image.
        radius: r likewise, positive, √S at t = 0 if that is to be the clean image; None (default) is the radius at
            which a² + s² = 1.

    Raises:
        TypeError: `spectrum` is not a `PowerSpectrum`, or `angle` or `radius` not a function that returns a tensor.
        ValueError: `t` outside [0, 1], an empty coefficient, an angle outside [0, π/2], a radius that is not positive
            and finite, or values of another shape.

    Source: docs/theory.md, "What Fisher length does not decide".

    Example:
        >>> import math, shortest_path as sp
        >>> law = sp.PowerSpectrum.power_law((3, 8, 8), amplitude=1.59, offset=0.0086, exponent=2.0)
        >>> equal_snr = ClockCorruption(law, lambda t: math.pi / 2 * t)
        >>> snr = (equal_snr.signal(torch.tensor([0.5])) / equal_snr.noise(torch.tensor([0.5]))) ** 2 * law.power
        >>> bool(torch.allclose(snr, torch.ones(3, 8, 8, dtype=torch.float64)))
        True
    """

    argument_names = ("spectrum", "angle", "radius")
    power: Tensor
    picks = False  # the angle is a function of the caller's, which tells no coefficients alone

    def __init__(self, spectrum: PowerSpectrum, angle: OfTime, radius: OfTime | None = None) -> None:
        check_spectrum(spectrum)
        form = "times (B, 1, …, 1)"
        check_function("angle", angle, form)
        if radius is not None:
            check_function("radius", radius, form)
        super().__init__(copy.deepcopy(spectrum.basis), mean=spectrum.mean)
        self.register_buffer("power", spectrum.power.clone())
        self.angle, self.radius = angle, radius

    @override
    def arguments(self) -> dict[str, Any]:
        spectrum = PowerSpectrum(self.basis, self.power, mean=self.mean)
        return {"spectrum": spectrum, "angle": self.angle, "radius": self.radius}

    @override
    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        dtype, time = time.dtype, time.to(exact_dtype(time.device))  # near π/2, little of an angle is left
        angle = self._value("angle", self.angle, time, pick)
        if values_are_readable(angle) and not bool(((angle > -_ROUNDING) & (angle < math.pi / 2 + _ROUNDING)).all()):
            raise ValueError(
                f"angle must return values in [0, π/2], got {float(angle.min()):.6g} … {float(angle.max()):.6g}"
            )
        deviation = pick(self.power).sqrt().to(time.dtype)
        # The sine of what is left to π/2: never below 0, where π/2 rounds to more.
        cosine, sine = torch.sin(math.pi / 2 - angle).clamp(min=0), torch.sin(angle).clamp(min=0)
        if self.radius is None:
            radius = 1 / torch.hypot(cosine / deviation, sine)
        else:
            radius = self._value("radius", self.radius, time, pick)
            if values_are_readable(radius) and not bool(((radius > 0) & radius.isfinite()).all()):
                raise ValueError(f"radius must return positive, finite values, got {float(radius.min()):.6g}")
        return (radius * cosine / deviation).to(dtype), (radius * sine).to(dtype)

    def _value(self, name: str, function: OfTime, time: Tensor, pick: Pick) -> Tensor:
        """Return what a function of the caller's returns for picked coefficients, after checking its type and shape."""
        value, shape = function(time), (len(time), *self.power.shape)
        form = f"{name} must return a tensor that broadcasts to (B, C, *spatial) = {shape}"
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise TypeError(f"{form}, got {type(value).__name__}")
        if value.ndim > len(shape) or not broadcasts(value.shape, shape[len(shape) - value.ndim :]):
            raise ValueError(f"{form}, got shape {tuple(value.shape)}")
        return pick(value.reshape(*(1,) * (len(shape) - value.ndim), *value.shape))

    @override
    def extra_repr(self) -> str:
        named = {"angle": self.angle, "radius": self.radius}
        return ", ".join(
            f"{name}={getattr(value, '__qualname__', type(value).__qualname__)}"
            for name, value in named.items()
            if value is not None
        )
