"""Choice of a learning rate for each corruption and output: short trainings, judged on held-out training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studies.trained_networks.cases import ODE_STEPS, OUTPUTS, OutputName
from studies.trained_networks.runs import Run, Study, execute

Chosen = Mapping[tuple[str, OutputName], float]
"""Learning rates by corruption and output."""


def tune(study: Study, cases: Sequence[str], processes: int) -> tuple[Chosen, list[dict[str, Any]]]:
    """Return the learning rate of each corruption and output, and the score of each that was tried.

    Raises:
        ValueError: every learning rate of a corruption and output diverged.
    """
    scale = study.scale
    pairs: list[tuple[str, OutputName]] = [(case, output) for case in cases for output in OUTPUTS]
    if len(scale.learning_rates) == 1:
        return dict.fromkeys(pairs, scale.learning_rates[0]), []
    runs = [Run(*pair, 0, rate, tuning=True) for pair in pairs for rate in scale.learning_rates]
    records = execute(study, runs, processes)
    chosen, table = {}, []
    for pair in pairs:
        scores = {
            run.learning_rate: record[f"bits_{ODE_STEPS[0]}"]["mean"]
            for run, record in zip(runs, records, strict=True)
            if (run.case, run.output) == pair
        }
        known = {rate: bits for rate, bits in scores.items() if bits is not None}
        if not known:
            raise ValueError(f"every learning rate diverged for {pair[0]}, {pair[1]}; pass smaller ones")
        chosen[pair] = min(known, key=known.__getitem__)
        table.append({"case": pair[0], "output": pair[1], "bits": scores, "chosen": chosen[pair]})
    return chosen, table
