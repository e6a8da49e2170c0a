"""Wavelet bases: detail at each scale and place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from typing_extensions import override

from .._checks import check_choice, check_count
from ._base import Basis, positive_sizes, radius
from ._daubechies import level_matrix, lowpass
from ._registry import register
from ._tables import table

Wavelet: TypeAlias = Literal["haar", "db2", "db3", "db4", "db5", "db6", "db7", "db8", "db9", "db10"]

# Rows of one matrix product: longer ones multiply zeros, shorter ones are slow. Measured from 32² to 1024² on a CPU.
_LONGEST_BLOCK = 64
_SHORTEST_BLOCK = 16


@register
class WaveletBasis(Basis):
    """The periodic orthonormal wavelet transform of the spatial axes, by Mallat's pyramid.

        a_k = Σ_j h_j x_{2k+j},    d_k = Σ_j g_j x_{2k+j},    g_j = (−1)ʲ h_{2n−1−j}

    A level splits every axis into approximations a and details d; the next level splits the approximations of all
    axes. Coefficients have the image's own shape: along each axis, details of the finest level fill the second half,
    and the approximation of the last level is in the corner at index 0.

    The frequency of a coefficient is the centre of its subband. Along an axis, a level that leaves m coefficients has
    details in the octave [m/2, m] cycles per side, geometric centre m/√2, and approximations in [0, m/2], centre m/4,
    but 0 if m = 1, which is the mean. Axes combine as in the other bases, |f|² = Σ f².

    Args:
        wavelet: `"haar"`, or `"db2"` … `"db10"`: Daubechies' wavelets of minimal phase with 2 … 10 vanishing moments.
        levels: Number of levels; every axis must be divisible by 2 to this power. None takes as many as all axes
            allow, at least one.
        dims: Number of spatial axes.
        channel_rotation: Orthonormal (C, C) rotation of the channels, or None.

    Raises:
        TypeError: `levels` or `dims` not a whole number, or `wavelet` a number.
        ValueError: unknown `wavelet`, `levels` less than 1, or, with images, an axis not divisible by 2 ** levels.

    Source: Mallat 1989, "A theory for multiresolution signal decomposition"; Daubechies 1988, "Orthonormal bases of
        compactly supported wavelets".

    Example:
        >>> import torch
        >>> basis = WaveletBasis("haar", dims=1)
        >>> u = basis.analyze(torch.tensor([[3.0, 3.0, 1.0, 1.0]]))  # a mean of 2 and one coarse step
        >>> [round(value, 4) + 0.0 for value in u[0].tolist()]  # and no -0.0
        [4.0, 2.0, 0.0, 0.0]
    """

    argument_names = ("wavelet", "levels", "dims")

    def __init__(
        self,
        wavelet: Wavelet = "haar",
        levels: int | None = None,
        dims: int = 2,
        channel_rotation: Tensor | None = None,
    ) -> None:
        super().__init__(dims, channel_rotation)
        if isinstance(wavelet, int):
            raise TypeError(
                f"wavelet must be a name, e.g. 'haar', got {wavelet!r}; the number of spatial axes is dims={wavelet!r}"
            )
        self.wavelet: Wavelet = check_choice("wavelet", wavelet, get_args(Wavelet))
        self.levels = None if levels is None else check_count("levels", levels)
        self._moments = 1 if wavelet == "haar" else int(wavelet.removeprefix("db"))

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        for corner in self._corners(x.shape[x.ndim - self.dims :]):
            part = x[corner]
            for axis in range(-self.dims, 0):
                part = self._split(part, axis)
            if part.shape == x.shape:
                x = part  # the first level: new memory, which the others may write to
            else:
                x[corner] = part
        return x

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        corners = self._corners(u.shape[u.ndim - self.dims :])
        x = u.clone() if len(corners) > 1 else u
        for corner in reversed(corners):
            part = x[corner]
            for axis in range(-self.dims, 0):
                part = self._merge(part, axis)
            if part.shape == x.shape:
                x = part
            else:
                x[corner] = part
        return x

    @override
    def frequencies(self, spatial: Sequence[int]) -> Tensor:
        sizes = positive_sizes(spatial)
        found = radius([torch.zeros(n, dtype=torch.float64, device="cpu") for n in sizes])
        for corner in self._corners(sizes):
            halves = [n // 2 for n in found[corner].shape]
            found[corner] = radius([_octaves(m) for m in halves])
        return found

    @override
    def extra_repr(self) -> str:
        return f"wavelet={self.wavelet!r}, levels={self.levels}, {super().extra_repr()}"

    def _corners(self, spatial: Sequence[int]) -> list[tuple[Any, ...]]:
        """Return the index of the part that each level transforms, from the whole image to the smallest corner."""
        sizes = tuple(int(n) for n in spatial)
        if not sizes:
            return []
        possible = 0
        while all(n % 2 ** (possible + 1) == 0 for n in sizes):  # neither gcd nor `bit_length` compile for any size
            possible += 1
        levels = self.levels or max(1, possible)
        if levels > possible:
            needed = "even axes" if levels == 1 else f"axes divisible by 2^{levels}"
            mend = f"use levels={possible} or fewer" if possible else "use CosineBasis, which takes any size"
            raise ValueError(
                f"{self!r} requires {needed}, got spatial sizes {sizes}; pad or crop the images, or {mend}"
            )
        return [(..., *(slice(n >> level) for n in sizes)) for level in range(levels)]

    def _split(self, x: Tensor, axis: int) -> Tensor:
        """One level of one axis: approximations in its first half, details in its second."""
        n = x.shape[axis]
        block = _block(n, 2 * self._moments)
        count, reach = n // block, 2 * self._moments - 2  # filters reach into the next block
        blocks = torch.unflatten(x, axis, (count, block))
        u = _apply(self._matrix(block, count, x), blocks, axis)
        if count > 1 and reach:
            ahead = blocks.narrow(axis, 0, reach).roll(-1, axis - 1)
            u += _apply(self._matrix(block, count, x, reach), ahead, axis)
        return torch.unflatten(u, axis, (2, block // 2)).transpose(axis - 2, axis - 1).reshape(x.shape)

    def _merge(self, u: Tensor, axis: int) -> Tensor:
        """Invert `_split`: its transpose."""
        n = u.shape[axis]
        block = _block(n, 2 * self._moments)
        count, reach = n // block, 2 * self._moments - 2
        blocks = torch.unflatten(u, axis, (2, count, block // 2)).transpose(axis - 2, axis - 1).flatten(axis - 1, axis)
        x = _apply(self._matrix(block, count, u).T, blocks, axis)
        if count > 1 and reach:
            ahead = _apply(self._matrix(block, count, u, reach).T, blocks, axis)
            x.narrow(axis, 0, reach).add_(ahead.roll(1, axis - 1))
        return x.reshape(u.shape)

    def _matrix(self, block: int, count: int, like: Tensor, reach: int = 0) -> Tensor:
        """Return the matrix from a block to its coefficients, or from the first `reach` values of the next block."""
        return self._table(_block_matrix, self._moments, block, count > 1, reach, like=like, dtype=like.dtype)


@table(lambda moments, block, several, reach: (block, reach or block))
def _block_matrix(moments: int, block: int, several: int, reach: int) -> Tensor:
    if not several:
        return level_matrix(lowpass(moments), block)
    # The rows of the first block of two.
    rows = level_matrix(lowpass(moments), 2 * block).reshape(2, block, -1)[:, : block // 2].flatten(0, 1)
    return rows[:, block : block + reach] if reach else rows[:, :block]


def _apply(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Multiply along one axis; the axes before it are a batch."""
    if axis == -1:
        return x @ matrix.T
    return torch.matmul(matrix, x.flatten(axis + 1)).reshape(*x.shape[:axis], len(matrix), *x.shape[axis + 1 :])


def _block(n: int, taps: int) -> int:
    """Return the length of the blocks that one axis is split into: an even divisor of `n`, or `n` itself."""
    least = max(_SHORTEST_BLOCK, taps - 2)
    blocks = (block for block in range(_LONGEST_BLOCK, least - 1, -2) if n % block == 0)
    return next(blocks, n) if n > _LONGEST_BLOCK else n


def _octaves(count: int) -> Tensor:
    """Return the frequencies of `count` approximations and `count` details, in cycles per side."""
    frequency = torch.full((2, count), count / math.sqrt(2), dtype=torch.float64, device="cpu")
    frequency[0] = count / 4 if count > 1 else 0.0
    return frequency.flatten()
