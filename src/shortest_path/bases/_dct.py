"""The orthonormal cosine transform: the matrix of one axis, and of several axes by the FFT."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._complex import complex_of
from ._tables import table


@table(lambda n: (n, n))
def cosine_matrix(n: int) -> Tensor:
    """Return the orthonormal DCT-II matrix, (n, n), float64; rows are the cosines."""
    k = torch.arange(n, dtype=torch.float64, device="cpu")
    matrix = torch.cos(math.pi / (2 * n) * k[:, None] * (2 * k + 1)) * math.sqrt(2 / n)
    matrix[0] *= math.sqrt(0.5)
    return matrix


@table(lambda *sizes: sizes)
def twiddles(*sizes: int) -> Tensor:
    """Return the factors of `fft_cosine` for axes of these sizes, complex128, of shape `sizes`.

    Π_axes w_k,    w_0 = √(1/N),    w_k = √(1/2N) exp(−iπk / 2N)
    """
    product = torch.ones((), dtype=torch.complex128, device="cpu")
    for n in sizes:
        size = torch.full((n,), math.sqrt(0.5 / n), dtype=torch.float64, device="cpu")
        size[0] = math.sqrt(1 / n)
        angle = torch.arange(n, dtype=torch.float64, device="cpu") * (-math.pi / (2 * n))
        product = product[..., None] * torch.polar(size, angle)
    return product


def fft_cosine(x: Tensor, axes: Sequence[int], factors: Tensor) -> Tensor:
    """Return the DCT-II of two halves of a batch by one complex FFT of the same size.

    With the samples of every axis in the order 0, 2, 4, …, 5, 3, 1 (Makhoul 1980), Z their transform and Y = w Z,
    the transform along an axis of N is

        C_k = Y_k + i Y_(N−k),    C_0 = Y_0

    which is linear over complex numbers: the real and imaginary parts of the samples stay apart.

    Args:
        x: (M, ...), real; the first half of M is the real part, the second the imaginary part.
        axes: The axes to transform, counted from the end.
        factors: `twiddles` of their sizes, broadcastable to `x`, in its precision.
    """
    z = _paired(x)
    for axis in axes:
        z = torch.cat([_every_second(z, axis, 0), _every_second(z, axis, 1).flip(axis)], axis)
    transformed = torch.fft.fftn(z, dim=list(axes)).mul_(factors)
    for axis in axes:
        transformed = _add_mirrored(transformed, axis)
    return _unpaired(transformed, len(x))


def fft_inverse_cosine(u: Tensor, axes: Sequence[int], factors: Tensor) -> Tensor:
    """Return the inverse of `fft_cosine`, its transpose: the same steps in the opposite order."""
    z = _paired(u)
    for axis in axes:
        z = _add_mirrored(z, axis)
    z = torch.fft.fftn(z.mul_(factors), dim=list(axes))
    for axis in axes:
        n, evens = z.shape[axis], (z.shape[axis] + 1) // 2
        ordered = torch.empty_like(z)
        _every_second(ordered, axis, 0).copy_(z.narrow(axis, 0, evens))
        _every_second(ordered, axis, 1).copy_(z.narrow(axis, evens, n - evens).flip(axis))
        z = ordered
    return _unpaired(z, len(u))


def _paired(x: Tensor) -> Tensor:
    half = (len(x) + 1) // 2
    first, second = x[:half], x[half:]
    if len(second) < half:
        second = torch.cat([second, torch.zeros_like(x[:1])])
    return complex_of(first, second)


def _unpaired(z: Tensor, count: int) -> Tensor:
    return torch.cat([z.real, z.imag[: count - len(z)]])


def _every_second(x: Tensor, axis: int, first: int) -> Tensor:
    index: tuple[Any, ...] = (..., slice(first, None, 2), *[slice(None)] * (-1 - axis))
    return x[index]


def _add_mirrored(z: Tensor, axis: int) -> Tensor:
    """Return z_k + i z_(N−k) along an axis, z_0 alone; in the memory of `z`, which autograd does not need."""
    rest = z.narrow(axis, 1, z.shape[axis] - 1)
    rest.add_(rest.flip(axis), alpha=1j)
    return z
