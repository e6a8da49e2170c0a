"""The figures of the examples: each function draws one figure and writes it to one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import shortest_path as sp

from .images import to_uint8

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"  # told apart by colour-blind eyes too
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
    """Draw the same images, (n, C, H, W), under every corruption: a row for each, a column for each time."""
    eps = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))  # the same noise everywhere
    rows, columns = len(corruptions), len(times)
    figure = _figure(1.25 * columns + 1.1, 1.25 * len(images) * rows + 0.7)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.02)  # inches: rows of one corruption stay together
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, (name, corruption) in zip(axes, corruptions.items(), strict=True):
        for axis, t in zip(row, times, strict=True):
            _show(axis, _tile(sp.corrupt(corruption, images, t, eps), columns=1))
        row[0].set_ylabel(name)
    for axis, t in zip(axes[0], times, strict=True):
        axis.set_title(f"t = {t:g}")
    figure.suptitle("The same images under three corruptions")
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_spectra(
    path: Path, spectrum: sp.PowerSpectrum, corruptions: Mapping[str, sp.Corruption], times: Sequence[float]
) -> None:
    """Draw the power spectrum Σ_t = a_t² S + s_t² at several times, a panel for every corruption."""
    figure = _figure(3.4 * len(corruptions) + 0.8, 3.5)
    axes = figure.subplots(1, len(corruptions), sharex=True, sharey=True, squeeze=False)[0]
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(times)))
    for axis, (name, corruption) in zip(axes, corruptions.items(), strict=True):
        for t, colour in zip(times, colours, strict=True):
            time = torch.tensor([t], dtype=torch.float64)
            power = corruption.signal(time) ** 2 * spectrum.power + corruption.noise(time) ** 2
            frequency, mean = _radial(sp.PowerSpectrum(spectrum.basis, power[0]))
            axis.loglog(frequency, mean.mean(0), color=colour, linewidth=1.8, label=f"t = {t:g}")
        axis.set_title(name)
        _label_frequencies(axis, frequency)
    axes[0].set_ylabel("power")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
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
    """Draw a grid of samples beside one of real images, both (n, C, H, W)."""
    columns = max(1, round(len(samples) ** 0.5))
    figure = _figure(11, 5.9)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    for axis, images, title in zip(
        figure.subplots(1, 2), (real[: len(samples)], samples), ("Real images", "Samples of the network"), strict=True
    ):
        _show(axis, _tile(images, columns))
        axis.set_title(title, fontsize=13)
    _save(figure, path)


@matplotlib.rc_context(_STYLE)
def draw_sample_spectrum(path: Path, spectrum: sp.PowerSpectrum, samples: Tensor) -> None:
    """Draw the samples' power spectrum on top of the data's, for every channel of the spectrum's basis."""
    mean = 0 if spectrum.mean is None else spectrum.mean
    power = spectrum.basis.analyze(samples.double() - mean).square().mean(0)
    frequency, data = _radial(spectrum)
    _, sampled = _radial(sp.PowerSpectrum(spectrum.basis, power))
    names = ("brightness", "first colour axis", "second colour axis") if len(data) == 3 else ("power",) * len(data)
    figure = _figure(6.4, 4.2)
    axis = figure.subplots()
    for channel, (ours, theirs) in enumerate(zip(sampled, data, strict=True)):
        colour = (_BLUE, _ORANGE, _GREEN)[channel % 3]
        axis.loglog(frequency, theirs, color=colour, linewidth=2, label=names[channel])
        axis.loglog(frequency, ours, "o", color=colour, markersize=4, markerfacecolor="white")
    axis.plot([], [], "o", color="black", markersize=4, markerfacecolor="white", label="samples")
    axis.plot([], [], color="black", linewidth=2, label="data")
    axis.set(title="Power spectrum of samples and data", ylabel="power")
    _label_frequencies(axis, frequency)
    axis.legend()
    _save(figure, path)


def draw_rows(path: Path, title: str, rows: Sequence[tuple[str, Tensor]], columns: Sequence[str] | None = None) -> None:
    """Draw rows of images, (n, C, H, W), with a label beside each row and over each column if there are `columns`."""
    count = max(len(images) for _, images in rows)
    figure = _figure(1.1 * count + 1.6, 1.1 * len(rows) + 0.7)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for line, (label, images) in zip(figure.subplots(len(rows), count, squeeze=False), rows, strict=True):
        for axis in line:
            axis.axis("off")
        for axis, image in zip(line, to_uint8(images), strict=False):
            axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        line[0].text(-0.12, 0.5, label, transform=line[0].transAxes, ha="right", va="center", fontsize=10)
    for axis, label in zip(figure.axes, columns or (), strict=False):
        axis.set_title(label, fontsize=10)
    figure.suptitle(title, fontsize=13)
    _save(figure, path)


def _radial(spectrum: sp.PowerSpectrum) -> tuple[np.ndarray, np.ndarray]:
    """Return ring frequencies (n,) and power (C, n), without the mean brightness: a log axis has no zero."""
    frequency, power = spectrum.radial_average()
    return frequency[1:].numpy(), power[:, 1:].numpy()


def _label_frequencies(axis: matplotlib.axes.Axes, frequency: np.ndarray) -> None:
    """Mark the octaves with plain numbers: powers of ten say little between 1 and 32."""
    octaves = [2**k for k in range(16) if 2**k <= frequency.max()]
    axis.set_xticks(octaves, [str(octave) for octave in octaves])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("frequency (cycles per side)")


def _tile(images: Tensor, columns: int) -> np.ndarray:
    """Return one image (height, width, C) with all images in rows of `columns`, on white."""
    levels = to_uint8(images)
    _, height, width, channels = levels.shape
    gap = max(1, height // 16)
    rows = -(-len(levels) // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, dtype=np.uint8)
    for index, image in enumerate(levels):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def _show(axis: matplotlib.axes.Axes, image: np.ndarray) -> None:
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255}  # without effect on colours
    axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, interpolation="nearest", **grey)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    # A Figure of its own, not pyplot's: no window system, no global state, nothing left open.
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=150)
