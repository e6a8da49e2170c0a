"""Plot docs/figures/gallery.png: one image under every corruption of the library, at five times.

    python -m docs.figures.gallery

The image is a sample of dead leaves of 48×48 pixels; the spectrum S is that of 512 samples. All rows have the same
white noise ε.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import shortest_path as sp
from docs.figures.style import make_images, parser, save
from shortest_path.corruptions import ClockCorruption, StaggeredCorruption

TIMES = (0.0, 0.15, 0.4, 0.7, 0.95)


def corruptions(spectrum: sp.PowerSpectrum) -> dict[str, sp.Corruption]:
    """Return the corruptions of the gallery."""
    size, half = spectrum.shape[-1], spectrum.tempered(0.5)
    frequency = spectrum.basis.frequencies(spectrum.shape[1:])[None]
    fine_first = 1 - frequency / frequency.max()
    last_row_first = torch.linspace(1, 0, size).view(1, size, 1)
    gaussian, shortest = sp.GaussianCorruption("cosine"), sp.ShortestPathCorruption(spectrum)
    return {
        "Gaussian,\nwhite noise": gaussian,
        "Gaussian,\nnoise of\ncolour S^½": sp.GaussianCorruption("cosine", noise=half),
        "Gaussian,\nequal SNR": sp.GaussianCorruption("cosine", noise=spectrum),
        "blur\nand noise": sp.BlurCorruption(spatial=(size, size)),
        "heat\ndissipation": sp.HeatDissipationCorruption(spatial=(size, size)),
        "shortest path": shortest,
        "shortest path\nto S^½": sp.ShortestPathCorruption(spectrum, final=half),
        "shortest path,\nstaggered\nby scale": StaggeredCorruption(shortest, fine_first, spread=1.0),
        "Gaussian,\nstaggered\nby rows": StaggeredCorruption(gaussian, last_row_first, spread=3.0),
        "equal clocks,\na² + s² = 1": ClockCorruption(spectrum, lambda t: math.pi / 2 * t),
    }


def compute(images: Tensor, chosen: int, times: Sequence[float] = TIMES) -> dict[str, list[Tensor]]:
    """Return one of the images at all times, (C, H, W) each, by corruption."""
    spectrum = sp.PowerSpectrum.estimate(images.split(64))
    x_0 = images[chosen, None]
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
    return {
        name: [sp.corrupt(corruption, x_0, t, eps)[0] for t in times]
        for name, corruption in corruptions(spectrum).items()
    }


def draw(found: dict[str, list[Tensor]], times: Sequence[float], path: Path) -> None:
    """Plot a row for each corruption and a column for each time."""
    # In pixels of the file, so that every pixel of an image is a square of the same size.
    cell, gap, left, top = 96, 4, 112, 22
    width, height = left + len(times) * (cell + gap), top + len(found) * (cell + gap)
    figure = plt.figure(figsize=(width / 100, height / 100))
    for row, (name, images) in enumerate(found.items()):
        for column, (t, image) in enumerate(zip(times, images, strict=True)):
            x, y = left + column * (cell + gap), height - top - (row + 1) * (cell + gap) + gap
            axis = figure.add_axes((x / width, y / height, cell / width, cell / height))
            axis.imshow(((image.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.axis("off")
            if row == 0:
                axis.set_title(f"t = {t:g}", pad=4)
            if column == 0:
                axis.text(-0.07, 0.5, name, transform=axis.transAxes, ha="right", va="center")
    # Noise does not compress; 256 colours are a third of the bytes.
    save(figure, path, dpi=100, colours=256)


def main(arguments: Sequence[str] | None = None) -> None:
    """Plot the figure."""
    options = parser(__doc__, "gallery.png").parse_args(arguments)
    count, size = (64, 16) if options.quick else (512, 48)
    draw(compute(make_images(count, size, seed=4), 3), TIMES, options.out)


if __name__ == "__main__":
    main()
