"""From covariances between channels to a rotation, a power, and values that are never empty."""

from __future__ import annotations

import itertools
from typing import Literal, TypeAlias

import torch
from einops import einsum
from torch import Tensor

from ..bases import Basis

_EQUAL = 1e-7  # of the largest eigenvalue: nearer ones are told apart by rounding
_TIE = 1e-6  # between parts of a vector of length 1: nearer ones are told apart by rounding
Channels: TypeAlias = Literal["rotate", "independent", "shared"]


def choose_channels(
    basis: Basis, moment: Tensor, channels: Channels, rotation: Tensor | None = None
) -> tuple[Basis, Tensor]:
    """Return the basis with its channel rotation, and the power in it.

    With "rotate", the rows of the rotation are the eigenvectors of

        mean_f [ C_f / tr C_f ],    C_f = `moment` at frequency f

    largest eigenvalue first. The Fisher metric weighs all frequencies alike and measures relative changes of power, so
    each covariance counts by its shape alone; their plain mean would be decided by the few lowest frequencies, where
    most of the power is. See docs/theory.md.

    Args:
        basis: A basis without channel rotation.
        moment: Covariances of the channels, (C, C, *spatial), positive definite, i.e. floored.
        channels: What to do with the channels, as in `PowerSpectrum.estimate`.
        rotation: A rotation to use with "rotate", in place of the eigenvectors.
    """
    if rotation is not None:
        basis = basis.with_channel_rotation(rotation)
    elif channels == "rotate":
        covariance = moment.real if moment.is_complex() else moment
        covariance = covariance.reshape(*covariance.shape[:2], -1)
        covariance = (covariance / covariance.diagonal().sum(-1)).mean(-1)
        basis = basis.with_channel_rotation(_eigenvectors((covariance + covariance.T) / 2))
    power = block_power(moment, basis.channel_rotation)
    if channels == "shared":
        power = power.mean(0, keepdim=True).expand(power.shape).clone()
    return basis, power


def _eigenvectors(covariance: Tensor) -> Tensor:
    """Return eigenvectors as rows, the largest eigenvalue first, so that equal data give equal rows.

    They have no sign of their own. Where eigenvalues are equal, as those of the two colours that grey images lack, they
    have no direction within a plane either: there, each row is the direction nearest to a channel, the first of ties.
    """
    values, vectors = torch.linalg.eigh(covariance)
    rows: Tensor = vectors.flip(1).T.clone()
    values = values.flip(0)
    apart = (values[:-1] - values[1:] > _EQUAL * values[0]).nonzero().flatten() + 1
    for first, last in itertools.pairwise([0, *apart.tolist(), len(values)]):
        within = rows[first:last].T @ rows[first:last]  # the projection onto the plane
        for row in range(first, last) if last - first > 1 else ():
            channel = _largest(within.diagonal())
            rows[row] = within[channel] / within[channel, channel].sqrt()
            within = within - torch.outer(rows[row], rows[row])
    for row in rows:
        row *= torch.sign(row[_largest(row.abs())])
    return rows


def _largest(values: Tensor) -> int:
    """Return the place of the largest value, the first of those that rounding alone may tell apart."""
    return int((values > values.max() - _TIE).nonzero()[0])


def block_power(moment: Tensor, rotation: Tensor | None) -> Tensor:
    """Return the diagonal of R M Rᵀ at each frequency, (C, *spatial), real."""
    if rotation is None:
        power = moment.diagonal(dim1=0, dim2=1).movedim(-1, 0)
    else:
        matrix = rotation.to(moment.device, moment.dtype)
        power = einsum(matrix, moment, matrix, "k i, i j ..., k j -> k ...")
    return (power.real if power.is_complex() else power).clone()


def floor_blocks(moment: Tensor, floor: float, least: float = 0.0) -> tuple[Tensor, int]:
    """Raise the eigenvalues of each channel covariance (C, C, *spatial) to the floor; return how many were."""
    blocks = moment.movedim((0, 1), (-2, -1))
    blocks = (blocks + blocks.mH) / 2  # what centring leaves of a large mean is Hermitian to its own rounding only
    values, vectors = torch.linalg.eigh(blocks)
    raised, floored = raise_to_floor(values, floor, least)
    if floored:
        low = (raised != values).any(-1)
        mended = (vectors * raised[..., None, :].to(vectors.dtype)) @ vectors.mH
        blocks = torch.where(low[..., None, None], mended, blocks)
    return blocks.movedim((-2, -1), (0, 1)).contiguous(), floored


def raise_to_floor(values: Tensor, floor: float, least: float = 0.0) -> tuple[Tensor, int]:
    """Raise values to `floor` times their mean; return how many were raised."""
    mean = values.mean().item()
    if not mean > least:
        raise ValueError(
            "the data carry no power: every image is zero, or equal to the mean image to rounding, which center=True "
            "subtracts; pass images that differ, less a constant near their mean if that is large, or center=False"
        )
    low = values < floor * mean
    return values.clamp(min=floor * mean), int(low.sum())
