"""Distances of samples from real images: in features, in patches and in power."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import mean
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

import shortest_path as sp
from examples.recipe.metrics import Statistics, frechet_distance, kernel_distance
from examples.recipe.monitor import sliced_wasserstein
from studies.deviation.measures import ring_power

Features = Callable[[Tensor], Tensor]
"""Maps float images in [-1, 1], (B, C, H, W), to features, (B, D)."""

SCALES, PATCH = 3, 4


def quantised(x: Tensor) -> Tensor:
    """Return images rounded to 8 bits: clamped to [-1, 1] and rounded to 256 levels, in float32.

    Raises:
        ValueError: NaN or infinity.
    """
    finite = x.isfinite().flatten(1).all(1)
    if not finite.all():
        bad = int((~finite).sum())
        raise ValueError(f"images must be finite, got NaN or infinity in {bad} of {len(x)}: the solver diverged")
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def laplacian(x: Tensor, scales: int = SCALES) -> list[Tensor]:
    """Return the details of images at each scale, from the full size, each half as large; the last one is not reduced.

        x_0 = x,    x_{k+1} = mean of x_k over 2 × 2,    detail_k = x_k − x_{k+1} enlarged

    Means and copies make the details orthogonal (as of the Haar wavelet), and require no rule for the borders.

    Raises:
        ValueError: a side is not divisible by 2^(scales − 1).
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

    A pyramid, not only smaller images: power falls with frequency, so coarse errors would dominate patches at every
    scale. Patches have the same places in all images, so the result does not depend on the order of images. The unit is
    the standard deviation of y at that scale, over all channels. The source normalises each set by its own deviation;
    here a loss of contrast counts as an error.

    Args:
        x: Samples, (N, C, H, W).
        y: Real images, same shape.
        scales: Number of scales: 1, 1/2, 1/4 of the full size, ...
        patch: Side of a patch, at every scale.
        patches: Number of patches of each image at each scale; fewer if there are fewer places.
        slices: Number of random directions.
        seed: Random seed of places and directions.

    Raises:
        ValueError: shapes differ, sides are not divisible by 2^(scales − 1), patches do not fit, or y is constant at
            some scale.

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
            raise ValueError(
                f"y is constant at scale {scale + 1}, so that it has no contrast as a unit; pass other images"
            )
        rows, columns = (side - patch + 1 for side in a.shape[2:])
        places = torch.randperm(rows * columns, generator=generator)[:patches].tolist()
        cut_a, cut_b = (
            torch.cat([whole[:, :, i : i + patch, j : j + patch] for i, j in (divmod(p, columns) for p in places)])
            for whole in (a, b)
        )
        found.append(sliced_wasserstein(cut_a, cut_b, slices=slices, seed=seed) / unit.item())
    return found


def log_power(images: Tensor, basis: sp.bases.Basis, power: Tensor) -> float:
    """Return the mean of |log(power / power of real images)| over whole frequencies and channels of a basis.

    Args:
        images: (N, C, H, W).
        basis: Basis of the real images, with its channel rotation.
        power: `ring_power(real, basis)`.
    """
    return (ring_power(images, basis) / power).log().abs().mean().item()


class Measures:
    """Compares samples with real images.

        frechet       squared Fréchet distance from the features of all real images; depends on the number of samples
        kernel        squared maximum mean discrepancy of features, unbiased; kernel_error is its standard error
        patches_1     sliced Wasserstein distance of patches at full size; _2 and _4 at half and quarter size, unless
                      smaller than a patch
        log_power     mean of |log(power / power of real images)|, over whole frequencies and channels

    Compare only values of equal numbers of samples, with each other and with `floor` of that number. Kernel and patches
    use as many real images as samples, always the same ones.

    Args:
        real: Images held out of training, (N, C, H, W), floats in [-1, 1].
        features: Maps images in [-1, 1] to features, (B, D); None omits `frechet` and `kernel`.
        device: Device of `features`.
        batch_size: Batch size of `features`.
        seed: Random seed of the order of images, patches and directions.

    Raises:
        ValueError: shape, dtype or range of `real` differ from the above.
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
                "real images must be (N ≥ 2, C, H, W), floats in [-1, 1], "
                f"got {real.dtype} {tuple(real.shape)}{values}; convert 8 bits with to_unit"
            )
        self._features, self._device, self._batch_size, self._seed = features, device, batch_size, seed
        # Images may be sorted by class, and the kernel distance compares rows in order, so each set is shuffled.
        images = quantised(real.cpu())[_order(len(real), seed)]
        self._real = _Set(images, self._features_of(images))
        self._reference = _Reference(self._real, seed)

    def __call__(self, images: Tensor) -> dict[str, float]:
        """Return all measures of samples, (N, C, H, W), after rounding them to 8 bits.

        Raises:
            ValueError: more samples than real images, another size, NaN or infinity, or fewer than 20 samples with
                features.
        """
        shape = self._real.images.shape
        if images.ndim != 4 or images.shape[1:] != shape[1:] or not 2 <= len(images) <= len(self._real.images):
            raise ValueError(
                f"samples must have shape (N, {', '.join(map(str, shape[1:]))}) with 2 ≤ N ≤ {shape[0]}, the "
                f"number of real images, got {tuple(images.shape)}; hold out more"
            )
        samples = quantised(images.cpu())[_order(len(images), self._seed + 1)]
        return self._reference.compare(_Set(samples, self._features_of(samples)))

    def floor(self, count: int, *, seed: int = 0, repeats: int = 4) -> dict[str, float]:
        """Return the measures of real images: `count` of one half against the other half.

        The values to expect of a perfect network. `frechet` and `log_power` are a little high, as they use half of the
        real images.

        Args:
            count: Number of samples in the comparison.
            seed: Random seed of the halves.
            repeats: Number of divisions into halves, over which to average.

        Raises:
            ValueError: count is more than half of the real images.
        """
        whole, half = self._real, len(self._real.images) // 2
        if not 2 <= count <= half:
            raise ValueError(f"count must be from 2 to {half}, half of the real images, got {count}; hold out more")
        generator = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(repeats):
            order = torch.randperm(len(whole.images), generator=generator)
            found.append(_Reference(whole.rows(order[half:]), self._seed).compare(whole.rows(order[:count])))
        return {name: mean(each[name] for each in found) for name in found[0]}

    @torch.no_grad()
    def _features_of(self, images: Tensor) -> Tensor | None:
        if self._features is None:
            return None
        parts = [self._features(part.to(self._device)).cpu() for part in torch.split(images, self._batch_size)]
        found = torch.cat(parts)
        if found.ndim != 2 or len(found) != len(images):
            raise ValueError(f"features must map (B, C, H, W) to (B, D), got {tuple(found.shape)} of {len(images)}")
        return found


class _Set(NamedTuple):
    """Images of 8 bits, in random order, and their features."""

    images: Tensor
    features: Tensor | None

    def rows(self, chosen: Tensor) -> _Set:
        """Return a subset."""
        return _Set(self.images[chosen], None if self.features is None else self.features[chosen])


class _Reference:
    """Statistics of real images, computed once."""

    def __init__(self, real: _Set, seed: int) -> None:
        self._real, self._seed = real, seed
        self._basis = sp.PowerSpectrum.estimate([real.images], "cosine", progress=False).basis
        self._power = ring_power(real.images, self._basis)
        self._moments = None if real.features is None else _moments(real.features)

    def compare(self, samples: _Set) -> dict[str, float]:
        """Return all measures of samples."""
        found = {}
        if self._moments is not None and self._real.features is not None and samples.features is not None:
            found["frechet"] = frechet_distance(*self._moments, *_moments(samples.features))
            found["kernel"], found["kernel_error"] = kernel_distance(self._real.features, samples.features)
        real = self._real.images[: len(samples.images)]
        distances = patch_distances(samples.images, real, scales=_fitting(real), seed=self._seed)
        found |= {f"patches_{2**scale}": distance for scale, distance in enumerate(distances)}
        return found | {"log_power": log_power(samples.images, self._basis, self._power)}


def _order(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _fitting(images: Tensor) -> int:
    """Return the number of scales at which a patch fits, up to `SCALES`."""
    for scales in range(SCALES, 1, -1):
        factor = 2 ** (scales - 1)
        if all(side % factor == 0 and side // factor >= PATCH for side in images.shape[2:]):
            return scales
    return 1


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    statistics = Statistics(features.shape[1])
    statistics.update(features)
    return statistics.mean, statistics.covariance
