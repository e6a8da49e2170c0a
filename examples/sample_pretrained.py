"""A pretrained pipeline of diffusers in fewer calls: the multistep solver that is told the data's spectrum.

    python examples/sample_pretrained.py google/ddpm-cifar10-32 --data PATH --steps 10
    python examples/sample_pretrained.py FOLDER --data PATH --steps 5 10 20

MODEL is a pipeline of pixels, with `unet` and `scheduler` alone: a folder, or a name on the Hugging Face hub. If its
network has numbered classes, image i is of class i modulo their number. `--data` has images like those that it was
trained with (a folder, parquet file, array, or name on the hub); a few hundred are enough for the spectrum. They are
fitted to the network's size, unless that is not square; a warning tells if that enlarges them. Nothing is trained.

From the same noise, images are sampled by this library, and by DDIM and DPM-Solver++ of diffusers. All three follow one
ordinary differential equation, so each is compared with its solution, by `--converged` calls of DDIM: the table has the
root mean square distance from it, over all pixels in [-1, 1]. A network that predicts noise errs most where that
equation begins. This library begins later, and may be the farther from the solution because it is the nearer to the
data: so the second number is the error of the samples' power, the mean of |log(power / data's)| over rings of equal
frequency. `samples.png` shows the images, `samples.npz` holds ours and their classes.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler, UNet2DModel
from torch import Tensor

import shortest_path as sp
from recipe.arguments import add_on_error, device, in_flags, output_folder, positive, seed
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
        pipeline = load_pipeline(args.model)
        unet = pipeline.unet.to(args.device).eval()
        shape = shape_of_images(unet.config)
        corruption, prediction = read_scheduler(pipeline.scheduler)
        check_end(args.model, corruption.alphas_cumprod, prediction)
        theirs, trained = same_chain(pipeline.scheduler, corruption.alphas_cumprod), len(corruption.alphas_cumprod)
        check_steps(args, theirs, trained)
        spectrum = estimate(args, shape)
        noise = torch.randn(args.count, *shape, generator=torch.Generator().manual_seed(args.seed)).to(args.device)
        samplers = [
            sp.Sampler(
                TimedModel(unet, steps=trained),
                corruption.to(args.device),
                prediction=prediction,
                steps=steps,
                spectrum=spectrum,
            )
            for steps in args.steps
        ]
        starts = [initial_noise(sampler, noise) for sampler in samplers]
    except (OSError, ValueError) as error:
        raise SystemExit(f"sample_pretrained: {in_flags(error)}") from error
    classes = classes_of_images(unet.config, args.count)
    conditioning = {} if classes is None else {"class_labels": classes.to(args.device)}
    exact = with_theirs(theirs["DDIM"], unet, noise, args.converged, conditioning)
    if not bool(exact.isfinite().all()):
        raise SystemExit(f"sample_pretrained: DDIM of {args.model} makes NaN or infinite values; pass another MODEL")
    rows = {f"DDIM, {args.converged}": exact}
    print("distance from the solution, error of power")
    print("| calls | " + " | ".join([OURS, *THEIRS]) + " |\n" + "|---" * (len(THEIRS) + 2) + "|")
    print(f"| {args.converged} | | {errors(exact, exact, spectrum)} | |")
    for steps, sampler, start in zip(args.steps, samplers, starts, strict=True):
        found = {OURS: sampler.sample(noise.shape, x_1=start, conditioning=conditioning, device=args.device)}
        found |= {name: with_theirs(each, unet, noise, steps, conditioning) for name, each in theirs.items()}
        print(f"| {steps} | " + " | ".join(errors(each, exact, spectrum) for each in found.values()) + " |", flush=True)
        rows |= {f"{name}, {steps}": each for name, each in found.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    shown = [(name, each[: args.shown].cpu()) for name, each in rows.items()]
    draw_rows(args.out / "samples.png", "From the same noise, by solver and number of calls", shown)
    labels = [] if classes is None else [classes.numpy()]
    np.savez(args.out / "samples.npz", to_uint8(rows[f"{OURS}, {args.steps[-1]}"].cpu()), *labels)
    print(f"{args.out}/samples.png, samples.npz: {args.count} images, seed {args.seed}")


def load_pipeline(name: str) -> Any:
    """Return the pipeline in a folder or on the hub; raise a ValueError unless it is one of pixels without prompts."""
    folder = Path(name)
    if not name:
        raise ValueError("MODEL is empty; pass the folder of a pipeline, or its name on the hub (owner/name)")
    if folder.exists() and not (folder / "model_index.json").is_file():
        raise ValueError(
            f"{name} has no model_index.json, so it is not the folder of a pipeline; pass one that "
            "DiffusionPipeline.save_pretrained wrote"
        )
    if not folder.exists() and (name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise ValueError(f"{name} does not exist, and is not the name of a pipeline on the hub (owner/name)")
    try:
        pipeline = DiffusionPipeline.from_pretrained(name)
    # Damage and an unreachable hub show in many ways.
    except (AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise ValueError(f"{name} cannot be loaded as a pipeline ({reason})") from error
    parts = sorted(part for part, value in pipeline.components.items() if value is not None)
    if parts != ["scheduler", "unet"] or not isinstance(pipeline.unet, UNet2DModel):
        has = ", ".join(f"{part} ({type(getattr(pipeline, part)).__name__})" for part in parts)
        raise ValueError(
            f"MODEL must have a scheduler and a unet (UNet2DModel) alone, as a DDPMPipeline has, {name} has {has}; "
            "latents and prompts are not supported"
        )
    return pipeline


def shape_of_images(config: Any) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of a network's images; raise a ValueError if this script cannot call the network."""
    size, channels = config.sample_size, config.in_channels
    size = [size, size] if isinstance(size, int) else size
    if not (isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(side, int) for side in size)):
        raise ValueError(
            f"sample_size must be the size of the images, got {config.sample_size}; "
            'write it in unet/config.json, e.g. "sample_size": 32, or [32, 48] for height and width'
        )
    if config.out_channels not in (channels, 2 * channels):  # the second: a learned variance
        raise ValueError(f"the network takes {channels} channels and returns {config.out_channels}, not as many")
    if config.time_embedding_type != "positional":  # "learned" takes whole timesteps only, "fourier" another chain's
        raise ValueError(f"the network must have positional time embeddings, got {config.time_embedding_type!r}")
    if config.class_embed_type is not None:
        raise ValueError(
            f"the network has class_embed_type={config.class_embed_type!r}, expected None: numbered classes, or none; "
            "call it in a program with Sampler.sample(conditioning={'class_labels': ...})"
        )
    return channels, size[0], size[1]


def classes_of_images(config: Any, count: int) -> Tensor | None:
    """Return the class of each image, all classes in turn; None for a network without."""
    return None if config.num_class_embeds is None else torch.arange(count) % config.num_class_embeds


def estimate(args: argparse.Namespace, shape: tuple[int, int, int]) -> sp.PowerSpectrum:
    """Return the spectrum of the data; raise a ValueError for images of another shape than the network's."""
    height, width = shape[1:]
    images = to_unit(load(args.data, size=height if height == width else None, on_error=args.on_error).images)
    check_several(images, args.data)
    if images.shape[1:] != shape:
        wanted, found = ("×".join(map(str, each)) for each in (shape, images.shape[1:]))
        raise ValueError(
            f"the network makes images of {wanted}, --data has {found}; pass an .npy array (N, H, W, C) of that shape, "
            "as files are read with three channels, and fitted to squares only"
        )
    return sp.PowerSpectrum.estimate(images.split(500))


def check_end(model: str, alphas_cumprod: Tensor, prediction: str) -> None:
    """Raise a ValueError for a network that predicts noise along a schedule that ends without signal."""
    if prediction == "noise" and float(alphas_cumprod[-1]) == 0:
        raise ValueError(
            "the pipeline's schedule ends without signal (rescale_betas_zero_snr), where the noise that its network "
            "predicts (prediction_type 'epsilon') does not tell the image; one of the two is wrong: set what the "
            f"network was trained with in {model}/scheduler/scheduler_config.json"
        )


def initial_noise(sampler: sp.Sampler, noise: Tensor) -> Tensor:
    """Return white noise as the images where a sampler begins; raise a ValueError if its schedule ends elsewhere."""
    try:
        return sampler.initial_noise(noise)
    except ValueError as error:
        raise ValueError(
            f"the pipeline's schedule does not end in noise: {sampler.corruption}; train with more steps or larger "
            "betas, e.g. DDPMScheduler(beta_schedule='squaredcos_cap_v2')"
        ) from error


def same_chain(scheduler: Any, alphas_cumprod: Tensor) -> dict[str, Any]:
    """Return the schedulers of diffusers, made to follow the differential equation of the pipeline's table."""
    before = torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])
    settings = {
        **scheduler.config,
        # Not beta_schedule: not every scheduler has every one, and some change the table afterwards.
        "trained_betas": (1 - alphas_cumprod / before).tolist(),
        "num_train_timesteps": len(alphas_cumprod),
        # It leaves such betas as they are, and DPM-Solver++ then replaces the 0, of which it takes the logarithm.
        "rescale_betas_zero_snr": float(alphas_cumprod[-1]) == 0,
        "algorithm_type": "dpmsolver++",  # not a stochastic one
        # A clipped prediction would be another ODE: samples may be clipped, not what leads to them.
        "clip_sample": False,
        "thresholding": False,
    }
    return {name: kind.from_config(settings) for name, kind in THEIRS.items()}


def errors(samples: Tensor, exact: Tensor, spectrum: sp.PowerSpectrum) -> str:
    """Return the distance of samples from the solution, and the error of their power, as a cell of the table."""
    if not bool(samples.isfinite().all()):
        return "not finite"
    distance = (samples - exact).square().mean().sqrt().item()
    values = samples.cpu().double()
    u = spectrum.basis.analyze(values if spectrum.mean is None else values - spectrum.mean)
    found = sp.PowerSpectrum(spectrum.basis, u.square().mean(0)).radial_average()[1]
    error = (found / spectrum.radial_average()[1]).log().abs().mean().item()
    return f"{distance:.4f}, {error:.2f}"


@torch.no_grad()
def with_theirs(scheduler: Any, unet: Any, noise: Tensor, steps: int, conditioning: dict[str, Tensor]) -> Tensor:
    """Return the samples of a scheduler of diffusers, which is deterministic, from the noise."""
    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = unet(scheduler.scale_model_input(x, t), t.to(x.device), **conditioning).sample
        x = scheduler.step(output[:, : x.shape[1]], t, x).prev_sample
    return x


def check_steps(args: argparse.Namespace, theirs: dict[str, Any], trained: int) -> None:
    """Raise a ValueError for more calls than the schedulers of diffusers take, given the steps of the schedule."""
    for flag, count, names in (("--steps", max(args.steps), THEIRS), ("--converged", args.converged, ["DDIM"])):
        if count > trained:
            raise ValueError(
                f"{flag} {count} is more than the {trained} steps of the pipeline's schedule; choose fewer"
            )
        for name in names:
            theirs[name].set_timesteps(count)
            first, last = theirs[name].timesteps[[0, -1]].tolist()
            if first >= trained or (count > 1 and first == last):
                raise ValueError(
                    f"{flag} {count} is too many for {name} with the {trained} steps of the pipeline's schedule and "
                    "their timestep_spacing; choose fewer"
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
    parser.add_argument("--seed", type=seed, default=0, help="random seed of the noise (%(default)s)")
    add_on_error(parser)
    parser.add_argument("--out", type=output_folder, default="outputs/pretrained", help="folder (%(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
