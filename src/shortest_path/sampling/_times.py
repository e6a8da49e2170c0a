"""The times of a sampler: where they start, and whether the corruption can be sampled along them."""

from __future__ import annotations

import math
from collections.abc import Container

import torch
from torch import Tensor

from .._checks import check_numbers
from ..corruptions import Corruption
from ..grids import any_scale, by_power, coefficients_shape, evenly, has_own_start, of_coefficients, scales_at
from ..prediction import Prediction

_VANISHED = 1e-6
_UNTOLD = 1e-12  # times the noise: a signal in which predicted noise leaves nothing of the image
_NEAR_ONE = 0.999
_HALVINGS = 20
_GAP = 0.1  # of the next step: how close below `start` a time of the grid may be
_OWN_START: dict[str, dict[str, str]] = {
    "image_to_image": {
        "x_1": "it starts from x_0, corrupted; omit x_1, or call sample(shape, x_1=..., start=...)",
        "shape": "its images have that of x_0; omit shape",
    },
    "interpolate": {
        "x_1": "it starts from the encodings of x_a and x_b; omit x_1, or call sample(shape, x_1=...)",
        "shape": "its images have that of x_a and x_b; omit shape",
        "start": "it encodes to the first of sampler.times and starts there; make another, Sampler(start=...)",
    },
}
"""What a method that finds its own start does not pass on to `sample`, and why."""


def first_time(corruption: Corruption, prediction: Prediction, power: Tensor | None, *, left: float = 0.1) -> float:
    """Return where a grid starts: 1, or earlier if the model predicts noise.

    The error of predicted noise is divided by the signal, and so grows without bound towards t = 1. Where the data's
    power S is known, sampling starts from noise of the power a² S + s²; as that is all there is to tell while little of
    the image is left, a grid then starts where a² S = s² / 10 in the strongest coefficient (docs/results.md, "Where
    to begin"). Where S is not known, it starts at 0.999 if signal(1) has vanished.

    Args:
        corruption: The corruption to sample.
        prediction: What the model predicts.
        power: S, broadcastable to coefficients, or None.
        left: Power of the image that may be left in a coefficient, in units of the noise's.
    """
    if prediction != "noise":
        return 1.0
    latest = _NEAR_ONE if any_scale(corruption, 1.0, lambda signal, _: signal < _VANISHED) else 1.0
    if power is None:
        return latest
    every = of_coefficients(power, corruption)
    pick, _ = by_power(every)
    some = every if pick is None else pick(every)

    def little(t: float) -> bool:
        signal, noise = scales_at(corruption, torch.tensor([t], dtype=torch.float64, device="cpu"), pick)
        return bool((signal**2 * some <= left * noise**2).all())

    low, high = 0.0, latest
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if little(middle) else (middle, high)
    return high


def start_error(corruption: Corruption, first: float) -> str | None:
    """Return why sampling cannot start at a time with a model that predicts noise, or None if it can.

    It cannot where nothing of the image is left in some coefficient, as its clean value would be 0 / 0.

    Args:
        corruption: The corruption to sample.
        first: The time.
    """

    def told(t: float) -> bool:
        return not any_scale(corruption, t, lambda signal, noise: signal < _UNTOLD * noise)

    if told(first):
        return None
    low, high = 0.0, first
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if told(middle) else (low, middle)
    return (
        f"a model that predicts noise cannot tell the image where signal(t) = 0, here t = {first:.6g}; train with "
        f"prediction='data' or 'velocity', or start at t ≤ {math.floor(low * 1e4) / 1e4:g}, where "
        f"{type(corruption).__name__} leaves some of every coefficient"
    )


def check_start(start: object, times: object, grid: object) -> None:
    """Raise an error unless `start` can be the first time of a grid."""
    check_numbers(start=start)
    for name, fixed in (("times", times is not None), ("grid='reference'", has_own_start(grid))):
        if fixed:
            raise ValueError(f"start={start} has no effect with {name}, which begin where they begin; omit one of them")
    if not 0 < start <= 1:  # type: ignore[operator]
        raise ValueError(f"start must lie in (0, 1], got {start}")


def check_has_own_start(method: str, options: Container[str]) -> None:
    """Raise a TypeError if one of the `options` would replace what a method starts from."""
    for name, reason in _OWN_START[method].items():
        if name in options:
            raise TypeError(f"{method} takes no {name}: {reason}")


def times_from(start: float | None, times: Tensor) -> Tensor:
    """Return the times from `start` on, or all of them for None.

    A time so close below `start` that the first step would be shorter than a tenth of the next is left out: from a
    step much shorter than its neighbour nothing can be extrapolated but rounding.

    Raises:
        ValueError: `start` outside (0, 1], or not above the last time.
    """
    if start is None:
        return times
    check_numbers(start=start)
    if not 0 < start <= 1 or start <= float(times[-1]):
        raise ValueError(f"start must lie in (0, 1] and above the last time {float(times[-1]):g}, got {start}")
    below = times[times < start]
    if len(below) > 1 and start - float(below[0]) < _GAP * float(below[0] - below[1]):
        below = below[1:]
    return torch.cat([torch.tensor([start], dtype=torch.float64, device="cpu"), below])


def check_along(corruption: Corruption, times: Tensor, prediction: Prediction) -> None:
    """Look at the scales along a grid once, so that a step need not.

    At 16 times, and at 4096 coefficients if there are more.

    Raises:
        ValueError: no signal is left at the first time, for a model that predicts noise; scales that are not finite,
            both 0 or negative; or a signal-to-noise ratio that rises.
    """
    pick = evenly(coefficients_shape(corruption))
    count = min(len(times), 16)
    probes = times[torch.linspace(0, len(times) - 1, count, device="cpu").long()]
    # A scale that does not change with time may come once for all of them.
    signal, noise = (scale.expand(count, *scale.shape[1:]) for scale in scales_at(corruption, probes, pick))
    useless = ~(signal.isfinite() & noise.isfinite()) | ((signal == 0) & (noise == 0))
    wrong = probes[useless.flatten(1).any(1) & (probes > 0)]  # those of t = 0 are known
    if len(wrong):
        raise ValueError(
            f"signal(t) and noise(t) of {type(corruption).__name__} must be finite and not both 0, which they are not "
            f"at t = {float(wrong[0]):.6g}; correct them, or leave this time out with times=..."
        )
    for name, scale in (("signal", signal), ("noise", noise)):
        if bool((scale < -1e-6 * scale.abs().max()).any()):  # and not only rounded below 0
            raise ValueError(
                f"{name}(t) of {type(corruption).__name__} is negative somewhere, down to {float(scale.min()):.3g}; "
                "scales are factors of image and noise, 0 or more"
            )
    if prediction == "noise" and (reason := start_error(corruption, float(times[0]))):
        raise ValueError(reason)
    rising = signal[1:] * noise[:-1] < signal[:-1] * noise[1:] - 1e-6 * (signal[1:] * noise[:-1]).abs()
    if bool(rising.any()):
        raise ValueError(
            f"the signal-to-noise ratio of {type(corruption).__name__} rises with t somewhere; "
            "signal(t) / noise(t) must not increase from t = 0 to t = 1"
        )
