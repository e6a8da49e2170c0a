"""The figures of the examples: each function draws one figure and writes it to one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import shortest_path as sp
from shortest_path import plots

_BLUE, _GREY = "#0072B2", "#9A9A9A"
_STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def draw_corruptions(
    path: Path, image: Tensor, corruptions: Mapping[str, sp.Corruption], times: Sequence[float], *, seed: int = 0
) -> None:
    """Plot an image, (C, H, W), under every corruption: a row for each, a column for each time; the same noise."""
    eps = torch.randn(1, *image.shape, generator=torch.Generator().manual_seed(seed))
    rows = [
        (name, torch.cat([sp.corrupt(each, image[None], float(t), eps) for t in times]))
        for name, each in corruptions.items()
    ]
    draw_rows(path, "One image on the way to noise", rows, [f"t = {t:g}" for t in times])


@matplotlib.rc_context(_STYLE)
def draw_spectra(
    path: Path, spectrum: sp.PowerSpectrum, corruptions: Mapping[str, sp.Corruption], times: Sequence[float]
) -> None:
    """Plot the power spectrum Σ_t = a_t² S + s_t² at several times, a panel for every corruption."""
    figure = _figure(3.4 * len(corruptions) + 0.8, 3.5)
    axes = figure.subplots(1, len(corruptions), sharex=True, sharey=True, squeeze=False)[0]
    for axis, (name, corruption) in zip(axes, corruptions.items(), strict=True):
        plots.path(corruption, spectrum, axis, times=times).set_title(name)
    share_legend(axes)
    figure.suptitle("Power spectrum on the way from data to noise")
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_losses(path: Path, losses: Mapping[str, Sequence[float]]) -> None:
    """Plot the loss of every training step, by step, and its running mean: a panel for each training."""
    figure = _figure(5.2 * len(losses), 3.6)
    for axis, (name, found) in zip(figure.subplots(1, len(losses), squeeze=False)[0], losses.items(), strict=True):
        steps, values = np.arange(1, len(found) + 1), np.array(found)
        axis.plot(steps, values, color=_GREY, linewidth=0.6, alpha=0.7, label="each batch")
        width = max(1, len(values) // 30)
        smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
        axis.plot(steps[width - 1 :], smooth, color=_BLUE, linewidth=2, label=f"mean of {width} steps")
        axis.set(title=name, xlabel="step", ylabel="mean squared error")
        axis.legend()
    figure.suptitle("Training loss")
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_panels(path: Path, panels: Mapping[str, Tensor], count: int) -> None:
    """Plot the first images of each set, (n, C, H, W), in a square with its name above."""
    figure = _figure(4.2 * len(panels), 4.5)
    for axis, (name, images) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        plots.images(images[:count], axis).set_title(name, fontsize=13)
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_samples(path: Path, samples: Tensor, real: Tensor) -> None:
    """Plot a grid of samples beside one of real images, both (n, C, H, W)."""
    figure = _figure(11, 5.9)
    plots.side_by_side(samples, real, figure.subplots()).tick_params(labelsize=13)
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_sample_spectrum(path: Path, spectrum: sp.PowerSpectrum, samples: Mapping[str, Tensor]) -> None:
    """Plot the power of samples over the data's, for every channel of the spectrum's basis: a panel for each set."""
    figure = _figure(5.2 * len(samples), 4)
    axes = figure.subplots(1, len(samples), sharey=True, squeeze=False)[0]
    for axis, (name, found) in zip(axes, samples.items(), strict=True):
        plots.power(found, spectrum, axis).set_title(name)
    share_legend(axes)
    figure.suptitle("Power of samples over that of the data: 1 is right")
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_rows(path: Path, title: str, rows: Sequence[tuple[str, Tensor]], columns: Sequence[str] = ()) -> None:
    """Plot rows of images, (n, C, H, W), with a label beside each row and over each column if there are `columns`."""
    figure = _figure(1.1 * max(len(images) for _, images in rows) + 1.6, 1.1 * len(rows) + 0.7)
    plots.rows(rows, figure.subplots(), columns=columns)
    figure.suptitle(title, fontsize=13)
    _save(figure, path)


def share_legend(axes: Sequence[Axes]) -> None:
    """Leave the legend of the last panel and the label of the first, where all panels of a row have the same."""
    for axis in axes[:-1]:
        axis.get_legend().remove()
    for axis in axes[1:]:
        axis.set_ylabel("")


def _figure(width: float, height: float) -> Figure:
    # A Figure of its own, not pyplot's: no window system, no global state, nothing left open.
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=150, bbox_inches="tight")  # else long labels of rows are cut
