"""Changes to the predicted clean image, for `denoised_callback`.

Each function returns a callback that `Sampler` applies to (x̂_0, t) in pixels, before every step. Its result takes
the place of the prediction, so the whole process follows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from .._checks import (
    check_dense,
    check_floating,
    check_function,
    check_has_values,
    check_numbers,
    values_are_readable,
)

__all__ = ["compose", "dynamic_threshold", "inpaint", "project"]

DenoisedCallback: TypeAlias = Callable[[Tensor, float], Tensor]
Clip: TypeAlias = tuple[float, float]


def compose(*callbacks: DenoisedCallback) -> DenoisedCallback:
    """Apply several callbacks, one after the other.

    Each changes the result of those before it: after `compose(project(...), inpaint(...))` the known pixels hold
    exactly, and the measurement only as far as they agree with it. Put last what must hold.
    """
    for callback in callbacks:
        check_function("every callback", callback, "(x_0_hat, t)")

    def apply(x_0: Tensor, t: float) -> Tensor:
        for callback in callbacks:
            x_0 = callback(x_0, t)
        return x_0

    return apply


def then_clip(callback: DenoisedCallback | None, clip: Clip | None) -> DenoisedCallback | None:
    """Return the callback followed by the clip, or None if there is neither."""
    if callback is not None:
        check_function("denoised_callback", callback, "(x_0_hat, t)")
    if clip is None:
        return callback
    low, high = _ends(clip)
    if callback is None:
        return lambda x_0, t: x_0.clamp(low, high)
    return lambda x_0, t: callback(x_0, t).clamp(low, high)


def _ends(clip: object) -> Clip:
    """Return the ends of a clip as numbers.

    Raises:
        TypeError: `clip` is not a pair of numbers.
        ValueError: the first is not below the second.
    """
    if not isinstance(clip, (tuple, list)) or len(clip) != 2:
        array = isinstance(clip, (Tensor, np.ndarray))
        found = f"{type(clip).__name__}; pass tuple(clip.tolist())" if array else repr(clip)
        raise TypeError(f"clip must be a pair of numbers (low, high), e.g. (-1, 1), got {found}")
    check_numbers(**{"clip[0]": clip[0], "clip[1]": clip[1]})
    low, high = float(clip[0]), float(clip[1])
    if not low < high:
        raise ValueError(f"clip must be (low, high) with low < high, got {clip!r}")
    return low, high


def dynamic_threshold(quantile: float = 0.995, limit: float = 1.0) -> DenoisedCallback:
    """Keep strongly guided images from saturating.

    Clamps every image to ± the given quantile of its absolute values, if that exceeds `limit`, and scales it back.

        x̂_0 ← clamp(x̂_0, −q, q) · limit / q,    q = max(quantile of |x̂_0|, limit)

    Args:
        quantile: Quantile of the absolute values, in (0, 1].
        limit: Largest absolute value of clean images.

    Raises:
        ValueError: a parameter out of range.

    Source: Saharia et al. 2022, arXiv:2205.11487, section 2.3.
    """
    check_numbers(quantile=quantile, limit=limit)
    if not 0 < quantile <= 1 or not 0 < limit < math.inf:
        raise ValueError(f"quantile must lie in (0, 1] and limit be positive and finite, got {quantile} and {limit}")

    limit = float(limit)

    def apply(x_0: Tensor, t: float) -> Tensor:
        if not x_0.numel():
            return x_0
        values = x_0.abs().flatten(1)
        # The k-th largest rather than torch.quantile, which refuses more than 16 million values.
        above = max(1, values.shape[1] - int(quantile * values.shape[1]))
        bound = values.topk(above, dim=1).values[:, -1].clamp(min=limit).view(-1, *(1,) * (x_0.ndim - 1))
        return x_0.clamp(-bound, bound) * (limit / bound)

    return apply


def inpaint(x_0: Tensor, mask: Tensor) -> DenoisedCallback:
    """Keep the known part of an image, and let the model fill in the rest.

    Args:
        x_0: The image, broadcastable to (B, C, *spatial). Not used where `mask` is 0, where it may be NaN.
        mask: True or 1 where the image is known, broadcastable to it; values between blend.

    Raises:
        TypeError: `x_0` is not a floating-point tensor, or `mask` not a real one.
        ValueError: `mask` outside [0, 1], or `x_0` not finite where it is above 0, both checked on the CPU only; or
            shapes that do not broadcast, to the images when called.

    Source: Lugmayr et al. 2022, arXiv:2201.09865, with the known part in the predicted clean image.
    """
    check_floating(x_0, "x_0")
    if not isinstance(mask, Tensor) or mask.is_complex():
        raise TypeError(f"mask must be a tensor of bool or of numbers in [0, 1], got {type(mask).__name__}")
    check_dense(mask, "mask")
    for name, value in (("x_0", x_0), ("mask", mask)):
        check_has_values(value, name)
    _check_mask(x_0, mask)

    def apply(predicted: Tensor, t: float) -> Tensor:
        known, weight = (
            _expanded(name, value.to(predicted), "the images", predicted)
            for name, value in (("x_0", x_0), ("mask", mask))
        )
        return torch.lerp(predicted, torch.where(weight > 0, known, predicted), weight)

    return apply


def _check_mask(x_0: Tensor, mask: Tensor) -> None:
    """Raise a ValueError for a mask outside [0, 1] or of another shape, or that takes what is not finite."""
    if values_are_readable(mask) and not bool(((mask >= 0) & (mask <= 1)).all()):
        raise ValueError("mask must lie in [0, 1], 1 where the image is known; divide 8-bit masks by 255")
    try:
        torch.broadcast_shapes(x_0.shape, mask.shape)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        shapes = f"{tuple(x_0.shape)} and {tuple(mask.shape)}"
        raise ValueError(f"x_0 and mask must broadcast to one shape, got {shapes}") from error
    if values_are_readable(mask) and values_are_readable(x_0):
        missing = int((~x_0.isfinite() & (mask > 0)).sum())
        if missing:
            raise ValueError(
                f"x_0 has {missing} values that are NaN or infinite where mask is above 0; set mask to 0 there"
            )


def project(
    measurement: Tensor, forward: Callable[[Tensor], Tensor], pseudo_inverse: Callable[[Tensor], Tensor]
) -> DenoisedCallback:
    """Make the predicted clean image agree with a linear measurement y = A x, exactly.

        x̂_0 ← x̂_0 + A⁺ (y − A x̂_0)

    Args:
        measurement: y, without noise, floating point or complex; broadcastable to A x.
        forward: A; of images (B, C, *spatial).
        pseudo_inverse: A⁺, with A A⁺ A = A; the transpose for rows that are orthonormal.

    Raises:
        TypeError: `measurement` is not such a tensor, or another argument not a function; when called, functions that
            do not return tensors.
        ValueError: `measurement` holds NaN or infinite values, checked on the CPU only; when called, shapes that do not
            broadcast.

    Source: Wang et al. 2023, arXiv:2212.00490, equation 13.
    """
    (check_dense if _is_complex(measurement) else check_floating)(measurement, "measurement")
    check_has_values(measurement, "measurement")
    check_function("forward", forward, "x")
    check_function("pseudo_inverse", pseudo_inverse, "y")
    if values_are_readable(measurement) and not bool(measurement.isfinite().all()):
        raise ValueError(
            "measurement holds NaN or infinite values; leave out of A what was not measured, or use inpaint for "
            "unknown pixels"
        )

    def apply(predicted: Tensor, t: float) -> Tensor:
        found = _returned("forward", forward(predicted))
        if measurement.is_complex() and not found.is_complex():
            raise TypeError(f"measurement is complex, but forward returned {found.dtype}; both must be of one kind")
        y = _expanded("measurement", measurement.to(found), "what forward returned", found)
        change = _returned("pseudo_inverse", pseudo_inverse(y - found))
        return predicted + _expanded("what pseudo_inverse returned", change, "the images", predicted)

    return apply


def _is_complex(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_complex()


def _returned(name: str, value: object) -> Tensor:
    """Return what a function returned, after checking that it is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must return a tensor, got {type(value).__name__}")
    return value


def _expanded(name: str, value: Tensor, what: str, like: Tensor) -> Tensor:
    """Return a tensor, broadcast to the shape of another; raise a ValueError if it does not broadcast."""
    try:
        return value.expand_as(like)
    except RuntimeError as error:
        raise ValueError(f"{name} must broadcast to {what}, {tuple(like.shape)}, got {tuple(value.shape)}") from error
