"""A pretrained pipeline of diffusers in fewer calls: the multistep solver that is told the data's spectrum.

    python examples/sample_pretrained.py google/ddpm-cifar10-32 --data PATH --steps 10
    python examples/sample_pretrained.py FOLDER --data PATH --steps 5 10 20

MODEL is an unconditional pipeline with `unet` and `scheduler`: a folder, or a name on the Hugging Face hub. `--data`
has images like those that it was trained with (a folder, parquet file, array, or name on the hub); a few hundred are
enough for the spectrum. They are fitted to the network's size; a warning tells if that enlarges them. Nothing is
trained.

From the same noise, images are sampled by this library, and by DDIM and DPM-Solver++ of diffusers. All three follow one
ordinary differential equation, so each is compared with its solution, by `--converged` calls of DDIM: the table has the
root mean square distance from it, over all pixels in [-1, 1]. A network that predicts noise errs most where that
equation begins. This library begins later, and may be the farther from the solution because it is the nearer to the
data: so the second number is the error of the samples' power, the mean of |log(power / data's)| over rings of equal
frequency. `samples.png` shows the images, `samples.npz` holds ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler
from torch import Tensor

import shortest_path as sp
from recipe.arguments import add_on_error, device, in_flags, output_folder, positive
from recipe.cifar10 import load
from recipe.figures import draw_rows
from recipe.images import check_several, to_uint8, to_unit
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
        check_steps(args, len(corruption.alphas_cumprod))
        images = to_unit(load(args.data, size=shape[1], on_error=args.on_error).images)
        check_several(images, args.data)
        spectrum = sp.PowerSpectrum.estimate(images.split(500))
        if spectrum.shape != shape:
            raise ValueError(f"the model makes images of {shape}, --data has {spectrum.shape}; pass others")
    except (OSError, ValueError, AttributeError) as error:
        raise SystemExit(f"sample_pretrained: {in_flags(error)}") from error
    noise = torch.randn(args.count, *shape, generator=torch.Generator().manual_seed(args.seed)).to(args.device)
    # A clipped prediction would be another ODE: samples may be clipped, not what leads to them.
    settings = {**pipeline.scheduler.config, "clip_sample": False, "thresholding": False}
    theirs = {name: kind.from_config(settings) for name, kind in THEIRS.items()}
    exact = with_theirs(theirs["DDIM"], unet, noise, args.converged)
    rows = {f"DDIM, {args.converged}": exact}
    print("distance from the solution, error of power")
    print("| calls | " + " | ".join([OURS, *THEIRS]) + " |\n" + "|---" * (len(THEIRS) + 2) + "|")
    print(f"| {args.converged} | | {errors(exact, exact, spectrum)} | |")
    for steps in args.steps:
        sampler = sp.Sampler(
            TimedModel(unet), corruption.to(args.device), prediction=prediction, steps=steps, spectrum=spectrum
        )
        found = {OURS: sampler.sample(noise.shape, x_1=sampler.initial_noise(noise), device=args.device)}
        found |= {name: with_theirs(scheduler, unet, noise, steps) for name, scheduler in theirs.items()}
        print(f"| {steps} | " + " | ".join(errors(each, exact, spectrum) for each in found.values()) + " |", flush=True)
        rows |= {f"{name}, {steps}": each for name, each in found.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    shown = [(name, each[: args.shown].cpu()) for name, each in rows.items()]
    draw_rows(args.out / "samples.png", "From the same noise, by solver and number of calls", shown)
    np.savez(args.out / "samples.npz", to_uint8(rows[f"{OURS}, {args.steps[-1]}"].cpu()))
    print(f"{args.out}/samples.png, samples.npz: {args.count} images, seed {args.seed}")


def errors(samples: Tensor, exact: Tensor, spectrum: sp.PowerSpectrum) -> str:
    """Return the distance of samples from the solution, and the error of their power, as a cell of the table."""
    distance = (samples - exact).square().mean().sqrt().item()
    values = samples.cpu().double()
    u = spectrum.basis.analyze(values if spectrum.mean is None else values - spectrum.mean)
    found = sp.PowerSpectrum(spectrum.basis, u.square().mean(0)).radial_average()[1]
    error = (found / spectrum.radial_average()[1]).log().abs().mean().item()
    return f"{distance:.4f}, {error:.2f}"


@torch.no_grad()
def with_theirs(scheduler: Any, unet: Any, noise: Tensor, steps: int) -> Tensor:
    """Return the samples of a scheduler of diffusers, which is deterministic, from the noise."""
    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = unet(scheduler.scale_model_input(x, t), t.to(x.device)).sample
        x = scheduler.step(output[:, : x.shape[1]], t, x).prev_sample
    return x


def check_steps(args: argparse.Namespace, trained: int) -> None:
    """Raise a ValueError for more calls than the schedule has steps, which the schedulers of diffusers do not take."""
    for flag, count in (("--steps", max(args.steps)), ("--converged", args.converged)):
        if count > trained:
            raise ValueError(
                f"{flag} {count} is more than the {trained} steps of the pipeline's schedule; choose fewer"
            )


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
    parser.add_argument("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the noise (%(default)s)")
    add_on_error(parser)
    parser.add_argument("--out", type=output_folder, default="outputs/pretrained", help="folder (%(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
