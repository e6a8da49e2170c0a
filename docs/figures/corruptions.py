"""Plot docs/figures/corruptions.png, the figure of the README: one image under three corruptions.

    python -m docs.figures.corruptions

The image is a sample of dead leaves of 64×64 pixels; the spectrum is that of 512 samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import shortest_path as sp
from docs.figures.style import make_images, parser, save

TIMES = (0.0, 0.15, 0.4, 0.7, 0.95)


def compute(images: Tensor, chosen: int, times: Sequence[float] = TIMES) -> dict[str, list[Tensor]]:
    """Return one of the images at all times, (C, H, W) each, by corruption."""
    size = images.shape[-1]
    corruptions = {
        "Gaussian noise": sp.GaussianCorruption("cosine"),
        "blur and noise": sp.BlurCorruption(spatial=(size, size)),
        "shortest path": sp.ShortestPathCorruption(sp.PowerSpectrum.estimate(images.split(64))),
    }
    x_0, eps = images[chosen, None], torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    return {name: [corruption.corrupt(x_0, t, eps)[0] for t in times] for name, corruption in corruptions.items()}


def draw(found: dict[str, list[Tensor]], times: Sequence[float], path: Path) -> None:
    """Plot a row for each corruption and a column for each time."""
    figure, axes = plt.subplots(len(found), len(times), figsize=(7.6, 4.75))
    for place, (name, images) in enumerate(found.items()):
        for axis, t, image in zip(axes[place], times, images, strict=True):
            axis.imshow(((image.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy())
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if place == 0:
                axis.set_title(f"t = {t:g}")
        axes[place, 0].set_ylabel(name)
    figure.tight_layout(pad=0.4, w_pad=0.3, h_pad=0.3)
    # Noise does not compress; 128 colours are plenty for it and a third of the bytes.
    save(figure, path, dpi=100, colours=128)


def main(arguments: Sequence[str] | None = None) -> None:
    """Plot the figure."""
    options = parser(__doc__, "corruptions.png").parse_args(arguments)
    count, size = (64, 16) if options.quick else (512, 64)
    draw(compute(make_images(count, size, seed=4), 3), TIMES, options.out)


if __name__ == "__main__":
    main()
