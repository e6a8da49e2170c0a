"""What the figures share: fonts and colours, the images they measure, and the writing of a figure."""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import shortest_path as sp
from examples.recipe.arguments import output_figure
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.images import to_unit
from studies.measured import images_in

matplotlib.use("Agg")

HERE = Path(__file__).parent

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#777777"
"""Colours that colour-blind readers can distinguish, dark enough on white."""

WIDTH = 5.2  # inches: with type of 10 points, still 9 CSS pixels high on a telephone

# White and opaque, as a transparent figure suits only one of the site's two themes. The salt makes SVG files
# reproducible.
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
    """Return the options of a figure: `--out`, `--quick`, and `--data` where it measures images.

    Args:
        description: The program's docstring.
        default: Name of the file that it writes.
        data: Whether to add `--data`, for images other than dead leaves.
    """
    result = argparse.ArgumentParser(
        prog=f"python -m docs.figures.{Path(default).stem}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--out", type=output_figure, default=HERE / default, help="file to write (%(default)s)")
    result.add_argument("--quick", action="store_true", help="small sizes, to check that the program runs")
    if data:
        result.add_argument(
            "--data",
            type=Path,
            help="images to measure, as examples/recipe/images.py reads them (default: dead leaves)",
        )
    return result


def make_images(count: int, size: int, data: Path | None = None, *, seed: int = 0) -> Tensor:
    """Return dead leaves (count, 3, size, size), or all images of `data`, in [-1, 1]."""
    return to_unit(dead_leaves(count, size, seed) if data is None else images_in(data, "figure", size))


def measure(images: Tensor, basis: str = "cosine", *, center: bool = True) -> sp.spectra.SpectrumEstimator:
    """Estimate the spectrum of images and their mirror images, in float64, about their mean or about zero."""
    estimator = sp.spectra.SpectrumEstimator(basis, center=center)
    for batch in images.split(512):
        estimator.update(torch.cat([batch, batch.flip(-1)]).double())
    return estimator


def shades(count: int) -> np.ndarray:
    """Return `count` colours from dark to light, all visible on white."""
    return matplotlib.colormaps["viridis"](np.linspace(0, 0.85, count))


def sheet(rows: int, columns: int, size: int, *, scale: float, left: int, top: int) -> tuple[Figure, Axes]:
    """Return a figure for rows of images by `plots.rows`, in which a pixel of an image is a square of whole pixels.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        size: Height and width of an image.
        scale: Side of a pixel of an image, in hundredths of an inch: pixels of a file at 100 dots an inch.
        left: Place for the names of rows, in the same unit.
        top: Place for the names of columns.
    """
    gap = max(1, size // 16)  # as in plots
    width, height = (scale * (count * (size + gap) - gap) for count in (columns, rows))
    whole = (width + left + 4, height + top + 4)
    figure = plt.figure(figsize=(whole[0] / 100, whole[1] / 100))
    return figure, figure.add_axes((left / whole[0], 4 / whole[1], width / whole[0], height / whole[1]))


def print_table(first: str, columns: list[str], rows: Mapping[str, list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n| {first} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(values) + " |")


def frequency_legend(figure: Figure, axis: Axes, columns: int) -> None:
    """Add a legend of frequencies below the figure."""
    figure.legend(
        *axis.get_legend_handles_labels(),
        title="frequency, half waves per image",
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.0,
        handlelength=1.2,
    )


def save(figure: Figure, path: Path, *, dpi: int = 200, colours: int | None = None) -> None:
    """Write a figure and close it.

    Args:
        figure: The figure.
        path: File to write, .svg or .png.
        dpi: Resolution of a PNG.
        colours: Number of colours to which a PNG is reduced, as noise does not compress.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        figure.savefig(path, metadata={"Date": None})
    else:
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=dpi)
        image = Image.open(buffer).convert("RGB")
        (image if colours is None else image.quantize(colours)).save(path, optimize=True)
    plt.close(figure)
    print(path)
