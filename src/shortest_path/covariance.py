"""The covariance of Gaussian data on its way through a corruption.

    Σ_t = A_t Σ_0 A_t + N_t²,    A_t = diag(signal), N_t = diag(noise)

in a frame in which it is block diagonal: the channels at one frequency are a block, or one coefficient is, or, where
the corruption's basis is not the spectrum's, all of a small image is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from einops import einsum, rearrange
from torch import Tensor

from .basis import Basis, FourierBasis, PrincipalBasis
from .corruption import Corruption, check_corruption, device_of, known_power, scales
from .spectrum import PowerSpectrum, mirror
from .transition import prior_deviation

DENSE_LIMIT = 1024
"""Largest sample size (C · Π spatial) for which covariances are treated as full matrices."""

_LinAlgError: type[Exception] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
_ILL_CONDITIONED = (
    "a covariance is singular to the rounding of float64 in the corruption's basis; estimate the spectrum with a "
    "higher floor, or in the corruption's basis"
)


class CovariancePath(NamedTuple):
    """The data's covariance and a corruption's scales, in one frame in which both are block diagonal.

    `data` is (F, n, n): F independent blocks of n coefficients.
    """

    corruption: Corruption
    shape: tuple[int, ...]
    data: Tensor

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (signal, noise) at one time, each (F, n), float64."""
        time = t.reshape(1).to(device_of(self.corruption), torch.float64)
        pair = scales(self.corruption, time, (1, *self.shape))
        signal, noise = (self._layout(scale.detach().cpu()) for scale in pair)
        return signal, noise

    def prior(self, at_t: tuple[Tensor, Tensor]) -> Tensor | None:
        """Return the deviations that the sampler starts from, (F, n); None if from corrupted images."""
        power = known_power(self.corruption)
        return prior_deviation(at_t, None if power is None else self._layout(power.cpu()[None]))

    def corrupted(self, signal: Tensor, noise: Tensor) -> Tensor:
        """Return Σ_t = A Σ_0 A + N², (F, n, n)."""
        scaled = signal[..., :, None] * self.data * signal[..., None, :]
        return scaled + torch.diag_embed(noise**2).to(self.data.dtype)

    def at(self, t: float) -> Tensor:
        """Return Σ_t at a time, (F, n, n)."""
        return self.corrupted(*self.scales(torch.tensor(t, dtype=torch.float64)))

    def _layout(self, scale: Tensor) -> Tensor:
        blocks, size = self.data.shape[:2]
        full = scale[0].expand(self.shape)
        if blocks * size == full.numel() and size == self.shape[0]:
            return rearrange(full, "c ... -> (...) c")
        return full.reshape(blocks, size)


def covariance_path(corruption: Corruption, spectrum: PowerSpectrum) -> CovariancePath:
    """Return the path of the data's covariance, in the cheapest frame in which it is exact.

    Raises:
        TypeError: `corruption` or `spectrum` is none.
        ValueError: the corruption's basis differs from the spectrum's and the sample is larger than `DENSE_LIMIT`, or
            the covariance is singular to the rounding of float64.
    """
    check_corruption(corruption)
    if not isinstance(spectrum, PowerSpectrum):
        raise TypeError(f"spectrum must be a PowerSpectrum, got {type(spectrum).__name__}")
    path = _frame(corruption, spectrum)
    _check_condition(path.data)
    return path


def _frame(corruption: Corruption, spectrum: PowerSpectrum) -> CovariancePath:
    shape, basis = spectrum.shape, corruption.basis
    middle = torch.tensor([0.5], dtype=torch.float64, device=device_of(corruption))
    probe = [scale.detach().cpu() for scale in scales(corruption, middle, (1, *shape))]
    isotropic = all(scale.numel() == 1 for scale in probe)
    if isinstance(spectrum.basis, PrincipalBasis):
        if isotropic or basis.shares_transform(spectrum.basis):
            return CovariancePath(corruption, shape, spectrum.power.reshape(-1, 1, 1))
    elif isotropic:  # a multiple of the identity is one in every basis
        return CovariancePath(corruption, shape, channel_blocks(spectrum))
    elif basis.shares_transform(spectrum.basis) and (
        not isinstance(basis, FourierBasis) or all(_is_even(scale, basis.dims) for scale in probe)
    ):
        blocks = rotate_blocks(channel_blocks(spectrum), basis.channel_rotation)
        return CovariancePath(corruption, shape, blocks)
    return CovariancePath(corruption, shape, dense(spectrum, basis)[None])


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


def _is_even(scale: Tensor, dims: int) -> bool:
    """Whether a Fourier scale is the same at k and −k, as one that broadcasts over an axis is along it."""
    return torch.allclose(scale, mirror(scale, dims), rtol=1e-9, atol=0)


def dense(spectrum: PowerSpectrum, frame: Basis | None = None) -> Tensor:
    """Return the data's covariance as a full matrix (D, D), in pixels or in the coefficients of `frame`."""
    size = torch.Size(spectrum.shape).numel()
    if size > DENSE_LIMIT:
        name = "pixels" if frame is None else repr(frame)
        raise ValueError(
            f"the spectrum is in {spectrum.basis!r}, the other side in {name}: exact for up to {DENSE_LIMIT} values "
            f"a sample, got {size}; estimate the spectrum in the corruption's basis, or use smaller images"
        )
    images = torch.eye(size, dtype=torch.float64).reshape(size, *spectrum.shape)
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
