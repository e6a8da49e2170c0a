"""The cosine basis: images with mirrored borders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from typing_extensions import override

from ._base import Basis, positive_sizes, radius
from ._dct import compiled_cosine, cosine_matrix, fft_cosine, fft_inverse_cosine, table_type, tables_for
from ._registry import register

# Longest axis for which a product with the n×n matrix beats the FFT, by type of device (benchmarks/README.md).
_MATRIX_LIMIT = {"cpu": 128}
_LIMIT_ELSEWHERE = 512  # not measured


@register
class CosineBasis(Basis):
    """The orthonormal cosine transform (DCT-II) of every spatial axis, any size.

        u_k = c_k Σ_n cos(π (2n + 1) k / 2N) x_n,    c_0 = √(1/N),  c_k = √(2/N)

    Its boundary condition is a mirror, so it suits images, which are not periodic. Every channel of every image is
    transformed by itself: a NaN, or a large value, reaches no other.

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
        short, long = self._split(x)
        for axis in short:
            x = self._multiply(x, axis)
        return self._by_fft(x, long) if long else x

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        short, long = self._split(u)
        for axis in short:
            u = self._multiply(u, axis, transpose=True)
        return self._by_fft(u, long, inverse=True) if long else u

    @override
    def frequencies(self, spatial: Sequence[int]) -> Tensor:
        # Half a cycle per index: coefficient k of N has k half-waves along its axis.
        return radius([torch.arange(n, dtype=torch.float64, device="cpu") / 2 for n in positive_sizes(spatial)])

    @override
    def _analyze(self, x: Tensor) -> Tensor:
        # Channels are transformed alike, so they may be rotated last: the FFT then has a tensor less beside it.
        return self._rotate(self.spatial_coefficients(x))

    def _split(self, x: Tensor) -> tuple[list[int], list[int]]:
        """Return the axes to multiply by a matrix, and those that the FFT transforms faster."""
        limit = _MATRIX_LIMIT.get(x.device.type, _LIMIT_ELSEWHERE)
        axes = range(-self.dims, 0)
        return [axis for axis in axes if x.shape[axis] <= limit], [axis for axis in axes if x.shape[axis] > limit]

    def _multiply(self, x: Tensor, axis: int, *, transpose: bool = False) -> Tensor:
        matrix = self._table(cosine_matrix, x.shape[axis], like=x, dtype=x.dtype)
        if transpose:
            matrix = matrix.T
        if axis == -1:
            return x @ matrix.T
        return torch.matmul(matrix, x.flatten(axis + 1)).reshape(x.shape)

    def _by_fft(self, x: Tensor, axes: list[int], *, inverse: bool = False) -> Tensor:
        if not x.numel():  # an empty batch, which some FFT libraries refuse
            return x
        last = list(range(-len(axes), 0))
        moved = x.movedim(axes, last)
        planes = moved.reshape(-1, *moved.shape[-len(axes) :])
        if torch.compiler.is_compiling():
            transformed = compiled_cosine(planes, inverse)
        else:
            tables = tables_for(planes.shape[1:], partial(self._fft_table, planes))
            transformed = (fft_inverse_cosine if inverse else fft_cosine)(planes, tables)
        return transformed.reshape(moved.shape).movedim(last, axes)

    def _fft_table(self, like: Tensor, build: Callable[..., Tensor], *numbers: int) -> Tensor:
        return self._table(build, *numbers, like=like, dtype=table_type(build, like.dtype))
