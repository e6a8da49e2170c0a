"""Second moments of a stream of batches, in one process or many."""

from __future__ import annotations

import copy
import warnings
import zlib
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
import torch.distributed as dist
from einops import einsum
from torch import Tensor
from typing_extensions import Self

from .._checks import check_choice, check_flag, check_images, check_numbers, images_of
from .._exact import ROUNDING, exact_dtype
from ..bases import Basis, CosineBasis, FourierBasis, PrincipalBasis, kind_of
from ._covariances import Channels, block_power, choose_channels, floor_blocks, raise_to_floor
from ._sums import completed, sums

_LOST = 1e-3  # part of a power that may be rounding, without a warning
NamedBasis: TypeAlias = Literal["cosine", "fourier", "principal"]


@dataclass(frozen=True)
class Measured:
    """What a `PowerSpectrum` is made of; see there."""

    basis: Basis
    power: Tensor
    cross: Tensor | None
    mean: Tensor | None
    count: int
    floored: int


class Moments:
    """Second moments of the coefficients of all images seen, summed in float64; see `SpectrumEstimator`."""

    def __init__(
        self,
        basis: Basis | NamedBasis | None = None,
        *,
        center: bool = True,
        check_range: bool = True,
        image_key: str | None = None,
    ) -> None:
        if isinstance(basis, str):
            check_choice("basis", basis, get_args(NamedBasis))
        elif basis is not None and not isinstance(basis, Basis):
            raise TypeError(f"basis must be a Basis or the name of one, got {type(basis).__name__}")
        elif isinstance(basis, PrincipalBasis) and basis.channel_rotation is not None:
            raise ValueError("a PrincipalBasis mixes the channels itself; pass one without channel_rotation")
        check_flag("center", center)
        check_flag("check_range", check_range)
        self._requested: Basis | NamedBasis = "cosine" if basis is None else basis
        self._center = center
        self._check_range, self._image_key = check_range, image_key
        self._basis: Basis | None = None  # without the channel rotation of the requested one
        self._shape: tuple[int, ...] = ()  # of an image
        self._moment = torch.zeros((), device="cpu")
        self._sum = torch.zeros((), device="cpu")
        self.count = 0

    def update(self, batch: object) -> int:
        """Add a batch (B, C, *spatial), or a tuple that begins with one; return its number of images.

        Raises:
            TypeError: the batch is not a floating-point tensor.
            ValueError: NaN, a range of [0, 255], or another shape than before.
        """
        images = images_of(batch, self._image_key)
        check_images(images, check_range=self._check_range)
        if images.ndim < 2:
            raise ValueError(f"images must have shape (B, C, *spatial), got {tuple(images.shape)}")
        dims, shape = images.ndim - 2, tuple(images.shape[1:])
        if exact_dtype(images.device) != torch.float64:
            images = images.cpu()
        basis = self._make_basis(dims, shape[0]).to(images.device) if self._basis is None else self._basis
        self._require_shape(shape)
        images = images.detach()
        if self._whole:
            flat = images.double().flatten(1)
            moment, total = flat.T @ flat, flat.sum(0).view(shape)
        else:
            moment, total = sums(images, basis)  # may refuse: nothing is kept yet
        self._add(moment, total, basis, shape)
        self.count += len(images)
        return len(images)

    def merge(self, other: Self) -> None:
        """Add what another estimator of the same kind has seen.

        Raises:
            TypeError: the other one is not an estimator.
            ValueError: the other one has another basis or image shape.
        """
        if not isinstance(other, Moments):
            raise TypeError(f"can only merge another SpectrumEstimator, got {type(other).__name__}")
        if other.count == 0:
            return
        if not _same_basis(self._requested, other._requested):
            raise ValueError(f"cannot merge an estimate in basis {other._requested!r} into one in {self._requested!r}")
        self._require_shape(other._shape)
        self._add(other._moment.clone(), other._sum.clone(), other._known_basis, other._shape)
        self.count += other.count

    def all_reduce(self) -> None:
        """Merge the estimates of all `torch.distributed` ranks; afterwards every rank holds the whole.

        Every rank must have seen at least one batch.

        Raises:
            RuntimeError: no process group is initialised.
            ValueError: a rank has seen no data, or images of another shape, or estimates otherwise.
        """
        if not dist.is_initialized():
            raise RuntimeError("all_reduce needs torch.distributed; call torch.distributed.init_process_group first")
        self._check_alike()
        count = torch.tensor(float(self.count), dtype=torch.float64, device=self._sum.device)
        for tensor in (self._moment, self._sum, count):
            dist.all_reduce(torch.view_as_real(tensor) if tensor.is_complex() else tensor)
        self.count = int(count.item())

    def _check_alike(self) -> None:
        """Raise a ValueError in all processes unless all estimate the same, of images of one shape. Collective."""
        basis = self._requested if isinstance(self._requested, Basis) else self._basis
        kind = (self._shape, self._center, self._whole, None if basis is None else kind_of(basis))
        told = zlib.crc32(repr(kind).encode()) if self.count else -1
        tables = [each.double().flatten().cpu() for each in basis.state_dict().values()] if basis is not None else []
        probe = sum(float(torch.cos(torch.arange(len(each), device="cpu")).double() @ each) for each in tables)
        device = self._sum.device
        if not self.count and dist.get_backend() == "nccl":
            device = torch.device("cuda", torch.cuda.current_device())
        ends = torch.tensor([told, probe, -told, -probe], dtype=torch.float64, device=device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        self._require_data()
        highest, high, lowest, low = ends.tolist()
        if lowest == 1:
            raise ValueError("another process has seen no images; give each at least one batch before all_reduce()")
        if highest != -lowest or high + low > ROUNDING * max(1.0, abs(high)):
            raise ValueError(
                f"the processes estimate different spectra, this one of images {self._shape} in {self._requested!r}, "
                f"center={self._center}; make the estimators alike, and give each images of one shape"
            )

    def measured(self, channels: Channels = "rotate", *, floor: float = 1e-6) -> Measured:
        """Return what a spectrum is made of, from everything seen so far; see `PowerSpectrum.estimate`.

        Raises:
            ValueError: unknown `channels`, no data, one image about its own mean, data without power, or values
                whose squares overflow.
        """
        check_choice("channels", channels, get_args(Channels))
        check_numbers(floor=floor)
        floor = float(floor)
        if not 0 < floor < 1:
            raise ValueError(f"floor is a fraction of the mean power and must lie in (0, 1), got {floor}")
        rotation = self._requested.channel_rotation if isinstance(self._requested, Basis) else None
        if rotation is not None and channels != "rotate":
            raise ValueError(
                f"channels={channels!r} leaves the channels as they are, the basis has a channel_rotation; use "
                "channels='rotate' or a basis without"
            )
        self._require_data()
        if self._center and self.count == 1:
            raise ValueError(
                "center=True requires two or more images, got 1, which has no power about its own mean; pass more "
                "images, or center=False"
            )
        moment = self._moment.cpu() / self.count
        mean = self._sum.cpu() / self.count
        if not bool(torch.isfinite(torch.view_as_real(moment) if moment.is_complex() else moment).all()):
            raise ValueError("the squares of these images are beyond float64; scale them down, to about [-1, 1]")
        if not self._whole:
            moment, mean = completed(moment, mean, self._known_basis, self._shape[-1])
        # What centring leaves of images that are all the same is rounding.
        least = 1e-13 * float(mean.abs().square().mean()) if self._center else 0.0
        image = self._mean_image(mean)
        if self._whole:
            if self._center:
                moment = moment - torch.outer(mean.flatten(), mean.flatten())
            eigenvalues, vectors = torch.linalg.eigh((moment + moment.T) / 2)
            power, floored = raise_to_floor(eigenvalues.flip(0), floor, least)
            if self._center:
                _warn_of_lost_digits(mean.square().mean(), eigenvalues, floor)  # of errors of random signs
            basis: Basis = PrincipalBasis(vectors.flip(1).T, mean.ndim - 1)
            return Measured(basis, power.reshape(mean.shape), None, image, self.count, floored)

        if self._center:
            moment = moment - einsum(mean, mean.conj(), "i ..., j ... -> i j ...")
        found = moment
        moment, floored = floor_blocks(found, floor, least)
        if self._center:
            _warn_of_lost_digits(mean.abs().square().sum(0), block_power(found, None), floor)
        if isinstance(self._known_basis, PrincipalBasis):
            power = block_power(moment, None)
            return Measured(self._known_basis, power, None, image, self.count, floored)
        basis, power = choose_channels(self._known_basis, moment, channels, rotation)
        return Measured(basis, power, moment, image, self.count, floored)

    def _mean_image(self, mean: Tensor) -> Tensor | None:
        """Return the mean in pixels, from the mean of what is summed; None without centring."""
        if not self._center or self._whole:  # "principal" sums pixels
            return mean if self._center else None
        return copy.deepcopy(self._known_basis).cpu().spatial_inverse(mean)

    @property
    def _whole(self) -> bool:
        return self._requested == "principal"

    @property
    def _known_basis(self) -> Basis:
        if self._basis is None:
            raise ValueError("no images were seen; check that the iterable of batches is not empty or already used up")
        return self._basis

    def _require_data(self) -> None:
        _ = self._known_basis

    def _add(self, moment: Tensor, total: Tensor, basis: Basis, shape: tuple[int, ...]) -> None:
        """Add sums, which are kept if they are the first."""
        if self._basis is None:
            self._basis, self._shape, self._moment, self._sum = basis, shape, moment, total
        else:
            self._moment += moment.to(self._moment.device)
            self._sum += total.to(self._sum.device)

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        if self._basis is not None and self._shape != shape:
            raise ValueError(
                f"all images must have the same shape; got {shape} after {self._shape}; resize or crop them"
            )

    def _make_basis(self, dims: int, channels: int) -> Basis:
        if isinstance(self._requested, Basis):
            if self._requested.dims != dims:
                raise ValueError(
                    f"the basis has dims={self._requested.dims}, but images have {dims} spatial axes; set dims={dims}"
                )
            rotation = self._requested.channel_rotation
            if rotation is not None and len(rotation) != channels:
                raise ValueError(
                    f"the basis rotates {len(rotation)} channels, images have {channels}; pass a basis without "
                    "channel_rotation"
                )
            return self._requested.with_channel_rotation(None)  # a copy, to move without moving the caller's
        return FourierBasis(dims) if self._requested == "fourier" else CosineBasis(dims)


def _same_basis(ours: Basis | str, theirs: Basis | str) -> bool:
    if isinstance(ours, Basis) and isinstance(theirs, Basis):
        return ours.shares_transform(theirs)
    return isinstance(ours, str) and ours == theirs


def _warn_of_lost_digits(subtracted: Tensor, power: Tensor, floor: float) -> None:
    """Warn if powers above the floor are differences of numbers that are much larger.

    Args:
        subtracted: What was subtracted of the covariances that are mixed into a power, broadcastable to `power`.
        power: What is left.
        floor: As of `measured`.
    """
    counts = power > floor * power.mean()
    lost = (10 * torch.finfo(torch.float64).eps * subtracted / power)[counts]
    worst = min(1.0, float(lost.max())) if lost.numel() else 0.0
    if worst > _LOST:
        warnings.warn(
            f"the mean image is so much larger than deviations from it that power may be wrong by {worst:.0e} of "
            "itself; subtract a constant near the mean from the images first",
            RuntimeWarning,
            stacklevel=4,
        )
