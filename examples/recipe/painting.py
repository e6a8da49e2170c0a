"""Generated images, painted a number at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def painted(
    count: int, size: int, seed: int, *, chunk: int, paint: Callable[[int, int, np.random.Generator], np.ndarray]
) -> np.ndarray:
    """Return colour images, uint8, (count, size, size, 3); a larger `count` continues a smaller one.

    Args:
        count: Number of images.
        size: Height and width in pixels.
        seed: The same seed gives the same images.
        chunk: Number of images painted together.
        paint: `paint(chunk, size, rng)` returns images with values in [0, 1].

    Raises:
        ValueError: `count` or `size` less than 1.
    """
    if count < 1 or size < 1:
        raise ValueError(f"count and size must be 1 or more, got {count} and {size}")
    images = np.empty((count, size, size, 3), dtype=np.uint8)
    for start in range(0, count, chunk):
        values = paint(chunk, size, np.random.default_rng((seed, start)))
        images[start : start + chunk] = np.rint(values[: count - start] * 255)
    return images
