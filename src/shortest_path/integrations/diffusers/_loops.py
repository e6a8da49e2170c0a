"""What a scheduler requires of a loop of diffusers: the place of a step, and what a run begins with."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._checks import values_are_readable
from ...corruptions import Process, prior_deviation

_WITH_IMAGES = (
    "images: sample = scheduler.add_noise(images, noise, scheduler.timesteps[0]), after scheduler.set_begin_index(0)"
)


def place_of(timestep: Tensor | float, timesteps: Tensor, *, due: int, rounding: float) -> int:
    """Return the place of a timestep among all: of those nearest to it, the one that is due, else the first.

    Args:
        timestep: The timestep.
        timesteps: All timesteps, on the CPU; equal ones are possible, where times differ by less than float32 tells.
        due: The place that comes next.
        rounding: How far from one of them a timestep may be.

    Raises:
        ValueError: a timestep that is not one of them.
    """
    wanted = torch.as_tensor(timestep, dtype=torch.float32).cpu()
    gaps = (timesteps - wanted).abs()
    nearest = gaps.min()
    if not nearest <= rounding:
        raise ValueError(
            f"timestep must be one of scheduler.timesteps, as set_timesteps chose them, got {float(wanted):g}; call "
            "set_timesteps and loop over scheduler.timesteps"
        )
    if due < len(timesteps) and gaps[due] == nearest:
        return due
    return int(gaps.argmin())


def check_place(place: int, timesteps: Tensor, *, begin: int | None, due: int | None) -> None:
    """Raise a ValueError if a step is at another place than it must be.

    Args:
        place: The place of the step.
        timesteps: All timesteps.
        begin: The place at which sampling was said to begin, or None.
        due: The place of the sample; None for a sample that did not come from the scheduler as it is.
    """
    got = f"got {_named(place, timesteps)}"
    if begin is not None and place != begin:
        raise ValueError(
            f"sampling was to begin at {_named(begin, timesteps)} by set_begin_index, {got}; loop over "
            "scheduler.timesteps from there on, or call set_timesteps to begin with noise"
        )
    if due is not None and place != due:
        raise ValueError(
            f"sample is that of {_named(due, timesteps)}, {got}; hand every prev_sample to the next of "
            "scheduler.timesteps, or begin a run with another sample"
        )


def _named(place: int, timesteps: Tensor) -> str:
    if place == len(timesteps):
        return "the end, after the last timestep"
    return f"timestep {float(timesteps[place]):g} ({place + 1} of {len(timesteps)})"


def mark_of(sample: Tensor) -> int | Tensor:
    """Return what tells later whether a sample was changed in place: a copy, or its version where copies cost much.

    Comparing a copy on an accelerator makes the host wait, and is done only for samples that have no version.
    """
    return sample.detach().clone() if sample.is_inference() or values_are_readable(sample) else sample._version


def was_changed(sample: Tensor, mark: int | Tensor | None) -> bool:
    """Return whether a sample was changed in place since it had this mark."""
    if isinstance(mark, Tensor):
        return not torch.equal(sample, mark)
    return sample._version != mark


def check_white(process: Process, t: float, like: Tensor) -> None:
    """Raise a ValueError unless sampling can begin with white noise at time t; arguments as of `deviation_at`."""
    white = (deviation_at(process, t, like) - 1).abs() < 0.01
    if not bool(white.all()):
        raise ValueError(
            f"{type(process.corruption).__name__} does not end in white noise; begin with sample = "
            f"scheduler.initial_noise(noise), or {_WITH_IMAGES}"
        )


def deviation_at(process: Process, t: float, like: Tensor) -> Tensor:
    """Return the standard deviations of the coefficients at time t, where sampling begins with noise.

    `Process.prior` in other words: its error advises an argument of `Sampler`.

    Args:
        process: The corruption, on the device of `like`.
        t: The time.
        like: A tensor of the shape and on the device of the samples.

    Raises:
        ValueError: much of the image is left there, or a shape that does not fit.
    """
    process.check_shape(like.shape)
    first, end = (process.at(each, like.shape, like.device) for each in (t, 1.0))
    deviation = prior_deviation(first, end, process.power)
    if deviation is None:
        raise ValueError(
            f"{type(process.corruption).__name__} keeps part of the image at the first timestep, so that sampling "
            f"cannot begin with noise; begin with {_WITH_IMAGES}"
        )
    return deviation
