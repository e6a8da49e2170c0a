"""Plot docs/figures/kl.svg: KL divergence of samples from Gaussian data, by number of steps.

    python -m docs.figures.kl [--data PATH]

KL(generated ‖ data) in nats of ancestral sampling ("large" variance) with the optimal denoiser, computed exactly from
covariances, without training or sampling. The data are Gaussian with the covariance between channels at every cosine
frequency, as measured on 2,048 dead leaves of 32×32 pixels or on the images of `--data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from torch import Tensor

import shortest_path as sp
from docs.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, WIDTH, make_images, measure, parser, print_table, save

STEPS = (5, 10, 20, 50, 100, 250)
LOOKS = {
    "shortest path, rotated channels": (BLUE, "o-"),
    "shortest path, RGB": (PURPLE, "s-"),
    "Gaussian noise, cosine": (ORANGE, "^-"),
    "Gaussian noise, cosine, even steps": (GREEN, "v--"),
    "Gaussian noise, flow, even steps": (GREY, "d--"),
}


def closed_form(power: Tensor, steps: int) -> Tensor:
    """Return each coefficient's KL on the geodesic, to lowest order in 1/T: (S log S / (S − 1))² / 4T²."""
    return (power * power.log() / (power - 1)).square() / (4 * steps**2)


def compute(estimator: sp.spectra.SpectrumEstimator, steps: Sequence[int] = STEPS) -> dict[str, list[float]]:
    """Return the KL for each number of steps, by corruption."""
    data = estimator.spectrum("rotate")
    cosine, flow = sp.GaussianCorruption("cosine"), sp.GaussianCorruption("flow")
    uniform = {
        "shortest path, rotated channels": sp.ShortestPathCorruption(data),
        "shortest path, RGB": sp.ShortestPathCorruption(estimator.spectrum("independent")),
        "Gaussian noise, cosine": cosine,
    }
    result = {name: [sp.gaussian_kl(c, data, steps=count) for count in steps] for name, c in uniform.items()}
    for corruption, name in ((cosine, "cosine"), (flow, "flow")):
        grid = sp.grids.Fisher(corruption, data)
        result[f"Gaussian noise, {name}, even steps"] = [
            sp.gaussian_kl(corruption, data, times=grid(count)) for count in steps
        ]
    return result


def draw(found: dict[str, list[float]], steps: Sequence[int], path: Path) -> None:
    """Plot KL against steps."""
    figure, axis = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
    for name, values in found.items():
        colour, marks = LOOKS[name]
        axis.loglog(steps, values, marks, color=colour, label=name, markersize=5)
    axis.set_xticks(steps, [str(count) for count in steps])
    axis.minorticks_off()
    axis.set(xlabel="steps", ylabel="KL(generated ‖ data), nats")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left", ncols=1)
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and plot."""
    options = parser(__doc__, "kl.svg", data=True).parse_args(arguments)
    count, size = (128, 8) if options.quick else (2048, 32)
    steps = STEPS[:3] if options.quick else STEPS
    estimator = measure(make_images(count, size, options.data))
    power = estimator.spectrum("rotate").power
    parts = closed_form(power, 50)
    print(f"closed form for the geodesic at T = 50: {float(parts.sum()):.3g} nats,", end=" ")
    print(f"{float(parts[power > 1].sum() / parts.sum()):.0%} of it where S > 1")
    found = compute(estimator, steps)
    rows = {name: [f"{value:.3g}" for value in values] for name, values in found.items()}
    print_table("corruption", [f"T = {count}" for count in steps], rows)
    draw(found, steps, options.out)


if __name__ == "__main__":
    main()
