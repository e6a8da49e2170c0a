"""Does a departure from the shortest path cost quality? The same training for each of several paths.

    python examples/deviation_study.py --config examples/configs/small.yaml --data PATH
    python examples/deviation_study.py --processes 4 --scales 0.9 1 1.1 --calls 50 1000     # on four GPUs

Scales the logarithm of the measured spectrum by each of `--scales`: 1 is the shortest path. The last path is that of
the paper's constants. Options that are not listed below go to train_cifar10.py. Interrupted, it continues when it is
run again, and what is finished is not done again. For each path it writes to `--out`, as a table, a plot and JSON:

    length         Fisher length of the path, relative to the geodesic
    KL             of Gaussian data and the best denoiser under ancestral sampling, in nats: exact, without a network
    distance       sliced Wasserstein distance of drawn pictures to held-out ones, in pixels of [-1, 1]
    power error    of drawn pictures: mean of |log(power / power of held-out ones)| over frequencies and channels

Length and KL take the data as Gaussian, with the power and channel covariances at each frequency of the path's basis.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in the quickstart
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import cifar10
import sample_cifar10
import settings as settings_of_training
import shortest_path as sp
import train_cifar10
from images import to_unit
from monitor import mean_over, sliced_wasserstein
from quickstart import positive
from runs import Run, load_run, make_sampler
from settings import Settings, to_dict
from shortest_path.checkpoint import latest_checkpoint
from shortest_path.sampler import Solver

MEASURES = {"kl": "KL", "distance": "distance", "power_error": "power error"}  # those that depend on the calls
REFERENCE, PAPERS, REAL = "reference", "the paper's constants", "training pictures"


def main(argv: Sequence[str] | None = None) -> None:
    args, passed = parse(argv)
    words = {name: [*passed, *own, "--out", str(args.out / name)] for name, own in make_paths(args).items()}
    settings = {name: settings_of_training.parse(each) for name, each in words.items()}
    try:
        real = read_real(next(iter(settings.values())), args)
        paths = {name: study(words[name], settings[name], real, args) for name in words}
    except (OSError, ValueError) as error:
        raise SystemExit(f"deviation_study: {error}") from error
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"deviation_study: {Path(error.cmd[5]).name} ended with status {error.returncode}") from error
    report = {
        "solver": args.solver,
        "samples": args.samples,
        "held_out": {"source": real.source, "count": len(real.held_out)},
        "paths": paths,
        "training_pictures": measure(real.training, real),
        "settings": {name: to_dict(each) for name, each in settings.items()},
        "torch": torch.__version__,
    }
    (args.out / "deviation.json").write_text(json.dumps(report, indent=2) + "\n")
    (args.out / "deviation.md").write_text(table(report))
    draw_plot(args.out / "deviation.png", report)
    print(f"\n{table(report)}\n{args.out / 'deviation'}.md, .png, .json: the table, a plot, all numbers")


def make_paths(args: argparse.Namespace) -> dict[str, list[str]]:
    """Return the options of training for each path, by the name of its folder."""
    measured = ["--corruption", "shortest-path", "--spectrum", "measured", "--log-power-scale"]
    constants = ["--corruption", "shortest-path", "--spectrum", "reference", "--log-power-scale", "1"]
    paths = {f"scale-{scale:g}": [*measured, f"{scale:g}"] for scale in args.scales}
    return paths | {REFERENCE: [*constants, "--basis", "fourier", "--channels", "shared"]} if args.reference else paths


class Real(NamedTuple):
    """Real pictures, floats (n, C, H, W): some that were trained on, and others; and the data set behind them."""

    training: Tensor
    held_out: Tensor
    source: str
    sha256: str


def read_real(settings: Settings, args: argparse.Namespace) -> Real:
    """Read the training pictures, and those to compare with.

    Raises:
        ValueError: no pictures, or the same ones twice.
    """
    pictures = cifar10.load(settings.data, size=settings.size, count=settings.images)
    training, held = train_cifar10.split(pictures, settings)
    source = f"set aside of {pictures.provenance['source']}"
    if args.held_out or not Path(settings.data).exists():  # a data set on the hub has a test split
        held = cifar10.load(args.held_out or settings.data, split="test", size=settings.size)
        source = f"{held.provenance['source']} ({held.provenance['split']})"
        if held.provenance["sha256"] == pictures.provenance["sha256"]:
            raise ValueError(f"--held-out {args.held_out} holds the pictures that are trained on; pass others")
    chosen = training.images[:: max(1, len(training.images) // args.samples)][: args.samples]
    return Real(to_unit(chosen), to_unit(held.images), source, pictures.provenance["sha256"])


def study(words: list[str], settings: Settings, real: Real, args: argparse.Namespace) -> dict[str, Any]:
    """Train along a path unless that is done, draw, and measure."""
    folder = Path(settings.out)
    print(f"\n== {folder} ==", flush=True)
    run = finished(folder, settings, real)
    if run is None:
        call(train_cifar10, words, args.processes)
        run = load_run(newest(folder))
    found = {}
    for calls in args.calls:
        path = folder / f"samples-{run.step:08d}-{args.solver}-{calls}.npz"
        options = ["--solver", args.solver, "--steps", str(calls), "--count", str(args.samples), "--out", str(path)]
        call(sample_cifar10, [str(newest(folder)), *options, "--bf16", settings.bf16], args.processes)
        with np.load(path, allow_pickle=False) as archive:
            drawn = to_unit(archive["images"])
        found[str(calls)] = {"kl": kl(run, calls), **measure(drawn, real)}
    return {
        "scale": None if settings.spectrum == "reference" else settings.log_power_scale,
        "step": run.step,
        "length": sp.path_length(run.corruption, run.spectrum) / sp.fisher_distance(run.spectrum, 1.0),
        "calls": found,
    }


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint of a training, if there is one."""
    return latest_checkpoint(folder / "checkpoints")


def finished(folder: Path, settings: Settings, real: Real) -> Run | None:
    """Return the run in a folder if it is all that the settings ask for; train_cifar10.py says what else it is."""
    path = newest(folder)
    if path is None:
        return None
    run = load_run(path)
    asked, had = to_dict(settings), to_dict(run.settings)
    same = all(asked[name] == had[name] for name in asked if name not in train_cifar10.FREE)
    return run if same and run.step >= settings.steps and run.provenance["sha256"] == real.sha256 else None


def call(script: ModuleType, words: Sequence[str], processes: int) -> None:
    """Run a script: here, or in processes of its own."""
    if processes == 1:
        script.main(words)
        return
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    subprocess.run([*launch, str(script.__file__), *words], check=True)


# Measuring ------------------------------------------------------------------------------------------------------------


def kl(run: Run, calls: int) -> float:
    """Return the KL divergence of ancestral sampling with the best denoiser, at the times that a network is called."""
    times = make_sampler(run, solver="ancestral", steps=calls).times
    return sp.gaussian_kl(run.corruption, run.spectrum, times=times)


def measure(pictures: Tensor, real: Real) -> dict[str, float]:
    """Return how pictures differ from those held out."""
    basis = sp.PowerSpectrum.estimate([real.held_out], "cosine").basis
    ratio = ring_power(pictures, basis) / ring_power(real.held_out, basis)
    return {
        "distance": sliced_wasserstein(pictures, real.held_out),
        "power_error": ratio.log().abs().mean().item(),
    }


def ring_power(pictures: Tensor, basis: sp.Basis) -> Tensor:
    """Return the mean power at each whole frequency, (C, n)."""
    power = sum(basis.analyze(part.double()).square().sum(0) for part in pictures.split(1024)) / len(pictures)
    ring = basis.frequencies(tuple(pictures.shape[2:])).flatten().round().long()
    return mean_over(power.flatten(1), ring).clamp(min=1e-12)


# Telling --------------------------------------------------------------------------------------------------------------


def table(report: Mapping[str, Any]) -> str:
    """Return the results as a table in Markdown."""
    paths = report["paths"]
    calls = list(next(iter(paths.values()))["calls"])
    measured = [f"{title}, {each} calls" for title in MEASURES.values() for each in calls]
    lines = [["log S scaled by", "length / geodesic", *measured], ["---", *["---:"] * (1 + len(measured))]]
    for found in paths.values():
        numbers = [found["length"], *(found["calls"][each][key] for key in MEASURES for each in calls)]
        label = PAPERS if found["scale"] is None else f"{found['scale']:g}"
        lines.append([label, *(f"{number:.4g}" for number in numbers)])
    values = [report["training_pictures"].get(key) for key in MEASURES for _ in calls]
    lines.append([REAL, "", *("" if value is None else f"{value:.4g}" for value in values)])
    note = (
        f"{report['samples']} pictures drawn with the {report['solver']} solver, compared with "
        f"{report['held_out']['count']} held out ({report['held_out']['source']})."
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{note}\n"


@matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
def draw_plot(path: Path, report: Mapping[str, Any]) -> None:
    """Draw every measure over the scale of log S, a colour for each number of calls."""
    figure = Figure(figsize=(12.5, 3.8), layout="constrained")
    titles = ("KL of Gaussian data (nats)", "sliced Wasserstein distance (pixels)", "error of log power")
    scaled = sorted((each for each in report["paths"].values() if each["scale"] is not None), key=itemgetter("scale"))
    calls = list(scaled[0]["calls"])
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.75, len(calls)))
    for axis, key, title in zip(figure.subplots(1, len(MEASURES)), MEASURES, titles, strict=True):
        for each, colour in zip(calls, colours, strict=True):
            values = [found["calls"][each][key] for found in scaled]
            axis.plot([found["scale"] for found in scaled], values, "o-", color=colour, label=f"{each} calls")
            if REFERENCE in report["paths"]:
                value = report["paths"][REFERENCE]["calls"][each][key]
                axis.axhline(value, color=colour, linestyle="--", label=f"{PAPERS}, {each} calls")
        if key in report["training_pictures"]:
            axis.axhline(report["training_pictures"][key], color="grey", linestyle=":", label=REAL)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("log S scaled by")
        axis.set(yscale="log") if key == "kl" else axis.set_ylim(bottom=0)
        axis.grid(color="#E6E6E6")
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=150)


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the study's own options, and those of training."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("outputs/deviation"), help="folder for everything (%(default)s)")
    add("--scales", type=float, nargs="+", default=[0.8, 0.9, 1.0, 1.1, 1.25], help="of log S (%(default)s)")
    add("--reference", action=argparse.BooleanOptionalAction, default=True, help="the paper's constants as well")
    add("--calls", type=positive, nargs="+", default=[10, 50], help="of the network for each picture (%(default)s)")
    add("--samples", type=positive, default=2048, help="pictures to draw (%(default)s)")
    add("--solver", choices=get_args(Solver), default="ancestral", help="the paper's is the default (%(default)s)")
    add("--held-out", help="pictures to compare with (default: the test split, or what training sets aside of a file)")
    add("--processes", type=positive, default=1, help="that train and draw, one for each GPU (%(default)s)")
    args, passed = parser.parse_known_args(argv)
    if varied := [word for word in passed if re.match("--(corruption|spectrum|log.power.scale)", word)]:
        parser.error(f"{varied[0]} is what the study varies; leave it out")
    if "RANK" in os.environ:
        parser.error("run it with python; --processes N starts N processes for each part")
    if min(args.scales) <= 0:
        parser.error(f"--scales must be positive, got {min(args.scales):g}")
    return args, passed


if __name__ == "__main__":
    main()
