"""Distances between block-diagonal covariances, and equations with them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LinAlgError: type[Exception] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
_ILL_CONDITIONED = (
    "a covariance is singular to the rounding of float64 in the corruption's basis; estimate the spectrum with a "
    "higher floor, or in the corruption's basis"
)
_MILD = 1e-2  # smallest of the largest eigenvalue of a matrix, for which a closed form is as exact as an iteration


def geodesic_length(p: Tensor, q: Tensor, count: Tensor | None = None) -> float:
    """Return the geodesic distance between block-diagonal covariances (F, n, n), each block `count` (F,) times."""
    return float(lengths(p, q, count))


def lengths(p: Tensor, q: Tensor, count: Tensor | None = None) -> Tensor:
    """Return the geodesic distances between pairs of covariances (…, F, n, n), (…).

    d(p, q) = √(½ Σ log² λ),    λ the eigenvalues of p⁻¹ q
    """
    squares = _squared_logs(p, q)  # (…, F)
    return (0.5 * (squares if count is None else squares * count).sum(-1)).sqrt()


def _squared_logs(p: Tensor, q: Tensor) -> Tensor:
    if p.shape[-1] == 1:
        return log_ratio(*(each.real if each.is_complex() else each for each in (q, p))).square_()[..., 0, 0]
    if p.shape[-1] != 3:
        return _eigenvalues(p, q).log().square().sum(-1)
    values = _three_eigenvalues(p, q)
    wild = ~(values[-1] > _MILD * values[0])
    squares = values.log().square_().sum(0)
    if bool(wild.any()):
        p, q = torch.broadcast_tensors(p, q)  # type: ignore[no-untyped-call]
        squares[wild] = _eigenvalues(p[wild], q[wild]).log().square().sum(-1)
    return squares


def _eigenvalues(p: Tensor, q: Tensor) -> Tensor:
    """Return the eigenvalues of p⁻¹ q, (…, n)."""
    try:
        factor = torch.linalg.cholesky(p)
        half = torch.linalg.solve_triangular(factor, q, upper=False)
        ratio = torch.linalg.solve_triangular(factor, half.mH, upper=False)
        values: Tensor = torch.linalg.eigvalsh((ratio + ratio.mH) / 2)
    except _LinAlgError as error:
        raise ValueError(_ILL_CONDITIONED) from error
    return values


def _three_eigenvalues(p: Tensor, q: Tensor) -> Tensor:
    """Return the eigenvalues of p⁻¹ q for matrices (…, 3, 3), falling, (3, …); NaN where p is not positive.

    Those of the symmetric or Hermitian M = L⁻¹ q L⁻ᴴ, p = L Lᴴ: with m the mean of its diagonal and
    w² = tr (M − m)² / 6, they are m + 2w cos(φ + 2πj/3), cos 3φ = det((M − m) / w) / 2. One by one, as LAPACK does it,
    small matrices take ten times as long.
    """
    (a, _, _), (b, d, _), (c, e, f) = _rows(p)
    first = _real(a).sqrt()
    b, c = b / first, c / first
    second = (_real(d) - _size(b)).sqrt()
    e = (e - c * b.conj()) / second
    third = (_real(f) - _size(c) - _size(e)).sqrt()

    def solved(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x / first
        y = (y - b * x) / second
        return x, y, (z - c * x - e * y) / third

    columns = zip(*map(list, _rows(q)), strict=True)
    half = list(zip(*(solved(*column) for column in columns), strict=True))  # the rows of L⁻¹ q
    (u, _, _), (x, v, _), (z, y, w) = (solved(*(each.conj() for each in row)) for row in half)
    return _three_of(_real(u), _real(v), _real(w), x.conj(), y.conj(), z.conj())


def _three_of(a: Tensor, b: Tensor, c: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return the eigenvalues of a matrix with diagonal (a, b, c) and M_12, M_23, M_13 = x, y, z."""
    mean = (a + b + c) / 3
    a, b, c = a - mean, b - mean, c - mean
    xx, yy, zz = _size(x), _size(y), _size(z)
    width = ((a * a + b * b + c * c + 2 * (xx + yy + zz)) / 6).sqrt_()
    determinant = a * b * c + 2 * _real(x * y * z.conj()) - a * yy - b * zz - c * xx
    angle = (determinant / (2 * torch.where(width > 0, width, 1.0) ** 3)).clamp_(-1, 1).acos_() / 3
    largest, smallest = 2 * width * angle.cos(), 2 * width * (angle + 2 * math.pi / 3).cos_()
    return torch.stack([mean + largest, mean - largest - smallest, mean + smallest])


def _rows(matrices: Tensor) -> Tensor:
    """Return matrices (…, 3, 3) as (3, 3, …), each number of them together in memory."""
    return matrices.movedim((-2, -1), (0, 1)).contiguous()


def _real(x: Tensor) -> Tensor:
    return x.real if x.is_complex() else x


def _size(x: Tensor) -> Tensor:
    """Return |x|²."""
    return x.real.square() + x.imag.square() if x.is_complex() else x.square()


def log_ratio(p: Tensor, q: Tensor) -> Tensor:
    """Return log(p / q), also where the quotient is beyond float64."""
    ratio = p / q
    inside = torch.isfinite(ratio) & (ratio > torch.finfo(ratio.dtype).tiny)
    return torch.where(inside, ratio.log(), p.log() - q.log())


def solve(a: Tensor, b: Tensor) -> Tensor:
    """Return a⁻¹ b, block by block.

    Raises:
        ValueError: a block is singular to rounding.
    """
    if a.shape[-1] == 1:
        if not bool((a != 0).all()):
            raise ValueError(_ILL_CONDITIONED)
        return b / a
    try:
        answer: Tensor = torch.linalg.solve(a, b)
    except _LinAlgError as error:
        raise ValueError(_ILL_CONDITIONED) from error
    return answer


def check_condition(data: Tensor) -> None:
    """Raise a ValueError if blocks of correlations (F, n, n) are singular to rounding."""
    if data.shape[-1] == 1:
        return
    deviation = data.diagonal(dim1=-2, dim2=-1).real.sqrt()
    scaled = data / (deviation[..., :, None] * deviation[..., None, :])  # the accuracy of a Cholesky factor follows it
    if not bool(torch.isfinite(torch.view_as_real(scaled) if scaled.is_complex() else scaled).all()):
        raise ValueError(_ILL_CONDITIONED)
    if not float(torch.linalg.eigvalsh(scaled).min()) > 1e-12:
        raise ValueError(_ILL_CONDITIONED)
