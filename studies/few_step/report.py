"""Tables, summary and plot of the few-step study."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.timing import Row
from studies.few_step.cases import (
    COMPARED,
    DDIM,
    DEFAULT,
    EDM,
    EXACT_BOUND,
    FEW,
    MANY,
    OURS,
    Error,
    Process,
    Sizes,
    settings,
)


def best_setting(errors: Sequence[Error], process: Process) -> str:
    """Return the library's setting with the least geometric mean over calls of the median error."""
    names = {setting.name for setting in settings(process)}
    logs: dict[str, dict[int, float]] = {}
    for one in errors:
        if one.process == process.name and one.setting in names:
            logs.setdefault(one.setting, {})[one.calls] = math.log(one.median)
    common = set.intersection(*(set(each) for each in logs.values()))
    return min(logs, key=lambda name: statistics.mean(logs[name][count] for count in common))


def summary(
    exact: Sequence[Error], errors: Sequence[Error], tested: Sequence[Process], calls: Sequence[int], sizes: Sizes
) -> tuple[list[Row], list[str]]:
    """Return the rows with bounds, and notes."""
    truthful = {process.name for process in tested if process.exact}
    worst = max(one.upper for one in exact if one.setting == DEFAULT and one.process in truthful)
    ddim = max(one.upper for one in exact if one.setting == DDIM and one.calls == calls[-1])
    rows = [
        Row(
            f"Gaussian data: largest relative error of the rotation solver in {calls[0]} to {calls[-1]} calls; "
            f"DDIM's in {calls[-1]}",
            f"{ddim:.2g}",
            f"{worst:.2g}",
            bound=EXACT_BOUND,
            bound_text=f"≤ {EXACT_BOUND:g}",
            value=worst,
        )
    ]
    ours = {one.calls: one for one in errors if one.process == OURS and one.setting == DEFAULT}
    slow = {one.calls: one for one in errors if one.process == OURS and one.setting == DDIM}
    few, many = max(n for n in calls if n <= FEW), min(n for n in sizes.many if n >= min(MANY, sizes.many[-1]))
    ratio = ours[few].median / slow[many].median
    rows.append(
        Row(
            f"{OURS}: median error of DDIM, uniform, in {many} calls; of the default in {few}",
            f"{slow[many].median:.2g}",
            f"{ours[few].median:.2g}",
            ratio,
            bound=1.0,
            bound_text="≤ 1×",
        )
    )
    notes = []
    for count in sizes.many:
        enough = [n for n, one in ours.items() if one.median <= slow[count].median]
        notes.append(
            f"The default shortest path reaches the median error of DDIM in {count} calls, {slow[count].median:.2g}, "
            + (f"in {min(enough)} calls." if enough else f"in more than {max(ours)} calls.")
        )
    return rows, notes


def against_isotropic(errors: Sequence[Error], tested: Sequence[Process], calls: Sequence[int]) -> list[dict[str, Any]]:
    """Print and return the comparison of the default shortest path with the best isotropic process."""
    print("\n## The default shortest path against the best isotropic pairing: median (90 % quantile)\n")
    header(["calls", "rival", "its error", "shortest path", "ratio of medians", "of 90 % quantiles"])
    ours = {one.calls: one for one in errors if one.process == OURS and one.setting == DEFAULT}
    isotropic = {process.name for process in tested if process.isotropic} | {EDM}
    everywhere = [one for one in errors if one.process in isotropic]
    # Settings without a measured spectrum, and among them those of other libraries and papers.
    unaware = [one for one in everywhere if not one.setting.startswith("rotation") and "spectrum" not in one.setting]
    peers = [one for one in unaware if one.process == EDM or one.setting.startswith("diffusers")]
    kinds = {"best": everywhere, "best without the spectrum": unaware, "best peer": peers}
    result = []
    for count in [n for n in COMPARED if n in calls] or calls:
        for kind, rivals in kinds.items():
            rival, mine = min((one for one in rivals if one.calls == count), key=lambda one: one.median), ours[count]
            ratios = mine.median / rival.median, mine.upper / rival.upper
            name = f"{kind}: {rival.process}; {rival.setting}"
            line([str(count), name, cell(rival), cell(mine), *(f"{ratio:.3g}" for ratio in ratios)])
            result.append(
                {"kind": kind, "rival": rival._asdict(), "ours": mine._asdict(), "ratios": ratios, "calls": count}
            )
    return result


def title(name: str, calls: Sequence[int]) -> None:
    """Print a heading and the header of a table over numbers of calls."""
    print(f"\n### {name}\n")
    header(["solver", *(f"{count}" for count in calls)])


def header(cells: Sequence[str]) -> None:
    """Print the header of a table."""
    line(cells)
    print("|---" * len(cells) + "|", flush=True)


def line(cells: Sequence[str]) -> None:
    """Print a line of a table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def show(errors: Iterable[Error]) -> list[Error]:
    """Print a solver's row while its errors are computed, and return them."""
    result = []
    for one in errors:
        if not result:
            print(f"| {one.setting} |", end="")
        print(f" {cell(one)} |", end="", flush=True)
        result.append(one)
    print(flush=True)
    return result


def cell(one: Error) -> str:
    """Return the median and the 90 % quantile of an error, as text."""
    return f"{one.median:.2g} ({one.upper:.2g})"


def draw(path: Path, errors: Sequence[Error], tested: Sequence[Process], network: Mapping[str, Any] | None) -> None:
    """Plot error against calls: the solvers of the shortest path, the best solver of each process, and the network."""
    curves: dict[tuple[str, str], list[Error]] = {}
    for one in errors:
        curves.setdefault((one.process, one.setting), []).append(one)
    solvers = {
        DDIM: DDIM,
        "DDIM, spectrum grid": "DDIM, spectrum grid",
        "rotation, order 1, spectrum grid": "order 1",
        "rotation, order 2, spectrum grid": "order 2",
        "rotation, order 2 + corrector, cosine": "order 2 + corrector, cosine grid",
        DEFAULT: "order 2 + corrector (default)",
    }
    left = {label: curves[OURS, name] for name, label in solvers.items()}
    right = {
        "Gaussian, cosine: DDIM, uniform": curves["Gaussian, cosine", DDIM],
        "Gaussian, linear: DPM-Solver++(2M)": curves["Gaussian, linear", "diffusers DPM-Solver++(2M), equal log-snr"],
        "EDM: Heun": next(curve for (process, _), curve in curves.items() if process == EDM),
    }
    best = {process.name: best_setting(errors, process) for process in tested}
    gaussian = min(
        (process.name for process in tested if process.isotropic),
        key=lambda name: statistics.mean(math.log(one.median) for one in curves[name, best[name]]),
    )
    for name in (gaussian, "blur", "shortest path, Fourier, RGB"):
        right[f"{name}: {best[name]}"] = curves[name, best[name]]
    right["shortest path (default)"] = curves[OURS, DEFAULT]
    panels = {"Shortest path: solvers": left, "Corruptions, each against its own ODE": right}
    if network is not None:
        trained: dict[str, list[Error]] = {}
        for one in network["errors"]:
            trained.setdefault(one["setting"], []).append(Error(**one))
        panels["A small trained network"] = trained
    style = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    colours = ("#9A9A9A", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#D55E00", "#0072B2")
    with rc_context(style):
        figure = Figure(figsize=(5.2 * len(panels), 6.4), layout="constrained")
        for axis, (name, content) in zip(
            figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels.items(), strict=True
        ):
            for index, (label, curve) in enumerate(content.items()):
                last = index == len(content) - 1
                axis.loglog(
                    [one.calls for one in curve],
                    [one.median for one in curve],
                    marker="os^Dv<>"[index],
                    markersize=4,
                    linewidth=2.4 if last else 1.4,
                    color="#0072B2" if last else colours[index],
                    label=label,
                )
            ticks = sorted({one.calls for curve in content.values() for one in curve})
            axis.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=8)
            axis.minorticks_off()
            axis.grid(color="#E6E6E6")
            axis.set_axisbelow(True)
            axis.set_title(name)
            axis.set_xlabel("model calls")
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=8.5)
        figure.axes[0].set_ylim(top=1.0)  # EDM's grid begins at σ = 80: with few calls its error is off the scale
        figure.axes[0].set_ylabel("distance from the converged ODE, RMSE in pixels (median)")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    print(f"wrote {path}")
