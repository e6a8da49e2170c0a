"""What `evidence.py` found: tables in Markdown, plots, and pictures side by side."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from images import to_uint8

MEASURES = {
    "frechet": "Fréchet distance",
    "kernel": "kernel distance",
    "patches_1": "patches, full size",
    "patches_2": "patches, half",
    "patches_4": "patches, quarter",
    "log_power": "error of log power",
}
COMPARED = (10, 50)  # calls, besides the most
MISSING = "–"
FLOOR = "real pictures (floor)"
OTHER_GRID = " on "  # in the name of a solver on another grid than its own: told in the details alone
_SECONDS = "seconds"
_DEVIATION = re.compile(r"scale-(\d+(?:\.\d+)?)")
_STYLE: dict[Any, Any] = dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False)
_STYLE |= {"axes.grid": True, "grid.color": "#E6E6E6"}
# Okabe and Ito's, told apart by colour-blind eyes too; markers and lines tell more cases than there are colours.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS, _LINES = "os^Dv<>P", ("-", "--", ":")
_SIDE = 64  # pixels that a drawn picture is enlarged to, at the least

Report = Mapping[str, Any]
"""What `evidence.py` writes as JSON."""

Cell = tuple[str, int]
"""A solver and its number of calls."""

Spread = tuple[float, ...]
"""A measure, one value for each seed."""


def collect(report: Report, measure: str) -> dict[str, dict[Cell, Spread]]:
    """Return a measure over seeds, for each case in order and what was measured of it.

    Raises:
        ValueError: a run of an unknown case, or two figures for one thing.
    """
    found: dict[str, dict[Cell, dict[int, float]]] = {case: {} for case in report["cases"]}
    for run in report["runs"]:
        if run["case"] not in found:
            raise ValueError(f"a run is of the case {run['case']!r}; the report's cases are {', '.join(found)}")
        for one in run.get("quality", ()):
            cell, value = (one["solver"], one["calls"]), one.get(measure)
            if value is None or not math.isfinite(value):
                continue
            seeds = found[run["case"]].setdefault(cell, {})
            if run["seed"] in seeds:
                raise ValueError(f"{run['case']}, seed {run['seed']} was measured twice at {cell}; keep one of them")
            seeds[run["seed"]] = value
    return {case: {cell: tuple(seeds.values()) for cell, seeds in cells.items()} for case, cells in found.items()}


def measured(report: Report) -> list[str]:
    """Return the measures that a report has, the most telling first."""
    return [name for name in MEASURES if any(collect(report, name).values())]


def scales(report: Report) -> dict[str, float]:
    """Return the scale of log S of the cases named `scale-…`."""
    return {case: float(match[1]) for case in report["cases"] if (match := _DEVIATION.fullmatch(case))}


# Tables ---------------------------------------------------------------------------------------------------------------


def tables(report: Report, measure: str | None = None) -> str:
    """Return the results in Markdown: two summaries, then everything of each case, and the settings, folded.

    Args:
        report: As `evidence.py` writes it; what a run has not measured yet is shown as –.
        measure: Of the first summary; None is the first of `measured`.
    """
    names = measured(report)
    if not names:
        return "Nothing has been measured yet.\n"
    measure = measure or names[0]
    calls = sorted({calls for cells in collect(report, measure).values() for _, calls in cells})
    columns = sorted({*(n for n in COMPARED if n in calls), calls[-1]})
    detailed = COMPARED[-1] if COMPARED[-1] in calls else calls[-1]
    counts = {_seeds(report, case) for case in report["cases"]} - {0}
    spread = "mean ± standard deviation over seeds" + (", of which one alone has none" if 1 in counts else "")
    if counts == {1}:
        spread = "one seed, so that no spread is known"
    settings = {name: value for name, value in report.items() if name not in ("floor", "cases", "runs")}
    return "\n\n".join(
        [
            f"{MEASURES[measure]} of each case with its best solver, by calls of the network: {spread}. Less is "
            "better; the least mean of a column is bold.",
            _summary(report, {f"{calls} calls": (measure, calls) for calls in columns}),
            f"All measures in {detailed} calls, each with the solver that is best by it:",
            _summary(report, {MEASURES[name]: (name, detailed) for name in names}),
            *(_details(report, case, names) for case in report["cases"]),
            _folded("Settings", f"```json\n{json.dumps(settings, indent=2, default=str)}\n```"),
            "",
        ]
    )


def best(cells: Mapping[Cell, Spread], calls: int) -> Cell | None:
    """Return the solver with the least mean at a number of calls, of those that most seeds have measured."""
    among = [cell for cell in cells if cell[1] == calls and OTHER_GRID not in cell[0]]
    most = max((len(cells[cell]) for cell in among), default=0)
    return min((cell for cell in among if len(cells[cell]) == most), key=lambda cell: mean(cells[cell]), default=None)


def text(spread: Spread | None, seeds: int = 0) -> str:
    """Return `mean ± standard deviation`, to two digits of the latter, and how many seeds if not all."""
    if spread is None:
        return MISSING
    shown = _number(mean(spread))
    if len(set(spread)) > 1:
        decimals = min(6, max(0, 1 - math.floor(math.log10(stdev(spread)))))
        shown = f"{mean(spread):.{decimals}f} ± {stdev(spread):.{decimals}f}"
    elif len(spread) > 1:
        shown += " ± 0"
    return f"{shown} ({len(spread)} of {seeds} seeds)" if len(spread) < seeds else shown


def _summary(report: Report, columns: Mapping[str, tuple[str, int]]) -> str:
    """Return a table of cases, with a measure in a number of calls in each column."""
    cases = report["cases"]
    rows = {
        case: [content["title"], _number(content.get("length")), str(_seeds(report, case))]
        for case, content in cases.items()
    }
    for measure, calls in columns.values():
        found = collect(report, measure)
        chosen = {case: best(found[case], calls) for case in cases}
        least = min((mean(found[case][cell]) for case, cell in chosen.items() if cell), default=None)
        for case, cell in chosen.items():
            spread = found[case][cell] if cell else None
            shown = text(spread, _seeds(report, case))
            shown = f"**{shown}**" if spread and mean(spread) == least else shown
            rows[case].append(f"{shown}, {cell[0]}" if cell else shown)
    floor = [_number(report["floor"].get(measure)) for measure, _ in columns.values()]
    return _table(["case", "length / geodesic", "seeds", *columns], [*rows.values(), [FLOOR, "", "", *floor]])


def _details(report: Report, case: str, names: Sequence[str]) -> str:
    """Return all that was measured of a case, with rows for what other cases have besides."""
    runs = [run for run in report["runs"] if run["case"] == case]
    if not runs:
        return _folded(report["cases"][case]["title"], "No run has ended yet.")
    found = {name: collect(report, name) for name in (*names, _SECONDS)}
    everywhere = {cell: None for cells in found.values() for each in cells.values() for cell in each}
    order = list(dict.fromkeys(solver for solver, _ in everywhere))
    rows = [
        [solver, str(calls), *(text(cells[case].get((solver, calls)), len(runs)) for cells in found.values())]
        for solver, calls in sorted(everywhere, key=lambda cell: (order.index(cell[0]), cell[1]))
    ]
    floor = [FLOOR, "", *(_number(report["floor"].get(name)) for name in names), ""]
    trained = [
        f"seed {run['seed']}: {', '.join(f'{_number(run.get(name))} {name}' for name in ('images', 'seconds', 'loss'))}"
        for run in runs
    ]
    header = ["solver", "calls", *(MEASURES[name] for name in names), _SECONDS]
    return _folded(
        report["cases"][case]["title"], f"Trained, {'; '.join(trained)}.\n\n{_table(header, [*rows, floor])}"
    )


def _seeds(report: Report, case: str) -> int:
    return sum(run["case"] == case for run in report["runs"])


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def _folded(title: str, body: str) -> str:
    return f'<details markdown="1"><summary>{title}</summary>\n\n{body}\n\n</details>'


# Plots ----------------------------------------------------------------------------------------------------------------


@matplotlib.rc_context(_STYLE)
def draw_quality(path: Path, report: Report, measure: str = "frechet") -> None:
    """Draw a measure against calls, a panel for each solver; cases `scale-…` are left to `draw_deviation`."""
    found = {case: cells for case, cells in collect(report, measure).items() if case not in scales(report)}
    figure, panels = _panels(report, measure, found)
    for index, (case, cells) in enumerate(found.items()):
        for solver, axis in panels.items():
            points = {calls: spread for (name, calls), spread in sorted(cells.items()) if name == solver}
            # A little aside, so that bars do not hide each other.
            places = [calls * 1.02 ** (index - len(found) / 2) for calls in points]
            look = {"color": _COLOURS[index % 7], "linestyle": _LINES[index // 7 % 3], "marker": _MARKERS[index % 8]}
            _draw(axis, places, points.values(), label=report["cases"][case]["title"], **look)
    ticks = sorted({calls for cells in found.values() for _, calls in cells})
    for axis in panels.values():
        axis.set(xscale="log", xlabel="calls of the network")
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xticks([], minor=True)
    _finish(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_deviation(path: Path, report: Report, measure: str = "frechet", *, centre: str = "path-cosine") -> None:
    """Draw a measure of the cases `scale-…`, and of `centre` at 1, over the scale of log S, a panel for each solver."""
    places, everything = {centre: 1.0} | scales(report), collect(report, measure)
    found = {case: everything[case] for case in sorted(places, key=places.__getitem__) if case in everything}
    figure, panels = _panels(report, measure, found)
    ticks = sorted({calls for cells in found.values() for _, calls in cells})
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(ticks)))
    for solver, axis in panels.items():
        for index, (calls, colour) in enumerate(zip(ticks, colours, strict=True)):
            points = {places[case]: cells[solver, calls] for case, cells in found.items() if (solver, calls) in cells}
            look = {"color": colour, "marker": _MARKERS[index % 8]}
            _draw(axis, list(points), points.values(), label=f"{calls} calls", **look)
        axis.axvline(1, color="#9A9A9A", linewidth=0.8)
        axis.set(xlabel="log S scaled by")
    _finish(figure, path)


def draw_samples(path: Path, pictures: Mapping[str, Tensor]) -> None:
    """Draw pictures side by side, a row for each title, a column for each place in (n, C, H, W), same seeds each.

    Raises:
        ValueError: no rows, or rows of different shapes.
    """
    shapes = sorted({tuple(row.shape) for row in pictures.values()})
    if len(shapes) != 1 or len(shape := shapes[0]) != 4:
        raise ValueError(f"rows must have one shape (n, C, H, W), got {shapes}")
    times = -(-_SIDE // shape[2])
    strips = []
    for row in pictures.values():
        enlarged = to_uint8(row).repeat(times, 1).repeat(times, 2)
        strips.append(np.concatenate(list(np.pad(enlarged, ((0, 0), (4, 4), (4, 4), (0, 0)), constant_values=255)), 1))
    sheet = np.concatenate(strips)
    figure = Figure(figsize=(sheet.shape[1] / 90, sheet.shape[0] / 90))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(sheet.squeeze(-1) if shape[1] == 1 else sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_yticks([(row + 0.5) * len(sheet) / len(pictures) for row in range(len(pictures))], list(pictures))
    axis.tick_params(length=0, labelbottom=False)
    axis.spines[:].set_visible(False)
    figure.savefig(path, dpi=180, bbox_inches="tight")  # two pixels for each of the sheet


def _panels(report: Report, measure: str, found: Mapping[str, Mapping[Cell, Spread]]) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with an axis for each solver, and the floor in it."""
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}")
    spreads = [spread for cells in found.values() for spread in cells.values()]
    named = dict.fromkeys(solver for cells in found.values() for solver, _ in cells if OTHER_GRID not in solver)
    solvers = list(named) or ["not measured yet"]
    figure = Figure(figsize=(4.2 * len(solvers) + 2.6, 4.2), layout="constrained")
    axes = figure.subplots(1, len(solvers), sharey=True, squeeze=False)[0]
    floor = report["floor"].get(measure)
    # An unbiased distance may be negative, and has no logarithm then.
    positive = all(value > 0 for spread in spreads for value in spread)
    for solver, axis in zip(solvers, axes, strict=True):
        if floor is not None and (floor > 0 or not positive):
            axis.axhline(floor, color="black", linestyle=":", label=FLOOR)
        axis.set(title=solver, yscale="log" if positive else "linear")
    axes[0].set_ylabel(MEASURES[measure])
    most = max(map(len, spreads), default=0)
    bars = f"means of up to {most} seeds; bars from the least to the greatest" if most > 1 else "one seed: no spread"
    figure.suptitle(f"{MEASURES[measure]} ({bars})", fontsize=12)
    return figure, dict(zip(solvers, axes, strict=True))


def _draw(axis: Axes, places: Sequence[float], spreads: Collection[Spread], **look: Any) -> None:
    means = [mean(spread) for spread in spreads]
    reach = [(middle - min(s), max(s) - middle) for s, middle in zip(spreads, means, strict=True)]
    bars = np.array(reach).reshape(-1, 2).clip(0).T
    axis.errorbar(places, means, yerr=bars, capsize=2, linewidth=1.4, markersize=4, **look)


def _finish(figure: Figure, path: Path) -> None:
    pairs = (pair for axis in figure.axes for pair in zip(*axis.get_legend_handles_labels(), strict=True))
    handles = {label: handle for handle, label in pairs}
    figure.legend(handles.values(), handles.keys(), loc="outside right center")
    figure.savefig(path, dpi=150)
