r"""Convert a checkpoint of the paper's code, so that sample_cifar10.py can sample with its network.

    python examples/convert_reference.py ema_0.9999_500000.pt outputs/reference
    python examples/sample_cifar10.py outputs/reference --solver ancestral --grid reference --steps 4000 --no-clip

    python examples/convert_reference.py ddpm/ema_0.9999_500000.pt outputs/theirs \
        --config examples/configs/reference-ddpm.yaml
    python examples/sample_cifar10.py outputs/theirs --solver ancestral --grid uniform --start 1 --steps 4000

The network must be the one of the settings: `--config FILE` (configs/reference.yaml by default) and `--name value`, as
for train_cifar10.py, e.g. `--discrete-steps 1000`. Not converted: learned variances, class labels, blocks that change
the resolution (`resblock_updown`), and the new order of attention, which cannot be told from the weights.

With `--data`, the spectrum of these images goes into the file, for solvers of few steps; else the paper's power law.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import shortest_path as sp
from recipe import cifar10, runs
from recipe.arguments import in_flags, output_folder, path
from recipe.reference import converted
from recipe.settings import CONFIGS, Settings, parse
from shortest_path.training import load_checkpoint, write_checkpoint

_WRITTEN = "pass a file that a trainer wrote, e.g. a checkpoint-<step>.pt"  # which this program does not convert


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", type=path, help="a file model….pt or ema_….pt of the paper's code")
    parser.add_argument("out", type=output_folder, help="folder for checkpoint-<step>.pt")
    parser.add_argument("--config", type=path, default=CONFIGS / "reference.yaml", help="settings (reference.yaml)")
    parser.add_argument("--data", help="images whose spectrum to measure (default: the paper's power law)")
    args, rest = parser.parse_known_args(argv)
    settings = parse(
        ["--config", str(args.config), *rest, *(["--data", args.data] if args.data else [])], "convert_reference"
    )
    try:
        written = convert(args.model, args.out, settings, measure=bool(args.data))
    except (OSError, ValueError) as error:
        raise SystemExit(f"convert_reference: {in_flags(error)}") from error
    print(f"{written}: sample with python examples/sample_cifar10.py {args.out}")


def convert(model: Path, out: Path, settings: Settings, *, measure: bool = False) -> Path:
    """Write the network in `model` as a checkpoint that `load_run` reads; return its path."""
    try:
        theirs = load_checkpoint(model)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            str(error).replace(_WRITTEN, "pass a file model….pt or ema_….pt of the paper's code")
        ) from error
    spectrum = measured(settings) if measure else law(settings)
    corruption = runs.make_corruption(settings, spectrum)
    network = runs.make_network(settings, corruption, spectrum, classes=0)
    unet = runs.unet_of(network)
    unet.load_state_dict(converted(theirs, unet.state_dict(), settings))
    numbers = re.findall(r"\d+", model.stem)
    step = int(numbers[-1]) if numbers else 0
    provenance: dict[str, Any] = {
        "source": model.name,
        "encoding": "a network of the paper's code",
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
    }
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"checkpoint-{step:08d}.pt"  # not in checkpoints/, from which training would continue
    kept = runs.metadata(settings, spectrum, 0, provenance)
    trainer = sp.DiffusionTrainer(network, corruption, prediction=settings.prediction, spectrum=spectrum)
    described = trainer.state_dict()["sampler"]  # for share.py
    write_checkpoint(file, {"metadata": kept, "step": step, "ema": network.state_dict(), "sampler": described})
    return file


def law(settings: Settings) -> sp.PowerSpectrum:
    """Return the spectrum of the paper's code, in the basis of the corruption."""
    basis = sp.FourierBasis() if settings.basis == "fourier" else sp.CosineBasis()
    return sp.PowerSpectrum.power_law((3, settings.size, settings.size), **runs.CONSTANTS, basis=basis)


def measured(settings: Settings) -> sp.PowerSpectrum:
    """Return the spectrum of the images in `data`."""
    pictures = cifar10.load(settings.data, size=settings.size, count=settings.images, on_error=settings.on_error)
    return runs.measure_spectrum(settings, runs.split(pictures, settings)[0])


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
