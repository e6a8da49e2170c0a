"""Plot docs/figures/variances.svg: variance over time, on the geodesic and under Gaussian noise.

    python -m docs.figures.variances [--data PATH]

Each line is Σ_t = a_t² S + s_t² of one coefficient of brightness, of vertical frequency k half waves per image; S
is measured on 2,048 dead leaves of 32×32 pixels, or on the images of `--data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import shortest_path as sp
from docs.figures.style import WIDTH, frequency_legend, make_images, measure, parser, save, shades

FREQUENCIES = (0, 1, 4, 8, 16, 31)


def variances(corruption: sp.Corruption, power: Tensor, times: Tensor) -> Tensor:
    """Return Σ_t = a_t² S + s_t² of all coefficients, (time, C, H, W)."""
    return corruption.signal(times) ** 2 * power + corruption.noise(times) ** 2


def compute(spectrum: sp.PowerSpectrum, points: int = 201) -> tuple[Tensor, dict[str, Tensor]]:
    """Return times, and Σ_t by corruption, (time, C, H, W)."""
    times = torch.linspace(0, 1, points, dtype=torch.float64)
    corruptions = {
        "shortest path": sp.ShortestPathCorruption(spectrum),
        "Gaussian noise, cosine": sp.GaussianCorruption("cosine"),
    }
    return times, {name: variances(corruption, spectrum.power, times) for name, corruption in corruptions.items()}


def draw(times: Tensor, found: dict[str, Tensor], path: Path) -> None:
    """Plot a panel for each corruption."""
    rows = [k for k in FREQUENCIES if k < next(iter(found.values())).shape[2]]
    figure, axes = plt.subplots(1, len(found), figsize=(WIDTH, 3.4), sharey=True, layout="constrained")
    for axis, (name, values) in zip(axes, found.items(), strict=True):
        for k, colour in zip(rows, shades(len(rows)), strict=True):
            axis.semilogy(times, values[:, 0, k, 0], color=colour, label=f"{k}")
        axis.set(title=name, xlabel="t", xticks=[0, 0.5, 1], xticklabels=["0", "½", "1"])
    axes[0].set_ylabel("variance Σₜ")
    frequency_legend(figure, axes[0], len(rows))
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and plot."""
    options = parser(__doc__, "variances.svg", data=True).parse_args(arguments)
    count, size = (128, 8) if options.quick else (2048, 32)
    spectrum = measure(make_images(count, size, options.data)).spectrum("rotate")
    print("S of brightness:", {k: f"{float(spectrum.power[0, k, 0]):.3g}" for k in FREQUENCIES if k < size})
    print(f"coefficients with S > 1: {int((spectrum.power > 1).sum())} of {spectrum.power.numel()}")
    draw(*compute(spectrum), options.out)


if __name__ == "__main__":
    main()
