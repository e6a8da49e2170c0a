"""Plot docs/figures/trained.svg: quality of the images of trained networks, by corruption, solver and model calls.

    python -m docs.figures.trained [--report FILE]

Fréchet distances in the features of a small classifier, from a report of `python -m studies.trained_networks`: means
over seeds, with bars from the least to the greatest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from docs.figures.style import BLUE, GREEN, GREY, HERE, ORANGE, PURPLE, WIDTH, parser, save
from studies.trained_networks.report import collect

REPORT = HERE.parents[1] / "studies" / "trained_networks" / "results" / "evidence-cpu.json"
SHOWN = {
    "gaussian-cosine": ("Gaussian, cosine", GREY, "o", "-"),
    "blur-20": ("blur", ORANGE, "s", "-"),
    "blur-4": ("weak blur", ORANGE, "P", ":"),
    "path-rgb": ("path, RGB Fourier (the paper's)", PURPLE, "^", "--"),
    "path-cosine": ("path, rotated cosine", BLUE, "D", "-"),
    "path-principal": ("path, principal components", GREEN, "v", "--"),
}
SOLVERS = ("ancestral", "ddim", "multistep")
LEVELS = (40, 50, 60, 80, 100, 150)
TICKS = (5, 10, 20, 50, 100, 250, 1000)


def points(report: Mapping[str, Any], case: str, solver: str) -> dict[int, tuple[float, ...]]:
    """Return the Fréchet distances of all seeds, by number of model calls."""
    cells = collect(report, "frechet").get(case, {})
    return {calls: spread for (name, calls), spread in sorted(cells.items()) if name == solver}


def bars(axis: Axes, found: Mapping[Any, tuple[float, ...]], **look: Any) -> None:
    """Plot means, with bars from the least to the greatest."""
    middle = [mean(spread) for spread in found.values()]
    below = [mean(spread) - min(spread) for spread in found.values()]
    above = [max(spread) - mean(spread) for spread in found.values()]
    axis.errorbar(list(found), middle, yerr=[below, above], markersize=5, capsize=3, **look)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Plot distance against model calls, a panel for each solver."""
    figure, axes = plt.subplots(3, 1, figsize=(WIDTH, 8.2), sharex=True, sharey=True, layout="constrained")
    for axis, solver in zip(axes, SOLVERS, strict=True):
        for case, (label, colour, marker, line) in SHOWN.items():
            if found := points(report, case, solver):
                bars(axis, found, label=label, color=colour, marker=marker, linestyle=line)
        axis.set(title=solver, xscale="log", yscale="log", ylabel="Fréchet distance")
        axis.set_yticks(LEVELS, [str(level) for level in LEVELS])
        axis.minorticks_off()
    used = {calls for case in SHOWN for solver in SOLVERS for calls in points(report, case, solver)}
    axes[-1].set_xticks([tick for tick in TICKS if tick in used], [str(tick) for tick in TICKS if tick in used])
    axes[-1].set_xlabel(f"model calls (real images: {report['floor']['frechet']:.2f})")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save(figure, path)


def asked(description: str | None, default: str, arguments: Sequence[str] | None) -> tuple[dict[str, Any], Path]:
    """Return the report and the output file that a command line names."""
    options = parser(description, default)
    options.add_argument("--report", type=Path, default=REPORT, help="evidence.json of studies.trained_networks")
    args = options.parse_args(arguments)
    return json.loads(args.report.read_text()), args.out


def main(arguments: Sequence[str] | None = None) -> None:
    """Plot the figure."""
    draw(*asked(__doc__, "trained.svg", arguments))


if __name__ == "__main__":
    main()
