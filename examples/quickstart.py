"""From pictures to new pictures along the shortest path: on a CPU, in a few minutes.

    python examples/quickstart.py                    # pictures of fallen leaves, made on the spot
    python examples/quickstart.py --data photos/     # yours: a folder, a parquet file, an .npy or .npz array

Interrupted, it continues when it is run again. All that it draws and measures goes to the folder `--out`.
"""

from __future__ import annotations

import os

# Threads that wait spin briefly, then sleep: for ever spinning ones bring training to a halt when another program
# is busy, and ones that sleep at once need twice the time when none is.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

import figures
import shortest_path as sp
from dead_leaves import dead_leaves
from images import Batches, load_images, to_unit
from unet import WhitenedInput, small_unet

LEARNING_RATE = 2e-3
TIMES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)  # of the pictures and spectra that are drawn


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}

    with stage("Reading pictures" if args.data else "Painting pictures", seconds, "pictures"):
        try:
            if args.data:
                images = load_images(args.data, args.size)[: args.images]
            else:
                images = dead_leaves(args.images or 4096, args.size, args.seed)
            batches = Batches(images, args.batch_size, args.seed)
            real = to_unit(images[: args.samples])
            shape = real.shape[1:]
            network = small_unet(channels=shape[0], size=args.size, inputs=2 * shape[0])
        except (OSError, ValueError) as error:  # a setting that does not fit: its words are enough
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

    with stage(f"Training a network, {args.steps} steps of {args.batch_size} pictures", seconds, "training"):
        model = WhitenedInput(network, corruption, spectrum)
        trainer = sp.DiffusionTrainer(
            model,
            corruption,
            prediction="whitened-velocity",  # all that is left to learn is what the spectrum does not tell
            weighting="velocity",
            optimizer=torch.optim.AdamW(model.parameters(), lr=learning_rate(0, args.steps)),
            ema_decay=0.99,  # over about 100 steps; longer averages would still remember the beginning
            time_sampling="stratified",
            max_grad_norm=1.0,
            seed=args.seed,
        )
        losses = train(trainer, batches, args.steps, out / "checkpoints")
        figures.draw_loss(out / "loss.png", losses)

    with stage(f"Sampling {args.samples} pictures in {args.sample_steps} steps", seconds, "sampling"):
        sampler = sp.Sampler(
            trainer.ema_model, corruption, prediction="whitened-velocity", solver="multistep", steps=args.sample_steps
        )
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
    """Train to `steps`, from the newest checkpoint in `folder` on, and return the loss of every step."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "losses.csv"
    if found := sorted(folder.glob("checkpoint-*.pt")):
        print(f"  continuing from {found[-1]}; delete {folder} to begin anew")

    with log.open("a", buffering=1) as file:  # line by line, so that an interruption loses none

        def after_step(trainer: sp.DiffusionTrainer, done: sp.TrainStep) -> None:
            trainer.optimizer.param_groups[0]["lr"] = learning_rate(done.step, steps)
            file.write(f"{done.step},{done.loss.item()}\n")

        try:
            trainer.fit(batches, steps=steps, checkpoint_dir=folder, checkpoint_every=100, callbacks=[after_step])
        except KeyboardInterrupt:
            raise SystemExit("\nStopped. Run the same command again, and training continues.") from None
        except ValueError as error:
            raise SystemExit(f"quickstart: {error}; or delete {folder} to begin anew") from error

    # Steps that were repeated after an interruption are there twice: the later ones count.
    rows = (line.split(",") for line in log.read_text().splitlines())
    return dict(sorted((int(step), float(loss)) for step, loss in rows))


def learning_rate(step: int, steps: int) -> float:
    """Return a rate that rises over 50 steps, then falls along a cosine: the end of a short run is what counts."""
    return LEARNING_RATE * min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2


@contextmanager
def stage(title: str, seconds: dict[str, float], name: str) -> Iterator[None]:
    """Announce a stage, and note how long it took."""
    print(f"{title} …", flush=True)
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def summarise(out: Path, report: dict) -> None:
    """Print what was found, and where to look."""
    print(f"\nDone in {sum(report['seconds'].values()):.0f} s.\n")
    print(f"{'from the data to noise':<24}{'length':>10}{'KL at 50 steps':>18}")
    for name, length in report["path_length"].items():
        print(f"{name:<24}{length:>10.1f}{report['gaussian_kl_50_steps'][name]:>13.3g} nats")
    print(f"{'(the geodesic)':<24}{report['geodesic_distance']:>10.1f}\n")
    for file, what in {
        "samples.png": "what the network draws, beside real pictures",
        "sample_spectrum.png": "whether coarse and fine detail have the right strength",
        "corruptions.png": "the same pictures under three corruptions",
        "spectrum.png": "their power spectra on the way to noise",
        "loss.png": "how training went",
        "figures.json": "all numbers",
    }.items():
        print(f"{out / file}: {what}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, help="folder of pictures, parquet file, .npy or .npz array (default: painted leaves)")
    add("--out", type=Path, default=Path("outputs/quickstart"), help="folder for all results (%(default)s)")
    add("--images", type=positive, help="use at most so many pictures (default: 4096 leaves, or all of --data)")
    add("--size", type=positive, default=32, help="height and width of the pictures (%(default)s)")
    add("--steps", type=positive, default=1200, help="training steps in all (%(default)s)")
    add("--batch-size", type=positive, default=16, help="pictures in a step (%(default)s)")
    add("--samples", type=positive, default=64, help="pictures to draw (%(default)s)")
    add("--sample-steps", type=positive, default=20, help="calls of the network to draw them (%(default)s)")
    add("--seed", type=int, default=0, help="of everything random (%(default)s)")
    add("--threads", type=positive, help="of the processor (default: torch decides)")
    return parser.parse_args(argv)


def positive(text: str) -> int:
    """Return a whole number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more, got {text!r}")
    return int(text)


if __name__ == "__main__":
    main()
