"""A pretrained pipeline of diffusers in fewer calls: the multistep solver that is told the data's spectrum.

    python examples/sample_pretrained.py google/ddpm-cifar10-32 --data PATH --steps 10
    python examples/sample_pretrained.py FOLDER --data PATH --steps 5 10 20

MODEL is an unconditional pipeline with `unet` and `scheduler`: a folder, or a name on the Hugging Face hub. `--data`
has images like those that it was trained with (a folder, parquet file, array, or name on the hub); a few hundred are
enough for the spectrum. Nothing is trained.

From the same noise, images are sampled by this library, and by DDIM and DPM-Solver++ of diffusers. All three follow one
ordinary differential equation, so each is compared with its solution, by `--converged` calls of DDIM. The table has
the root mean square distance from it, over all pixels in [-1, 1]. `samples.png` shows the images, `samples.npz` holds
ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler
from matplotlib.figure import Figure
from torch import Tensor

import shortest_path as sp
from recipe.arguments import positive
from recipe.cifar10 import load
from recipe.images import to_uint8, to_unit
from shortest_path import plots
from shortest_path.integrations.diffusers import TimedModel, read_scheduler

THEIRS = {"DDIM": DDIMScheduler, "DPM-Solver++": DPMSolverMultistepScheduler}
OURS = "multistep, spectrum"


def main(argv: Sequence[str] | None = None) -> None:
    """Sample with every solver and number of calls, and compare."""
    args = parse(argv)
    try:
        pipeline = DiffusionPipeline.from_pretrained(args.model)
        unet = pipeline.unet.to(args.device).eval()
        corruption, prediction = read_scheduler(pipeline.scheduler)
        shape = (unet.config.in_channels, *2 * (unet.config.sample_size,))
        images = to_unit(load(args.data, size=shape[1]).images)
        spectrum = sp.PowerSpectrum.estimate(images.split(500))
        if spectrum.shape != shape:
            raise ValueError(f"the model makes images of {shape}, --data has {spectrum.shape}; pass others")
    except (OSError, ValueError, AttributeError) as error:
        raise SystemExit(f"sample_pretrained: {error}") from error
    noise = torch.randn(args.count, *shape, generator=torch.Generator().manual_seed(args.seed)).to(args.device)
    # A clipped prediction would be another ODE: samples may be clipped, not what leads to them.
    settings = {**pipeline.scheduler.config, "clip_sample": False, "thresholding": False}
    theirs = {name: kind.from_config(settings) for name, kind in THEIRS.items()}
    exact = with_theirs(theirs["DDIM"], unet, noise, args.converged)
    rows = {f"DDIM, {args.converged}": exact}
    print("| calls | " + " | ".join([OURS, *THEIRS]) + " |\n" + "|---" * (len(THEIRS) + 2) + "|")
    for steps in args.steps:
        sampler = sp.Sampler(
            TimedModel(unet), corruption.to(args.device), prediction=prediction, steps=steps, spectrum=spectrum
        )
        found = {OURS: sampler.sample(noise.shape, x_1=noise, device=args.device)}
        found |= {name: with_theirs(scheduler, unet, noise, steps) for name, scheduler in theirs.items()}
        errors = [f"{(each - exact).square().mean().sqrt().item():.4f}" for each in found.values()]
        print(f"| {steps} | " + " | ".join(errors) + " |", flush=True)
        rows |= {f"{name}, {steps}": each for name, each in found.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    draw(args.out / "samples.png", {name: each[: args.shown] for name, each in rows.items()})
    np.savez(args.out / "samples.npz", to_uint8(rows[f"{OURS}, {args.steps[-1]}"].cpu()))
    print(f"{args.out}/samples.png, samples.npz: {args.count} images, seed {args.seed}")


@torch.no_grad()
def with_theirs(scheduler: Any, unet: Any, noise: Tensor, steps: int) -> Tensor:
    """Return the samples of a scheduler of diffusers, which is deterministic, from the noise."""
    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = unet(scheduler.scale_model_input(x, t), t.to(x.device)).sample
        x = scheduler.step(output[:, : x.shape[1]], t, x).prev_sample
    return x


def draw(path: Path, rows: dict[str, Tensor]) -> None:
    """Draw a row of images for each solver and number of calls."""
    count = len(next(iter(rows.values())))
    figure = Figure(figsize=(1.1 * count + 2, 1.15 * len(rows)), layout="constrained")
    axis = plots.images(torch.cat([each.cpu() for each in rows.values()]), figure.subplots(), columns=count)
    height = axis.get_ylim()[0] / len(rows)
    axis.set_yticks([(row + 0.5) * height for row in range(len(rows))], list(rows))
    axis.tick_params(length=0)
    figure.savefig(path, dpi=130)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="sample_pretrained.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a pipeline, or its name on the hub")
    parser.add_argument("--data", required=True, help="images like those it was trained with, for the spectrum")
    parser.add_argument("--steps", type=positive, nargs="+", default=[10], help="model calls (%(default)s)")
    parser.add_argument("--count", type=positive, default=64, help="number of images (%(default)s)")
    parser.add_argument("--shown", type=positive, default=8, help="number of images in the figure (%(default)s)")
    parser.add_argument("--converged", type=positive, default=250, help="calls of the solution (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the noise (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("outputs/pretrained"), help="folder (%(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
