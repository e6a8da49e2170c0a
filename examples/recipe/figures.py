"""The figures of the examples: each function draws one figure and writes it to one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
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


@matplotlib.rc_context(_STYLE)
def draw_corruptions(
    path: Path, images: Tensor, corruptions: Mapping[str, sp.Corruption], times: Sequence[float], *, seed: int = 0
) -> None:
    """Plot images, (n, C, H, W), under every corruption: a row for each, a column for each time; the same noise."""
    figure = _figure(1.25 * len(times) + 1.1, 1.25 * len(images) * len(corruptions) + 0.7)
    for axis, image in zip(figure.subplots(len(images), squeeze=False)[:, 0], images, strict=True):
        plots.strip(image, corruptions, axis, times=times, seed=seed)
    figure.suptitle("The same images under three corruptions")
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_spectra(
    path: Path, spectrum: sp.PowerSpectrum, corruptions: Mapping[str, sp.Corruption], times: Sequence[float]
) -> None:
    """Plot the power spectrum Σ_t = a_t² S + s_t² at several times, a panel for every corruption."""
    figure = _figure(3.4 * len(corruptions) + 0.8, 3.5)
    axes = figure.subplots(1, len(corruptions), sharex=True, sharey=True, squeeze=False)[0]
    for axis, (name, corruption) in zip(axes, corruptions.items(), strict=True):
        plots.path(corruption, spectrum, axis, times=times).set_title(name)
    figure.suptitle("Power spectrum on the way from data to noise")
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_loss(path: Path, losses: Mapping[int, float]) -> None:
    """Draw the loss of every training step, by step, and its running mean."""
    steps, values = np.array(list(losses)), np.array(list(losses.values()))
    figure = _figure(6.4, 3.6)
    axis = figure.subplots()
    axis.plot(steps, values, color=_GREY, linewidth=0.6, alpha=0.7, label="each batch")
    width = max(1, len(values) // 30)
    smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
    axis.plot(steps[width - 1 :], smooth, color=_BLUE, linewidth=2, label=f"mean of {width} steps")
    # The first few steps are far off, and would leave the rest of the curve flat.
    axis.set(title="Training loss", xlabel="step", ylabel="mean squared error", ylim=(0, 3 * np.median(values)))
    axis.legend()
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_samples(path: Path, samples: Tensor, real: Tensor) -> None:
    """Plot a grid of samples beside one of real images, both (n, C, H, W)."""
    figure = _figure(11, 5.9)
    plots.side_by_side(samples, real, figure.subplots()).tick_params(labelsize=13)
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_sample_spectrum(path: Path, spectrum: sp.PowerSpectrum, samples: Tensor) -> None:
    """Plot the samples' power over the data's, for every channel of the spectrum's basis."""
    figure = _figure(6.4, 4.2)
    plots.power(samples, spectrum, figure.subplots()).set_title("Power of samples")
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_rows(path: Path, title: str, rows: Sequence[tuple[str, Tensor]], columns: Sequence[str] = ()) -> None:
    """Plot rows of images, (n, C, H, W), with a label beside each row and over each column if there are `columns`."""
    figure = _figure(1.1 * max(len(images) for _, images in rows) + 1.6, 1.1 * len(rows) + 0.7)
    plots.rows(rows, figure.subplots(), columns=columns)
    figure.suptitle(title, fontsize=13)
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    # A Figure of its own, not pyplot's: no window system, no global state, nothing left open.
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=150, bbox_inches="tight")  # else long labels of rows are cut
