"""Tables of the study, in Markdown."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from studies.trained_networks.cases import CASES

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
FLOOR = "real images (floor)"
OTHER_GRID = " on "  # in the name of a solver on a grid other than its default, which only the details show
_SECONDS = "seconds"
_DEVIATION = re.compile(r"scale-(\d+(?:\.\d+)?)")

Report = Mapping[str, Any]
"""Content of `evidence.json`."""

Cell = tuple[str, int]
"""A solver and a number of model calls."""

Spread = tuple[float, ...]
"""Values of a measure, one for each seed."""


def collect(report: Report, measure: str) -> dict[str, dict[Cell, Spread]]:
    """Return the values of a measure by case, and by solver and number of calls.

    Raises:
        ValueError: a run of an unknown case, or two values for one seed.
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
    """Return the measures that a report has, the most important first."""
    return [name for name in MEASURES if any(collect(report, name).values())]


def scales(report: Report) -> dict[str, float]:
    """Return the scale of log S of the cases named `scale-…`."""
    return {case: float(match[1]) for case in report["cases"] if (match := _DEVIATION.fullmatch(case))}


# Tables ---------------------------------------------------------------------------------------------------------------


def tables(report: Report, measure: str | None = None) -> str:
    """Return the results in Markdown: two summaries, then all values of each case and the settings, folded.

    Args:
        report: Content of `evidence.json`; values not measured yet are shown as –.
        measure: Measure of the first summary (default: the first of `measured`).
    """
    names = measured(report)
    if not names:
        return "Nothing has been measured yet.\n"
    measure = measure or names[0]
    calls = sorted({calls for cells in collect(report, measure).values() for _, calls in cells})
    columns = sorted({*(n for n in COMPARED if n in calls), calls[-1]})
    detailed = COMPARED[-1] if COMPARED[-1] in calls else calls[-1]
    counts = {_seeds(report, case) for case in report["cases"]} - {0}
    spread = "mean ± standard deviation over seeds" + (" (none for a single seed)" if 1 in counts else "")
    if counts == {1}:
        spread = "one seed, hence no standard deviation"
    settings = {name: value for name, value in report.items() if name not in ("floor", "cases", "runs")}
    return "\n\n".join(
        [
            f"{MEASURES[measure]} of each case with its best solver, by number of model calls: {spread}. Less is "
            "better; the least mean of a column is bold.",
            _summary(report, {f"{calls} calls": (measure, calls) for calls in columns}),
            f"All measures with {detailed} calls, each with its best solver:",
            _summary(report, {MEASURES[name]: (name, detailed) for name in names}),
            *(_details(report, case, names) for case in report["cases"]),
            _folded("Settings", f"```json\n{json.dumps(settings, indent=2, default=str)}\n```"),
            "",
        ]
    )


def best(cells: Mapping[Cell, Spread], calls: int) -> Cell | None:
    """Return the solver with the least mean at a number of calls, among those with the most seeds."""
    among = [cell for cell in cells if cell[1] == calls and OTHER_GRID not in cell[0]]
    most = max((len(cells[cell]) for cell in among), default=0)
    return min((cell for cell in among if len(cells[cell]) == most), key=lambda cell: mean(cells[cell]), default=None)


def text(spread: Spread | None, seeds: int = 0) -> str:
    """Return `mean ± standard deviation`, to two digits of the latter, and the number of seeds if some are missing."""
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
    """Return a table of cases, with a measure at a number of calls in each column."""
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
    """Return all values of a case, with rows also for solvers and calls of other cases only."""
    runs = [run for run in report["runs"] if run["case"] == case]
    if not runs:
        return _folded(report["cases"][case]["title"], "No run is finished yet.")
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


def tuning_table(tuning: Mapping[str, Any]) -> str:
    """Return the scores of all targets as a table in Markdown, the best of each case in bold.

    For the tuning of another study, return a sentence with its source instead.
    """
    if source := tuning.get("source"):
        return f"The prediction was chosen by the tuning of another study, `{source}`."
    cases = list(dict.fromkeys(run["case"] for run in tuning["runs"]))
    targets = list(dict.fromkeys(run["target"] for run in tuning["runs"]))
    found = {(run["target"], run["case"]): math.inf if run["score"] is None else run["score"] for run in tuning["runs"]}
    least = {case: min(value for (_, own), value in found.items() if own == case) for case in cases}
    drawn = ", ".join(f"{solver} with {calls} calls" for solver, calls in tuning["drawn"])
    lines = [
        f"Choice of the prediction: geometric mean of Fréchet distances, {drawn}, after {tuning['steps']} steps:",
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
