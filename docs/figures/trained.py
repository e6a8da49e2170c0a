"""Plot docs/figures/trained.svg: what each corruption gains over isotropic noise with trained networks.

    python -m docs.figures.trained [--report FILE]

Paired differences from Gaussian noise (cosine schedule) over seeds, with the intervals of a report of
`python -m studies.trained_networks`: bits/dim of held-out images, and kernel distances of samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from docs.figures.style import BLUE, GREY, HERE, ORANGE, PURPLE, parser, save
from studies.trained_networks.cases import MAIN, OUTPUTS
from studies.trained_networks.report import BITS, MEASURES, contrasts

REPORT = HERE.parents[1] / "studies" / "trained_networks" / "results" / "evidence-8.json"
BASE = "gaussian-cosine"
_FAR = 5.0  # intervals that reach so many times further than most are cut off
LOOKS = dict(zip(MEASURES, ((BLUE, "o"), (ORANGE, "s"), (PURPLE, "^")), strict=True))


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Plot a row of panels for each network output: bits/dim on the left, kernel distances on the right."""
    figure, axes = plt.subplots(len(OUTPUTS), 2, figsize=(7.6, 5.2), layout="constrained", squeeze=False)
    cases = [case for case in report["cases"] if case in MAIN and case != BASE]
    for row, (output, described) in zip(axes, OUTPUTS.items(), strict=True):
        for axis, measures in zip(row, ([BITS], [name for name in MEASURES if name != BITS]), strict=True):
            axis.set_xlim(*limits([contrasts(report, measure, output, BASE) for measure in measures]))
            for index, measure in enumerate(measures):
                bars(axis, cases, contrasts(report, measure, output, BASE), index - (len(measures) - 1) / 2, measure)
            axis.axvline(0, color=GREY, linewidth=1)
            axis.set_yticks(range(len(cases)), [report["cases"][case]["title"] for case in cases])
            axis.set_ylim(len(cases) - 0.5, -0.5)
            axis.grid(axis="y", visible=False)
        row[1].set_yticks(range(len(cases)), [])
        row[1].set_ylim(row[0].get_ylim())
        row[0].set_title(described.title, loc="left")
    axes[-1][0].set_xlabel("difference in bits/dim\n← better")
    axes[-1][1].set_xlabel("difference in KID\n← better")
    handles, labels = axes[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    save(figure, path)


def limits(found: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the ends of an axis that shows all intervals but those far wider than the others."""
    every = [each for differences in found for each in differences.values()]
    reach = {each: abs(each.mean) + half(each) for each in every}
    usual = median(reach.values()) if reach else 0.0
    told = [each for each in every if half(each) and reach[each] <= _FAR * usual] or every
    ends = [each.mean + side * half(each) for each in told for side in (-1, 1)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    margin = 0.1 * (high - low) or 1.0
    return low - margin, high + margin


def half(difference: Any) -> float:
    """Return half of an interval to draw: 0 for fewer than three seeds, whose interval is wider than any figure."""
    return difference.half if difference.half is not None and difference.count >= 3 else 0.0


def bars(axis: Axes, cases: Sequence[str], found: Mapping[str, Any], shift: float, measure: str) -> None:
    """Plot differences with their intervals, a line for each case."""
    colour, marker = LOOKS[measure]
    known = [(place, found[case]) for place, case in enumerate(cases) if case in found]
    low, high = axis.get_xlim()
    high -= 0.02 * (high - low)
    for place, difference in known:
        if difference.mean > high:  # drawn at the border, with its number
            axis.annotate(
                f"{difference.mean:.1f} →",
                (high, place + 0.6 * shift),
                (-6, -3),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=colour,
            )
    axis.errorbar(
        [min(max(difference.mean, low), high) for _, difference in known],
        [place + 0.3 * shift for place, _ in known],
        xerr=[half(difference) if difference.mean <= high else 0.0 for _, difference in known],
        linestyle="none",
        color=colour,
        marker=marker,
        markersize=5,
        capsize=3,
        label=MEASURES[measure].removeprefix("KID, ") + " calls",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Plot the figure."""
    options = parser(__doc__, "trained.svg")
    options.add_argument("--report", type=Path, default=REPORT, help="evidence.json of studies.trained_networks")
    args = options.parse_args(arguments)
    draw(json.loads(args.report.read_text()), args.out)


if __name__ == "__main__":
    main()
