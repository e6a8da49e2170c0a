"""What the figures share: type and colours, the pictures they measure, and how a figure is written."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import shortest_path as sp

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "examples"))

from dead_leaves import dead_leaves
from images import load_images, to_unit

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#777777"
"""Colours that colour-blind eyes tell apart, dark enough on white."""

WIDTH = 5.2  # inches: with type of 10 points, still 9 CSS pixels high on a telephone

# An opaque white card, as a transparent figure can suit one of the two themes only. The salt keeps SVG files the same.
plt.rcParams.update(
    {
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
        "legend.fontsize": 9.5,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.which": "major",
        "grid.color": "#E4E4E4",
        "axes.axisbelow": True,
        "lines.linewidth": 1.8,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "figure.constrained_layout.h_pad": 0.06,
        "figure.constrained_layout.w_pad": 0.1,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "svg.hashsalt": "shortest_path",
    }
)


def parser(description: str | None, default: str, *, data: bool = False) -> argparse.ArgumentParser:
    """Return the options of a figure: `--out`, `--quick`, and `--data` where it measures pictures.

    Args:
        description: The script's docstring.
        default: Name of the file it writes.
        data: Whether other pictures than dead leaves may be measured.
    """
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--out", type=Path, default=HERE / default, help="the file to write; .svg or .png")
    result.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    if data:
        result.add_argument(
            "--data", type=Path, help="pictures to measure (see examples/images.py); dead leaves if none"
        )
    return result


def pictures(count: int, size: int, data: Path | None = None, *, seed: int = 0) -> Tensor:
    """Return pictures (count, 3, size, size), or all of `data`, in [-1, 1]."""
    return to_unit(dead_leaves(count, size, seed) if data is None else load_images(data, size))


def measure(images: Tensor, basis: str = "cosine") -> sp.SpectrumEstimator:
    """Return what a spectrum needs of the pictures and their mirrors, in float64."""
    estimator = sp.SpectrumEstimator(basis)
    for batch in images.split(512):
        estimator.update(torch.cat([batch, batch.flip(-1)]).double())
    return estimator


def shades(count: int) -> np.ndarray:
    """Return `count` colours from dark to light, none too light for white paper."""
    return matplotlib.colormaps["viridis"](np.linspace(0, 0.85, count))


def print_table(first: str, columns: list[str], rows: Mapping[str, list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n| {first} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(values) + " |")


def frequency_legend(figure: Figure, axis: Axes, columns: int) -> None:
    """Name the lines of an axis below the figure: one for each frequency."""
    figure.legend(
        *axis.get_legend_handles_labels(),
        title="frequency, half waves per picture",
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.0,
        handlelength=1.2,
    )


def save(figure: Figure, path: Path, *, dpi: int = 200, colours: int | None = None) -> None:
    """Write a figure, and close it; `colours` is a number that a PNG is reduced to, as noise does not compress."""
    if path.suffix == ".svg":
        figure.savefig(path, metadata={"Date": None})
    else:
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=dpi)
        picture = Image.open(buffer).convert("RGB")
        (picture if colours is None else picture.quantize(colours)).save(path, optimize=True)
    plt.close(figure)
    print(path)
