"""Choice of a target, what the network predicts and how its error is weighted, for each family of corruptions."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from studies.trained_networks.cases import TARGETS, TUNED_ON, Target
from studies.trained_networks.runs import Run, Study, execute, finite

TUNING = (("ancestral", 50), ("multistep", 20))  # solvers and numbers of calls by which a target is chosen


def tune(study: Study, families: Collection[str], processes: int) -> dict[str, Any]:
    """Return the score of a short training with each target, for each family."""
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
    """Return the tuning in the `evidence.json` of another study, with the name of that file as `source`.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not the report of a study.
    """
    try:
        return {"source": file.name} | json.loads(file.read_text())["tuning"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"--tuned requires the evidence.json of a study, got {file}") from error


def choose(tuning: Mapping[str, Any], family: str) -> Target:
    """Return the target of a family with the best score.

    Raises:
        ValueError: the family was not tuned, or all its samples diverged.
    """
    scores = {run["target"]: run["score"] for run in tuning["runs"] if run["case"] == TUNED_ON[family]}
    own = {target: scores[target.name] for target in TARGETS[family] if scores.get(target.name) is not None}
    if not own:
        raise ValueError(f"the tuning has no score for {family}, tuned on {TUNED_ON[family]}; omit --tuned to tune it")
    best = min(own, key=own.__getitem__)
    scores_told = ", ".join(f"{target.name} {value:.3g}" for target, value in own.items())
    print(f"{family}: {best.name} of {scores_told}", flush=True)
    return best


def score(record: Mapping[str, Any]) -> float:
    """Return the geometric mean of the Fréchet distances of a tuning run; infinite if samples diverged."""
    found = [entry["frechet"] for entry in record["quality"] if (entry["solver"], entry["calls"]) in TUNING]
    return math.inf if None in found else math.prod(found) ** (1 / len(found))
