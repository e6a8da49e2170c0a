"""The Fourier basis, in real Hartley coordinates: the basis of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from .._checks import in_torch_func
from .._exact import no_autocast
from ._base import Basis, positive_sizes, radius
from ._complex import complex_type, use_own_threads
from ._registry import register


@register
class FourierBasis(Basis):
    """The orthonormal Fourier transform of the spatial axes, in real Hartley coordinates.

        u = Re F x − Im F x,    F the unitary DFT

    It is symmetric and its own inverse. Per-coefficient scales must be the same at k and −k.

    Args:
        dims: Number of spatial axes.
        channel_rotation: Orthonormal (C, C) rotation of the channels, or None.

    Raises:
        TypeError: where a subclass is defined that overrides the transform, which is computed in other forms as well.

    Source: Das et al. 2023, arXiv:2306.00501 (the paper's basis); Bracewell 1983 (the coordinates).
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        names = ("spatial_coefficients", "spatial_inverse")
        if own := [name for name in names if getattr(cls, name) is not getattr(FourierBasis, name)]:
            raise TypeError(
                f"{cls.__name__} overrides {' and '.join(own)} of FourierBasis, which transforms in other ways as "
                "well; derive it from shortest_path.bases.Basis"
            )

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        if not x.numel():  # an empty batch, which some FFT libraries refuse
            return x.to(complex_type(x.dtype))
        use_own_threads()
        return torch.fft.fftn(x, dim=self._axes, norm="ortho") if self.dims else x

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        use_own_threads()
        return torch.fft.ifftn(u, dim=self._axes, norm="ortho").real if self.dims and u.numel() else u.real

    @override
    def mix(self, x: Tensor, y: Tensor, *weights: tuple[Tensor, Tensor], even: bool = False) -> tuple[Tensor, ...]:
        if not (even and self.dims and x.numel()):
            return super().mix(x, y, *weights)
        self._check_pair(x, y)
        use_own_threads()
        with no_autocast(x):
            # Even real weights keep real signals real, and so half of their spectra is enough.
            half, sizes = x.shape[-1] // 2 + 1, x.shape[-self.dims :]
            z_x, z_y = (torch.fft.rfftn(self._rotate(each), dim=self._axes) for each in (x, y))
            mixed = []
            for pair in weights:
                of_x, of_y = ((each[..., :half] if each.ndim else each).to(x.dtype) for each in pair)
                z, added = of_x * z_x, of_y * z_y
                z = z + added if in_torch_func(z, added) else z.add_(added)
                mixed.append(self._rotate(torch.fft.irfftn(z, s=sizes, dim=self._axes), transpose=True))
            return tuple(mixed)

    @override
    def frequencies(self, spatial: Sequence[int]) -> Tensor:
        return radius([torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device="cpu") for n in positive_sizes(spatial)])

    @override
    def _real_coefficients(self, x: Tensor) -> Tensor:
        if not (self.dims and x.numel()):
            return x
        use_own_threads()
        # Of real x, Re F is even and Im F odd: the other half of the coefficients is Re F + Im F at −k.
        z = torch.fft.rfftn(x, dim=self._axes, norm="ortho")
        others = (z.real + z.imag)[..., 1 : (x.shape[-1] + 1) // 2].flip(self._axes)
        return torch.cat([z.real - z.imag, _rolled(others, self._axes[:-1])], -1)

    @override
    def _real_inverse(self, u: Tensor) -> Tensor:
        return self._real_coefficients(u)

    def mirror(self, values: Tensor) -> Tensor:
        """Return `values`, a tensor over the frequencies k, at −k."""
        return _rolled(values.flip(self._axes), self._axes)

    @property
    def _axes(self) -> list[int]:
        return list(range(-self.dims, 0))


def _rolled(values: Tensor, axes: list[int]) -> Tensor:
    """Return values whose frequency 0, the last after a flip, comes first again along some axes."""
    return values.roll([1] * len(axes), axes) if axes else values
