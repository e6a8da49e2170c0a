"""Plot docs/figures/deviation.svg: image quality of trained networks whose path deviates from the shortest one.

    python -m docs.figures.deviation [--report FILE]

Fréchet distances in the features of a small classifier, from a report of `python -m studies.trained_networks`, for
paths whose spectrum has log S multiplied by a factor; 1 is the shortest path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from docs.figures.style import BLUE, ORANGE, PURPLE, WIDTH, save
from docs.figures.trained import asked, bars, points
from studies.trained_networks.report import scales

WAYS = (("ancestral", 50, ORANGE, "s"), ("ddim", 50, PURPLE, "^"), ("multistep", 20, BLUE, "D"))


def places(report: Mapping[str, Any]) -> dict[float, str]:
    """Return the cases by the scale of log S, rising."""
    found = {case: scale for case, scale in {**scales(report), "path-cosine": 1.0}.items() if case in report["cases"]}
    return {found[case]: case for case in sorted(found, key=found.__getitem__)}


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Plot distance against the scale of log S, a line for each solver."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    for solver, calls, colour, marker in WAYS:
        known = {scale: points(report, case, solver).get(calls) for scale, case in places(report).items()}
        found = {scale: spread for scale, spread in known.items() if spread}
        bars(axis, found, label=f"{solver}, {calls} calls", color=colour, marker=marker)
    axis.set(xlabel="log S multiplied by (1: the shortest path)", ylabel="Fréchet distance")
    axis.legend()
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Plot the figure."""
    draw(*asked(__doc__, "deviation.svg", arguments))


if __name__ == "__main__":
    main()
