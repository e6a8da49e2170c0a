r"""Compare corruptions with trained networks: the same network, images, noise and budget for each of them.

    python -m studies.trained_networks.classifier --data TRAIN --test TEST --size 8 --average-from 32 \
        --epochs 16 --required-accuracy 0.5 --precision fp32 --out classifier8
    python -m studies.trained_networks --data TRAIN --held-out TEST --classifier classifier8 --processes 2

Two primary measures, fixed before the first run and always shown side by side, as they can disagree:

1. held-out bits per dimension of the same test images, by `Sampler.log_likelihood`;
2. the kernel distance (KID) of samples in the features of a classifier, with 50 multistep and 250 ancestral calls.

Both are compared between corruptions by paired differences over seeds, with intervals for all contrasts together.
`--data` and `--held-out` are as for examples/train_cifar10.py. First a learning rate is chosen for every corruption and
output, on training images that are not trained with. Seeds are run one after the other, so an interrupted study has
complete ones. The same command continues, and repeats nothing that is finished. Each run writes `record.json` in its
folder in `--out`; `evidence.json` has all of them, and `evidence.md` the tables. `--extend evidence.json` takes the
finished runs of a report, such as those in `results`, so that more seeds and corruptions need no folder of the former.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in examples/quickstart.py
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import shortest_path as sp
from benchmarks.timing import describe_machine
from examples.recipe.arguments import output_folder
from studies.trained_networks import samples
from studies.trained_networks.cases import CASES, LIKE, MAIN, ODE_STEPS, OUTPUTS, PRIMARY, Case
from studies.trained_networks.extension import restore, restored_image_errors
from studies.trained_networks.report import tables
from studies.trained_networks.runs import Run, execute, perform
from studies.trained_networks.study import (
    Study,
    add_choice,
    classifier_facts,
    finite,
    floor,
    gaussian_model,
    parser,
    spectrum_of,
    test_images,
    training_images,
    write,
)
from studies.trained_networks.tuning import tried, tune


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study, or continue it."""
    args = parse(argv)
    study = Study(args.scale, args.data, args.held_out, args.classifier, args.out)
    try:
        if args.extend:
            restore(study, args.extend)
        for name in args.cases:
            spectrum_of(study, CASES[name])  # once, before other processes read it
        if not args.report_only:
            rates = tune(study, args.cases, args.processes)
            for seed in args.seeds:
                runs = [
                    Run(case, output, seed, rates[case, output], args.density)
                    for case in args.cases
                    for output in args.outputs
                ]
                execute(partial(perform, study, secondary=args.secondary), runs, args.processes)
        report(study)
    except (OSError, ValueError) as error:
        raise SystemExit(f"trained_networks: {error}") from error


def report(study: Study) -> None:
    """Write the report of all finished runs in the folder."""
    out, scale = study.out, study.scale
    found = sorted((out / "runs").glob("*/record.json"))
    runs = [(file.parent, json.loads(file.read_text())) for file in found]
    shared = ("scale", "data", "held_out", "tuning")
    values: dict[str, Any] = {
        "scale": study.scale_name,
        "settings": scale.plain(),
        "machine": describe_machine(),
        "data": {"training": training_images(study).provenance, "held_out": test_images(study).provenance},
        "classifier": classifier_facts(study),
        "tuning": {"steps": scale.tuning_steps, "runs": tried(out)},
        "starts": {file.stem: json.loads(file.read_text()) for file in sorted((out / "starts").glob("*.json"))},
        "floor": floor(study),
        "gaussian_model": gaussian_model(study),
        "cases": {
            name: {"title": CASES[name].title, "length": length(study, CASES[name])}
            for name in CASES
            if any(run["case"] == name for _, run in runs)
        },
        "runs": [{name: value for name, value in run.items() if name not in shared} for _, run in runs],
        "image_errors": restored_image_errors(out) | image_errors(runs),
    }
    write(out / "evidence.json", values)
    (out / "evidence.md").write_text(tables(values))
    shown = {"data": test_images(study).first(samples.KEPT).dequantised()}
    solver, calls = PRIMARY[0]
    for output, described in OUTPUTS.items():
        for name, case in CASES.items():
            file = out / Run(name, output, 0, 0.0).folder / f"{solver}-{calls}.npy"
            if file.exists():
                shown[f"{case.title}: {described.title.split(',')[0]}"] = samples.read(file)
    samples.draw(out / "samples.png", shown)
    print(f"{out}/evidence.md, evidence.json, samples.png: {len(runs)} runs")


def image_errors(runs: Sequence[tuple[Path, dict[str, Any]]]) -> dict[str, float]:
    """Return standard errors over images of differences of bits, seed 0.

    By output and case from Gaussian noise, and by output, case and "path-cosine" from the shortest path. The
    differences over seeds include them; they tell how much of the scatter more test images would remove.
    """
    files = {
        (run["output"], run["case"]): folder / f"bits-{ODE_STEPS[0]}.npy"
        for folder, run in runs
        if run["seed"] == 0 and run["density"] == "uniform"
    }
    bits = {key: np.load(file) for key, file in files.items() if file.exists()}
    found = {}
    for (output, case), values in bits.items():
        for base, name in (("gaussian-cosine", ""), ("path-cosine", " path-cosine")):
            others = bits.get((output, base))
            if others is not None and case != base:
                found[f"{output} {case}{name}"] = float((values - others).std(ddof=1) / len(values) ** 0.5)
    return found


def length(study: Study, case: Case) -> float | None:
    """Return the Fisher length of a case's path relative to the geodesic to white noise; None if it ends elsewhere."""
    spectrum = spectrum_of(study, case)
    corruption = case.make(spectrum)
    if getattr(corruption, "final_power", None) is not None or "equal SNR" in case.title:
        return None
    return finite(sp.path_length(corruption, spectrum) / sp.fisher_distance(spectrum, 1.0))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = parser("studies.trained_networks", __doc__)
    add = options.add_argument
    add("--out", type=output_folder, default="outputs/trained", help="folder for everything (%(default)s)")
    add_choice(options, MAIN)
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3], help="random seeds of trainings (%(default)s)")
    add(
        "--density",
        choices=["uniform", *LIKE],
        default="uniform",
        help="training times: uniform, or such that the mean log-SNR is distributed as under Gaussian noise (matched) "
        "or the shortest path (path)",
    )
    add("--secondary", action="store_true", help="also sample with 20 and 1000 calls")
    add("--extend", type=Path, metavar="REPORT", help="an evidence.json whose runs are not repeated")
    add("--report-only", action="store_true", help="only write the report of the runs that are finished")
    add(
        "--processes",
        type=int,
        default=1,
        help="number of simultaneous runs; if several, with one thread each (%(default)s)",
    )
    return options.parse_args(argv)


if __name__ == "__main__":
    main()
