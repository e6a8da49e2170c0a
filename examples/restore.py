"""What a trained model can do beyond sampling: restore, vary, encode and judge images that it has not seen.

    python examples/quickstart.py                    # trains the network
    python examples/restore.py                       # uses it; 20 s on two cores

The argument is the folder that the quickstart wrote. It uses the network of the shortest path. For a network that was
trained on your own images, it takes the last of those that the quickstart held out, or of `--data PATH`.
All figures and numbers go to the folder `--out`.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in the quickstart
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

import shortest_path as sp
from recipe.arguments import output_folder, path, positive, seed, two_or_more
from recipe.figures import draw_rows
from recipe.finished import Trained, held_out, load_trained
from recipe.images import to_unit
from recipe.stages import stage

COARSER = 4  # factor of super-resolution
AGAIN = (0.8, 0.6, 0.4)  # times from which a restored image is sampled again, so that its parts fit together
STARTS = (0.3, 0.5, 0.7)  # times from which image-to-image starts
FRACTIONS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of interpolation
LEVEL = 1 / 127.5  # one level of 8-bit images in [-1, 1]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    seconds: dict[str, float] = {}

    with stage("Reading the network, and images it was not trained on", seconds, "reading"):
        try:
            trained = load_trained(args.folder)
            count = max(args.images, args.likelihood_images)
            unseen = to_unit(held_out(trained.settings, args.data, count))
        except (OSError, ValueError) as error:
            raise SystemExit(f"restore: {error}") from error
        if unseen.shape[1:] != trained.spectrum.shape:
            raise SystemExit(
                f"restore: images of shape {tuple(unseen.shape[1:])} do not fit a network "
                f"for {trained.spectrum.shape}; train one on such images"
            )
        images = unseen[: args.images]
        args.out.mkdir(parents=True, exist_ok=True)

    with stage("Restoring images with missing parts", seconds, "restoring"):
        restored = restore(trained, images, args.out / "restored.png", args.steps, args.samples, args.seed)

    with stage("Sampling again from the middle, and encoding and decoding", seconds, "varying"):
        varied = vary(trained, images, args.out / "variations.png", args.steps, args.seed)

    with stage("Interpolating between images", seconds, "interpolating"):
        between(trained, images, args.out / "interpolations.png", args.steps)

    chosen = unseen[: args.likelihood_images]
    with stage(f"Measuring the likelihood of {len(chosen)} images", seconds, "likelihood"):
        likelihood = judge(trained, chosen, args.likelihood_steps, args.seed)

    report = {
        "restored": restored,
        "varied": varied,
        "likelihood": likelihood,
        "seconds": seconds,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
    }
    (args.out / "restore.json").write_text(json.dumps(report, indent=2) + "\n")
    summarise(args.out, report)


# Restoring ------------------------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """A linear measurement A of images, and a pseudo-inverse: A A⁺ A = A."""

    forward: Callable[[Tensor], Tensor]
    pseudo_inverse: Callable[[Tensor], Tensor]


def problems(channels: int, size: int) -> dict[str, Problem]:
    """Return the measurements to restore images from, by name; print which of them such images do not have, and why."""
    mask = torch.ones(size, size)
    edge = size * 5 // 16
    mask[edge : size - edge, edge : size - edge] = 0
    coarse = f"super-resolution {COARSER}×"
    found = {
        "inpainting": Problem(lambda x: mask * x, lambda y: mask * y),
        coarse: Problem(lambda x: avg_pool2d(x, COARSER), lambda y: interpolate(y, scale_factor=COARSER)),
        "colourisation": Problem(lambda x: x.mean(1, keepdim=True), lambda y: y.expand(-1, channels, -1, -1)),
    }
    left_out = {}
    if edge == 0:
        left_out["inpainting"] = f"it requires images of 4 × 4 or more, got {size} × {size}"
    if size % COARSER:
        left_out[coarse] = f"{COARSER} does not divide the size, {size}"
    if channels == 1:
        left_out["colourisation"] = "the images are grey"
    for name, reason in left_out.items():
        print(f"  {name} is left out: {reason}")
    return {name: problem for name, problem in found.items() if name not in left_out}


def restore(trained: Trained, images: Tensor, path: Path, steps: int, samples: int, seed: int) -> dict[str, Any]:
    """Sample images that agree with measurements of `images`; return how well, by problem."""
    # The noise of the posterior lets a sample still change its first guess.
    sampler = trained.sampler(solver=sp.solvers.DDIM(eta=1.0), grid="spectrum", steps=steps)
    truth = images.repeat_interleave(samples, 0)
    rows, report = [("image", images)], {}
    for name, (forward, pseudo_inverse) in problems(*images.shape[1:3]).items():
        known = forward(truth)
        if name == "inpainting":
            edit = sp.edits.inpaint(truth, forward(torch.ones_like(truth)))
        else:
            edit = sp.edits.project(known, forward, pseudo_inverse)
        options = {
            "denoised_callback": sp.edits.compose(limit, edit),  # in this order, so that the measurement holds exactly
            "generator": torch.Generator().manual_seed(seed),
        }
        found = sampler.sample(truth.shape, **options)
        for start in AGAIN:
            found = sampler.image_to_image(found, start=start, **options)
        several = found.unflatten(0, (-1, samples))
        shown = {
            f"{name}:\nmeasurement": pseudo_inverse(known)[::samples],
            "one sample": several[:, 0],
            f"mean of {samples} samples": several.mean(1),
        }
        ratios = [psnr(each, images) for each in shown.values()]
        rows += [(f"{label}\n{ratio:.1f} dB", each) for (label, each), ratio in zip(shown.items(), ratios, strict=True)]
        report[name] = {
            "pseudo_inverse_error": (forward(pseudo_inverse(known)) - known).abs().max().item(),
            "measurement_error": (forward(found) - known).abs().max().item(),
            "psnr": dict(zip(("known", "draw", "mean"), ratios, strict=True)),
        }
    draw_rows(path, "Images restored by the network", rows)
    return report


def limit(x_0: Tensor, t: float) -> Tensor:
    """Clamp predicted images to their range."""
    return x_0.clamp(-1, 1)


def psnr(found: Tensor, images: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB, averaged over images."""
    error = (found.clamp(-1, 1) - images).square().flatten(1).mean(1)
    return (10 * torch.log10(4 / error)).mean().item()


# Varying, encoding and judging ----------------------------------------------------------------------------------------


def vary(trained: Trained, images: Tensor, path: Path, steps: int, seed: int) -> dict[str, Any]:
    """Sample again from times in the middle, and encode and decode; return how much the images change."""
    sampler = trained.sampler(steps=steps)
    rows, change = [("image", images)], {}
    for start in STARTS:
        generator = torch.Generator().manual_seed(seed)
        found = sampler.image_to_image(images, start=start, generator=generator, denoised_callback=limit)
        rows.append((f"again from t = {start:g}", found))
        change[f"{start:g}"] = rms(found - images)
    encoded = sampler.invert(images)
    back = sampler.sample(images.shape, x_1=encoded)
    # Noise reaches three standard deviations, images one unit.
    rows += [("encoded", encoded / 3), ("decoded", back), ("difference × 10", 10 * (back - images))]
    draw_rows(path, "Images sampled again, and encoded", rows)
    return {
        "image_to_image_rms": change,
        "round_trip_rms": rms(back - images),
        "encoding_deviation": encoded.std().item(),
    }


def between(trained: Trained, images: Tensor, path: Path, steps: int) -> None:
    """Interpolate between each image of the first half and one of the second."""
    sampler = trained.sampler(steps=steps)
    pairs = len(images) // 2
    found = sampler.interpolate(images[:pairs], images[pairs : 2 * pairs], FRACTIONS, denoised_callback=limit)
    rows = [(f"pair {number}", row) for number, row in enumerate(found.transpose(0, 1), 1)]
    draw_rows(path, "From one image to another", rows, [f"{fraction:g}" for fraction in FRACTIONS])


def judge(trained: Trained, images: Tensor, steps: int, seed: int) -> dict[str, Any]:
    """Return bits per dimension of images, by the network and by the spectrum alone."""
    generator = torch.Generator().manual_seed(seed)
    # Discrete levels have no density: uniform noise of one level spreads each over an interval.
    x_0 = images + LEVEL * (torch.rand(images.shape, generator=generator) - 0.5)
    shape, power = images.shape[1:], trained.spectrum.power
    sampler = trained.sampler(steps=steps)
    by_network = torch.cat([sampler.log_likelihood(part, generator=generator) for part in x_0.split(32)])
    normal = torch.distributions.Normal(0.0, power.sqrt())
    mean = 0 if trained.spectrum.mean is None else trained.spectrum.mean
    by_spectrum = normal.log_prob(trained.spectrum.basis.analyze(x_0.double() - mean)).flatten(1).sum(1)
    return {
        "network": mean_and_error(sp.bits_per_dim(by_network.double(), shape)),
        "spectrum_alone": mean_and_error(sp.bits_per_dim(by_spectrum, shape)),
        "gain": mean_and_error(sp.bits_per_dim(by_spectrum, shape) - sp.bits_per_dim(by_network.double(), shape)),
        "images": len(images),
    }


def mean_and_error(values: Tensor) -> dict[str, float]:
    """Return the mean and its standard error."""
    return {"mean": values.mean().item(), "standard_error": values.std().item() / math.sqrt(len(values))}


def rms(x: Tensor) -> float:
    """Return the root mean square."""
    return x.square().mean().sqrt().item()


# The report -----------------------------------------------------------------------------------------------------------


def summarise(out: Path, report: Mapping[str, Any]) -> None:
    """Print the main results and the files that hold the rest."""
    print(f"\nDone in {sum(report['seconds'].values()):.0f} s.\n")
    print(f"{'peak signal-to-noise ratio, dB':<32}{'measurement':>14}{'one sample':>12}{'mean of samples':>17}")
    for name, found in report["restored"].items():
        ratios = found["psnr"]
        print(f"{name:<32}{ratios['known']:>14.1f}{ratios['draw']:>12.1f}{ratios['mean']:>17.1f}")
    for start, change in report["varied"]["image_to_image_rms"].items():
        print(f"{'change, again from t = ' + start:<32}{change:>14.3f} rms, of images in [-1, 1]")
    print(f"{'change, encoded and decoded':<32}{report['varied']['round_trip_rms']:>14.4f} rms")
    print()
    for label, name in {"the network": "network", "the spectrum alone": "spectrum_alone", "gain": "gain"}.items():
        found = report["likelihood"][name]
        print(f"{'bits per dimension, ' + label:<40}{found['mean']:>6.3f} ± {found['standard_error']:.3f}")
    print(f"(mean ± standard error over {report['likelihood']['images']} images)\n")
    for file, what in {
        "restored.png": "images restored by the network",
        "variations.png": "images sampled again, and encoded",
        "interpolations.png": "images between two others",
        "restore.json": "all numbers",
    }.items():
        print(f"{out / file}: {what}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "folder",
        type=path,
        nargs="?",
        default=Path("outputs/quickstart"),
        help="the quickstart's (%(default)s)",
    )
    add("--data", type=path, help="images it was not trained on (default: more of the same)")
    add("--out", type=output_folder, default="outputs/restore", help="folder for all results (%(default)s)")
    add("--images", type=two_or_more, default=6, help="number of images, 2 or more (%(default)s)")
    add("--steps", type=positive, default=25, help="steps from noise to image (%(default)s)")
    add("--samples", type=positive, default=4, help="samples for each image to restore (%(default)s)")
    add("--likelihood-images", type=two_or_more, default=64, help="number of images for the likelihood (%(default)s)")
    add("--likelihood-steps", type=positive, default=80, help="steps from image to noise (%(default)s)")
    add("--seed", type=seed, default=0, help="random seed (%(default)s)")
    add("--threads", type=positive, help="CPU threads (default: torch decides)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
