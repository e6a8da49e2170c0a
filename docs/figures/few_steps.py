"""Plot docs/figures/few_steps.svg: distance of solvers from the converged ODE, by number of model calls.

    python -m docs.figures.few_steps [--data PATH]

The model is the exact denoiser of a mixture (studies/few_step/mixture.py): 100 images of 16×16 pixels, each with a
Gaussian cloud around it. The error is the root mean square distance of images from those of the converged
probability-flow ODE of the same corruption, in pixels of range [-1, 1]: its median over 32 starting noises.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import shortest_path as sp
from docs.figures.style import BLUE, GREEN, ORANGE, WIDTH, make_images, measure, parser, print_table, save
from studies.few_step.mixture import Mixture

CALLS = (5, 10, 20, 50, 100)
LOOKS = {"DDIM": (ORANGE, "^-"), "multistep, exponential": (GREEN, "s-"), "multistep, rotation": (BLUE, "o-")}


class Blind:
    """A corruption without its spectrum, so that a solver does not know the data's power."""

    def __init__(self, corruption: sp.Corruption) -> None:
        self.basis, self.signal, self.noise = corruption.basis, corruption.signal, corruption.noise


def solve(mixture: Mixture, corruption: sp.Corruption, white: Tensor, **options: Any) -> Tensor:
    """Sample from white noise with the mixture's exact denoiser."""
    sampler = sp.Sampler(mixture.model(corruption), corruption, prediction="data", **options)
    x_1 = mixture.start(corruption, sampler.times[0], white)
    return sampler.sample(x_1.shape, x_1=x_1, dtype=white.dtype, progress=False)


def distance(x: Tensor, y: Tensor) -> float:
    """Return the median over images of the root mean square difference."""
    return float((x - y).square().flatten(1).mean(1).sqrt().median())


def compute(
    mixture: Mixture, *, samples: int = 32, calls: Sequence[int] = CALLS, reference: int = 1000
) -> dict[str, dict[str, list[float]]]:
    """Return the median error for each number of calls, by corruption and solver."""
    generator = torch.Generator().manual_seed(0)
    white = torch.randn((samples, *mixture.spectrum.shape), generator=generator, dtype=torch.float64)
    told: dict[str, Any] = {"solver": "multistep", "spectrum": mixture.spectrum}
    result: dict[str, dict[str, list[float]]] = {}
    corruptions = {
        "Gaussian noise, cosine": sp.GaussianCorruption("cosine"),
        "shortest path": sp.ShortestPathCorruption(mixture.spectrum),
    }
    for name, corruption in corruptions.items():
        converged = solve(mixture, corruption, white, steps=reference, **told)
        solvers: dict[str, tuple[sp.Corruption, dict[str, Any]]] = {
            "DDIM": (corruption, {"solver": "ddim"}),
            "multistep, exponential": (Blind(corruption), {"solver": "multistep"}),
            "multistep, rotation": (corruption, told),
        }
        result[name] = {
            solver: [distance(solve(mixture, process, white, steps=steps, **options), converged) for steps in calls]
            for solver, (process, options) in solvers.items()
        }
    return result


def draw(found: dict[str, dict[str, list[float]]], calls: Sequence[int], path: Path) -> None:
    """Plot a panel for each corruption."""
    figure, axes = plt.subplots(1, len(found), figsize=(WIDTH, 3.9), sharey=True, layout="constrained")
    for axis, (name, solvers) in zip(axes, found.items(), strict=True):
        for solver, errors in solvers.items():
            colour, marks = LOOKS[solver]
            axis.loglog(calls, errors, marks, color=colour, label=solver, markersize=5)
        axis.set_xticks(calls, [str(count) for count in calls])
        axis.minorticks_off()
        axis.set(title=name, xlabel="model calls")
    axes[0].set_ylabel("distance from the converged ODE")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=1)
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and plot."""
    options = parser(__doc__, "few_steps.svg", data=True).parse_args(arguments)
    count, size = (128, 8) if options.quick else (2048, 16)
    images = make_images(count, size, options.data).double()
    # About zero, as the mixture's exact denoiser is that of equation 1 without a mean.
    mixture = Mixture(images[:100], measure(images, center=False).spectrum("rotate"))
    sizes: dict[str, Any] = {"samples": 4, "calls": (5, 10, 20), "reference": 100} if options.quick else {}
    found = compute(mixture, **sizes)
    calls = sizes.get("calls", CALLS)
    for name, solvers in found.items():
        rows = {solver: [f"{error:.2g}" for error in errors] for solver, errors in solvers.items()}
        print_table(name, [f"{count} calls" for count in calls], rows)
    draw(found, calls, options.out)


if __name__ == "__main__":
    main()
