"""Sums over the images of a batch: of their coefficients, and of the products of channels."""

from __future__ import annotations

import itertools

import torch
from einops import einsum
from torch import Tensor

from ..bases import Basis, FourierBasis

_AT_ONCE = 2**17  # values that are transformed together on the CPU: they stay in its cache
_LARGE = 2**12  # values of a channel, from which products are added image by image
_PAIRED = 8  # the most channels of which each pair is multiplied by itself, which is faster than many small matrices


def sums(images: Tensor, basis: Basis) -> tuple[Tensor, Tensor]:
    """Return Σ u_i u_j* and Σ u over the images of a batch, in float64; `completed` fills in what follows from them.

    The products are those of i ≤ j, and in the Fourier basis all is at half of the frequencies.

    On the CPU, coefficients of images in float32 or less are computed in float32, whose rounding is of the size of that
    of the images themselves, where it is faster: in other bases than Fourier. Not where torch may take less precise
    products instead, or where values are beyond float32.

    Args:
        images: (B, C, *spatial), floating point; B ≥ 1.
        basis: A basis without channel rotation, on the same device.

    Returns:
        (C, C, *spatial) and (C, *spatial), float64 or complex128, whose last axis is shorter in the Fourier basis.
    """
    faster = images.device.type == "cpu" and not isinstance(basis, FourierBasis)
    if images.dtype != torch.float64 and faster and torch.get_float32_matmul_precision() == "highest":
        found = _sums(images.float(), basis)
        if bool(found[1].isfinite().all()):
            return found
    return _sums(images.double(), basis)


def _sums(images: Tensor, basis: Basis) -> tuple[Tensor, Tensor]:
    together = max(1, _AT_ONCE // images[0].numel()) if images.device.type == "cpu" else len(images)
    half, axes = _at_half(basis), list(range(-basis.dims, 0))
    moment: Tensor | None = None
    total: Tensor | None = None
    for part in torch.split(images, together):
        u = torch.fft.rfftn(part, dim=axes, norm="ortho") if half else basis.spatial_coefficients(part)
        u = u.to(torch.complex128 if u.is_complex() else torch.float64)
        if moment is None or total is None:
            total = torch.zeros_like(u[0])
            moment = total.new_zeros(u.shape[1], *total.shape)
        total += u.sum(0)
        _add_products(moment, u)
    assert moment is not None
    assert total is not None
    return moment, total


def completed(moment: Tensor, total: Tensor, basis: Basis, size: int) -> tuple[Tensor, Tensor]:
    """Return sums of batches for all pairs of channels and at all frequencies.

    Once, of the sums of all batches: for large images this takes several times as long as to transform them.

    Args:
        moment: Σ u_i u_j*, as `sums` returns it.
        total: Σ u, as `sums` returns it.
        basis: The basis of both.
        size: Size of the images' last axis.

    Returns:
        (C, C, *spatial) and (C, *spatial).
    """
    moment = moment.clone()
    for i, j in itertools.combinations(range(len(moment)), 2):
        moment[j, i] = moment[i, j].conj()
    if not _at_half(basis):
        return moment, total
    return _whole(moment, basis.dims, size), _whole(total, basis.dims, size)


def _at_half(basis: Basis) -> bool:
    """Whether sums are at half of the frequencies: those at −k are the conjugates of those at k."""
    return type(basis) is FourierBasis and basis.dims > 0


def _add_products(moment: Tensor, u: Tensor) -> None:
    """Add Σ u_i u_j* over the first axis of u (B, C, *spatial) to `moment` (C, C, *spatial), at least for i ≤ j."""
    channels, conjugates = u.shape[1], u.conj().resolve_conj()
    if channels > _PAIRED:
        moment += einsum(u, conjugates, "b i ..., b j ... -> i j ...")
        return
    for i, j in itertools.combinations_with_replacement(range(channels), 2):
        if u[0, 0].numel() < _LARGE:
            moment[i, j] += (u[:, i] * conjugates[:, j]).sum(0)
        else:
            for one, other in zip(u[:, i], conjugates[:, j], strict=True):
                moment[i, j].addcmul_(one, other)


def _whole(half: Tensor, dims: int, size: int) -> Tensor:
    """Return values at all frequencies, from those at the lower half of the last axis, of length `size`.

    Those at −k are the conjugates of those at k, as of any sums of real images; where the half has both, to the last
    bit.
    """
    conjugate = half.conj().resolve_conj().movedim(-1, 0)
    mirrored = FourierBasis(dims - 1).mirror(conjugate).movedim(0, -1)  # along all axes but the last
    half = half.clone()
    for own in (0, size // 2) if size % 2 == 0 else (0,):
        half[..., own] = (half[..., own] + mirrored[..., own]) / 2
    return torch.cat([half, mirrored[..., 1 : size - half.shape[-1] + 1].flip(-1)], -1)
