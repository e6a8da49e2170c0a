"""Dead leaves: images with the statistics of photographs, made of nothing but overlapping ellipses.

Leaves of every size fall on the ground and hide what lies under them. With radii of density r⁻³ the result
has no scale of its own, like a photograph: edges, occlusion, smooth shading, and power that falls as about 1/f².

Source: Matheron 1968; Ruderman 1997, "Origins of scaling in natural images"; Lee, Mumford & Huang 2001.
"""

from __future__ import annotations

import numpy as np

from .painting import painted

LEAVES = 60  # with fewer, and fewer small ones, the power falls faster than 1/f²
_CHUNK = 128  # images painted together: their canvases stay in the processor's cache
_CHROMA = np.array([[1.0, -0.2, -0.8], [-0.4, 0.8, -0.4]], dtype=np.float32)  # orange–blue and green–magenta


def dead_leaves(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    """Return `count` colour images of fallen leaves.

    Args:
        count: Number of images.
        size: Height and width in pixels.
        seed: The same seed gives the same images, and a larger `count` continues a smaller one.

    Returns:
        uint8, (count, size, size, 3).

    Raises:
        ValueError: `count` or `size` less than 1.

    Example:
        >>> dead_leaves(2, size=16).shape
        (2, 16, 16, 3)
    """
    return painted(count, size, seed, chunk=_CHUNK, paint=_paint)


def _paint(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return images in [0, 1], float32, (count, size, size, 3): a shaded ground, then leaf upon leaf."""
    # Pixel centres in units of the image's side, from −½ to ½.
    axis = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    y, x = axis[None, :, None], axis[None, None, :]
    mood = rng.normal(0.5, 0.10, (count, 1)), rng.normal(0.0, 0.08, (count, 2))

    def number(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (count, 1, 1)).astype(np.float32)

    def shaded(along: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Colour near the mean of the image, with light that varies along one direction."""
        # Luminance varies more than chroma, so red, green and blue rise and fall together as in photographs.
        luminance = mood[0] + rng.normal(0.0, 0.22, (count, 1))
        chroma = mood[1] + rng.normal(0.0, 0.06, (count, 2))
        colour = (luminance + chroma @ _CHROMA).astype(np.float32)
        return colour[:, None, None, :] * (1 + depth * along)[..., None]

    canvas = shaded(y + 0 * x, number(-0.5, 0.5))
    for _ in range(LEAVES):
        # Density r⁻³ between the limits, by inverting its distribution function.
        smallest, largest = 0.03, 0.6
        fraction = number(0, 1)
        radius = (smallest**-2 - fraction * (smallest**-2 - largest**-2)) ** -0.5
        angle, slimness = number(0, 2 * np.pi), number(0.55, 1.0)
        dx, dy = x - number(-0.6, 0.6), y - number(-0.6, 0.6)
        along = (np.cos(angle) * dx + np.sin(angle) * dy) / radius
        across = (np.cos(angle) * dy - np.sin(angle) * dx) / (radius * slimness)
        inside = (1 - np.hypot(along, across)) * radius * slimness * size  # about the distance to the edge in pixels
        cover = np.clip(inside / 0.6 + 0.5, 0, 1)[..., None]  # an edge a little softer than a pixel hides the staircase
        canvas += cover * (shaded(along, number(-0.35, 0.35)) - canvas)
    return np.clip(canvas, 0, 1)
