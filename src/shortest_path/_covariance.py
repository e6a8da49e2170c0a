"""The covariance of Gaussian data on its way through a corruption.

    Σ_t = A_t Σ_0 A_t + N_t²,    A_t = diag(signal), N_t = diag(noise)

about the data's mean, which is taken as zero or as known to the corruption, in a frame in which it is block diagonal:
the channels at one frequency are a block, or one coefficient is, or, where the corruption's basis is not the
spectrum's, all of a small image is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from einops import einsum, rearrange
from torch import Tensor

from ._devices import device_of
from .bases import Basis, FourierBasis, PrincipalBasis
from .corruptions import Corruption, Point, Process, check_corruption, one_time, prior_deviation, scales
from .spectra import PowerSpectrum, require_power

DENSE_LIMIT = 1024
"""Largest sample size (C · Π spatial) for which covariances are treated as full matrices."""

_LinAlgError: type[Exception] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
_ILL_CONDITIONED = (
    "a covariance is singular to the rounding of float64 in the corruption's basis; estimate the spectrum with a "
    "higher floor, or in the corruption's basis"
)


class CovariancePath(NamedTuple):
    """The data's covariance and a corruption's scales, in one frame in which both are block diagonal."""

    corruption: Corruption
    shape: tuple[int, ...]
    data: Tensor
    """Σ_0, (F, n, n): F independent blocks of n coefficients."""
    power: Tensor | None
    """The data's power that a sampler knows, (F, n)."""

    def point(self, t: float) -> Point:
        """Return the scales at one time, each (F, n), float64."""
        pair = scales(self.corruption, one_time(t, device_of(self.corruption)), (1, *self.shape))
        return Point(t, *(_layout(scale.detach().cpu().double(), self.shape, self.data) for scale in pair))

    def prior(self, first: Point) -> Tensor | None:
        """Return the standard deviations from which a sampler starts, (F, n); None if it starts from images."""
        return prior_deviation(first, self.point(1.0) if self.power is None else None, self.power)

    def corrupted(self, point: Point) -> Tensor:
        """Return Σ_t = A Σ_0 A + N², (F, n, n)."""
        scaled = point.signal[..., :, None] * self.data * point.signal[..., None, :]
        return scaled + torch.diag_embed(point.noise**2).to(self.data.dtype)

    def at(self, t: float) -> Tensor:
        """Return Σ_t at a time, (F, n, n)."""
        return self.corrupted(self.point(t))


def covariance_path(
    corruption: Corruption, spectrum: PowerSpectrum, *, known: PowerSpectrum | None = None
) -> CovariancePath:
    """Return the path of the data's covariance, in the cheapest frame in which it is exact.

    Args:
        corruption: Any corruption of images of the spectrum's shape.
        spectrum: The data, channel covariances included.
        known: The spectrum that a sampler is told; None takes the corruption's own power, if it has one.

    Raises:
        TypeError: `corruption` does not implement `Corruption`, or `spectrum` is not a `PowerSpectrum`.
        ValueError: the corruption's basis differs from the spectrum's and the sample is larger than `DENSE_LIMIT`, or
            the covariance is singular to the rounding of float64.
    """
    check_corruption(corruption)
    if not isinstance(spectrum, PowerSpectrum):
        raise TypeError(f"spectrum must be a PowerSpectrum, got {type(spectrum).__name__}")
    require_power(spectrum, "spectrum")
    process, shape = Process(corruption, known), spectrum.shape
    power = None if process.power is None else process.power.detach().cpu()[None]
    data = _blocks(process, spectrum, power)
    _check_condition(data)
    power = None if power is None else _layout(power, shape, data)
    return CovariancePath(corruption, shape, data, power)


def _blocks(process: Process, spectrum: PowerSpectrum, power: Tensor | None) -> Tensor:
    """Return Σ_0 in coefficients in which the corruption, and the power that a sampler knows, are diagonal."""
    corruption, basis = process.corruption, process.basis
    middle = scales(corruption, one_time(0.5, device_of(corruption)), (1, *spectrum.shape))
    probe = [scale.detach().cpu().double() for scale in middle]
    if power is not None:
        probe.append(power)
    isotropic = all(scale.numel() == 1 for scale in probe)
    if isinstance(spectrum.basis, PrincipalBasis):
        if isotropic or basis.shares_transform(spectrum.basis):
            return spectrum.power.reshape(-1, 1, 1)
    elif isotropic:  # a multiple of the identity is one in every basis
        return channel_blocks(spectrum)
    elif basis.shares_transform(spectrum.basis) and (
        not isinstance(basis, FourierBasis) or all(_is_even(scale, basis) for scale in probe)
    ):
        return rotate_blocks(channel_blocks(spectrum), basis.channel_rotation)
    return dense(spectrum, basis)[None]


def _layout(scale: Tensor, shape: tuple[int, ...], data: Tensor) -> Tensor:
    """Return a scale (1, C, *spatial), or one that broadcasts to it, as (F, n)."""
    blocks, size = data.shape[:2]
    full = scale[0].expand(shape)
    if blocks * size == full.numel() and size == shape[0]:
        return rearrange(full, "c ... -> (...) c")
    return full.reshape(blocks, size)


def channel_blocks(spectrum: PowerSpectrum) -> Tensor:
    """Return the covariance between unrotated channels at each frequency, (F, C, C)."""
    if isinstance(spectrum.basis, PrincipalBasis):
        raise ValueError("a spectrum in PrincipalBasis mixes channels with pixels and has no channel blocks")
    if spectrum.cross is not None:
        return rearrange(spectrum.cross, "i j ... -> (...) i j")
    blocks = torch.diag_embed(rearrange(spectrum.power, "c ... -> (...) c"))
    rotation = spectrum.basis.channel_rotation
    return blocks if rotation is None else rotate_blocks(blocks, rotation.T)


def rotate_blocks(blocks: Tensor, rotation: Tensor | None) -> Tensor:
    """Return R Σ Rᵀ for each block (F, C, C) and a rotation R (C, C); None turns nothing."""
    if rotation is None:
        return blocks
    matrix: Tensor = rotation.to("cpu", blocks.dtype)
    return torch.matmul(matrix @ blocks, matrix.mT)


def _is_even(scale: Tensor, basis: FourierBasis) -> bool:
    """Whether a Fourier scale is the same at k and −k, as one that broadcasts over an axis is along it."""
    return torch.allclose(scale, basis.mirror(scale), rtol=1e-9, atol=0)


def dense(spectrum: PowerSpectrum, frame: Basis | None = None) -> Tensor:
    """Return the data's covariance as a full matrix (D, D), in pixels or in the coefficients of `frame`."""
    size = torch.Size(spectrum.shape).numel()
    if size > DENSE_LIMIT:
        name = "pixels" if frame is None else repr(frame)
        raise ValueError(
            f"the spectrum is in {spectrum.basis!r}, the other side in {name}: exact for up to {DENSE_LIMIT} values "
            f"a sample, got {size}; estimate the spectrum in the corruption's basis, or use smaller images"
        )
    images = torch.eye(size, dtype=torch.float64, device="cpu").reshape(size, *spectrum.shape)
    basis = spectrum.basis
    if isinstance(basis, PrincipalBasis):
        images = basis.synthesize(basis.analyze(images) * spectrum.power)
    else:
        blocks = channel_blocks(spectrum).reshape(*spectrum.shape[1:], spectrum.shape[0], spectrum.shape[0])
        coefficients = basis.spatial_coefficients(images)
        mixed = einsum(blocks.to(coefficients.dtype), coefficients, "... i j, b j ... -> b i ...")
        images = basis.spatial_inverse(mixed)
    if frame is None:
        return images.flatten(1)
    half = frame.analyze(images).flatten(1).T  # B Σ, for Σ symmetric
    return frame.analyze(half.reshape(size, *spectrum.shape)).flatten(1).T


def geodesic_length(p: Tensor, q: Tensor) -> float:
    """Return the geodesic distance between block-diagonal covariances (F, n, n)."""
    return math.sqrt(0.5 * float(_squared_logs(p, q).sum()))


def _squared_logs(p: Tensor, q: Tensor) -> Tensor:
    if p.shape[-1] == 1:
        return log_ratio(q.real if q.is_complex() else q, p.real if p.is_complex() else p) ** 2
    try:
        return _squared_log_eigenvalues(p, q)
    except _LinAlgError as error:
        raise ValueError(_ILL_CONDITIONED) from error


def _squared_log_eigenvalues(p: Tensor, q: Tensor) -> Tensor:
    factor = torch.linalg.cholesky(p)
    half = torch.linalg.solve_triangular(factor, q, upper=False)
    ratio = torch.linalg.solve_triangular(factor, half.mH, upper=False)
    eigenvalues: Tensor = torch.linalg.eigvalsh((ratio + ratio.mH) / 2)
    return eigenvalues.log() ** 2


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
    try:
        answer: Tensor = torch.linalg.solve(a, b)
    except _LinAlgError as error:
        raise ValueError(_ILL_CONDITIONED) from error
    return answer


def _check_condition(data: Tensor) -> None:
    """Raise a ValueError if blocks of correlations (F, n, n) are singular to rounding."""
    if data.shape[-1] == 1:
        return
    deviation = data.diagonal(dim1=-2, dim2=-1).real.sqrt()
    scaled = data / (deviation[..., :, None] * deviation[..., None, :])  # the accuracy of a Cholesky factor follows it
    if not bool(torch.isfinite(torch.view_as_real(scaled) if scaled.is_complex() else scaled).all()):
        raise ValueError(_ILL_CONDITIONED)
    if not float(torch.linalg.eigvalsh(scaled).min()) > 1e-12:
        raise ValueError(_ILL_CONDITIONED)
