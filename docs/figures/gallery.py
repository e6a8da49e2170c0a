"""Plot docs/figures/gallery.png: one image under every corruption of the library, at five times.

    python -m docs.figures.gallery

The image is a sample of dead leaves of 48×48 pixels; the spectrum S is that of 512 samples. All rows have the same
white noise ε.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

import shortest_path as sp
from docs.figures.style import make_images, parser, save, sheet
from shortest_path import plots
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Plot the figure."""
    options = parser(__doc__, "gallery.png").parse_args(arguments)
    count, size = (64, 16) if options.quick else (512, 48)
    images = make_images(count, size, seed=4)
    shown = corruptions(sp.PowerSpectrum.estimate(images.split(64)))
    figure, axis = sheet(len(shown), len(TIMES), size, scale=2, left=112, top=26)
    plots.strip(images[3], shown, axis, times=TIMES, seed=1)
    # Noise does not compress; 256 colours are a third of the bytes.
    save(figure, options.out, dpi=100, colours=256)


if __name__ == "__main__":
    main()
