"""Plot docs/figures/lengths.svg: length of each corruption's path relative to the geodesic.

    python -m docs.figures.lengths [--data PATH]

Fisher lengths from the data to noise, computed exactly for Gaussian data with the covariance between channels at every
cosine frequency, as measured on 2,048 dead leaves of 32×32 pixels or on the images of `--data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt

import shortest_path as sp
from docs.figures.style import BLUE, GREY, WIDTH, make_images, measure, parser, print_table, save


def corruptions(estimator: sp.spectra.SpectrumEstimator) -> dict[str, sp.Corruption]:
    """Return the corruptions whose paths are measured."""
    rotated = estimator.spectrum("rotate")
    law = sp.PowerSpectrum.power_law(rotated.shape, amplitude=1.59, offset=0.0086, exponent=2.0, basis=sp.CosineBasis())
    return {
        "shortest path,\nrotated channels": sp.ShortestPathCorruption(rotated),
        "shortest path, RGB": sp.ShortestPathCorruption(estimator.spectrum("independent")),
        "shortest path of a\npower law, 1.59 / f²": sp.ShortestPathCorruption(law),
        "Gaussian noise, cosine": sp.GaussianCorruption("cosine"),
        "Gaussian noise, flow": sp.GaussianCorruption("flow"),
        "blur and noise": sp.BlurCorruption(spatial=rotated.shape[1:]),
    }


def compute(estimator: sp.spectra.SpectrumEstimator, *, rtol: float = 1e-5) -> tuple[float, dict[str, float]]:
    """Return the geodesic's length, and the paths' lengths relative to it by corruption."""
    data = estimator.spectrum("rotate")
    geodesic = sp.fisher_distance(data, 1.0)
    return geodesic, {
        name: sp.path_length(corruption, data, rtol=rtol) / geodesic
        for name, corruption in corruptions(estimator).items()
    }


def draw(lengths: dict[str, float], path: Path) -> None:
    """Plot the excess in per cent."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.3), layout="constrained")
    names = list(lengths)
    excess = [100 * (length - 1) for length in lengths.values()]
    axis.barh(range(len(names)), excess, color=[BLUE] + [GREY] * (len(names) - 1), height=0.62)
    for place, value in enumerate(excess):
        text = f"{value:.3f} %" if value < 0.1 else f"{value:.1f} %"
        axis.text(value + 0.02 * max(excess), place, text, va="center")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(xlabel="longer than the geodesic, %", xlim=(0, 1.2 * max(excess)))
    axis.grid(axis="y", visible=False)
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and plot."""
    options = parser(__doc__, "lengths.svg", data=True).parse_args(arguments)
    count, size = (128, 8) if options.quick else (2048, 32)
    estimator = measure(make_images(count, size, options.data))
    geodesic, lengths = compute(estimator, rtol=1e-3 if options.quick else 1e-5)
    print(f"geodesic {geodesic:.2f} nats^½")
    rows = {name.replace("\n", " "): [f"{length:.5f}"] for name, length in lengths.items()}
    print_table("corruption", ["length / geodesic"], rows)
    draw(lengths, options.out)


if __name__ == "__main__":
    main()
