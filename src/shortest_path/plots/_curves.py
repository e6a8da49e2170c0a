"""Plots against frequency or time: spectra, paths and samples."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from ..corruptions import Corruption, both_scales, check_corruption, common_basis
from ..spectra import PowerSpectrum
from ._axes import TIMES, check_some, checked_times, make_axis

COLOURS = ("#3B8BC9", "#E5793A", "#2AA77F", "#B6689F", "#8C8C8C")
"""Blue, orange, green, purple, grey."""

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
    frequency, means = _rings(spectrum)
    axis = make_axis(axis)
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
        ValueError: no samples, or samples of another shape.
    """
    check_some(samples, "samples")
    if tuple(samples.shape[1:]) != data.shape:
        raise ValueError(
            f"samples must have the shape of the spectrum, (N, {', '.join(map(str, data.shape))}), got "
            f"{tuple(samples.shape)}"
        )
    away = samples.detach().to("cpu", torch.float64) - (0 if data.mean is None else data.mean.cpu())
    found = torch.zeros(data.shape, dtype=torch.float64)
    for first in range(0, len(away), _PART):
        found += data.basis.analyze(away[first : first + _PART]).square().sum(0) / len(away)
    frequency, expected = _rings(data)
    _, ours = _rings(PowerSpectrum(data.basis, found.clamp(min=1e-300)))
    axis = make_axis(axis)
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
        TypeError: `corruption` does not implement `Corruption`.
        ValueError: a corruption that is not diagonal in the basis of the spectrum, or of another shape, or no
            frequencies, or one that the spectrum does not have.
    """
    chosen = _chosen(spectrum, frequencies)
    times, signal, noise = _over_time(corruption, spectrum)
    axis = make_axis(axis)
    for frequency, colour, inside in chosen:
        of_signal = (signal[:, inside] / (signal + noise)[:, inside]).mean(1)
        axis.plot(times, of_signal, color=colour, label=f"{frequency}")
        axis.plot(times, 1 - of_signal, "--", color=colour)
    axis.set(xlabel="t", ylabel="fraction of the variance: signal —, noise - -", xlim=(0, 1), ylim=(0, 1))
    axis.legend(title="frequency")
    return axis


def path(
    corruption: Corruption, spectrum: PowerSpectrum, axis: Axes | None = None, *, times: Sequence[float] = TIMES
) -> Axes:
    """Plot the power spectrum Σ_t = a² S + s² on the way from data to noise: a line for each time.

    Args:
        corruption: A corruption that is diagonal in the basis of the spectrum.
        spectrum: The data's power S.
        axis: Where to draw; None makes a figure.
        times: Times in [0, 1].

    Raises:
        TypeError: `corruption` does not implement `Corruption`.
        ValueError: a corruption that is not diagonal in the basis of the spectrum, or of another shape; or no times, or
            times outside [0, 1].
    """
    signal, noise = _scales_in(corruption, spectrum, checked_times(times))
    axis = make_axis(axis)
    colours = matplotlib.colormaps["viridis"](np.linspace(0.25, 0.85, len(times)))
    powers = (signal.square() * spectrum.power + noise.square()).expand(len(times), *spectrum.shape)
    for t, colour, values in zip(times, colours, powers, strict=True):
        frequency, means = _rings(PowerSpectrum(spectrum.basis, values.contiguous()))
        axis.loglog(frequency, means.mean(0), color=colour, label=f"{t:g}")
    axis.set_ylabel("power")
    axis.legend(title="t")
    return _label_frequencies(axis, frequency)


def _scales_in(corruption: Corruption, spectrum: PowerSpectrum, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return (signal, noise) at times, after checking that they belong to the coefficients of the spectrum."""
    check_corruption(corruption)
    common_basis(corruption, spectrum)
    return both_scales(corruption, times)


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
    signal, noise = _scales_in(corruption, spectrum, times)
    of_signal, of_noise = (
        value.expand(_CURVE, *spectrum.shape).flatten(1).cpu()
        for value in (signal.square() * spectrum.power, noise.square())
    )
    return times.numpy(), of_signal, of_noise


def _chosen(spectrum: PowerSpectrum, frequencies: Sequence[int] | None) -> list[tuple[int, np.ndarray, Tensor]]:
    """Return whole frequencies, their colours, and which coefficients have them."""
    rings = spectrum.basis.frequencies(spectrum.shape[1:]).expand(spectrum.shape).flatten().add(0.5).floor().long()
    highest = int(rings.max())
    if not highest:
        raise ValueError(f"a plot of frequencies requires sides of 2 pixels or more, got {spectrum.shape}")
    wanted = sorted({max(1, round(highest ** (k / 3))) for k in range(4)}) if frequencies is None else frequencies
    if not len(wanted):
        raise ValueError(f"frequencies must hold one or more from 0 to {highest}, got none; None takes four of them")
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
