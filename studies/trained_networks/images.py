"""The images of the study: 8 bits, averaged over boxes or cut into crops, with uniform noise of one level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from examples.recipe.cifar10 import Pictures, load

_NOISE_SEED = 4321  # of the noise on held-out images: the same for every case


class Images(NamedTuple):
    """Images of 8 bits, (N, C, H, W), and their origin."""

    levels: Tensor
    provenance: dict[str, Any]

    def first(self, count: int) -> Images:
        """Return the first images."""
        return self._replace(levels=self.levels[:count])

    def last(self, count: int) -> Images:
        """Return the last images."""
        return self._replace(levels=self.levels[len(self.levels) - count :])

    def dequantised(self, seed: int = _NOISE_SEED) -> Tensor:
        """Return floats in (-1, 1), with uniform noise of one level: images that have a density."""
        noise = torch.rand(self.levels.shape, generator=torch.Generator().manual_seed(seed))
        return spread(self.levels, noise)


def spread(levels: Tensor, noise: Tensor) -> Tensor:
    """Return (level + noise) / 128 − 1, for noise in [0, 1)."""
    return (levels.float() + noise) / 128 - 1


def rounded(x: Tensor) -> Tensor:
    """Return samples rounded to 8 bits: the centre of the level in which each value lies, floats in (-1, 1)."""
    levels = ((x.float() + 1) * 128).floor().clamp(0, 255)
    return spread(levels, torch.full_like(levels, 0.5))


def read(source: str, *, size: int, source_size: int, crops: bool = False) -> Images:
    """Read images at `source_size`; average them over boxes, to `size`, or cut them into crops of that size.

    Raises:
        ValueError: images cannot be read, or `source_size` is not a multiple of `size`.
    """
    return reduced(load(source, size=source_size), size, crops=crops)


def reduced(images: Pictures, size: int, *, crops: bool = False) -> Images:
    """Return images averaged over boxes, or their crops, with the channels first."""
    smaller = cropped(images.images, size) if crops else averaged(images.images, size)
    origin = images.provenance | {"size": size} | ({"crops": True} if crops else {})
    return Images(torch.from_numpy(smaller.transpose(0, 3, 1, 2).copy()), origin)


def averaged(images: np.ndarray, size: int) -> np.ndarray:
    """Return uint8 images (N, H, W, C) averaged over boxes to `size` × `size`, rounded to whole levels.

    Raises:
        ValueError: `size` does not divide both sides.
    """
    count, height, width, channels = _divisible(images, size)
    parts = []
    for part in np.array_split(images, max(1, count // 5000)):
        boxes = part.reshape(len(part), size, height // size, size, width // size, channels)
        parts.append(np.rint(boxes.mean((2, 4), dtype=np.float64)).astype(np.uint8))
    return np.concatenate(parts)


def cropped(images: np.ndarray, size: int) -> np.ndarray:
    """Return the crops of `size` × `size` into which uint8 images (N, H, W, C) divide: those of the first image first.

    Raises:
        ValueError: `size` does not divide both sides.
    """
    _divisible(images, size)
    return rearrange(images, "n (h y) (w x) c -> (n h w) y x c", y=size, x=size)


def _divisible(images: np.ndarray, size: int) -> tuple[int, ...]:
    _, height, width, _ = images.shape
    if height % size or width % size:
        raise ValueError(f"images of {height}×{width} do not divide into parts of {size}×{size}; pass a divisor")
    return images.shape


class Batches:
    """Endless passes over images in random order, each mirrored with probability 1/2 and with new noise of one level.

    Args:
        images: Images of 8 bits, (N, C, H, W).
        batch_size: Number of images in a batch.
        seed: Random seed for order, mirroring and noise.

    Yields:
        Floats in (-1, 1), (B, C, H, W).
    """

    def __init__(self, images: Tensor, batch_size: int, *, seed: int) -> None:
        self._images, self._batch, self._seed, self._epoch = images, batch_size, seed, 0

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._images) // self._batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; `DiffusionTrainer.fit` calls this."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(1_000_003 * self._seed + self._epoch)
        order = torch.randperm(len(self._images), generator=generator)
        for rows in order[: len(self) * self._batch].split(self._batch):
            levels = self._images[rows]
            flipped = torch.rand(len(rows), generator=generator) < 0.5
            levels = torch.where(flipped[:, None, None, None], levels.flip(-1), levels)
            yield spread(levels, torch.rand(levels.shape, generator=generator))
