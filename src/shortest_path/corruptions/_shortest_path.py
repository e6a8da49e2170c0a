"""The shortest path: the Fisher–Rao geodesic from the data's power spectrum to white noise."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from typing_extensions import override

from .._checks import check_time
from .._exact import working_dtype
from ..bases import FourierBasis
from ..spectra import PowerSpectrum
from ._diagonal import DiagonalCorruption
from ._scales import per_sample, root


class ShortestPathCorruption(DiagonalCorruption):
    """The corruption whose covariance follows the geodesic Σ_t = S^(1−t) at constant Fisher speed.

    With the power spectrum S and L = log S (equation 3 of docs/theory.md):

        a_t² = expm1((1−t) L) / expm1(L),    s_t² = 1 − a_t² = exp((1−t) L) expm1(t L) / expm1(L)

    and a_t² = 1 − t, s_t² = t in the limit L → 0. Evaluated without differences of nearly equal numbers, as

        a_t² = tanh((1−t) L/2) (e^(−tL) + e^(−L)) / (1 − e^(−L)),    s_t² = tanh(t L/2) (e^(−tL) + 1) / (1 − e^(−L))

    for L > 0, and with t and 1 − t, a and s exchanged for L < 0, so that nothing overflows. The relative
    error of the signal-to-noise ratio is below 1e-5 in float32 for S in [1e-8, 1e8], S = 1 included.

    docs/theory.md tells what the length of a path decides; docs/results.md compares trained networks.

    Args:
        spectrum: The data's power spectrum; its basis becomes the corruption's.

    Raises:
        TypeError: `spectrum` is not a `PowerSpectrum`.
        ValueError: `t` outside [0, 1], or images of another shape than the spectrum's.

    Source: Das et al. 2023, arXiv:2306.00501, theorem 3.2 and equation 17.

    Example:
        >>> import torch, shortest_path as sp
        >>> spectrum = sp.PowerSpectrum.power_law((3, 8, 8), amplitude=1.59, offset=0.0086, exponent=2.0)
        >>> corruption = ShortestPathCorruption(spectrum)
        >>> tuple(corruption.signal(torch.tensor([0.1, 0.9])).shape)
        (2, 1, 8, 8)
    """

    log_power: Tensor

    def __init__(self, spectrum: PowerSpectrum) -> None:
        if not isinstance(spectrum, PowerSpectrum):
            raise TypeError(
                f"spectrum must be a PowerSpectrum, got {type(spectrum).__name__}; see PowerSpectrum.estimate"
            )
        super().__init__(copy.deepcopy(spectrum.basis))  # to move without moving the spectrum's
        self._even = isinstance(spectrum.basis, FourierBasis)  # PowerSpectrum checks the symmetry
        self.shape = tuple(spectrum.power.shape)
        power = spectrum.power.to(torch.float64)
        if bool((power == power[:1]).all()):
            power = power[:1]  # one channel stands for all: a third of the work at every call
        log_power = power.log()
        # L enters through ratios that have their limit at L → 0, and a tiny L gives it exactly.
        tiny = torch.full_like(log_power, 1e-20)
        self.register_buffer("log_power", torch.where(log_power.abs() < tiny, tiny, log_power))

    @override
    def signal(self, t: Tensor) -> Tensor:
        return self.scales(t)[0]

    @override
    def noise(self, t: Tensor) -> Tensor:
        return self.scales(t)[1]

    @override
    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        check_time(t)
        dtype = working_dtype(t)  # 1 / (1 − e^(−L)) at L → 0 leaves the range of float16
        half, slope, start, decay, of_signal, of_noise = self._tables().to(dtype)
        time = per_sample(t.to(dtype), self.basis.dims)
        shared = torch.addcmul(start, time, slope).exp_()
        signal = _multiply(torch.addcmul(of_signal, shared, decay), ((1 - time) * half).tanh_())
        noise = _multiply(torch.addcmul(of_noise, shared, decay), (time * half).tanh_())
        return root(signal).to(t.dtype), root(noise).to(t.dtype)

    def _tables(self) -> Tensor:
        """Return what `scales` needs of L, stacked, so that casting it is one operation."""
        log_power = self.log_power
        size = log_power.abs()
        decay = -1 / torch.expm1(-size)  # 1 / (1 − e^(−|L|))
        rest = decay * torch.exp(-size)
        rises = log_power > 0
        return torch.stack(
            [
                size / 2,
                -log_power,
                log_power.clamp(max=0),
                decay,
                torch.where(rises, rest, decay),
                torch.where(rises, decay, rest),
            ]
        )

    @property
    def power(self) -> Tensor:
        """The spectrum S, (C, *spatial) or (1, *spatial), float64."""
        return self.log_power.exp()

    @override
    def extra_repr(self) -> str:
        return f"shape={self.shape}"


def _multiply(x: Tensor, y: Tensor) -> Tensor:
    """Return x y, in the memory of x where autograd does not need it: new memory costs as much as the arithmetic."""
    return x * y if x.requires_grad or y.requires_grad else x.mul_(y)
