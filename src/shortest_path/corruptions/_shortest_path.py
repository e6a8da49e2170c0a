"""The shortest path: the Fisher–Rao geodesic from the data's power spectrum to an end state."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ..bases import FourierBasis
from ..spectra import PowerSpectrum
from ._elementwise import ElementwiseCorruption, Pick
from ._end import check_spectrum, end_power
from ._registry import register
from ._scales import root

_TINY = 1e-20


@register
class ShortestPathCorruption(ElementwiseCorruption):
    """The corruption whose covariance follows the geodesic Σ_t = S^(1−t) Q^t at constant Fisher speed.

    With the data's power spectrum S, that of the end state N(m, Q) and L = log(S / Q) (equation 3 of docs/theory.md):

        a_t² = expm1((1−t) L) / expm1(L),    s_t² = Q (1 − a_t²),    1 − a_t² = exp((1−t) L) expm1(t L) / expm1(L)

    and a_t² = 1 − t in the limit L → 0; where Q = S the path has no length. Evaluated without differences of nearly
    equal numbers, as

        a_t² = e^(−tL) expm1(−(1−t) L) / expm1(−L),    1 − a_t² = expm1(−tL) / expm1(−L)

    for L > 0, and with t and 1 − t, a² and 1 − a² exchanged for L < 0, so that nothing overflows. The relative
    error of the signal-to-noise ratio is below 1e-5 in float32 for S / Q in [1e-8, 1e8], 1 included.

    docs/theory.md tells what the length of a path decides; docs/results.md compares trained networks.

    Args:
        spectrum: The data's power spectrum; its basis becomes the corruption's, its mean is m.
        final: Power spectrum Q of the end state, diagonal in the basis of `spectrum`; None is white noise, Q = 1.

    Raises:
        TypeError: `spectrum` or `final` is not a `PowerSpectrum`.
        ValueError: `t` outside [0, 1], images of another shape than the spectrum's, an empty coefficient, or an end
            state of another mean or that is not diagonal in the basis of `spectrum`.

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
        self._even = isinstance(spectrum.basis, FourierBasis)  # PowerSpectrum checks the symmetry
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

    @override
    def arguments(self) -> dict[str, Any]:
        power, final = (
            None if table is None else PowerSpectrum(self.basis, table.expand(self.shape), mean=self.mean)
            for table in (self.power, self.final_power)
        )
        return {"spectrum": power, "final": final}

    @override
    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        log_ratio = pick(self.log_ratio).to(time.dtype)
        size = log_ratio.abs().neg_()  # −|L|
        factor = 1 / torch.expm1(size)
        rises = (log_ratio > 0).to(time.dtype)
        falls = 1 - rises
        shared = torch.addcmul(log_ratio.clamp(max=0), time, -log_ratio).exp_()
        signal = root(_multiply(torch.addcmul(falls * factor, shared, rises * factor), ((1 - time) * size).expm1_()))
        noise = root(_multiply(torch.addcmul(rises * factor, shared, falls * factor), (time * size).expm1_()))
        if self.final_power is None:
            return signal, noise
        return signal, noise * pick(self.final_power).sqrt().to(time.dtype)

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


def _multiply(x: Tensor, y: Tensor) -> Tensor:
    """Return x y, in the memory of x where autograd does not need it: new memory costs as much as the arithmetic."""
    return x * y if x.requires_grad or y.requires_grad else x.mul_(y)
