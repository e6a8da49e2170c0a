"""Plot docs/figures/bases.svg: what each basis omits of the full covariance, and the cost in KL divergence.

    python -m docs.figures.bases [--data PATH]

The data are Gaussian with the full covariance of all pixels and channels, 768×768, of 12,000 dead leaves of 16×16
pixels and their mirrors, or of the images of `--data`. Two numbers for each basis: KL(data ‖ its diagonal in the
basis), and KL(generated ‖ data) of 50 ancestral steps along the shortest path in it, both in nats and exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import shortest_path as sp
from docs.figures.style import BLUE, GREY, ORANGE, WIDTH, make_images, measure, parser, print_table, save

NAMES = {"cosine": "cosine", "fourier": "Fourier"}


def off_diagonal(data: sp.PowerSpectrum, basis: sp.bases.Basis) -> float:
    """Return KL(N(0, Σ) ‖ N(0, diag Σ)) = ½ (Σ log diag − log det) in a basis, for data in principal components."""
    size = data.power.numel()
    units = torch.eye(size, dtype=torch.float64).reshape(size, *data.shape)
    # Row i: the i-th principal component of the data, scaled to its deviation, in the other basis.
    scaled = basis.analyze(data.basis.synthesize(units * data.power.sqrt())).flatten(1)
    return 0.5 * float((scaled**2).sum(0).log().sum() - data.power.log().sum())


def compute(images: Tensor, steps: int = 50) -> dict[str, tuple[float, float]]:
    """Return both numbers by basis; for isotropic noise, for which bases are all the same, the second only."""
    data = measure(images, "principal").spectrum()
    result = {"principal components": (0.0, sp.gaussian_kl(sp.ShortestPathCorruption(data), data, steps=steps))}
    for name in NAMES:
        estimator = measure(images, name)
        for channels, label in (("rotate", "rotated channels"), ("independent", "RGB")):
            spectrum = estimator.spectrum(channels)
            kl = sp.gaussian_kl(sp.ShortestPathCorruption(spectrum), data, steps=steps)
            result[f"{NAMES[name]}, {label}"] = off_diagonal(data, spectrum.basis), kl
    result["no basis: Gaussian noise"] = float("nan"), sp.gaussian_kl(sp.GaussianCorruption(), data, steps=steps)
    return result


def draw(found: dict[str, tuple[float, float]], steps: int, path: Path) -> None:
    """Plot the KL of samples."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2), layout="constrained")
    names = list(found)
    values = [pair[1] for pair in found.values()]
    colours = [ORANGE if "Gaussian" in name else GREY if "RGB" in name else BLUE for name in names]
    # Points, as a bar on a logarithmic axis has no beginning.
    axis.scatter(values, range(len(names)), color=colours, s=70, zorder=3)
    for place, value in enumerate(values):
        axis.text(1.5 * value, place, f"{value:.2g}", va="center")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel=f"KL(generated ‖ data), {steps} steps, nats")
    axis.set_xlim(0.5 * min(values), 6 * max(values))
    axis.minorticks_off()
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and plot."""
    options = parser(__doc__, "bases.svg", data=True).parse_args(arguments)
    count, size, steps = (512, 4, 10) if options.quick else (12_000, 16, 50)
    found = compute(make_images(count, size, options.data), steps)
    rows = {name: [f"{value:.3g}" for value in pair] for name, pair in found.items()}
    print_table("basis", ["KL(data ‖ diagonal)", f"KL(generated ‖ data), T = {steps}"], rows)
    draw(found, steps, options.out)


if __name__ == "__main__":
    main()
