"""Plot docs/figures/cost.svg: time for one image against its size, beside a floor.

    python -m docs.figures.cost [--measured benchmarks/results/cost-by-size.json]

From what `python -m benchmarks.cost_by_size --json FILE` measured. The floor is drawing the noise, and one complex FFT
of the batch there and back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from docs.figures.style import BLUE, GREEN, GREY, HERE, ORANGE, PURPLE, WIDTH, parser, print_table, save

MEASURED = HERE.parents[1] / "benchmarks" / "results" / "cost-by-size.json"
LOOKS = {
    "floor": (GREY, "--"),
    "Gaussian": (ORANGE, "^-"),
    "blur": (PURPLE, "v-"),
    "path, Fourier": (GREEN, "s-"),
    "path, rotated cosine": (BLUE, "o-"),
    "task, noise": (BLUE, "o:"),
    "task, whitened-velocity": (BLUE, "d-."),
}


def milliseconds(measured: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the time for one image at every size, by what was timed."""
    found: dict[str, list[float]] = {name: [] for name in LOOKS}
    for row in measured["sizes"].values():
        floor = 1e3 * row["floor_seconds"] / row["batch"]
        for name, times in found.items():
            times.append(floor * (1.0 if name == "floor" else row["ratios"][name]["median"]))
    return found


def draw(sizes: Sequence[int], times: Mapping[str, Sequence[float]], path: Path) -> None:
    """Plot a line for everything that was timed."""
    figure, axis = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
    for name, values in times.items():
        colour, marks = LOOKS[name]
        axis.loglog(sizes, values, marks, color=colour, label=name.replace("-", " "), markersize=5)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.set(xlabel="height and width of the image", ylabel="milliseconds for one image")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read and plot."""
    options = parser(__doc__, "cost.svg")
    options.add_argument("--measured", type=Path, default=MEASURED, help="what was measured (%(default)s)")
    chosen = options.parse_args(arguments)
    measured = json.loads(chosen.measured.read_text(encoding="utf-8"))
    sizes, times = [int(size) for size in measured["sizes"]], milliseconds(measured)
    rows = {name: [f"{value:.3g} ms" for value in values] for name, values in times.items()}
    print_table(f"{measured['machine']}, {measured['clock']} time", [f"{size}²" for size in sizes], rows)
    draw(sizes, times, chosen.out)


if __name__ == "__main__":
    main()
