"""The shortest path: the Fisher–Rao geodesic from the data's power spectrum to white noise."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from .checks import check_time
from .corruption import DiagonalCorruption, per_sample
from .spectrum import PowerSpectrum


class ShortestPathCorruption(DiagonalCorruption):
    """The corruption whose covariance follows the geodesic Σ_t = S^(1−t) at constant Fisher speed.

    With the power spectrum S and L = log S (DESIGN equation 3):

        a_t² = expm1((1−t) L) / expm1(L),    s_t² = 1 − a_t² = exp((1−t) L) expm1(t L) / expm1(L)

    and a_t² = 1 − t, s_t² = t in the limit L → 0. Evaluated through the signal-to-noise ratio

        r_t = a_t² / s_t² = −expm1(−(1−t) L) / expm1(t L),    s_t = 1/√(1 + r_t),    a_t = 1/√(1 + 1/r_t)

    which loses no digit at S = 1, at either end, or for extreme S: relative error of r below 1e-5 in
    float32 for S in [1e-8, 1e8].

    Args:
        spectrum: The data's power spectrum; its basis becomes the corruption's.

    Raises:
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
        super().__init__(spectrum.basis)
        self.shape = tuple(spectrum.power.shape)
        power = spectrum.power.to(torch.float64)
        if bool((power == power[:1]).all()):
            power = power[:1]  # one channel stands for all: a third of the work at every call
        log_power = power.log()
        # r_t depends on L only through expm1 ratios, so a tiny L gives the limit L → 0 exactly.
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
        log_power = self.log_power.to(t.dtype)
        time = per_sample(t, self.basis.dims)
        ratio = (torch.expm1((time - 1) * log_power) / torch.expm1(time * log_power)).abs()
        return (1 + ratio.reciprocal()).rsqrt(), (1 + ratio).rsqrt()

    @property
    def power(self) -> Tensor:
        """The spectrum S, (C, *spatial) or (1, *spatial), float64."""
        return self.log_power.exp()

    @override
    def extra_repr(self) -> str:
        return f"shape={self.shape}"
