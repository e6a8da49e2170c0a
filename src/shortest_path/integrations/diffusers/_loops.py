"""What a scheduler requires of a loop of diffusers: the place of a step, and what a run begins with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._checks import check_floating, check_has_values, values_are_readable
from ...corruptions import Process, prior_deviation

_WITH_IMAGES = (
    "images: sample = scheduler.add_noise(images, noise, scheduler.timesteps[0]), after scheduler.set_begin_index(0)"
)

# In the configuration. Schedulers of betas refuse it with "{beta_schedule} is not implemented for {class}".
NO_BETAS = "none (a CorruptionScheduler has no betas: use it as it is, not from_config of it)"
NO_CONFIG = (
    "a configuration of a CorruptionScheduler holds neither its corruption nor its solver; use the scheduler itself, "
    "copy.deepcopy(scheduler), or from_pretrained of a folder that it was saved to"
)


class CorruptionSchedulerOutput(NamedTuple):
    """What a step returns: `prev_sample`, and the predicted clean image `pred_original_sample`."""

    prev_sample: Tensor
    pred_original_sample: Tensor | None = None


def check_options(options: Mapping[str, Any], steps: int, shift: float) -> None:
    """Raise a TypeError for options of other schedulers' `set_timesteps`, with those that take their place."""
    if "timesteps" in options:
        index = f"k {'-' if shift > 0 else '+'} {abs(shift):g}"
        raise TypeError(f"set_timesteps has no timesteps=; pass times=[({index}) / {steps} for k in timesteps] + [0.0]")
    if "sigmas" in options:
        raise TypeError("set_timesteps has no sigmas=; pass times=, which fall from 1, noise, to 0, data")


def check_model_output(output: object) -> None:
    """Raise a TypeError unless what a model returned is a floating-point tensor, with how to find that in it."""
    if not isinstance(output, Tensor):
        mend = "convert it with torch.as_tensor"
        if isinstance(getattr(output, "sample", None), Tensor):
            mend = "pass model_output.sample"
        elif isinstance(output, (tuple, list)):
            mend = "pass model_output[0]"
        raise TypeError(f"model_output must be a torch.Tensor, got {type(output).__name__}; {mend}")
    check_floating(output, "model_output")


def check_pair(name: str, images: Tensor, noise: Tensor) -> None:
    """Raise unless images and noise are floating-point tensors of one shape on one device.

    Args:
        name: What the images are called.
        images: The images.
        noise: The noise.
    """
    check_floating(images, name)
    check_floating(noise, "noise")
    mend = f"use torch.randn_like({name})"
    if noise.shape != images.shape:
        raise ValueError(
            f"noise must have the shape of {name}, {tuple(images.shape)}, got {tuple(noise.shape)}; {mend}"
        )
    if noise.device != images.device:
        raise ValueError(f"noise must be on the device of {name}, {images.device}, got {noise.device}; {mend}")


def as_timesteps(name: str, timesteps: Any, what: str) -> Tensor:
    """Return timesteps as a tensor; raise a TypeError that says what they must be unless they are real numbers."""
    try:
        found = timesteps if isinstance(timesteps, Tensor) else torch.as_tensor(timesteps, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or found.dtype == torch.bool or found.is_complex():
        raise TypeError(f"{name} must be {what}, got {timesteps!r}")
    return found


def times_of(timesteps: Tensor | float, like: Tensor, steps: int, shift: float, rounding: float) -> Tensor:
    """Return the times of timesteps, on the device of images, in [0, 1].

    Args:
        timesteps: One for each image, (B,), or one for all.
        like: The images.
        steps: Number of steps that timesteps count.
        shift: The timestep of clean images.
        rounding: How far timesteps may lie beyond the ends.

    Raises:
        TypeError: timesteps that are not numbers.
        ValueError: timesteps beyond the ends; checked on the CPU only.
    """
    exact, example = torch.promote_types(like.dtype, torch.float32), f"torch.randint(0, {steps}, (batch,))"
    timesteps = as_timesteps("timesteps", timesteps, f"a number or a tensor (B,), e.g. {example}")
    low, high = shift, steps + shift
    inside = (timesteps > low - rounding) & (timesteps < high + rounding)
    if values_are_readable(timesteps) and not bool(inside.all()):
        raise ValueError(
            f"timesteps must lie from {low:g}, clean, to {high:g}, noise, got {timesteps.flatten()[:6].tolist()}; "
            f"e.g. {example}"
        )
    return ((timesteps.to(like.device, exact) - shift) / steps).clamp(0, 1)  # of rounding


def place_of(timestep: Tensor | float, timesteps: Tensor, *, due: int, rounding: float) -> int:
    """Return the place of a timestep among all: of those nearest to it, the one that is due, else the first.

    Args:
        timestep: The timestep, one number, or the same one for every image.
        timesteps: All timesteps, on the CPU; equal ones are possible, where times differ by less than float32 tells.
        due: The place that comes next.
        rounding: How far from one of them a timestep may be.

    Raises:
        TypeError: `timestep` is not a number.
        ValueError: a timestep that is not one of them, or several.
    """
    given = as_timesteps("timestep", timestep, "a number, one of scheduler.timesteps")
    check_has_values(given, "timestep")
    several = sorted(set(given.to("cpu", torch.float32).flatten().tolist()))
    if len(several) != 1:
        found = ", ".join(f"{each:g}" for each in several[:6]) or "none"
        raise ValueError(
            f"timestep must be one, and the same for all images, got {found}; take a step at each of "
            "scheduler.timesteps, one after the other"
        )
    wanted = several[0]
    gaps = (timesteps - wanted).abs()
    nearest = gaps.min()
    if not nearest <= rounding:
        raise ValueError(
            f"timestep must be one of scheduler.timesteps, as set_timesteps chose them, got {wanted:g}; call "
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
