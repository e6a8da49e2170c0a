"""Compare corruptions with trained networks: the same network, images, noise and budget for each of them.

    python -m studies.trained_networks --scale cpu --data TRAIN --held-out TEST --classifier FOLDER --processes 2
    python -m studies.trained_networks --scale gpu --data TRAIN --held-out TEST --classifier FOLDER    # on a GPU

`--data` and `--held-out` are as for examples/train_cifar10.py. `--classifier` is a folder written by
studies.trained_networks.classifier; images are compared in its features. First every family of corruptions is tuned:
short trainings over one list of predictions and weightings (`cases.py`). Then every case is trained from each of
`--seeds`. Samples of each solver and number of model calls are compared with held-out images (`measures.py`).

An interrupted study continues when run again, and repeats nothing that is finished. More cases, seeds or calls can be
added later. Another study, e.g. of longer training, can reuse the tuning with `--tuned`. Each run writes `record.json`
in its folder in `--out`; `evidence.json` has all of them, and tables, plots and sample grids are beside it.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in examples/quickstart.py
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

import shortest_path as sp
from benchmarks.timing import describe_machine
from studies.trained_networks.cases import CALLS, CASES, MAIN_SOLVERS, PRESETS, SOLVERS, Case
from studies.trained_networks.plots import draw_deviation, draw_quality, draw_samples
from studies.trained_networks.report import tables, tuning_table
from studies.trained_networks.runs import Run, Study, dataset, execute, finite, measures_of, spectrum_of, write
from studies.trained_networks.tuning import choose, read_tuning, tune

SHOWN = "multistep-20"  # solver and number of calls of the images that are shown


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study, or continue it."""
    args = parse(argv)
    study = Study(args.scale, args.data, args.held_out, args.classifier, args.out, args.compile)
    try:
        for case in CASES.values():
            spectrum_of(study, case)  # once, before other processes read it
        families = {CASES[name].family for name in args.cases}
        tuning = read_tuning(args.tuned) if args.tuned else tune(study, families, args.processes)
        write(study.out / "tuning.json", tuning)
        targets = {family: choose(tuning, family) for family in families}
        runs = [Run(name, targets[CASES[name].family], seed, False) for seed in args.seeds for name in args.cases]
        execute(study, runs, dict.fromkeys(args.solvers, args.calls), args.processes)
        report(study)
    except (OSError, ValueError) as error:
        raise SystemExit(f"trained_networks: {error}") from error


def report(study: Study) -> None:
    """Write the report of all finished runs in the folder."""
    scale, out = study.scale, study.out
    records = [json.loads(file.read_text()) for file in sorted((out / "runs").glob("*/record.json"))]
    shared = ("scale", "data", "held_out")
    runs = [{name: value for name, value in each.items() if name not in shared} for each in records if "loss" in each]
    measures = measures_of(study)
    data, held = (dataset(source, scale.size).provenance for source in (study.data, study.held_out))
    found = {
        "scale": study.scale_name,
        "settings": scale.plain(),
        "machine": describe_machine(),
        "data": {"training": data, "held_out": held},
        "classifier": json.loads((Path(study.classifier) / "classifier.json").read_text()),
        "tuning": json.loads((out / "tuning.json").read_text()),
        "floor": measures.floor(min(scale.samples, held["count"] // 2)),
        "cases": {
            name: {"title": case.title, "length": length(study, case)}
            for name, case in CASES.items()
            if any(run["case"] == name for run in runs)
        },
        "runs": runs,
    }
    write(out / "evidence.json", found)
    (out / "evidence.md").write_text(f"{tuning_table(found['tuning'])}\n\n{tables(found)}")
    draw_quality(out / "quality.png", found)
    draw_deviation(out / "deviation.png", found)
    shown = {CASES[run["case"]].title: out / "runs" / f"{run['case']}-0" / f"{SHOWN}.pt" for run in runs}
    images = {title: torch.load(file, weights_only=True) for title, file in shown.items() if file.exists()}
    if images:
        draw_samples(out / "samples.png", images)
    print(f"{out}/evidence.md, evidence.json, quality.png, deviation.png: {len(runs)} runs")


def length(study: Study, case: Case) -> float | None:
    """Return the Fisher length of a case's path relative to the geodesic; None if it does not end in noise."""
    if case.family == "heat":
        return None
    spectrum = spectrum_of(study, case)
    return finite(sp.path_length(case.make(spectrum), spectrum) / sp.fisher_distance(spectrum, 1.0))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.trained_networks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--scale", choices=list(PRESETS), default="cpu", help="sizes of images, network and training (%(default)s)")
    add("--data", required=True, help="training images, as for examples/train_cifar10.py")
    add("--held-out", required=True, help="held-out images, to which samples are compared")
    add("--classifier", required=True, help="folder of studies.trained_networks.classifier")
    add("--out", type=Path, default=Path("outputs/evidence"), help="folder for everything (%(default)s)")
    add("--cases", nargs="+", choices=list(CASES), default=list(CASES), metavar="CASE", help=f"from {', '.join(CASES)}")
    add("--seeds", type=int, nargs="+", default=[0, 1], help="random seeds of trainings (%(default)s)")
    add(
        "--solvers",
        nargs="+",
        choices=list(SOLVERS),
        default=list(MAIN_SOLVERS),
        help="solvers to sample with (%(default)s)",
    )
    add("--calls", type=int, nargs="+", default=list(CALLS), help="numbers of model calls for each image (%(default)s)")
    add("--tuned", type=Path, metavar="FILE", help="evidence.json of a study whose tuning is used")
    add("--compile", action="store_true", help="compile the network; requires a C++ compiler")
    add(
        "--processes",
        type=int,
        default=1,
        help="number of simultaneous runs; if several, with one thread each (%(default)s)",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
