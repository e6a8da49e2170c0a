"""Draws docs/figures/corruptions.png, the figure of the README: one image under three corruptions."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from PIL import Image

import shortest_path as sp

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "examples"))

from dead_leaves import dead_leaves
from images import to_unit

SIZE, TIMES = 64, (0.0, 0.15, 0.4, 0.7, 0.95)


def main() -> None:
    """Draw the figure."""
    images = to_unit(dead_leaves(512, SIZE, seed=4))
    spectrum = sp.PowerSpectrum.estimate(images.split(64))
    corruptions = {
        "Gaussian noise": sp.GaussianCorruption("cosine"),
        "blur and noise": sp.BlurCorruption(spatial=(SIZE, SIZE)),
        "shortest path": sp.ShortestPathCorruption(spectrum),
    }
    x_0, eps = images[3:4], torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    figure, axes = plt.subplots(len(corruptions), len(TIMES), figsize=(7.6, 4.75))
    for row, (name, corruption) in zip(axes, corruptions.items(), strict=True):
        for axis, t in zip(row, TIMES, strict=True):
            x_t = corruption.corrupt(x_0, t, eps)[0]
            axis.imshow(((x_t.clamp(-1, 1) + 1) / 2).permute(1, 2, 0))
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if corruption is corruptions["Gaussian noise"]:
                axis.set_title(f"t = {t:g}", fontsize=10)
        row[0].set_ylabel(name, fontsize=10)
    figure.tight_layout(pad=0.4, w_pad=0.3, h_pad=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, facecolor="white")
    # Noise does not compress; 128 colours are plenty for it and a third of the bytes.
    Image.open(buffer).convert("RGB").quantize(128).save(HERE / "corruptions.png", optimize=True)


if __name__ == "__main__":
    main()
