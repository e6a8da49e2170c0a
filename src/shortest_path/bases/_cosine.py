"""The cosine basis: images with mirrored borders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ._base import Basis, positive_sizes, radius
from ._dct import cosine_matrix, fft_cosine, fft_inverse_cosine
from ._registry import register

_MATRIX_LIMIT = 512  # longest axis for which a product with the n×n matrix beats the FFT (benchmarks/README.md)


@register
class CosineBasis(Basis):
    """The orthonormal cosine transform (DCT-II) of every spatial axis, any size.

        u_k = c_k Σ_n cos(π (2n + 1) k / 2N) x_n,    c_0 = √(1/N),  c_k = √(2/N)

    Its boundary condition is a mirror, so it suits images, which are not periodic.

    Args:
        dims: Number of spatial axes.
        channel_rotation: Orthonormal (C, C) rotation of the channels, or None.

    Example:
        >>> import torch
        >>> x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
        >>> basis = CosineBasis()
        >>> torch.allclose(basis.synthesize(basis.analyze(x)), x)
        True
    """

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        for axis in range(-self.dims, 0):
            n = x.shape[axis]
            x = self._multiply(x, axis) if n <= _MATRIX_LIMIT else fft_cosine(x.movedim(axis, -1)).movedim(-1, axis)
        return x

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        for axis in range(-self.dims, 0):
            n = u.shape[axis]
            if n <= _MATRIX_LIMIT:
                u = self._multiply(u, axis, transpose=True)
            else:
                u = fft_inverse_cosine(u.movedim(axis, -1)).movedim(-1, axis)
        return u

    @override
    def frequencies(self, spatial: Sequence[int]) -> Tensor:
        # Half a cycle per index: coefficient k of N has k half-waves along its axis.
        return radius([torch.arange(n, dtype=torch.float64, device="cpu") / 2 for n in positive_sizes(spatial)])

    def _multiply(self, x: Tensor, axis: int, *, transpose: bool = False) -> Tensor:
        n = x.shape[axis]
        matrix = self._cached(f"{n} {x.dtype} {x.device}", lambda: cosine_matrix(n).to(x.device, x.dtype))
        if transpose:
            matrix = matrix.T
        if axis == -1:
            return x @ matrix.T
        return torch.matmul(matrix, x.flatten(axis + 1)).reshape(x.shape)
