"""Landscapes: small images of sky, sun and hills, of few degrees of freedom and with a little noise of a sensor.

Every image has a time of day, which chooses its colours; a sun; two ranges of hills, whose outlines are cosines; and
noise. Power falls with frequency, as in photographs but faster, down to the floor of the noise.
"""

from __future__ import annotations

import numpy as np

from .painting import painted

_CHUNK = 1000  # images made together; a multiple continues a smaller number of images
_NOISE = 0.02  # of the sensor, where white is 1
_PALETTE = (  # red, green and blue of zenith, horizon, sun, far and near hills; at night, dawn, noon and dusk
    ((0.05, 0.07, 0.20), (0.24, 0.30, 0.50), (0.92, 0.94, 1.00), (0.10, 0.13, 0.26), (0.04, 0.06, 0.12)),
    ((0.36, 0.46, 0.74), (1.00, 0.74, 0.58), (1.00, 0.94, 0.72), (0.52, 0.42, 0.54), (0.22, 0.22, 0.30)),
    ((0.24, 0.52, 0.90), (0.78, 0.90, 1.00), (1.00, 1.00, 0.86), (0.42, 0.60, 0.56), (0.20, 0.46, 0.20)),
    ((0.30, 0.20, 0.46), (1.00, 0.52, 0.26), (1.00, 0.86, 0.46), (0.48, 0.22, 0.34), (0.20, 0.10, 0.18)),
)


def landscapes(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Return `count` colour images of landscapes.

    Args:
        count: Number of images.
        size: Height and width in pixels.
        seed: The same seed gives the same images, and a larger `count` continues a smaller one.

    Returns:
        uint8, (count, size, size, 3).

    Raises:
        ValueError: `count` or `size` less than 1.

    Example:
        >>> landscapes(2, size=8).shape
        (2, 8, 8, 3)
    """

    def with_noise(chunk: int, size: int, rng: np.random.Generator) -> np.ndarray:
        scene = _paint(chunk, size, rng)
        return (scene + rng.normal(0, _NOISE, scene.shape)).clip(0, 1)

    return painted(count, size, seed, chunk=_CHUNK, paint=with_noise)


def _paint(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return images without noise, (count, size, size, 3), values in [0, 1]."""
    axis = (np.arange(size) + 0.5) / size  # pixel centres; y is 0 at the top
    y, x = axis[None, :, None], axis[None, None, :]

    def number(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (count, 1, 1))

    def outline(height: np.ndarray) -> np.ndarray:
        return height + number(0.03, 0.10) * np.cos(2 * np.pi * (number(0.5, 1.0) * x + number(0, 1)))

    def soft(distance: np.ndarray, width: float) -> np.ndarray:
        return (1 / (1 + np.exp(-4 * distance / width)))[..., None]

    hour = rng.uniform(0, len(_PALETTE), (count, 1))
    before = hour.astype(int)[:, 0] % len(_PALETTE)
    palette = np.array(_PALETTE)
    mixed = (hour % 1)[..., None]
    colours = (1 - mixed) * palette[before] + mixed * palette[(before + 1) % len(_PALETTE)]
    zenith, horizon, sun, far, near = colours[:, :, None, None, :].transpose(1, 0, 2, 3, 4)

    top = outline(number(0.50, 0.62))
    scene = zenith + (horizon - zenith) * np.minimum(y / 0.7, 1)[..., None]
    away = np.hypot(x - number(0.15, 0.85), y - number(0.12, 0.4))
    glow = 0.45 * np.exp(-((away / 0.25) ** 2))[..., None]
    scene = scene + (sun - scene) * np.maximum(glow, soft(number(0.07, 0.12) - away, 1.5 / size))
    scene = scene + (far - scene) * soft(y - top, 2 / size)
    return scene + (near - scene) * soft(y - outline(number(0.76, 0.88)), 2 / size)
