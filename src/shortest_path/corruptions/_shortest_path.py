"""The shortest path: the Fisher–Rao geodesic from the data's power spectrum to an end state."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from typing_extensions import override

from .._exact import as_dtype, exact_dtype
from ..bases import FourierBasis
from ..spectra import PowerSpectrum
from ._elementwise import ElementwiseCorruption, Pick
from ._end import check_spectrum, end_power
from ._registry import register
from ._scales import root

_TINY = 1e-20
_STEEP, _STEEPEST = 80.0, 700.0  # |L| up to which exp(L) is finite in float32, and in float64


@register
class ShortestPathCorruption(ElementwiseCorruption):
    """The corruption whose covariance follows the geodesic Σ_t = S^(1−t) Q^t at constant Fisher speed.

    With the data's power spectrum S, that of the end state N(m, Q) and L = log(S / Q) (equation 3 of docs/theory.md):

        a_t² = expm1((1−t) L) / expm1(L),    s_t² = Q (1 − a_t²),    1 − a_t² = expm1(−tL) / expm1(−L)

    and a_t² = 1 − t in the limit L → 0; where Q = S the path has no length. No two numbers that are nearly equal are
    subtracted: the relative error of the signal-to-noise ratio is below 1e-5 in float32 for S / Q in [1e-8, 1e8], 1
    included. Where S / Q lies outside [1e-34, 1e34] at some coefficient, all is computed in float64.

    docs/theory.md tells what the length of a path decides; docs/results.md compares trained networks.

    Args:
        spectrum: The data's power spectrum; its basis becomes the corruption's, its mean is m.
        final: Power spectrum Q of the end state, diagonal in the basis of `spectrum`; None is white noise, Q = 1.

    Raises:
        TypeError: `spectrum` or `final` is not a `PowerSpectrum`.
        ValueError: `t` outside [0, 1], images of another shape than the spectrum's, an empty coefficient, S / Q outside
            [1e-304, 1e304], or an end state of another mean or that is not diagonal in the basis of `spectrum`.

    Source: Das et al. 2023, arXiv:2306.00501, theorem 3.2 and equation 17.

    Example:
        >>> import torch, shortest_path as sp
        >>> spectrum = sp.PowerSpectrum.power_law((3, 8, 8), amplitude=1.59, offset=0.0086, exponent=2.0)
        >>> corruption = ShortestPathCorruption(spectrum)
        >>> tuple(corruption.signal(torch.tensor([0.1, 0.9])).shape)
        (2, 1, 8, 8)
    """

    argument_names = ("spectrum", "final")
    log_ratio: Tensor
    final_power: Tensor | None

    def __init__(self, spectrum: PowerSpectrum, *, final: PowerSpectrum | None = None) -> None:
        check_spectrum(spectrum)
        super().__init__(copy.deepcopy(spectrum.basis), mean=spectrum.mean)  # to move without moving the spectrum's
        # PowerSpectrum checks the symmetry of its power.
        self._even = isinstance(spectrum.basis, FourierBasis) and self._keeps_scales_of(ShortestPathCorruption)
        self.shape = spectrum.shape
        log_ratio, final_power = spectrum.power.log(), None
        if final is not None:
            final_power = _one_for_all(end_power(final, spectrum))
            log_ratio = log_ratio - final_power.log()
        log_ratio = _one_for_all(log_ratio)
        # L enters through ratios that have their limit at L → 0, and a tiny L gives it exactly.
        tiny = (log_ratio < _TINY) & (log_ratio > -_TINY)
        self.register_buffer("log_ratio", log_ratio.masked_fill_(tiny, _TINY))
        self.register_buffer("final_power", final_power)
        self._steep = _steepness(log_ratio) > _STEEP

    @override
    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Load tables of all channels or of one for all: rounding decides which they are."""
        forms = (self.shape, (1, *self.shape[1:]))
        for name in ("log_ratio", "final_power"):
            given, own = state_dict.get(f"{prefix}{name}"), self._buffers[name]
            if isinstance(given, Tensor) and own is not None and tuple(given.shape) in forms:
                self._buffers[name] = own[:1].expand(given.shape).clone()
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._steep = _steepness(self.log_ratio) > _STEEP

    @override
    def arguments(self) -> dict[str, Any]:
        power, final = (
            None if table is None else PowerSpectrum(self.basis, table.expand(self.shape), mean=self.mean)
            for table in (self.power, self.final_power)
        )
        return {"spectrum": power, "final": final}

    @override
    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        exact = time.to(exact_dtype(time.device)) if self._steep else time
        log_ratio = pick(self.log_ratio).to(exact.dtype)
        signal, noise = root(_risen(1 - exact, log_ratio)), root(_risen(exact, -log_ratio))
        signal, noise = as_dtype(signal, time.dtype), as_dtype(noise, time.dtype)
        return signal, noise if self.final_power is None else noise * pick(self.final_power).sqrt().to(time.dtype)

    @property
    def power(self) -> Tensor:
        """The spectrum S, (C, *spatial) or (1, *spatial), float64."""
        power = self.log_ratio.exp()
        return power if self.final_power is None else power * self.final_power

    @override
    def extra_repr(self) -> str:
        return f"shape={self.shape}" + ("" if self.final_power is None else f", final={tuple(self.final_power.shape)}")


def _one_for_all(values: Tensor) -> Tensor:
    """Return values (C, *spatial) as (1, *spatial) where they are the same in all channels: less work at every call."""
    return values[:1].clone() if bool((values == values[:1]).all()) else values


def _steepness(log_ratio: Tensor) -> float:
    """Return the largest |L|, after checking that exp(L) is finite in float64."""
    least, most = log_ratio.aminmax()  # without a copy of a large table
    largest = max(-float(least), float(most))
    if largest > _STEEPEST:
        raise ValueError(
            "the data's power over that of the end state must lie in [1e-304, 1e304], got "
            f"1e{largest / math.log(10):.0f} or its inverse; raise the floor of the spectrum, as estimate does"
        )
    return largest


def _risen(part: Tensor, exponent: Tensor) -> Tensor:
    """Return expm1(part · exponent) / expm1(exponent), which is 0 at part = 0 and 1 at part = 1, to the last bit."""
    risen, whole = (part * exponent).expm1_(), exponent.expm1()
    return risen / whole if risen.requires_grad else risen.div_(whole)  # new memory costs as much as the arithmetic
