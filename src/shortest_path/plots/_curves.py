"""Plots against frequency or time: spectra, paths and samples."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from .._checks import check_flag, check_sizes
from ..bases import FourierBasis
from ..corruptions import Corruption, both_scales, common_basis
from ..spectra import PowerSpectrum
from ._axes import TIMES, as_list, check_some, check_spectrum, checked_times, drawing

COLOURS = ("#3B8BC9", "#E5793A", "#2AA77F", "#B6689F", "#8C8C8C")
"""Blue, orange, green, purple, grey."""

_CURVE = 101  # times of a curve
_PART = 1024  # samples that are transformed at once


def spectrum(spectrum: PowerSpectrum, axis: Axes | None = None, *, law: bool | None = None) -> Axes:
    """Plot the power of a spectrum against frequency: the mean of every ring, a line for each channel of its basis.

    The mean brightness, frequency 0, is left out: it has no place on a logarithmic axis. So are rings without power,
    and channels that have no others.

    Args:
        spectrum: A spectrum with spatial axes.
        axis: Where to draw; None makes a figure.
        law: Whether to add the power law that fits the mean over channels; None adds it where every coefficient has
            power and there are three frequencies or more, as a fit requires.

    Raises:
        TypeError: `spectrum` is not a `PowerSpectrum`, `axis` not an Axes, or `law` not True, False or
            None.
        ValueError: no spatial axes, sides of one pixel, no power beyond frequency 0, or `law=True` for a spectrum with
            coefficients without power, or of fewer than three frequencies.
    """
    check_spectrum("spectrum", spectrum)
    check_flag("law", law, optional=True)
    frequency, means = _powers(spectrum)
    if law is None:
        law = not spectrum.empty and len(set(spectrum.basis.frequencies(spectrum.shape[1:]).flatten().tolist())) >= 3
    if law:
        if spectrum.empty:
            raise ValueError(
                "law=True requires power in every coefficient, as a power law has, got "
                f"{spectrum.empty} of {spectrum.power.numel()} empty; pass law=False, or use spectrum.raised(1e-6)"
            )
        fitted = spectrum.fit_power_law()
    with drawing(axis) as axis:
        _draw_channels(axis, spectrum, frequency, means)
        axis.set(xscale="log", yscale="log", ylabel="power")
        if law:
            along = np.linspace(float(frequency[0]), float(frequency[-1]), 200)
            power_law = fitted.amplitude / (fitted.offset + along) ** fitted.exponent
            axis.plot(along, power_law, "--", color=COLOURS[4], label=f"law, exponent {fitted.exponent:.2f}")
        _add_legend(axis)
        return _label_frequencies(axis, frequency)


def power(samples: Tensor, data: PowerSpectrum, axis: Axes | None = None) -> Axes:
    """Plot the power of samples over the data's, against frequency: 1 is right.

    Rings in which the data have no power are left out, and channels that have no others.

    Args:
        samples: Samples, (N, C, *spatial), floating point.
        data: The data's spectrum; its mean is taken from the samples if it has one.
        axis: Where to draw; None makes a figure.

    Raises:
        TypeError: samples that are not floating point, `data` is not a `PowerSpectrum`, or `axis` not an Axes.
        ValueError: no samples, samples of another shape, NaN or infinite values, or a spectrum as `spectrum` refuses.
    """
    check_spectrum("data", data)
    check_some(samples, "samples")
    if tuple(samples.shape[1:]) != data.shape:
        mends = {tuple(samples.shape): "[None]", (*samples.shape[-1:], *samples.shape[1:-1]): ".movedim(-1, 1)"}
        mend = f"; pass samples{mends[data.shape]}" if data.shape in mends else ""
        raise ValueError(
            f"samples must have the shape of the spectrum, (N, {', '.join(map(str, data.shape))}), got "
            f"{tuple(samples.shape)}{mend}"
        )
    values = samples.detach().to("cpu", torch.float64)
    finite = values.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        raise ValueError(
            f"{int((~finite).sum())} of {len(values)} samples hold NaN or infinite values; plot the others with "
            "samples[samples.isfinite().flatten(1).all(1)]"
        )
    away = values - (0 if data.mean is None else data.mean.cpu())
    found = torch.zeros(data.shape, dtype=torch.float64, device="cpu")
    for first in range(0, len(away), _PART):
        found += data.basis.analyze(away[first : first + _PART]).square().sum(0) / len(away)
    if isinstance(data.basis, FourierBasis):  # samples of finite number are not the same at k and −k
        found = (found + data.basis.mirror(found)) / 2
    frequency, expected = _powers(data)
    _, ours = _rings(PowerSpectrum(data.basis, found.clamp(min=1e-300)))
    with drawing(axis) as axis:
        _draw_channels(axis, data, frequency, ours / expected)
        axis.axhline(1, color=COLOURS[4], linestyle="--")
        axis.set(xscale="log", ylabel="power of samples / power of data")
        axis.set_yscale("log", base=2)  # half and twice the power are equally wrong
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.update_datalim([(1, 0.5), (1, 2)], updatex=False)  # and not limits, which would hide what is drawn later
        axis.autoscale_view()
        _add_legend(axis)
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
    Each is the mean of the coefficients in which the data have power.

    Args:
        corruption: A corruption that is diagonal in the basis of the spectrum.
        spectrum: The data's power S.
        axis: Where to draw; None makes a figure.
        frequencies: Whole frequencies, in cycles per longest side; None takes four from the lowest to the highest at
            which the data have power.

    Raises:
        TypeError: `corruption` does not implement `Corruption`, `spectrum` is not a `PowerSpectrum`, `frequencies` not
            a sequence of whole numbers, or `axis` not an Axes.
        ValueError: a corruption that is not diagonal in the basis of the spectrum, or of another shape, or no
            frequencies, or one that the spectrum does not have, or at which the data have no power.
    """
    check_spectrum("spectrum", spectrum)
    chosen = _chosen(spectrum, frequencies)
    times, signal, noise = _over_time(corruption, spectrum)
    with drawing(axis) as axis:
        for frequency, colour, inside in chosen:
            of_signal = (signal[:, inside] / (signal + noise)[:, inside]).mean(1)
            axis.plot(times, of_signal, color=colour, label=f"{frequency}")
            axis.plot(times, 1 - of_signal, "--", color=colour)
        axis.set(xscale="linear", xlabel="t", xlim=(0, 1))
        axis.set(yscale="linear", ylabel="fraction of the variance: signal —, noise - -", ylim=(0, 1))
        _add_legend(axis, "frequency")
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
        TypeError: `corruption` does not implement `Corruption`, `spectrum` is not a `PowerSpectrum`, `times` not a
            sequence of numbers, or `axis` not an Axes.
        ValueError: a corruption that is not diagonal in the basis of the spectrum, or of another shape; or no times, or
            times outside [0, 1].
    """
    check_spectrum("spectrum", spectrum)
    numbers = checked_times(times)
    signal, noise = _scales_in(corruption, spectrum, torch.tensor(numbers, dtype=torch.float64, device="cpu"))
    colours = matplotlib.colormaps["viridis"](np.linspace(0.25, 0.85, len(numbers)))
    powers = (signal.square() * spectrum.power + noise.square()).expand(len(numbers), *spectrum.shape)
    frequency, _ = _rings(spectrum)
    with drawing(axis) as axis:
        for t, colour, values in zip(numbers, colours, powers, strict=True):
            _, means = _rings(PowerSpectrum(spectrum.basis, values.contiguous()))
            axis.loglog(frequency, means.mean(0), color=colour, label=f"{t:g}")
        axis.set_ylabel("power")
        _add_legend(axis, "t")
        return _label_frequencies(axis, frequency)


@torch.no_grad()
def _scales_in(corruption: Corruption, spectrum: PowerSpectrum, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return (signal, noise) at times, after checking that they belong to the coefficients of the spectrum."""
    common_basis(corruption, spectrum)
    return both_scales(corruption, times)


def _check_axes(spectrum: PowerSpectrum) -> None:
    """Raise a ValueError for the spectrum of a table of vectors, which has no frequencies."""
    if not spectrum.basis.dims:
        raise ValueError(
            f"a plot against frequency requires spatial axes, got a spectrum of vectors of {spectrum.shape[0]} values; "
            "draw their power with plt.bar(range(len(spectrum.power)), spectrum.power.tolist()), and compare "
            "corruptions with sp.path_length and sp.gaussian_kl"
        )


def _rings(spectrum: PowerSpectrum) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequencies of the rings (n,), without 0, and their mean power (C, n)."""
    _check_axes(spectrum)
    frequency, means = spectrum.radial_average()
    if len(frequency) < 2:
        raise ValueError(f"a plot against frequency requires sides of 2 pixels or more, got {spectrum.shape}")
    return frequency[1:].numpy(), means[:, 1:].numpy()


def _powers(spectrum: PowerSpectrum) -> tuple[np.ndarray, np.ndarray]:
    """Return what `_rings` does, with NaN in rings without power."""
    frequency, means = _rings(spectrum)
    if not (means > 0).any():
        raise ValueError(f"a plot against frequency requires power beyond frequency 0, got {spectrum!r}")
    return frequency, np.where(means > 0, means, np.nan)


def _draw_channels(axis: Axes, spectrum: PowerSpectrum, frequency: np.ndarray, values: np.ndarray) -> None:
    """Draw a line for each channel of a spectrum's basis that has values, (C, n), with gaps where they are NaN."""
    for channel, line in enumerate(values):
        if not np.isnan(line).all():
            colour = COLOURS[channel % 5]
            axis.plot(frequency, line, "o-", markersize=3, color=colour, label=_channel(spectrum, channel))


def _channel(spectrum: PowerSpectrum, channel: int) -> str:
    if spectrum.shape[0] == 1:
        return "power"
    if spectrum.shape[0] == 3 and spectrum.basis.channel_rotation is not None:
        return ("brightness", "first colour axis", "second colour axis")[channel]
    return f"channel {channel + 1}"


def _over_time(corruption: Corruption, spectrum: PowerSpectrum) -> tuple[np.ndarray, Tensor, Tensor]:
    """Return times, and the variances of signal and noise, (times, C × pixels)."""
    times = torch.linspace(0, 1, _CURVE, dtype=torch.float64, device="cpu")
    signal, noise = _scales_in(corruption, spectrum, times)
    of_signal, of_noise = (
        value.expand(_CURVE, *spectrum.shape).flatten(1).cpu()
        for value in (signal.square() * spectrum.power, noise.square())
    )
    return times.numpy(), of_signal, of_noise


def _chosen(spectrum: PowerSpectrum, frequencies: Sequence[int] | None) -> list[tuple[int, np.ndarray, Tensor]]:
    """Return whole frequencies, their colours, and which coefficients have them."""
    _check_axes(spectrum)
    rings = spectrum.basis.frequencies(spectrum.shape[1:]).expand(spectrum.shape).flatten().add(0.5).floor().long()
    rings = torch.where(spectrum.power.flatten().cpu() > 0, rings, -1)
    present = set(rings.tolist()) - {-1}
    beyond = sorted(present - {0})
    if not beyond:
        raise ValueError(
            f"a plot of frequencies requires sides of 2 pixels or more, and power beyond frequency 0, got {spectrum!r}"
        )
    highest = beyond[-1]
    wanted = (
        sorted({min(beyond, key=lambda each: abs(each - highest ** (k / 3))) for k in range(4)})
        if frequencies is None
        else check_sizes("frequencies", as_list("frequencies", frequencies, "whole numbers", "(1, 4)"), "from 0")
    )
    if not wanted:
        raise ValueError(f"frequencies must hold one or more from 0 to {highest}, got none; None takes four of them")
    if wrong := [each for each in wanted if each not in present]:
        raise ValueError(
            f"frequencies must be whole numbers from 0 to {highest} at which the data have power, got {wrong[0]}"
        )
    colours = matplotlib.colormaps["viridis"](np.linspace(0.25, 0.85, len(wanted)))
    return [(each, colour, rings == each) for each, colour in zip(wanted, colours, strict=True)]


def _add_legend(axis: Axes, title: str | None = None) -> None:
    """Add a legend beside the axis if its figure makes room for it, as lines may fill the axis; otherwise within."""
    if isinstance(axis.figure.get_layout_engine(), ConstrainedLayoutEngine):
        axis.legend(title=title, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    else:
        axis.legend(title=title)


def _label_frequencies(axis: Axes, frequency: np.ndarray) -> Axes:
    """Mark the octaves with plain numbers: powers of ten say little between 1 and 32."""
    octaves = [2**k for k in range(16) if 2**k <= frequency.max()]
    axis.set_xticks(octaves, [str(octave) for octave in octaves])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("frequency (cycles per longest side)")
    return axis
