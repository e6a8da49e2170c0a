"""Plot docs/figures/lost.svg: times at which each frequency is lost in noise, under three corruptions.

    python -m docs.figures.lost [--data PATH]

A bar runs from the time at which the signal-to-noise ratio a_t² S / s_t² of a coefficient falls below 10 to the time at
which it falls below 1/10, with a mark where it is 1. S is measured as for `scales.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import shortest_path as sp
from docs.figures.scales import corruptions
from docs.figures.style import BLUE, GREEN, ORANGE, WIDTH, make_images, measure, parser, print_table, save
from docs.figures.variances import FREQUENCIES

RATIOS = (10.0, 1.0, 0.1)


def crossings(corruption: sp.Corruption, spectrum: sp.PowerSpectrum, row: int, points: int = 2001) -> list[float]:
    """Return the times at which the signal-to-noise ratio of brightness at vertical frequency `row` passes `RATIOS`."""
    # Closest together at both ends, where weak and strong frequencies are lost.
    times = (1 - torch.cos(math.pi * torch.linspace(0, 1, points, dtype=torch.float64)[1:-1])) / 2
    shape = (len(times), *spectrum.shape)
    signal = corruption.signal(times).expand(shape)[:, 0, row, 0]
    noise = corruption.noise(times).expand(shape)[:, 0, row, 0]
    falling = (signal**2 * spectrum.power[0, row, 0] / noise**2).log().numpy()
    return [float(np.interp(-math.log(ratio), -falling, times.numpy())) for ratio in RATIOS]


def compute(spectrum: sp.PowerSpectrum) -> dict[str, dict[int, list[float]]]:
    """Return the crossings by corruption and frequency."""
    rows = [k for k in FREQUENCIES if k < spectrum.shape[1]]
    return {
        name: {k: crossings(corruption, spectrum, k) for k in rows}
        for name, corruption in corruptions(spectrum).items()
    }


def draw(found: dict[str, dict[int, list[float]]], path: Path) -> None:
    """Plot the bars, a group for each frequency."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.9), layout="constrained")
    rows = list(next(iter(found.values())))
    for offset, (colour, (name, times)) in enumerate(zip((ORANGE, GREEN, BLUE), found.items(), strict=True)):
        for place, k in enumerate(rows):
            first, middle, last = times[k]
            height = place + 0.26 * (1 - offset)
            axis.plot(
                [first, last],
                [height] * 2,
                color=colour,
                linewidth=5,
                solid_capstyle="butt",
                label=name if not place else None,
            )
            axis.plot(middle, height, "o", color="white", markersize=4.5, markeredgecolor="black", markeredgewidth=0.9)
    axis.set(xlim=(0, 1), xlabel="t", ylabel="frequency, half waves per image")
    axis.set_yticks(range(len(rows)), [str(k) for k in rows])
    axis.grid(axis="y", visible=False)
    figure.legend(
        *axis.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=len(found),
        columnspacing=1.2,
        handlelength=1.0,
    )
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and plot."""
    options = parser(__doc__, "lost.svg", data=True).parse_args(arguments)
    count, size = (128, 8) if options.quick else (2048, 32)
    spectrum = measure(make_images(count, size, options.data)).spectrum("rotate")
    found = compute(spectrum)
    for name, times in found.items():
        rows = {f"{k}": [f"{t:.3f}" for t in three] + [f"{three[2] - three[0]:.3f}"] for k, three in times.items()}
        print_table(f"{name}: frequency", ["ratio 10 at t", "1", "1/10", "between"], rows)
    draw(found, options.out)


if __name__ == "__main__":
    main()
