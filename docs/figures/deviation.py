"""Draws docs/figures/deviation.svg: what it costs a trained network to leave the shortest path.

    python docs/figures/deviation.py [--report FILE]

Fréchet distances in the features of a small classifier, from the report that `benchmarks/evidence.py` wrote, for paths
to spectra whose log S is multiplied by a number; 1 is the shortest path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from style import BLUE, ORANGE, PURPLE, WIDTH, save
from trained import asked, bars, points

from evidence_report import scales

WAYS = (("ancestral", 50, ORANGE, "s"), ("ddim", 50, PURPLE, "^"), ("multistep", 20, BLUE, "D"))


def places(report: Mapping[str, Any]) -> dict[float, str]:
    """Return the cases by the scale of log S, rising."""
    found = {case: scale for case, scale in {**scales(report), "path-cosine": 1.0}.items() if case in report["cases"]}
    return {found[case]: case for case in sorted(found, key=found.__getitem__)}


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw distance against the scale of log S, a line for each way of drawing."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    for solver, calls, colour, marker in WAYS:
        known = {scale: points(report, case, solver).get(calls) for scale, case in places(report).items()}
        found = {scale: spread for scale, spread in known.items() if spread}
        bars(axis, found, label=f"{solver}, {calls} calls", color=colour, marker=marker)
    axis.set(xlabel="log S multiplied by (1: the shortest path)", ylabel="Fréchet distance")
    axis.legend()
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figure."""
    draw(*asked(__doc__, "deviation.svg", arguments))


if __name__ == "__main__":
    main()
