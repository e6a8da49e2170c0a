"""Which corruption is best for a trained network? The same network, pictures, noise and budget for each of several.

    python benchmarks/evidence.py --scale cpu --data TRAIN --held-out TEST --classifier FOLDER --processes 2
    python benchmarks/evidence.py --scale gpu --data TRAIN --held-out TEST --classifier FOLDER    # on a GPU

`--data` and `--held-out` are what examples/train_cifar10.py takes; benchmarks/classifier.py makes the folder of a
classifier, in whose features pictures are compared. First every family of corruptions is tuned: short trainings over
one list of what the network predicts and how its error is weighed (`evidence_cases.py`). Then every case is trained
from each of `--seeds`, pictures are drawn with each solver and number of network calls, and measured against held-out
ones (`evidence_measures.py`).

Interrupted, it continues when run again; what is finished is not done again, and more cases, seeds or calls can be
asked for later. A study of its own, of longer training say, need not tune again: `--tuned`. Each run writes
`record.json` in its folder of `--out`; all of them together are `evidence.json`, with tables, plots and sample grids
beside it (`evidence_report.py`).
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in examples/quickstart.py
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import math
import multiprocessing
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

import evidence_report
import shortest_path as sp
from evidence_cases import CALLS, CASES, MAIN_SOLVERS, PRESETS, SOLVERS, TARGETS, TUNED_ON, Case, Target
from evidence_runs import Run, Study, finite, measures_of, perform, pictures, spectrum_of, write
from timing import describe_machine

TUNING = (("ancestral", 50), ("multistep", 20))  # how pictures are drawn to choose a target
SHOWN = "multistep-20"  # of which way of drawing pictures are shown


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    study = Study(args.scale, args.data, args.held_out, args.classifier, args.out, args.compile)
    try:
        for case in CASES.values():
            spectrum_of(study, case)  # once, before others read it
        families = {CASES[name].family for name in args.cases}
        tuning = read_tuning(args.tuned) if args.tuned else tune(study, families, args.processes)
        write(study.out / "tuning.json", tuning)
        targets = {family: choose(tuning, family) for family in families}
        runs = [Run(name, targets[CASES[name].family], seed, False) for seed in args.seeds for name in args.cases]
        execute(study, runs, dict.fromkeys(args.solvers, args.calls), args.processes)
        report(study)
    except (OSError, ValueError) as error:
        raise SystemExit(f"evidence: {error}") from error


# Choosing a target ----------------------------------------------------------------------------------------------------


def tune(study: Study, families: Collection[str], processes: int) -> dict[str, Any]:
    """Return how good the pictures were of a short training with each target, for each family."""
    runs = [
        Run(case, target, 0, True)
        for family, case in TUNED_ON.items()
        if family in families
        for target in TARGETS[family]
    ]
    wanted = {solver: (calls,) for solver, calls in TUNING}
    records = execute(study, runs, wanted, processes)
    scores = [
        {"case": run.case, "target": run.target.name, "score": finite(score(record))}
        for run, record in zip(runs, records, strict=True)
    ]
    return {"runs": scores, "drawn": TUNING, "steps": study.scale.tuning_steps}


def read_tuning(file: Path) -> dict[str, Any]:
    """Return the tuning that another study wrote into its `evidence.json`, with the name of that file as `source`.

    Raises:
        OSError: no such file.
        ValueError: it is not of a study.
    """
    try:
        return {"source": file.name} | json.loads(file.read_text())["tuning"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is not the evidence.json of a study, from which --tuned reads targets") from error


def choose(tuning: Mapping[str, Any], family: str) -> Target:
    """Return the target of a family whose pictures were best.

    Raises:
        ValueError: the family was not tuned, or all its pictures diverged.
    """
    scores = {run["target"]: run["score"] for run in tuning["runs"] if run["case"] == TUNED_ON[family]}
    own = {target: scores[target.name] for target in TARGETS[family] if scores.get(target.name) is not None}
    if not own:
        raise ValueError(f"the tuning has no score for {family}, tuned on {TUNED_ON[family]}; tune it, without --tuned")
    best = min(own, key=own.__getitem__)
    told = ", ".join(f"{target.name} {value:.3g}" for target, value in own.items())
    print(f"{family}: {best.name} of {told}", flush=True)
    return best


def score(record: Mapping[str, Any]) -> float:
    """Return the geometric mean of the Fréchet distances of a tuning run; infinite if pictures diverged."""
    found = [entry["frechet"] for entry in record["quality"] if (entry["solver"], entry["calls"]) in TUNING]
    return math.inf if None in found else math.prod(found) ** (1 / len(found))


def execute(
    study: Study, runs: Sequence[Run], calls: Mapping[str, Sequence[int]], processes: int
) -> list[dict[str, Any]]:
    """Return the records of runs, of which `processes` are made at once."""
    if processes == 1:
        return [perform(study, run, calls) for run in runs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = [pool.submit(perform, study, run, calls) for run in runs]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [each.result() for each in waiting]


# Telling --------------------------------------------------------------------------------------------------------------


def report(study: Study) -> None:
    """Write what all finished runs in the folder say."""
    scale, out = study.scale, study.out
    records = [json.loads(file.read_text()) for file in sorted((out / "runs").glob("*/record.json"))]
    shared = ("scale", "data", "held_out")
    runs = [{name: value for name, value in each.items() if name not in shared} for each in records if "loss" in each]
    measures = measures_of(study)
    data, held = (pictures(source, scale.size).provenance for source in (study.data, study.held_out))
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
    (out / "evidence.md").write_text(f"{tuning_table(found['tuning'])}\n\n{evidence_report.tables(found)}")
    evidence_report.draw_quality(out / "quality.png", found)
    evidence_report.draw_deviation(out / "deviation.png", found)
    shown = {CASES[run["case"]].title: out / "runs" / f"{run['case']}-0" / f"{SHOWN}.pt" for run in runs}
    drawn = {title: torch.load(file, weights_only=True) for title, file in shown.items() if file.exists()}
    if drawn:
        evidence_report.draw_samples(out / "samples.png", drawn)
    print(f"{out}/evidence.md, evidence.json, quality.png, deviation.png: {len(runs)} runs")


def tuning_table(tuning: Mapping[str, Any]) -> str:
    """Return the scores of all targets as a table in Markdown, the best of each case in bold; not those of a source."""
    if source := tuning.get("source"):
        return f"What the network predicts was chosen by the tuning of another study, `{source}`."
    cases = list(dict.fromkeys(run["case"] for run in tuning["runs"]))
    targets = list(dict.fromkeys(run["target"] for run in tuning["runs"]))
    found = {(run["target"], run["case"]): math.inf if run["score"] is None else run["score"] for run in tuning["runs"]}
    least = {case: min(value for (_, own), value in found.items() if own == case) for case in cases}
    drawn = ", ".join(f"{solver} with {calls} calls" for solver, calls in tuning["drawn"])
    lines = [
        f"What the network predicts: geometric mean of Fréchet distances, {drawn}, after {tuning['steps']} steps:",
        "",
        f"| target | {' | '.join(CASES[case].title for case in cases)} |",
        f"| --- |{' --- |' * len(cases)}",
    ]
    for target in targets:
        values = [found.get((target, case)) for case in cases]
        cells = [
            "–" if value is None else f"**{value:.3g}**" if value == least[case] else f"{value:.3g}"
            for value, case in zip(values, cases, strict=True)
        ]
        lines.append(f"| {target} | {' | '.join(cells)} |")
    return "\n".join(lines)


def length(study: Study, case: Case) -> float | None:
    """Return the Fisher length of a case's path relative to the geodesic; None for one that does not end in noise."""
    if case.family == "heat":
        return None
    spectrum = spectrum_of(study, case)
    return finite(sp.path_length(case.make(spectrum), spectrum) / sp.fisher_distance(spectrum, 1.0))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--scale", choices=list(PRESETS), default="cpu", help="size of everything (%(default)s)")
    add("--data", required=True, help="pictures to train on, as for examples/train_cifar10.py")
    add("--held-out", required=True, help="pictures to compare with")
    add("--classifier", required=True, help="folder that benchmarks/classifier.py wrote")
    add("--out", type=Path, default=Path("outputs/evidence"), help="folder for everything (%(default)s)")
    add("--cases", nargs="+", choices=list(CASES), default=list(CASES), metavar="CASE", help=f"of {', '.join(CASES)}")
    add("--seeds", type=int, nargs="+", default=[0, 1], help="of trainings (%(default)s)")
    add("--solvers", nargs="+", choices=list(SOLVERS), default=list(MAIN_SOLVERS), help="to draw with (%(default)s)")
    add("--calls", type=int, nargs="+", default=list(CALLS), help="of the network for each picture (%(default)s)")
    add("--tuned", type=Path, metavar="FILE", help="evidence.json of a study whose tuning decides; not tuned again")
    add("--compile", action="store_true", help="compile the network, which needs a C++ compiler and a minute or two")
    add("--processes", type=int, default=1, help="runs at once, with one thread each if more than one (%(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
