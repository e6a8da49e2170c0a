"""From images to new images along the shortest path: on a CPU, in a few minutes.

    python examples/quickstart.py                    # images of fallen leaves, generated on the spot
    python examples/quickstart.py --data photos/     # your images: a folder, a parquet file, an .npy or .npz array

After an interruption the same command continues. All figures and numbers go to the folder `--out`.
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
from collections.abc import Sequence
from pathlib import Path

import torch

import shortest_path as sp
from recipe import figures
from recipe.arguments import positive
from recipe.dead_leaves import dead_leaves
from recipe.images import Batches, load_images, to_unit
from recipe.stages import stage
from recipe.unet import small_unet
from shortest_path.models import WhitenedInput
from shortest_path.training import TrainStep

LEARNING_RATE = 2e-3
TIMES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)  # at which images and spectra are shown


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}

    with stage("Reading images" if args.data else "Generating images", seconds, "pictures"):
        try:
            if args.data:
                images = load_images(args.data, args.size)[: args.images]
            else:
                images = dead_leaves(args.images or 4096, args.size, args.seed)
            batches = Batches(images, args.batch_size, args.seed)
            real = to_unit(images[: args.samples])
            shape = real.shape[1:]
            network = small_unet(channels=shape[0], size=args.size, inputs=2 * shape[0])
        except (OSError, ValueError) as error:  # a setting that does not fit: its message is enough
            raise SystemExit(f"quickstart: {error}") from error

    with stage("Measuring their power spectrum, and the shortest path that follows from it", seconds, "spectrum"):
        spectrum = sp.PowerSpectrum.estimate(batches)
        corruption = sp.ShortestPathCorruption(spectrum)

    with stage("Comparing it with other corruptions", seconds, "comparison"):
        corruptions = {
            "Gaussian, cosine": sp.GaussianCorruption("cosine"),
            "blur": sp.BlurCorruption(spatial=shape[1:]),
            "shortest path": corruption,
        }
        lengths = {name: sp.path_length(each, spectrum) for name, each in corruptions.items()}
        divergences = {name: sp.gaussian_kl(each, spectrum, steps=50) for name, each in corruptions.items()}
        figures.draw_corruptions(out / "corruptions.png", real[:2], corruptions, TIMES)
        figures.draw_spectra(out / "spectrum.png", spectrum, corruptions, TIMES)

    with stage(f"Training a network, {args.steps} steps of {args.batch_size} images", seconds, "training"):
        model = WhitenedInput(network, corruption, spectrum)
        trainer = sp.DiffusionTrainer(
            model,
            corruption,
            prediction="whitened-velocity",  # what remains to be learned is what the spectrum does not contain
            weighting="velocity",
            optimizer=torch.optim.AdamW(model.parameters(), lr=learning_rate(0, args.steps)),
            ema_decay=0.99,  # over about 100 steps; a longer average would still contain the beginning
            time_sampling="stratified",
            max_grad_norm=1.0,
            seed=args.seed,
        )
        losses = train(trainer, batches, args.steps, out / "checkpoints")
        figures.draw_loss(out / "loss.png", losses)

    with stage(f"Generating {args.samples} samples in {args.sample_steps} steps", seconds, "sampling"):
        sampler = trainer.sampler(steps=args.sample_steps)
        generator = torch.Generator().manual_seed(args.seed)
        samples = sampler.sample((args.samples, *shape), generator=generator, clip=(-1, 1))
        figures.draw_samples(out / "samples.png", samples, real)
        figures.draw_sample_spectrum(out / "sample_spectrum.png", spectrum, samples)

    recent = list(losses.values())[-100:]
    report = {
        "path_length": lengths,
        "geodesic_distance": sp.fisher_distance(spectrum, 1.0),
        "gaussian_kl_50_steps": divergences,
        "final_loss": sum(recent) / len(recent),
        "seconds": seconds,
        "images": len(images),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
    }
    (out / "figures.json").write_text(json.dumps(report, indent=2) + "\n")
    summarise(out, report)


def train(trainer: sp.DiffusionTrainer, batches: Batches, steps: int, folder: Path) -> dict[int, float]:
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
                checkpoint_every=100,
                on_signal="save",
                callbacks=[after_step],
            )
        except KeyboardInterrupt:
            raise SystemExit("\nStopped. Run the same command again, and training continues.") from None
        except ValueError as error:
            raise SystemExit(f"quickstart: {error}; or delete {folder} to begin anew") from error

    # A step that was repeated after an interruption has two lines: the later one counts.
    rows = (line.split(",") for line in log.read_text().splitlines())
    return dict(sorted((int(step), float(loss)) for step, loss in rows))


def learning_rate(step: int, steps: int) -> float:
    """Return a learning rate that rises over 50 steps and then falls along a cosine to zero."""
    return LEARNING_RATE * min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2


def summarise(out: Path, report: dict) -> None:
    """Print the main results and the files that hold the rest."""
    print(f"\nDone in {sum(report['seconds'].values()):.0f} s.\n")
    print(f"{'from the data to noise':<24}{'length':>10}{'KL at 50 steps':>18}")
    for name, length in report["path_length"].items():
        print(f"{name:<24}{length:>10.1f}{report['gaussian_kl_50_steps'][name]:>13.3g} nats")
    print(f"{'(the geodesic)':<24}{report['geodesic_distance']:>10.1f}\n")
    for file, what in {
        "samples.png": "samples beside real images",
        "sample_spectrum.png": "power spectrum of samples and data",
        "corruptions.png": "the same images under three corruptions",
        "spectrum.png": "their power spectra on the way to noise",
        "loss.png": "training loss",
        "figures.json": "all numbers",
    }.items():
        print(f"{out / file}: {what}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, help="folder of images, parquet file, .npy or .npz array (default: leaves)")
    add("--out", type=Path, default=Path("outputs/quickstart"), help="folder for all results (%(default)s)")
    add("--images", type=positive, help="maximum number of images (default: 4096 leaves, or all of --data)")
    add("--size", type=positive, default=32, help="height and width of the images (%(default)s)")
    add("--steps", type=positive, default=1200, help="training steps in total (%(default)s)")
    add("--batch-size", type=positive, default=16, help="images in a step (%(default)s)")
    add("--samples", type=positive, default=64, help="number of samples (%(default)s)")
    add("--sample-steps", type=positive, default=20, help="model calls for each sample (%(default)s)")
    add("--seed", type=int, default=0, help="random seed (%(default)s)")
    add("--threads", type=positive, help="CPU threads (default: torch decides)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
