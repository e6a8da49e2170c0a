"""Choice of a learning rate for each corruption and output: short trainings, judged on held-out training images."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from studies.trained_networks.cases import CASES, ODE_STEPS, OUTPUTS, OutputName
from studies.trained_networks.runs import Run, execute, perform
from studies.trained_networks.study import Study

BITS = f"bits_{ODE_STEPS[0]}"

Chosen = Mapping[tuple[str, OutputName], float]
"""Learning rates by corruption and output."""


def tune(study: Study, cases: Sequence[str], processes: int) -> Chosen:
    """Return the learning rate of each corruption and output.

    Raises:
        ValueError: every learning rate of a corruption and output diverged.
    """
    scale = study.scale
    pairs: list[tuple[str, OutputName]] = [(case, output) for case in cases for output in OUTPUTS]
    if len(scale.learning_rates) == 1:
        return dict.fromkeys(pairs, scale.learning_rates[0])
    runs = [Run(*pair, 0, rate, tuning=True) for pair in pairs for rate in scale.learning_rates]
    execute(partial(perform, study), runs, processes)
    chosen = {(each["case"], each["output"]): each["chosen"] for each in tried(study.out)}
    for pair in pairs:
        if chosen[pair] is None:
            raise ValueError(f"every learning rate diverged for {pair[0]}, {pair[1]}; pass smaller ones")
    return {pair: chosen[pair] for pair in pairs}


def tried(out: Path) -> list[dict[str, Any]]:
    """Return the bits/dim of every learning rate that was tried in a study's folder, and the best, or None."""
    records = [json.loads(file.read_text()) for file in sorted((out / "tuning").glob("*/record.json"))]
    table = []
    for case, output in itertools.product(CASES, OUTPUTS):
        bits = {
            record["learning_rate"]: record[BITS]["mean"]
            for record in records
            if (record["case"], record["output"]) == (case, output) and BITS in record
        }
        known = {rate: value for rate, value in sorted(bits.items()) if value is not None}
        if bits:
            best = min(known, key=known.__getitem__) if known else None
            table.append({"case": case, "output": output, "bits": dict(sorted(bits.items())), "chosen": best})
    return table
