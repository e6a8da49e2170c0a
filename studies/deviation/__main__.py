"""Measure the cost of a deviation from the shortest path: the same training for each of several paths.

    python -m studies.deviation --config examples/configs/small.yaml --data PATH
    python -m studies.deviation --processes 4 --scales 0.9 1 1.1 --calls 50 1000     # on four GPUs

The logarithm of the measured spectrum is scaled by each of `--scales`: 1 is the shortest path. The last path is that of
the paper's constants. Other options are passed to examples/train_cifar10.py. An interrupted study continues when run
again, and repeats nothing that is finished. For each path it writes to `--out`, as a table, a plot and JSON:

    length         Fisher length of the path, relative to the geodesic
    KL             of Gaussian data and the optimal denoiser under ancestral sampling, in nats: exact, without a network
    distance       sliced Wasserstein distance of samples to held-out images, in pixels of [-1, 1]
    power error    of samples: mean of |log(power / power of held-out images)| over frequencies and channels

Length and KL model the data as Gaussian, with the power and channel covariances at each frequency of the path's basis.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in examples/quickstart.py
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

import shortest_path as sp
from examples.recipe import settings as recipe
from examples.recipe.arguments import positive
from examples.recipe.images import to_unit
from examples.recipe.runs import Run, load_run
from examples.recipe.settings import FREE, Settings, to_dict
from shortest_path.solvers import SolverName
from shortest_path.training import latest_checkpoint
from studies.deviation.measures import Real, kl, measure, read_real
from studies.deviation.report import REFERENCE, draw_plot, table

EXAMPLES = Path(__file__).parents[2] / "examples"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study, or continue it."""
    args, passed = parse(argv)
    words = {name: [*passed, *own, "--out", str(args.out / name)] for name, own in make_paths(args).items()}
    settings = {name: recipe.parse(each) for name, each in words.items()}
    try:
        real = read_real(next(iter(settings.values())), args.held_out, args.samples)
        paths = {name: study(words[name], settings[name], real, args) for name in words}
    except (OSError, ValueError) as error:
        raise SystemExit(f"deviation: {error}") from error
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"deviation: {program(error.cmd)} ended with status {error.returncode}") from error
    report = {
        "solver": args.solver,
        "samples": args.samples,
        "held_out": {"source": real.source, "count": len(real.held_out)},
        "paths": paths,
        "training_images": measure(real.training, real),
        "settings": {name: to_dict(each) for name, each in settings.items()},
        "torch": torch.__version__,
    }
    (args.out / "deviation.json").write_text(json.dumps(report, indent=2) + "\n")
    (args.out / "deviation.md").write_text(table(report))
    draw_plot(args.out / "deviation.png", report)
    print(f"\n{table(report)}\n{args.out / 'deviation'}.md, .png, .json: table, plot, all numbers")


def make_paths(args: argparse.Namespace) -> dict[str, list[str]]:
    """Return the training options of each path, by the name of its folder."""
    measured = ["--corruption", "shortest-path", "--spectrum", "measured", "--log-power-scale"]
    constants = ["--corruption", "shortest-path", "--spectrum", "reference", "--log-power-scale", "1"]
    paths = {f"scale-{scale:g}": [*measured, f"{scale:g}"] for scale in args.scales}
    return paths | {REFERENCE: [*constants, "--basis", "fourier", "--channels", "shared"]} if args.reference else paths


def study(words: list[str], settings: Settings, real: Real, args: argparse.Namespace) -> dict[str, Any]:
    """Train along a path unless that is finished, sample, and measure."""
    folder = Path(settings.out)
    print(f"\n== {folder} ==", flush=True)
    run = finished(folder, settings, real)
    if run is None:
        call("train_cifar10.py", words, args.processes)
        run = load_run(newest(folder))
    found = {}
    for calls in args.calls:
        path = folder / f"samples-{run.step:08d}-{args.solver}-{calls}.npz"
        options = ["--solver", args.solver, "--steps", str(calls), "--count", str(args.samples), "--out", str(path)]
        call("sample_cifar10.py", [str(newest(folder)), *options, "--bf16", settings.bf16], args.processes)
        with np.load(path, allow_pickle=False) as archive:
            samples = to_unit(archive["images"])
        found[str(calls)] = {"kl": kl(run, calls), **measure(samples, real)}
    return {
        "scale": None if settings.spectrum == "reference" else settings.log_power_scale,
        "step": run.step,
        "length": sp.path_length(run.corruption, run.spectrum) / sp.fisher_distance(run.spectrum, 1.0),
        "calls": found,
    }


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint of a training, or None."""
    return latest_checkpoint(folder / "checkpoints")


def finished(folder: Path, settings: Settings, real: Real) -> Run | None:
    """Return the run in a folder if it fulfils the settings, else None; train_cifar10.py refuses another run there."""
    path = newest(folder)
    if path is None:
        return None
    run = load_run(path)
    asked, had = to_dict(settings), to_dict(run.settings)
    same = all(asked[name] == had[name] for name in asked if name not in FREE)
    return run if same and run.step >= settings.steps and run.provenance["sha256"] == real.sha256 else None


def call(name: str, words: Sequence[str], processes: int) -> None:
    """Run a program of the examples."""
    distributed = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    launch = [sys.executable, *(distributed if processes > 1 else ())]
    subprocess.run([*launch, str(EXAMPLES / name), *words], check=True)


def program(command: Sequence[str]) -> str:
    """Return the name of the program of the examples that a command runs."""
    return next(Path(word).name for word in command if word.endswith(".py"))


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the options of the study and those of training."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.deviation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("outputs/deviation"), help="folder for everything (%(default)s)")
    add("--scales", type=float, nargs="+", default=[0.8, 0.9, 1.0, 1.1, 1.25], help="factors of log S (%(default)s)")
    add(
        "--reference", action=argparse.BooleanOptionalAction, default=True, help="add the path of the paper's constants"
    )
    add(
        "--calls",
        type=positive,
        nargs="+",
        default=[10, 50],
        help="numbers of model calls for each image (%(default)s)",
    )
    add("--samples", type=positive, default=2048, help="number of samples (%(default)s)")
    add(
        "--solver",
        choices=get_args(SolverName),
        default="ancestral",
        help="solver; the default is the paper's (%(default)s)",
    )
    add("--held-out", help="images to compare with (default: the test split, or the images that training holds out)")
    add("--processes", type=positive, default=1, help="number of processes, one for each GPU (%(default)s)")
    args, passed = parser.parse_known_args(argv)
    if varied := [word for word in passed if re.match("--(corruption|spectrum|log.power.scale)", word)]:
        parser.error(f"{varied[0]} is varied by the study; omit it")
    if "RANK" in os.environ:
        parser.error("run it with python, not torchrun; --processes N starts N processes for each part")
    if min(args.scales) <= 0:
        parser.error(f"--scales must be positive, got {min(args.scales):g}")
    return args, passed


if __name__ == "__main__":
    main()
