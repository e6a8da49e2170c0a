"""Plots of spectra, corruptions, images and samples. Optional: requires the extra `plots`, and is imported by name.

    from shortest_path import plots

Every function draws on a matplotlib axis and returns it; without one it makes a new figure. Nothing sets colours of
text or background, so the plots follow the reader's style, and the colours of lines can be told apart on white and on
black, by colour-blind readers too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from ._checks import check_floating
from .corruptions import Corruption, both_scales, corrupt
from .spectra import PowerSpectrum

__all__ = ["images", "path", "power", "rows", "scales", "side_by_side", "spectrum", "strip"]

COLOURS = ("#3B8BC9", "#E5793A", "#2AA77F", "#B6689F", "#8C8C8C")
"""Blue, orange, green, purple, grey."""

_TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
_CURVE = 101  # times of a curve
_PART = 1024  # samples that are transformed at once


def spectrum(spectrum: PowerSpectrum, axis: Axes | None = None, *, law: bool = True) -> Axes:
    """Plot the power of a spectrum against frequency: the mean of every ring, a line for each channel of its basis.

    The mean brightness, frequency 0, is left out: it has no place on a logarithmic axis.

    Args:
        spectrum: A spectrum with spatial axes.
        axis: Where to draw; None makes a figure.
        law: Whether to add the power law that fits the mean over channels.

    Raises:
        ValueError: no spatial axes, or sides of one pixel.
    """
    axis = _axis(axis)
    frequency, means = _rings(spectrum)
    for channel, ring in enumerate(means):
        axis.loglog(frequency, ring, "o-", markersize=3, color=COLOURS[channel % 5], label=_channel(spectrum, channel))
    if law:
        fitted = spectrum.fit_power_law()
        along = torch.linspace(float(frequency[0]), float(frequency[-1]), 200, dtype=torch.float64)
        power_law = fitted.amplitude / (fitted.offset + along) ** fitted.exponent
        axis.loglog(along, power_law, "--", color=COLOURS[4], label=f"law, exponent {fitted.exponent:.2f}")
    axis.set_ylabel("power")
    axis.legend()
    return _label_frequencies(axis, frequency)


def power(samples: Tensor, data: PowerSpectrum, axis: Axes | None = None) -> Axes:
    """Plot the power of samples over the data's, against frequency: 1 is right.

    Args:
        samples: Samples, (N, C, *spatial), floating point.
        data: The data's spectrum; its mean is taken from the samples if it has one.
        axis: Where to draw; None makes a figure.

    Raises:
        TypeError: samples that are not floating point.
        ValueError: samples of another shape.
    """
    check_floating(samples, "samples")
    if tuple(samples.shape[1:]) != data.shape:
        raise ValueError(
            f"samples must have the shape of the spectrum, (N, {', '.join(map(str, data.shape))}), got "
            f"{tuple(samples.shape)}"
        )
    away = samples.detach().to("cpu", torch.float64) - (0 if data.mean is None else data.mean.cpu())
    found = torch.zeros(data.shape, dtype=torch.float64)
    for first in range(0, len(away), _PART):
        found += data.basis.analyze(away[first : first + _PART]).square().sum(0) / len(away)
    axis = _axis(axis)
    frequency, expected = _rings(data)
    _, ours = _rings(PowerSpectrum(data.basis, found.clamp(min=1e-300)))
    for channel, (top, bottom) in enumerate(zip(ours, expected, strict=True)):
        look = {"markersize": 3, "color": COLOURS[channel % 5], "label": _channel(data, channel)}
        axis.semilogx(frequency, top / bottom, "o-", **look)
    axis.axhline(1, color=COLOURS[4], linestyle="--")
    axis.set_ylabel("power of samples / power of data")
    axis.legend()
    return _label_frequencies(axis, frequency)


def scales(
    corruption: Corruption,
    spectrum: PowerSpectrum,
    axis: Axes | None = None,
    *,
    frequencies: Sequence[int] | None = None,
) -> Axes:
    """Plot signal and noise of a few frequencies over time, as fractions of the variance: a² S / V and s² / V.

    With V = a² S + s². A solid line is the signal, a dashed one the noise; they cross where a frequency is half gone.

    Args:
        corruption: A corruption that is diagonal in the basis of the spectrum.
        spectrum: The data's power S.
        axis: Where to draw; None makes a figure.
        frequencies: Whole frequencies, in cycles per longest side; None takes four from the lowest to the highest.

    Raises:
        ValueError: a frequency that the spectrum does not have.
    """
    axis = _axis(axis)
    times, signal, noise = _over_time(corruption, spectrum)
    for frequency, colour, inside in _chosen(spectrum, frequencies):
        of_signal = (signal[:, inside] / (signal + noise)[:, inside]).mean(1)
        axis.plot(times, of_signal, color=colour, label=f"{frequency}")
        axis.plot(times, 1 - of_signal, "--", color=colour)
    axis.set(xlabel="t", ylabel="fraction of the variance: signal —, noise - -", xlim=(0, 1), ylim=(0, 1))
    axis.legend(title="frequency")
    return axis


def path(
    corruption: Corruption, spectrum: PowerSpectrum, axis: Axes | None = None, *, times: Sequence[float] = _TIMES
) -> Axes:
    """Plot the power spectrum Σ_t = a² S + s² on the way from data to noise: a line for each time.

    Args:
        corruption: A corruption that is diagonal in the basis of the spectrum.
        spectrum: The data's power S.
        axis: Where to draw; None makes a figure.
        times: Times in [0, 1].
    """
    axis = _axis(axis)
    colours = matplotlib.colormaps["viridis"](np.linspace(0.25, 0.85, len(times)))
    signal, noise = both_scales(corruption, torch.tensor(list(times), dtype=torch.float64))
    powers = (signal.square() * spectrum.power + noise.square()).expand(len(times), *spectrum.shape)
    for t, colour, values in zip(times, colours, powers, strict=True):
        frequency, means = _rings(PowerSpectrum(spectrum.basis, values.contiguous()))
        axis.loglog(frequency, means.mean(0), color=colour, label=f"{t:g}")
    axis.set_ylabel("power")
    axis.legend(title="t")
    return _label_frequencies(axis, frequency)


def strip(
    image: Tensor,
    corruptions: Mapping[str, Corruption],
    axis: Axes | None = None,
    *,
    times: Sequence[float] = _TIMES,
    seed: int = 0,
) -> Axes:
    """Show one image under several corruptions: a row for each corruption, a column for each time, the same noise.

    Args:
        image: (C, H, W), floating point, range [-1, 1], of one or three channels.
        corruptions: Corruptions by the names to show.
        axis: Where to draw; None makes a figure.
        times: Times in [0, 1].
        seed: Random seed for the noise.
    """
    check_floating(image, "image")
    eps = torch.randn(1, *image.shape, generator=torch.Generator().manual_seed(seed)).to(image)
    shown = {
        name: torch.cat([corrupt(corruption, image[None], float(t), eps) for t in times])
        for name, corruption in corruptions.items()
    }
    return rows(shown, axis, columns=[f"t = {t:g}" for t in times])


def rows(
    named: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    axis: Axes | None = None,
    *,
    columns: Sequence[str] = (),
) -> Axes:
    """Show rows of images, with a name beside each row and, if given, over each column.

    Args:
        named: Images (N, C, H, W) by the name of their row, or pairs of a name and images. All are of one size; a row
            may have fewer than the longest.
        axis: Where to draw; None makes a figure.
        columns: Names of the columns, from the left.

    Raises:
        TypeError: images that are not floating point.
        ValueError: no images, or images of different sizes.
    """
    pairs = list(named.items() if isinstance(named, Mapping) else named)
    sizes = {tuple(each.shape[1:]) for _, each in pairs}
    if len(sizes) != 1:
        raise ValueError(f"rows must hold images (N, C, H, W) of one size, got {sorted(sizes) or 'none'}")
    (size,) = sizes
    count = max(len(each) for _, each in pairs)
    filled = [torch.cat([each, each.new_full((count - len(each), *size), math.nan)]) for _, each in pairs]
    axis = images(torch.cat(filled), axis, columns=count)
    height, width = size[1:]
    gap = _gap(height)
    axis.set_yticks([row * (height + gap) + height / 2 for row in range(len(pairs))], [name for name, _ in pairs])
    axis.set_xticks([column * (width + gap) + width / 2 for column in range(len(columns))], list(columns))
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    return axis


def images(x: Tensor, axis: Axes | None = None, *, columns: int | None = None) -> Axes:
    """Show images in rows; values beyond [-1, 1] are cut, and NaN is transparent.

    Args:
        x: Images, (N, C, H, W), floating point, of one or three channels.
        axis: Where to draw; None makes a figure.
        columns: Number of images in a row; None makes a square.

    Raises:
        TypeError: images that are not floating point.
        ValueError: another shape.
    """
    check_floating(x, "images")
    if x.ndim != 4 or not len(x) or x.shape[1] not in (1, 3):
        raise ValueError(f"images must be (N, C, H, W) with one or three channels, got {tuple(x.shape)}")
    axis = _axis(axis)
    levels = (x.detach().float().cpu().clamp(-1, 1) + 1) / 2
    seen = levels.isfinite().all(1, keepdim=True).float()
    values = torch.cat([levels.nan_to_num().expand(-1, 3, -1, -1), seen], 1).permute(0, 2, 3, 1).numpy()
    count, height, width, _ = values.shape
    columns = columns or max(1, round(count**0.5))
    gap, rows = _gap(height), -(-count // columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4))  # gaps are transparent
    for index, image in enumerate(values):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    axis.imshow(sheet, interpolation="nearest", extent=(0, sheet.shape[1], sheet.shape[0], 0))
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    return axis


def side_by_side(samples: Tensor, data: Tensor, axis: Axes | None = None, *, columns: int | None = None) -> Axes:
    """Show samples beside as many images of the data, with their names above.

    Args:
        samples: Samples, (N, C, H, W).
        data: Images of the data, the same size; the first N are shown.
        axis: Where to draw; None makes a figure.
        columns: Number of images in a row of either; None makes squares.

    Raises:
        ValueError: images of different sizes.
    """
    if samples.shape[1:] != data.shape[1:]:
        raise ValueError(f"samples and data must have one size, got {tuple(samples.shape)} and {tuple(data.shape)}")
    count = min(len(samples), len(data))
    columns = columns or max(1, round(count**0.5))
    rows = -(-count // columns)
    both = []
    for row in range(rows):
        for part in (data, samples):
            own = part[:count][row * columns : (row + 1) * columns].to(samples)
            between = int(part is data)
            empty = torch.full((columns - len(own) + between, *own.shape[1:]), math.nan).to(own)
            both += [own, empty]
    axis = images(torch.cat(both), axis, columns=2 * columns + 1)
    width = samples.shape[-1] + _gap(samples.shape[-2])
    axis.set_xticks([columns * width / 2, (1.5 * columns + 1) * width], ["data", "samples"])
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    return axis


def _axis(axis: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if axis is None else axis


def _gap(height: int) -> int:
    return max(1, height // 16)


def _rings(spectrum: PowerSpectrum) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequencies of the rings (n,), without 0, and their mean power (C, n)."""
    frequency, means = spectrum.radial_average()
    if len(frequency) < 2:
        raise ValueError(f"a plot against frequency requires sides of 2 pixels or more, got {spectrum.shape}")
    return frequency[1:].numpy(), means[:, 1:].numpy()


def _channel(spectrum: PowerSpectrum, channel: int) -> str:
    if spectrum.shape[0] == 1:
        return "power"
    if spectrum.shape[0] == 3 and spectrum.basis.channel_rotation is not None:
        return ("brightness", "first colour axis", "second colour axis")[channel]
    return f"channel {channel + 1}"


def _over_time(corruption: Corruption, spectrum: PowerSpectrum) -> tuple[np.ndarray, Tensor, Tensor]:
    """Return times, and the variances of signal and noise, (times, C × pixels)."""
    times = torch.linspace(0, 1, _CURVE, dtype=torch.float64)
    signal, noise = both_scales(corruption, times)
    of_signal, of_noise = (
        value.expand(_CURVE, *spectrum.shape).flatten(1).cpu()
        for value in (signal.square() * spectrum.power, noise.square())
    )
    return times.numpy(), of_signal, of_noise


def _chosen(spectrum: PowerSpectrum, frequencies: Sequence[int] | None) -> list[tuple[int, np.ndarray, Tensor]]:
    """Return whole frequencies, their colours, and which coefficients have them."""
    rings = spectrum.basis.frequencies(spectrum.shape[1:]).expand(spectrum.shape).flatten().add(0.5).floor().long()
    highest = int(rings.max())
    wanted = frequencies or sorted({max(1, round(highest ** (k / 3))) for k in range(4)})
    if wrong := [each for each in wanted if not bool((rings == each).any())]:
        raise ValueError(f"frequencies must be whole numbers from 0 to {highest}, got {wrong[0]}")
    colours = matplotlib.colormaps["viridis"](np.linspace(0.25, 0.85, len(wanted)))
    return [(each, colour, rings == each) for each, colour in zip(wanted, colours, strict=True)]


def _label_frequencies(axis: Axes, frequency: np.ndarray) -> Axes:
    """Mark the octaves with plain numbers: powers of ten say little between 1 and 32."""
    octaves = [2**k for k in range(16) if 2**k <= frequency.max()]
    axis.set_xticks(octaves, [str(octave) for octave in octaves])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("frequency (cycles per longest side)")
    return axis
