"""What a scheduler requires of a loop of diffusers: where it begins, and that it leaves no timestep out."""

from __future__ import annotations

import torch
from torch import Tensor

from ...corruptions import Process, prior_deviation

_WITH_IMAGES = (
    "images: sample = scheduler.add_noise(images, noise, scheduler.timesteps[0]), after scheduler.set_begin_index(0)"
)


def place_of(timestep: Tensor | float, timesteps: Tensor, *, begin: int | None, due: int | None) -> int:
    """Return the place of a timestep among all.

    Args:
        timestep: The timestep.
        timesteps: All timesteps.
        begin: The place at which sampling was said to begin, or None.
        due: The place of the sample; None for a sample that did not come from the scheduler.

    Raises:
        ValueError: a timestep that is none of them, or at another place than these.
    """
    wanted = torch.as_tensor(timestep, dtype=torch.float32).cpu()
    near = (timesteps.cpu() - wanted).abs() < 1e-3
    if not bool(near.any()):
        raise ValueError(
            f"timestep must be one of scheduler.timesteps, got {float(wanted):g}; call set_timesteps and loop over "
            "scheduler.timesteps"
        )
    place = int(near.float().argmax())
    got = f"got timestep {float(wanted):g}, which is timesteps[{place}]"
    if begin is not None and place != begin:
        raise ValueError(
            f"sampling was to begin at {_named(begin, timesteps)} (set_begin_index), {got}; loop over "
            f"scheduler.timesteps[{begin}:], or call set_timesteps to begin with noise"
        )
    if due is not None and place != due:
        raise ValueError(
            f"sample is that of {_named(due, timesteps)}, {got}; hand every prev_sample to the next of "
            "scheduler.timesteps, or begin a run with another sample"
        )
    return place


def _named(place: int, timesteps: Tensor) -> str:
    if place == len(timesteps):
        return "the end, after the last timestep"
    return f"timesteps[{place}] = {float(timesteps[place]):g}"


def mark_of(sample: Tensor) -> int | Tensor:
    """Return what tells later whether a sample was changed in place: its version, or a copy where it has none."""
    return sample.clone() if sample.is_inference() else sample._version


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
