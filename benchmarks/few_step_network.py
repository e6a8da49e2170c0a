"""Part (c) of `few_step.py`: a small trained network."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import shortest_path as sp
from few_step_cases import DDIM, FEW, SETS, Error, Sizes, error, examples
from few_step_report import header, line, show, title
from mixture import random_directions, sliced_distance
from shortest_path.checkpoint import latest_checkpoint, load_checkpoint


def load_network(folder: Path) -> tuple[torch.nn.Module, sp.Corruption, sp.PowerSpectrum]:
    """Return the averaged network that examples/quickstart.py left, its corruption, and its data's spectrum.

    Raises:
        SystemExit: no checkpoint there, or one of another kind.
    """
    examples()
    from unet import WhitenedInput, small_unet

    path = latest_checkpoint(folder / "checkpoints") or latest_checkpoint(folder)
    if path is None:
        raise SystemExit(f"few_step: {folder} holds no checkpoint; make one with examples/quickstart.py --out {folder}")
    state = load_checkpoint(path)
    try:
        power, rotation = state["corruption"]["log_power"].exp(), state["corruption"]["basis.channel_rotation"]
        spectrum = sp.PowerSpectrum(sp.CosineBasis(2, rotation), power)
        corruption = sp.ShortestPathCorruption(spectrum)
        channels, size = power.shape[:2]
        model = WhitenedInput(small_unet(channels, size, inputs=2 * channels), corruption, spectrum)
        model.load_state_dict(state["ema"])
    except (KeyError, RuntimeError) as problem:
        raise SystemExit(f"few_step: {path} is not from examples/quickstart.py ({problem})") from problem
    return model.eval(), corruption, spectrum


def network_part(folder: Path, images: Tensor, count: int, calls: Sequence[int], sizes: Sizes) -> dict[str, Any]:
    """Print and return a network's distance from its own converged ODE, and its samples' from the data."""
    model, corruption, spectrum = load_network(folder)
    shape = spectrum.shape
    if tuple(images.shape[1:]) != shape:
        raise SystemExit(
            f"few_step: the network draws {shape}, the pictures are {tuple(images.shape[1:])}; pass its --data"
        )
    options: dict[str, dict[str, Any]] = {DDIM: {"solver": "ddim", "grid": "uniform"}}
    for grid in ("cosine", "spectrum"):
        for corrector in (False, True):
            name = f"rotation, order 2{' + corrector' if corrector else ''}, {grid} grid"
            options[name] = {"solver": "multistep", "grid": grid, "corrector": corrector}

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
        drawn = {n: samples(name, n, number, 6, (-1.0, 1.0)) for n in few}
        sliced = {n: statistics.mean(sliced_distance(x, part, directions) for part in parts) for n, x in drawn.items()}
        power = {n: radial_error(x, whole, spectrum) for n, x in drawn.items()}
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
