"""Plot docs/figures/corruptions.png, the figure of the README: one image under three corruptions.

    python -m docs.figures.corruptions

The image is a sample of dead leaves of 64×64 pixels; the spectrum is that of 512 samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import shortest_path as sp
from docs.figures.style import make_images, parser, save, sheet
from shortest_path import plots

TIMES = (0.0, 0.15, 0.4, 0.7, 0.95)


def main(arguments: Sequence[str] | None = None) -> None:
    """Plot the figure."""
    options = parser(__doc__, "corruptions.png").parse_args(arguments)
    count, size = (64, 16) if options.quick else (512, 64)
    images = make_images(count, size, seed=4)
    corruptions = {
        "Gaussian\nnoise": sp.GaussianCorruption("cosine"),
        "blur\nand noise": sp.BlurCorruption(spatial=(size, size)),
        "shortest\npath": sp.ShortestPathCorruption(sp.PowerSpectrum.estimate(images.split(64))),
    }
    figure, axis = sheet(len(corruptions), len(TIMES), size, scale=2, left=76, top=24)
    plots.strip(images[3], corruptions, axis, times=TIMES, seed=1)
    # Noise does not compress; 128 colours are plenty for it and a third of the bytes.
    save(figure, options.out, dpi=100, colours=128)


if __name__ == "__main__":
    main()
