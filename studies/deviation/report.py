"""Table and plot of the deviation study."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

MEASURES = {"kl": "KL", "distance": "distance", "power_error": "power error"}  # those that depend on the calls
REFERENCE, PAPERS, REAL = "reference", "the paper's constants", "training images"


def table(report: Mapping[str, Any]) -> str:
    """Return the results as a table in Markdown."""
    paths = report["paths"]
    calls = list(next(iter(paths.values()))["calls"])
    measured = [f"{title}, {each} calls" for title in MEASURES.values() for each in calls]
    lines = [["log S scaled by", "length / geodesic", *measured], ["---", *["---:"] * (1 + len(measured))]]
    for found in paths.values():
        numbers = [found["length"], *(found["calls"][each][key] for key in MEASURES for each in calls)]
        label = PAPERS if found["scale"] is None else f"{found['scale']:g}"
        lines.append([label, *(f"{number:.4g}" for number in numbers)])
    values = [report["training_images"].get(key) for key in MEASURES for _ in calls]
    lines.append([REAL, "", *("" if value is None else f"{value:.4g}" for value in values)])
    note = (
        f"{report['samples']} samples of the {report['solver']} solver, compared with "
        f"{report['held_out']['count']} held-out images ({report['held_out']['source']})."
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{note}\n"


@matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
def draw_plot(path: Path, report: Mapping[str, Any]) -> None:
    """Plot every measure against the scale of log S, in a colour for each number of calls."""
    figure = Figure(figsize=(12.5, 3.8), layout="constrained")
    titles = ("KL of Gaussian data (nats)", "sliced Wasserstein distance (pixels)", "error of log power")
    scaled = sorted((each for each in report["paths"].values() if each["scale"] is not None), key=itemgetter("scale"))
    calls = list(scaled[0]["calls"])
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.75, len(calls)))
    for axis, key, title in zip(figure.subplots(1, len(MEASURES)), MEASURES, titles, strict=True):
        for each, colour in zip(calls, colours, strict=True):
            values = [found["calls"][each][key] for found in scaled]
            axis.plot([found["scale"] for found in scaled], values, "o-", color=colour, label=f"{each} calls")
            if REFERENCE in report["paths"]:
                value = report["paths"][REFERENCE]["calls"][each][key]
                axis.axhline(value, color=colour, linestyle="--", label=f"{PAPERS}, {each} calls")
        if key in report["training_images"]:
            axis.axhline(report["training_images"][key], color="grey", linestyle=":", label=REAL)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("log S scaled by")
        axis.set(yscale="log") if key == "kl" else axis.set_ylim(bottom=0)
        axis.grid(color="#E6E6E6")
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=150)
