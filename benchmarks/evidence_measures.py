"""How far drawn pictures are from real ones: in features, in patches and in power."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

import shortest_path as sp

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from deviation_study import ring_power
from metrics import Statistics, frechet_distance, kernel_distance
from monitor import sliced_wasserstein

Features = Callable[[Tensor], Tensor]
"""Float pictures in [-1, 1], (B, C, H, W) → features, (B, D)."""

SCALES, PATCH = 3, 4


def quantised(x: Tensor) -> Tensor:
    """Return pictures as 8 bits hold them: clamped to [-1, 1] and rounded to 256 levels, in float32.

    Raises:
        ValueError: NaN or infinity.
    """
    finite = x.isfinite().flatten(1).all(1)
    if not finite.all():
        bad = int((~finite).sum())
        raise ValueError(f"pictures must be finite; {bad} of {len(x)} hold NaN or infinity, so their solver diverged")
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def laplacian(x: Tensor, scales: int = SCALES) -> list[Tensor]:
    """Return the details of pictures at each size, from the full one on, each half as large; the last one whole.

        x_0 = x,    x_{k+1} = mean of x_k over 2 × 2,    detail_k = x_k − x_{k+1} enlarged

    Means and copies make the details orthogonal (they are the Haar wavelet's), and need no rule for the borders.

    Raises:
        ValueError: a side that cannot be halved so often.
    """
    if any(side % 2 ** (scales - 1) for side in x.shape[2:]):
        raise ValueError(f"sides must be multiples of {2 ** (scales - 1)} for {scales} scales, got {tuple(x.shape)}")
    levels = [x]
    for _ in range(scales - 1):
        levels.append(avg_pool2d(levels[-1], 2))
    finer = [fine - interpolate(coarse, scale_factor=2) for fine, coarse in pairwise(levels)]
    return [*finer, levels[-1]]


def patch_distances(
    x: Tensor,
    y: Tensor,
    *,
    scales: int = SCALES,
    patch: int = PATCH,
    patches: int = 16,
    slices: int = 128,
    seed: int = 0,
) -> list[float]:
    """Return the sliced Wasserstein-2 distance between the patches of two sets, at each scale of a Laplacian pyramid.

    A pyramid and not merely smaller pictures: power falls with frequency, so whole patches would tell of the coarse
    errors at every scale. Patches come from the same places in all pictures, so the order of pictures is nothing to
    them. The unit is the standard deviation of y at that scale, one for all channels, and not that of either set on its
    own as in the source: a loss of contrast is an error.

    Args:
        x: Drawn pictures, (N, C, H, W).
        y: Real pictures, of the same shape.
        scales: Number of sizes: 1, 1/2, 1/4 of the full one, ...
        patch: Side of a patch, at every scale.
        patches: Of each picture at each scale; fewer where there are fewer places.
        slices: Number of random directions.
        seed: Of places and directions.

    Raises:
        ValueError: shapes that differ, sides that cannot be halved so often, patches that do not fit, or a y that is
            flat at some scale.

    Source: Karras et al. 2018, arXiv:1710.10196, section 5.
    """
    if x.shape != y.shape or x.ndim != 4:
        raise ValueError(f"both sets must have one shape (N, C, H, W), got {tuple(x.shape)} and {tuple(y.shape)}")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for scale, (a, b) in enumerate(zip(laplacian(x, scales), laplacian(y, scales), strict=True)):
        if patch > min(a.shape[2:]):
            raise ValueError(
                f"patches of {patch} × {patch} do not fit into {tuple(a.shape[2:])}, the size at scale {scale + 1}; "
                "pass a smaller patch or fewer scales"
            )
        unit = b.double().std()
        if not unit > 1e-9:
            raise ValueError(f"the second set is flat at scale {scale + 1}; a distance in units of its contrast is not")
        rows, columns = (side - patch + 1 for side in a.shape[2:])
        places = torch.randperm(rows * columns, generator=generator)[:patches].tolist()
        cut_a, cut_b = (
            torch.cat([whole[:, :, i : i + patch, j : j + patch] for i, j in (divmod(p, columns) for p in places)])
            for whole in (a, b)
        )
        found.append(sliced_wasserstein(cut_a, cut_b, slices=slices, seed=seed) / unit.item())
    return found


def log_power(pictures: Tensor, basis: sp.Basis, power: Tensor) -> float:
    """Return the mean of |log(power / power of real pictures)| over whole frequencies and channels of a basis.

    Args:
        pictures: (N, C, H, W).
        basis: Of the real pictures; its channels count, so that a wrong colour shows as well.
        power: Of the real pictures, `ring_power(real, basis)`.
    """
    return (ring_power(pictures, basis) / power).log().abs().mean().item()


class Measures:
    """Measures drawn pictures against real ones.

        frechet       squared Fréchet distance of the features of all real pictures; depends on the number drawn
        kernel        squared maximum mean discrepancy of features, unbiased; kernel_error is its standard error
        patches_1     sliced Wasserstein distance of patches at full size; _2 and _4 at a half and a quarter of it, if
                      that is as large as a patch
        log_power     mean of |log(power / power of real pictures)|, over whole frequencies and channels

    Compare only figures of equal numbers of drawn pictures, with each other and with `floor` of that number. Kernel and
    patches compare with as many real pictures as are drawn, always the same ones.

    Args:
        real: Pictures held out of training, (N, C, H, W), floats in [-1, 1].
        features: Maps pictures in [-1, 1] to features, (B, D); None leaves out `frechet` and `kernel`.
        device: That `features` works on.
        batch_size: For `features`.
        seed: Of the order of pictures, patches and directions.

    Raises:
        ValueError: not such pictures.
    """

    def __init__(
        self,
        real: Tensor,
        features: Features | None = None,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        if real.ndim != 4 or len(real) < 2 or not real.is_floating_point() or not real.abs().max() <= 1:
            values = f" with values up to {real.abs().max():.4g}" if real.numel() else ""
            raise ValueError(
                "real pictures must be 2 or more, (N, C, H, W), floats in [-1, 1], "
                f"got {real.dtype} {tuple(real.shape)}{values}; to_unit makes them from 8 bits"
            )
        self._features, self._device, self._batch_size, self._seed = features, device, batch_size, seed
        # Pictures may be sorted by class, and the kernel distance compares rows in their order: each set has its own.
        pictures = quantised(real.cpu())[_order(len(real), seed)]
        self._real = _Set(pictures, self._features_of(pictures))
        self._reference = _Reference(self._real, seed)

    def __call__(self, pictures: Tensor) -> dict[str, float]:
        """Return all measures of drawn pictures, (N, C, H, W), after rounding them to 8 bits.

        Raises:
            ValueError: more than there are real ones, of another size, not finite, or fewer than 20 if there are
                features.
        """
        shape = self._real.pictures.shape
        if pictures.ndim != 4 or pictures.shape[1:] != shape[1:] or not 2 <= len(pictures) <= len(self._real.pictures):
            raise ValueError(
                f"drawn pictures must have shape (N, {', '.join(map(str, shape[1:]))}) with 2 ≤ N ≤ {shape[0]}, the "
                f"number of real ones, got {tuple(pictures.shape)}; draw others, or hold out more"
            )
        drawn = quantised(pictures.cpu())[_order(len(pictures), self._seed + 1)]
        return self._reference.compare(_Set(drawn, self._features_of(drawn)))

    def floor(self, count: int, *, seed: int = 0, repeats: int = 4) -> dict[str, float]:
        """Return the same measures of real pictures: `count` of one half against the other half.

        The least to expect of a perfect network. A little high for `frechet` and `log_power`: half as many real
        pictures are compared with.

        Args:
            count: Number of pictures that are drawn elsewhere.
            seed: Of the halves.
            repeats: Number of divisions into halves, over which the mean is taken.

        Raises:
            ValueError: more than half of the real pictures.
        """
        whole, half = self._real, len(self._real.pictures) // 2
        if not 2 <= count <= half:
            raise ValueError(f"count must be 2 to {half}, half of the real pictures, got {count}; hold out more")
        generator = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(repeats):
            order = torch.randperm(len(whole.pictures), generator=generator)
            found.append(_Reference(whole.rows(order[half:]), self._seed).compare(whole.rows(order[:count])))
        return {name: mean(each[name] for each in found) for name in found[0]}

    @torch.no_grad()
    def _features_of(self, pictures: Tensor) -> Tensor | None:
        if self._features is None:
            return None
        parts = [self._features(part.to(self._device)).cpu() for part in torch.split(pictures, self._batch_size)]
        found = torch.cat(parts)
        if found.ndim != 2 or len(found) != len(pictures):
            raise ValueError(f"features must map (B, C, H, W) to (B, D), got {tuple(found.shape)} of {len(pictures)}")
        return found


class _Set(NamedTuple):
    """Pictures of 8 bits, in random order, and their features."""

    pictures: Tensor
    features: Tensor | None

    def rows(self, chosen: Tensor) -> _Set:
        return _Set(self.pictures[chosen], None if self.features is None else self.features[chosen])


class _Reference:
    """What is measured of real pictures once, to compare others with."""

    def __init__(self, real: _Set, seed: int) -> None:
        self._real, self._seed = real, seed
        self._basis = sp.PowerSpectrum.estimate([real.pictures], "cosine", progress=False).basis
        self._power = ring_power(real.pictures, self._basis)
        self._moments = None if real.features is None else _moments(real.features)

    def compare(self, drawn: _Set) -> dict[str, float]:
        found = {}
        if self._moments is not None and self._real.features is not None and drawn.features is not None:
            found["frechet"] = frechet_distance(*self._moments, *_moments(drawn.features))
            found["kernel"], found["kernel_error"] = kernel_distance(self._real.features, drawn.features)
        real = self._real.pictures[: len(drawn.pictures)]
        distances = patch_distances(drawn.pictures, real, scales=_fitting(real), seed=self._seed)
        found |= {f"patches_{2**scale}": distance for scale, distance in enumerate(distances)}
        return found | {"log_power": log_power(drawn.pictures, self._basis, self._power)}


def _order(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _fitting(pictures: Tensor) -> int:
    """Return how many scales are as large as a patch, up to `SCALES`."""
    for scales in range(SCALES, 1, -1):
        factor = 2 ** (scales - 1)
        if all(side % factor == 0 and side // factor >= PATCH for side in pictures.shape[2:]):
            return scales
    return 1


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    statistics = Statistics(features.shape[1])
    statistics.update(features)
    return statistics.mean, statistics.covariance
