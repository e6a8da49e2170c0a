"""The Fourier basis, in real Hartley coordinates: the basis of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from .._exact import no_autocast
from ._base import Basis, positive_sizes, radius
from ._complex import complex_of, complex_type
from ._registry import register


@register
class FourierBasis(Basis):
    """The orthonormal Fourier transform of the spatial axes, in real Hartley coordinates.

        u = Re F x − Im F x,    F the unitary DFT

    It is symmetric and its own inverse. Per-coefficient scales must be the same at k and −k.

    Args:
        dims: Number of spatial axes.
        channel_rotation: Orthonormal (C, C) rotation of the channels, or None.

    Source: Das et al. 2023, arXiv:2306.00501 (the paper's basis); Bracewell 1983 (the coordinates).
    """

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        if not x.numel():  # an empty batch, which some FFT libraries refuse
            return x.to(complex_type(x.dtype))
        return torch.fft.fftn(x, dim=self._axes, norm="ortho") if self.dims else x

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        return torch.fft.ifftn(u, dim=self._axes, norm="ortho").real if self.dims and u.numel() else u.real

    @override
    def mix(self, x: Tensor, y: Tensor, *weights: tuple[Tensor, Tensor], even: bool = False) -> tuple[Tensor, ...]:
        if not (even and self.dims and x.numel()):
            return super().mix(x, y, *weights)
        self._check_pair(x, y)
        with no_autocast(x):
            # Even real weights keep real signals real, so both travel in one complex transform there and back:
            # w_x x + w_y y = Re F⁻¹[(w_x − i w_y) F(x + i y)].
            both = torch.fft.fftn(complex_of(self._rotate(x), self._rotate(y)), dim=self._axes)
            mixed = []
            for of_x, of_y in weights:
                pair = torch.complex(of_x.to(x.dtype), -of_y.to(x.dtype))
                mixed.append(self._rotate(torch.fft.ifftn(both * pair, dim=self._axes).real, transpose=True))
            return tuple(mixed)

    @override
    def frequencies(self, spatial: Sequence[int]) -> Tensor:
        return radius([torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device="cpu") for n in positive_sizes(spatial)])

    @override
    def _real_coefficients(self, x: Tensor) -> Tensor:
        if not self.dims:
            return x
        coefficients = self.spatial_coefficients(x)
        return coefficients.real - coefficients.imag

    @override
    def _real_inverse(self, u: Tensor) -> Tensor:
        return self._real_coefficients(u)

    def mirror(self, values: Tensor) -> Tensor:
        """Return `values`, a tensor over the frequencies k, at −k."""
        if not self.dims:  # vectors: the one frequency is its own mirror
            return values
        return values.flip(self._axes).roll([1] * self.dims, self._axes)

    @property
    def _axes(self) -> list[int]:
        return list(range(-self.dims, 0))
