"""What the corruption changes: a network trained under Gaussian noise, and along the shortest path; minutes on a CPU.

    python examples/quickstart.py                    # small landscapes, generated on the spot
    python examples/quickstart.py --data photos/     # your images: a folder, a parquet file, an .npy or .npz array

All else is the same for both: images, network, first weights, number of steps, learning rates. It shows samples of both
beside the data, and the likelihood of images that were held out. After an interruption the same command continues. All
figures and numbers go to the folder `--out`.
"""

from __future__ import annotations

import os

# Waiting threads spin briefly, then sleep. Threads that spin for ever bring training to a halt when another program is
# busy; threads that sleep at once take twice the time when none is.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import shortest_path as sp
from recipe import figures
from recipe.arguments import output_folder, path, positive, seed, two_or_more
from recipe.images import Batches, check_several, load_images, to_unit
from recipe.judge import told_apart
from recipe.landscapes import landscapes
from recipe.mlp import ResidualMLP
from recipe.stages import stage
from shortest_path.models import WhitenedInput
from shortest_path.training import TrainStep

LEARNING_RATE = 2e-3
TIMES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)  # at which images and spectra are shown
GAUSSIAN, PATH = "Gaussian, cosine", "shortest path"
TRAINED = {GAUSSIAN: "gaussian", PATH: "shortest-path"}  # and the folders of their checkpoints
SHOWN = 36  # images in a panel


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    try:
        run(args)
    except KeyboardInterrupt:
        raise SystemExit("\nStopped. The same command continues a training that has begun.") from None


def run(args: argparse.Namespace) -> None:
    """Do everything, stage by stage."""
    if args.threads:
        torch.set_num_threads(args.threads)
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}

    with stage("Reading images" if args.data else "Generating images", seconds, "images"):
        try:
            images, unseen = read(args)
            batches = Batches(images, args.batch_size, args.seed)
        except (OSError, ValueError) as error:  # a setting that does not fit: its message is enough
            raise SystemExit(f"quickstart: {error}") from error

    with stage("Measuring their power spectrum, and the shortest path that follows from it", seconds, "spectrum"):
        spectrum = sp.PowerSpectrum.estimate(batches)
        corruptions = {
            GAUSSIAN: sp.GaussianCorruption("cosine"),
            "blur": sp.BlurCorruption(spatial=spectrum.shape[1:]),
            PATH: sp.ShortestPathCorruption(spectrum),
        }
        report: dict[str, Any] = {
            "path_length": {name: sp.path_length(each, spectrum) for name, each in corruptions.items()},
            "geodesic_distance": sp.fisher_distance(spectrum, 1.0),
            "gaussian_kl_50_steps": {
                name: sp.gaussian_kl(each, spectrum, steps=50) for name, each in corruptions.items()
            },
        }
        figures.draw_corruptions(out / "corruptions.png", unseen[0], corruptions, TIMES)
        figures.draw_spectra(out / "spectrum.png", spectrum, corruptions, TIMES)

    losses: dict[str, list[float]] = {}
    samples: dict[str, Tensor] = {}
    bits: dict[str, Tensor] = {}
    judged: dict[str, float] = {}
    for name, folder in TRAINED.items():
        with stage(f"{name}: training, {args.steps} steps of {args.batch_size} images", seconds, f"training, {name}"):
            trainer = make_trainer(corruptions[name], spectrum, args.steps, args.seed)
            losses[name] = train(trainer, batches, args.steps, out / "checkpoints" / folder)

        with stage(f"{name}: {args.samples} samples in {args.sample_steps} steps", seconds, f"sampling, {name}"):
            generator = torch.Generator().manual_seed(args.seed)
            samples[name] = trainer.sampler(steps=args.sample_steps).sample(
                (args.samples, *spectrum.shape), generator=generator, clip=(-1, 1)
            )

        with stage(f"{name}: likelihood of {len(unseen)} held-out images", seconds, f"likelihood, {name}"):
            bits[name] = bits_per_dim(trainer.sampler(steps=args.likelihood_steps), unseen, args.seed)

        if args.judge:
            with stage(f"{name}: telling samples from held-out images", seconds, f"judge, {name}"):
                count = min(len(unseen), args.samples)
                judged[name] = told_apart(unseen[:count], samples[name][:count], seed=args.seed)

    figures.draw_losses(out / "loss.png", losses)
    figures.draw_panels(out / "samples.png", {"data": unseen, **samples}, min(args.samples, SHOWN))
    figures.draw_sample_spectrum(out / "sample_spectrum.png", spectrum, samples)
    report |= {
        "bits_per_dim": {name: mean_and_error(values) for name, values in bits.items()},
        "bits_per_dim_difference": mean_and_error(bits[GAUSSIAN] - bits[PATH]),  # paired: the same images and noise
        "told_apart": judged,
        "final_loss": {name: sum(each[-100:]) / len(each[-100:]) for name, each in losses.items()},
        "seconds": seconds,
        "images": len(images),
        "held_out": len(unseen),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
    }
    (out / "figures.json").write_text(json.dumps(report, indent=2) + "\n")
    summarise(out, report)


def read(args: argparse.Namespace) -> tuple[np.ndarray, Tensor]:
    """Return the images to train with, and the last of all, which are held out.

    Raises:
        OSError: the images are not found.
        ValueError: they cannot be read, or are too few.
    """
    if args.data is None:
        count = args.images or 20_000
        images = landscapes(count + args.held_out, args.size, args.seed)
    else:
        images = load_images(args.data, args.size)
        count = min(args.images or len(images), len(images) - min(args.held_out, len(images) // 5))
    if len(images) - count < 2:
        raise ValueError(f"two images or more must be held out, of 10 or more in all, got {len(images)} images")
    check_several(images[:count], args.data)
    return images[:count], to_unit(images[-min(args.held_out, len(images) - count) :])


def make_trainer(corruption: sp.Corruption, spectrum: sp.PowerSpectrum, steps: int, seed: int) -> sp.DiffusionTrainer:
    """Return the trainer of a new network, which is the same for every corruption."""
    torch.manual_seed(seed)
    weights = spectrum.power**0.25  # with equal ones, the many coefficients that hold little but noise count most

    def weighting(t: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        return weights / weights.mean()

    # The network sees whitened images, and predicts what the spectrum does not tell: it need not learn second moments.
    model = WhitenedInput(ResidualMLP(spectrum.shape), corruption, spectrum, alone=True)
    return sp.DiffusionTrainer(
        model,
        corruption,
        spectrum=spectrum,
        prediction="whitened-velocity",
        weighting=weighting,
        optimizer=torch.optim.AdamW(model.parameters(), lr=learning_rate(0, steps), betas=(0.9, 0.99), fused=True),
        ema_decay=0.998,  # over about 500 steps
        time_sampling="stratified",
        max_grad_norm=1.0,
        seed=seed,
    )


def train(trainer: sp.DiffusionTrainer, batches: Batches, steps: int, folder: Path) -> list[float]:
    """Train to `steps`, from the newest checkpoint in `folder` if there is one, and return the loss of every step."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "losses.csv"
    if found := sorted(folder.glob("checkpoint-*.pt")):
        print(f"  continuing from {found[-1]}; delete {folder} to begin anew")

    with log.open("a", buffering=1) as file:  # line by line, so that an interruption loses none

        def after_step(trainer: sp.DiffusionTrainer, done: TrainStep) -> None:
            trainer.optimizer.param_groups[0]["lr"] = learning_rate(done.step, steps)
            file.write(f"{done.step},{done.loss.item()}\n")

        try:
            trainer.fit(
                batches,
                steps=steps,
                checkpoint_dir=folder,
                checkpoint_every=200,
                on_signal="save",
                callbacks=[after_step],
            )
        except ValueError as error:
            raise SystemExit(f"quickstart: {error}; or delete {folder} to begin anew") from error

    # A step that was repeated after an interruption has two lines: the later one counts.
    rows = (line.split(",") for line in log.read_text().splitlines())
    return list({int(step): float(loss) for step, loss in rows}.values())


def learning_rate(step: int, steps: int) -> float:
    """Return a learning rate that rises over 100 steps and then falls along a cosine to zero."""
    return LEARNING_RATE * min(1.0, (step + 1) / 100) * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2


def bits_per_dim(sampler: sp.Sampler, images: Tensor, seed: int) -> Tensor:
    """Return the bits per dimension of images of 8 bits, (N,)."""
    generator = torch.Generator().manual_seed(seed)
    # Whole levels have no density: uniform noise of one level spreads each over an interval.
    x_0 = images + (torch.rand(images.shape, generator=generator) - 0.5) / 127.5
    found = [sampler.log_likelihood(part, generator=generator) for part in x_0.split(125)]
    return sp.bits_per_dim(torch.cat(found).double(), images.shape[1:])


def mean_and_error(values: Tensor) -> dict[str, float]:
    """Return the mean and its standard error."""
    return {"mean": values.mean().item(), "standard_error": values.std().item() / math.sqrt(len(values))}


def summarise(out: Path, report: Mapping[str, Any]) -> None:
    """Print the files, and last the main results."""
    print(f"\nDone in {sum(report['seconds'].values()):.0f} s.\n")
    for file, what in {
        "samples.png": "images of the data, and samples of both networks",
        "sample_spectrum.png": "power spectra of samples over the data's",
        "corruptions.png": "one image under three corruptions",
        "spectrum.png": "power spectra on the way to noise",
        "loss.png": "training losses",
        "figures.json": "all numbers",
    }.items():
        print(f"{out / file}: {what}")
    print("\nFor Gaussian data and an exact network, length of the path and error of sampling:")
    print(f"{'':<24}{'length':>10}{'KL at 50 steps':>18}")
    for name, length in report["path_length"].items():
        print(f"{name:<24}{length:>10.1f}{report['gaussian_kl_50_steps'][name]:>13.3g} nats")
    print(f"{'(the geodesic)':<24}{report['geodesic_distance']:>10.1f}\n")
    for name, fraction in report["told_apart"].items():
        print(f"{name}: a small network tells samples from held-out images in {fraction:.1%} of cases (chance: 50 %)")
    print(f"{report['held_out']} held-out images, bits/dim (less is better)")
    for name, found in report["bits_per_dim"].items():
        print(f"{name:<24}{found['mean']:>10.3f}")
    print(verdict(**report["bits_per_dim_difference"]))


def verdict(mean: float, standard_error: float) -> str:
    """Return which of the two is ahead, if the difference is larger than twice its standard error."""
    difference = f"{abs(mean):.3f} ± {standard_error:.3f}"
    if not abs(mean) > 2 * standard_error:
        return f"no certain difference: {difference} (standard error)"
    return f"{PATH if mean > 0 else GAUSSIAN} is ahead by {difference} (standard error of the paired difference)"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=path, help="folder of images, parquet file, .npy or .npz array (default: landscapes)")
    add("--out", type=output_folder, default="outputs/quickstart", help="folder for all results (%(default)s)")
    add("--images", type=positive, help="maximum number to train with (default: 20000 landscapes, or all of --data)")
    add(
        "--held-out",
        type=two_or_more,
        default=500,
        help="further images to measure with (%(default)s, a fifth at most)",
    )
    add("--size", type=two_or_more, default=16, help="height and width of the images (%(default)s)")
    add("--steps", type=positive, default=2000, help="training steps of each network (%(default)s)")
    add("--batch-size", type=positive, default=128, help="images in a step (%(default)s)")
    add("--samples", type=positive, default=64, help="number of samples of each network (%(default)s)")
    add("--sample-steps", type=positive, default=20, help="model calls for each sample (%(default)s)")
    add("--likelihood-steps", type=positive, default=50, help="model calls for each likelihood (%(default)s)")
    add("--judge", action="store_true", help="train a small network to tell samples from held-out images")
    add("--seed", type=seed, default=0, help="random seed (%(default)s)")
    add("--threads", type=positive, help="CPU threads (default: torch decides)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
