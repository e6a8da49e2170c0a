"""The covariance of Gaussian data on its way through a corruption.

    Σ_t = A_t Σ_0 A_t + N_t²,    A_t = diag(signal), N_t = diag(noise)

about the data's mean, which is taken as zero or as known to the corruption, in a frame in which it is block diagonal:
the channels at one frequency are a block, or one coefficient is, or, where the corruption's basis is not the
spectrum's, all of a small image is.

Of images with more than 4096 coefficients, some blocks stand for all. The strongest and the weakest stand for
themselves. The others are divided into strata by power, of which all are counted, and by the mean angle
arctan(noise / (signal √S)) over time, and the block in the middle stands for its stratum. Lengths and divergences,
which are sums over blocks, become sums with these weights: to 0.1 % and 0.5 % where the power tells the rest, of
whatever distribution it is, to 0.5 % and 2 % for delays that it does not tell, and to 4 % and 3 % where measured
covariances of channels differ at random from place to place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import einsum, rearrange
from torch import Tensor

from ._blocks import check_condition, lengths
from ._checks import broadcasts
from ._devices import device_of
from ._picked import coefficients_shape, picker, scales_at, tables_of
from ._strata import Chosen, Size, choose
from .bases import Basis, FourierBasis, PrincipalBasis
from .corruptions import (
    Corruption,
    ElementwiseCorruption,
    Pick,
    Point,
    Process,
    check_corruption,
    computes_picked,
    one_time,
    prior_deviation,
    same_rotation,
    scales,
)
from .spectra import PowerSpectrum, require_power

DENSE_LIMIT = 1024
"""Largest sample size (C · Π spatial) for which covariances are treated as full matrices."""

_MOST = 4096  # coefficients looked at one by one; 32×32 images have 3072
_OF_NUMBERS = Size(ends=512, strata=3072)  # where blocks are single coefficients
_OF_MATRICES = Size(ends=64, strata=960)
_ONCE = Size(ends=512, strata=6912)  # of matrices that are looked at once
_PROBES = 7  # times at which coefficients are compared


class CovariancePath(NamedTuple):
    """The data's covariance and a corruption's scales, in one frame in which both are block diagonal."""

    corruption: Corruption
    shape: tuple[int, ...]
    data: Tensor
    """Σ_0, (F, n, n): F independent blocks of n coefficients."""
    power: Tensor | None
    """The data's power that a sampler knows, (F, n)."""
    pick: Pick | None = None
    """Takes the coefficients of the blocks, (…, F·n); None where they are all there are."""
    weight: Tensor | None = None
    """How many blocks each stands for, (F,); None where each stands for itself."""

    def point(self, t: float) -> Point:
        """Return the scales at one time, each (F, n), float64."""
        if self.pick is not None and isinstance(self.corruption, ElementwiseCorruption):
            return self.points([t])[0]
        pair = scales(self.corruption, one_time(t, device_of(self.corruption)), (1, *self.shape))
        return Point(t, *(self._layout(scale.detach().cpu().double()) for scale in pair))

    def points(self, times: Sequence[float]) -> list[Point]:
        """Return the scales at several times, found together where a part of the coefficients is looked at alone."""
        if self.pick is None or not isinstance(self.corruption, ElementwiseCorruption):
            return [self.point(t) for t in times]
        every = torch.tensor(times, dtype=torch.float64, device="cpu")
        pair = _scales_of_blocks(self.corruption, every, self.pick, *self.data.shape[:2])
        return [Point(*each) for each in zip(times, *pair, strict=True)]

    def along(self, times: Sequence[float]) -> Tensor:
        """Return Σ_t at several times, (times, F, n, n)."""
        return torch.stack([self.corrupted(point) for point in self.points(times)])

    def prior(self, first: Point) -> Tensor | None:
        """Return the standard deviations from which a sampler starts, (F, n); None if it starts from images."""
        return prior_deviation(first, self.point(1.0) if self.power is None else None, self.power)

    def corrupted(self, point: Point) -> Tensor:
        """Return Σ_t = A Σ_0 A + N², (F, n, n)."""
        scaled = point.signal[..., :, None] * self.data * point.signal[..., None, :]
        if self.data.shape[-1] == 1:
            return scaled + (point.noise**2)[..., None]
        return scaled + torch.diag_embed(point.noise**2).to(self.data.dtype)

    def at(self, t: float) -> Tensor:
        """Return Σ_t at a time, (F, n, n)."""
        return self.corrupted(self.point(t))

    def length(self, p: Tensor, q: Tensor) -> float:
        """Return the geodesic distance between two covariances (F, n, n) of the path."""
        return float(self.lengths(p, q))

    def lengths(self, p: Tensor, q: Tensor) -> Tensor:
        """Return the geodesic distances between pairs of covariances (…, F, n, n) of the path, (…)."""
        return lengths(p, q, self.weight)

    def over_all(self, blocks: Tensor) -> Tensor:
        """Return the sum over all blocks of numbers (F,)."""
        return blocks.sum() if self.weight is None else (self.weight * blocks).sum()

    def _layout(self, scale: Tensor) -> Tensor:
        if self.pick is None:
            return _layout(scale, self.shape, self.data)
        return self.pick(scale).reshape(self.data.shape[:2])


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
    frame, chosen = _frame(process, spectrum, power), None
    if frame == "all":
        data = dense(spectrum, process.basis)[None]
    elif frame == "numbers":
        chosen = _chosen(spectrum.power, 1, corruption)
        data = places(spectrum.power.reshape(1, -1), chosen).reshape(-1, 1, 1)
    else:
        chosen = _chosen(spectrum.power, shape[0], corruption)
        data = channel_blocks(spectrum, chosen)
        if frame == "channels":
            data = rotate_blocks(data, process.basis.channel_rotation)
    check_condition(data)
    pick = None if chosen is None else picker(shape, _coefficients(chosen.places, shape, data.shape[-1]))
    path = CovariancePath(corruption, shape, data, None, pick, None if chosen is None else chosen.weight)
    return path if power is None else path._replace(power=path._layout(power.expand(1, *shape)))


def _frame(process: Process, spectrum: PowerSpectrum, power: Tensor | None) -> str:
    """Return in which blocks the corruption, the data, and the power that a sampler knows are all diagonal."""
    corruption, basis = process.corruption, process.basis
    found = _checked_shape(corruption, spectrum.shape)
    isotropic = math.prod(found) == 1 and (power is None or power.numel() == 1)
    alike = found[0] == 1 and (power is None or power.numel() == 1)  # of all channels, and so in any rotation of them
    shares = basis.shares_transform(spectrum.basis)
    if isinstance(spectrum.basis, PrincipalBasis):
        return "numbers" if isotropic or shares else "all"
    if isotropic:  # a multiple of the identity is one in every basis
        return "numbers" if spectrum.cross is None else "unrotated channels"
    if not shares:
        return "all"
    if isinstance(basis, FourierBasis):
        known = [] if power is None else [power]
        if not all(is_even(scale, basis) for scale in [*_tables(corruption), *known]):
            return "all"
    diagonal = spectrum.cross is None and (alike or same_rotation(basis, spectrum.basis, exactly=True))
    return "numbers" if diagonal else "channels"


def _checked_shape(corruption: Corruption, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape to which the scales broadcast, after checking that it broadcasts to `shape`."""
    if isinstance(corruption, ElementwiseCorruption):
        found = coefficients_shape(corruption)
        if broadcasts(found, shape):
            return found
    pair = scales(corruption, one_time(0.5, device_of(corruption)), (1, *shape))
    return tuple(torch.broadcast_shapes(*(scale.shape[1:] for scale in pair)))  # type: ignore[no-untyped-call]


def _chosen(power: Tensor, size: int, corruption: Corruption) -> Chosen | None:
    """Choose blocks of `size` coefficients that stand for all; None for all of a few.

    Args:
        power: S, (C, *spatial).
        size: 1, or C for the coefficients of all channels at a place.
        corruption: The corruption, whose scales tell coefficients of equal power apart.
    """
    chosen = _OF_NUMBERS if size == 1 else _OF_MATRICES
    if power.numel() <= _MOST or power.numel() // size <= sum(chosen):
        return None
    powers, shape = power.reshape(size, -1), tuple(power.shape)
    strength = powers[0] if size == 1 else powers.mean(0)
    probes = _probes()

    def angle(blocks: Tensor) -> Tensor:
        pick = picker(shape, _coefficients(blocks, shape, size))
        signal, noise = _scales_of_blocks(corruption, probes, pick, len(blocks), size)
        found: Tensor = torch.atan2(noise, signal * powers[:, blocks].T.sqrt()).mean((0, 2))
        return found

    return choose(strength, angle, chosen, weakest=None if size == 1 else powers.amin(0))


def _scales_of_blocks(
    corruption: Corruption, times: Tensor, pick: Pick, blocks: int, size: int
) -> tuple[Tensor, Tensor]:
    """Return (signal, noise) of the coefficients that `pick` takes, each (times, blocks, size)."""
    signal, noise = (
        scale.flatten(1).expand(len(times), blocks * size).reshape(len(times), blocks, size)
        for scale in scales_at(corruption, times, pick)
    )
    return signal, noise


def chosen_places(power: Tensor, other: Tensor) -> Chosen | None:
    """Choose frequencies that stand for all, by the powers (C, *spatial) of two spectra; None for all of a few."""
    if power.numel() <= _MOST or power[0].numel() <= sum(_ONCE):
        return None
    one, two = (places(each, None).mean(0) for each in (power, other))
    return choose(one, lambda index: two[index], _ONCE)


def _coefficients(blocks: Tensor, shape: tuple[int, ...], size: int) -> Tensor:
    """Return the flat places in `shape` (C, *spatial) of the coefficients of blocks, (F·size,)."""
    places = math.prod(shape) // size
    return (blocks[:, None] + places * torch.arange(size, device="cpu")).flatten()


def _layout(scale: Tensor, shape: tuple[int, ...], data: Tensor) -> Tensor:
    """Return a scale (1, C, *spatial), or one that broadcasts to it, as (F, n)."""
    blocks, size = data.shape[:2]
    full = scale[0].expand(shape)
    if blocks * size == full.numel() and size == shape[0]:
        return rearrange(full, "c ... -> (...) c")
    return full.reshape(blocks, size)


def channel_blocks(spectrum: PowerSpectrum, chosen: Chosen | None = None) -> Tensor:
    """Return the covariance between unrotated channels at each frequency, or at the chosen ones, (F, C, C)."""
    if isinstance(spectrum.basis, PrincipalBasis):
        raise ValueError("a spectrum in PrincipalBasis mixes channels with pixels and has no channel blocks")
    if spectrum.cross is not None:
        return rearrange(places(spectrum.cross.flatten(0, 1), chosen), "(i j) f -> f i j", i=spectrum.shape[0])
    blocks = torch.diag_embed(places(spectrum.power, chosen).T)
    rotation = spectrum.basis.channel_rotation
    return blocks if rotation is None else rotate_blocks(blocks, rotation.T)


def places(values: Tensor, chosen: Chosen | None) -> Tensor:
    """Return what values (C, *spatial) hold at the chosen places, or at all, (C, F)."""
    flat = values.reshape(len(values), -1)
    return flat if chosen is None else flat[:, chosen.places]


def rotate_blocks(blocks: Tensor, rotation: Tensor | None) -> Tensor:
    """Return R Σ Rᵀ for each block (F, C, C) and a rotation R (C, C); None turns nothing."""
    if rotation is None:
        return blocks
    matrix: Tensor = rotation.to("cpu", blocks.dtype)
    return torch.matmul(matrix @ blocks, matrix.mT)


def _tables(corruption: Corruption) -> Sequence[Tensor]:
    """Return tensors that tell at which coefficients the scales are alike: their tables, or scales at several times."""
    return tables_of(corruption)[0] if computes_picked(corruption) else scales_at(corruption, _probes())


def _probes() -> Tensor:
    """Return the times at which coefficients are compared."""
    return torch.linspace(0, 1, _PROBES + 2, dtype=torch.float64, device="cpu")[1:-1]


def is_even(scale: Tensor, basis: FourierBasis) -> bool:
    """Whether a Fourier scale is the same at k and −k, as one that broadcasts over an axis is along it."""
    return torch.allclose(scale, basis.mirror(scale), rtol=1e-9, atol=0)


def dense(spectrum: PowerSpectrum, frame: Basis | None = None) -> Tensor:
    """Return the data's covariance as a full matrix (D, D), in pixels or in the coefficients of `frame`."""
    size = torch.Size(spectrum.shape).numel()
    if size > DENSE_LIMIT:
        name = "pixels" if frame is None else repr(frame)
        raise ValueError(
            f"the spectrum is in {spectrum.basis!r}, the other side in {name}: exact for up to {DENSE_LIMIT} values "
            f"a sample, got {size}; estimate the spectrum in the corruption's basis, with scales that are the same at "
            "k and −k of a Fourier basis, or use smaller images"
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
