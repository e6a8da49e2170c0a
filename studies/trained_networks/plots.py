"""Plots of the study, and samples side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from examples.recipe.images import to_uint8
from studies.trained_networks.report import FLOOR, MEASURES, OTHER_GRID, Cell, Report, Spread, collect, scales

_STYLE: dict[Any, Any] = dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False)
_STYLE |= {"axes.grid": True, "grid.color": "#E6E6E6"}
# Colours of Okabe and Ito, which colour-blind readers can distinguish; markers and lines distinguish more cases.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS, _LINES = "os^Dv<>P", ("-", "--", ":")
_SIDE = 64  # pixels; images are enlarged to at least this size


@matplotlib.rc_context(_STYLE)
def draw_quality(path: Path, report: Report, measure: str = "frechet") -> None:
    """Plot a measure against model calls, a panel for each solver, without the cases `scale-…`."""
    found = {case: cells for case, cells in collect(report, measure).items() if case not in scales(report)}
    figure, panels = _panels(report, measure, found)
    for index, (case, cells) in enumerate(found.items()):
        for solver, axis in panels.items():
            points = {calls: spread for (name, calls), spread in sorted(cells.items()) if name == solver}
            # A little offset, so that bars do not hide each other.
            places = [calls * 1.02 ** (index - len(found) / 2) for calls in points]
            look = {"color": _COLOURS[index % 7], "linestyle": _LINES[index // 7 % 3], "marker": _MARKERS[index % 8]}
            _draw(axis, places, points.values(), label=report["cases"][case]["title"], **look)
    ticks = sorted({calls for cells in found.values() for _, calls in cells})
    for axis in panels.values():
        axis.set(xscale="log", xlabel="model calls")
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xticks([], minor=True)
    _finish(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_deviation(path: Path, report: Report, measure: str = "frechet", *, centre: str = "path-cosine") -> None:
    """Plot a measure of the cases `scale-…`, and of `centre` at 1, over the scale of log S, a panel for each solver."""
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


def draw_samples(path: Path, images: Mapping[str, Tensor]) -> None:
    """Plot images side by side: a row for each title, a column for each index of (n, C, H, W).

    Raises:
        ValueError: no rows, or rows of different shapes.
    """
    shapes = sorted({tuple(row.shape) for row in images.values()})
    if len(shapes) != 1 or len(shape := shapes[0]) != 4:
        raise ValueError(f"rows must have one shape (n, C, H, W), got {shapes}")
    times = -(-_SIDE // shape[2])
    strips = []
    for row in images.values():
        enlarged = to_uint8(row).repeat(times, 1).repeat(times, 2)
        strips.append(np.concatenate(list(np.pad(enlarged, ((0, 0), (4, 4), (4, 4), (0, 0)), constant_values=255)), 1))
    sheet = np.concatenate(strips)
    figure = Figure(figsize=(sheet.shape[1] / 90, sheet.shape[0] / 90))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(sheet.squeeze(-1) if shape[1] == 1 else sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_yticks([(row + 0.5) * len(sheet) / len(images) for row in range(len(images))], list(images))
    axis.tick_params(length=0, labelbottom=False)
    axis.spines[:].set_visible(False)
    figure.savefig(path, dpi=180, bbox_inches="tight")  # two pixels for each pixel of the sheet


def _panels(report: Report, measure: str, found: Mapping[str, Mapping[Cell, Spread]]) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with axes for each solver and the floor as a line."""
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
