"""Plot docs/figures/scales.svg: signal and noise of coefficients over time, under three corruptions.

    python -m docs.figures.scales [--data PATH]

Signal a_t and noise s_t of coefficients of brightness, of vertical frequency k half waves per image; S is measured on
2,048 dead leaves of 32×32 pixels, or on the images of `--data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import shortest_path as sp
from docs.figures.style import WIDTH, frequency_legend, make_images, measure, parser, save, shades
from docs.figures.variances import FREQUENCIES


def corruptions(spectrum: sp.PowerSpectrum) -> dict[str, sp.Corruption]:
    """Return the three corruptions that are compared."""
    blur = sp.BlurCorruption(spatial=spectrum.shape[1:], channel_rotation=spectrum.basis.channel_rotation)
    return {
        "Gaussian noise": sp.GaussianCorruption("cosine"),
        "blur and noise": blur,
        "shortest path": sp.ShortestPathCorruption(spectrum),
    }


def compute(spectrum: sp.PowerSpectrum, times: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return (signal, noise) by corruption, each (time, C, H, W)."""
    shape = (len(times), *spectrum.shape)
    return {
        name: (corruption.signal(times).expand(shape), corruption.noise(times).expand(shape))
        for name, corruption in corruptions(spectrum).items()
    }


def draw(times: Tensor, found: dict[str, tuple[Tensor, Tensor]], path: Path) -> None:
    """Plot signal and noise side by side, a row for each corruption."""
    rows = [k for k in FREQUENCIES if k < next(iter(found.values()))[0].shape[2]]
    figure, axes = plt.subplots(len(found), 2, figsize=(WIDTH, 5.6), sharex=True, sharey=True, layout="constrained")
    for pair, (name, both) in zip(axes, found.items(), strict=True):
        for axis, values in zip(pair, both, strict=True):
            curves = values[:, 0, rows, 0].T
            same = bool((curves == curves[0]).all())
            for k, curve, colour in zip(rows, curves, shades(len(rows)), strict=True):
                axis.plot(times, curve, color="#555555" if same else colour, label=f"{k}")
            if same:
                falls = bool(curves[0, 0] > curves[0, -1])
                axis.text(0.04 if falls else 0.96, 0.06, "all frequencies", ha="left" if falls else "right")
            axis.set(ylim=(-0.03, 1.03), yticks=[0, 0.5, 1], yticklabels=["0", "½", "1"])
            axis.set(xticks=[0, 0.5, 1], xticklabels=["0", "½", "1"])
        pair[0].set_ylabel(name)
    axes[0, 0].set_title("signal aₜ")
    axes[0, 1].set_title("noise sₜ")
    for axis in axes[-1]:
        axis.set_xlabel("t")
    frequency_legend(figure, axes[-1, 0], len(rows))
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and plot."""
    options = parser(__doc__, "scales.svg", data=True).parse_args(arguments)
    count, size = (128, 8) if options.quick else (2048, 32)
    spectrum = measure(make_images(count, size, options.data)).spectrum("rotate")
    times = torch.linspace(0, 1, 201, dtype=torch.float64)
    found = compute(spectrum, times)
    draw(times, found, options.out)


if __name__ == "__main__":
    main()
