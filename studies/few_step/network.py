"""Part (c) of the few-step study: a small trained network."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import shortest_path as sp
from examples.recipe.finished import Trained, load_trained
from studies.few_step.cases import DDIM, FEW, SETS, Error, Sizes, error
from studies.few_step.mixture import random_directions, sliced_distance
from studies.few_step.report import header, line, show, title


def load_network(folder: Path) -> Trained:
    """Return the averaged network that examples/quickstart.py trained along the shortest path.

    Raises:
        SystemExit: the folder has no such network.
    """
    try:
        return load_trained(folder)
    except (OSError, ValueError) as problem:
        raise SystemExit(f"few_step: {problem}") from problem


def network_part(
    folder: Path, network: Trained, images: Tensor, count: int, calls: Sequence[int], sizes: Sizes
) -> dict[str, Any]:
    """Print and return a network's distance from its own converged ODE, and that of its samples from the data."""
    model, corruption, spectrum, _ = network
    shape = spectrum.shape
    if tuple(images.shape[1:]) != shape:
        raise SystemExit(
            f"few_step: the network makes images {shape}, --data has {tuple(images.shape[1:])}; pass its training data"
        )
    options: dict[str, dict[str, Any]] = {DDIM: {"solver": "ddim", "grid": "uniform"}}
    for grid in ("cosine", "spectrum"):
        for corrector in (False, True):
            name = f"rotation, order 2{' + corrector' if corrector else ''}, {grid} grid"
            options[name] = {"solver": sp.solvers.Multistep(corrector=corrector), "grid": grid}

    def samples(name: str, steps: int, batch: int, seed: int, clip: tuple[float, float] | None) -> Tensor:
        chosen = sp.Sampler(model, corruption, prediction="whitened-velocity", steps=steps, **options[name])
        generator = torch.Generator().manual_seed(seed)
        return chosen.sample((batch, *shape), generator=generator, clip=clip, progress=False)

    best = "rotation, order 2 + corrector, spectrum grid"
    converged = samples(best, sizes.network_reference, count, 2, None)
    print(f"\n## (c) A trained network: RMSE from its ODE in {sizes.network_reference} calls, median (90 % quantile)")
    title(str(folder), calls)
    errors: list[Error] = []
    for name in options:
        errors += show(error("network", name, n, samples(name, n, count, 2, None), converged) for n in calls)

    number = min(sizes.network_samples, len(images) // 2)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(5))
    parts = [images[part].float() for part in order.split(number) if len(part) == number][: 2 * SETS]
    directions, whole = random_directions(shape), radial_power(images, spectrum)
    half = len(parts) // 2
    floor = [sliced_distance(a, b, directions) for a, b in zip(parts[:half], parts[half : 2 * half], strict=True)]
    ripple = [radial_error(part, whole, spectrum) for part in parts]
    print(
        f"\n{number} samples clipped to [-1, 1]: sliced Wasserstein distance to the data; relative error of the power\n"
    )
    few = [n for n in calls if n <= FEW]
    header(["solver", *(str(n) for n in few), "data themselves"])
    sets = []
    for name in (DDIM, best):
        found = {n: samples(name, n, number, 6, (-1.0, 1.0)) for n in few}
        sliced = {n: statistics.mean(sliced_distance(x, part, directions) for part in parts) for n, x in found.items()}
        power = {n: radial_error(x, whole, spectrum) for n, x in found.items()}
        cells = [f"{sliced[n]:.4f}; {power[n]:.3f}" for n in few]
        line([name, *cells, f"{statistics.mean(floor):.4f}; {statistics.mean(ripple):.3f}"])
        sets.append({"setting": name, "sliced": sliced, "power": power})
    return {
        "folder": str(folder),
        "errors": [one._asdict() for one in errors],
        "samples": sets,
        "floor": {"sliced": statistics.mean(floor), "power": statistics.mean(ripple)},
    }


def radial_power(images: Tensor, spectrum: sp.PowerSpectrum) -> Tensor:
    """Return the mean power of images in rings of frequency, (C, rings)."""
    power = spectrum.basis.analyze(images.double()).square().mean(0)
    return sp.PowerSpectrum(spectrum.basis, power).radial_average()[1]


def radial_error(images: Tensor, of_data: Tensor, spectrum: sp.PowerSpectrum) -> float:
    """Return the mean of |power / data's power − 1| over channels and rings."""
    return (radial_power(images, spectrum) / of_data - 1).abs().mean().item()
