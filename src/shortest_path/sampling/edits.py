"""Changes to the predicted clean image, for `denoised_callback`.

Each function returns a callback that `Sampler` applies to (x̂_0, t) in pixels, before every step. Its result takes
the place of the prediction, so the whole process follows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from .._checks import check_floating, check_function, check_numbers, values_are_readable

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
    check_function("denoised_callback", callback, "(x_0_hat, t)")
    if clip is None:
        return callback
    if not (isinstance(clip, (tuple, list)) and len(clip) == 2 and clip[0] < clip[1]):
        raise ValueError(f"clip must be (low, high) with low < high, got {clip!r}")
    low, high = clip
    if callback is None:
        return lambda x_0, t: x_0.clamp(low, high)
    return lambda x_0, t: callback(x_0, t).clamp(low, high)


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
        x_0: The image, broadcastable to (B, C, *spatial).
        mask: True or 1 where the image is known, broadcastable to it; values between blend.

    Raises:
        TypeError: `x_0` is not a floating-point tensor, or `mask` not a real one.
        ValueError: `mask` outside [0, 1]; when called, shapes that do not broadcast.

    Source: Lugmayr et al. 2022, arXiv:2201.09865, with the known part in the predicted clean image.
    """
    check_floating(x_0, "x_0")
    if not isinstance(mask, Tensor) or mask.is_complex():
        raise TypeError(f"mask must be a tensor of bool or of numbers in [0, 1], got {type(mask).__name__}")
    if values_are_readable(mask) and not bool(((mask >= 0) & (mask <= 1)).all()):
        raise ValueError("mask must lie in [0, 1], 1 where the image is known; divide 8-bit masks by 255")

    def apply(predicted: Tensor, t: float) -> Tensor:
        try:
            known, weight = (value.to(predicted).expand_as(predicted) for value in (x_0, mask))
        except RuntimeError as error:
            raise ValueError(
                f"x_0 {tuple(x_0.shape)} and mask {tuple(mask.shape)} must broadcast to the images, "
                f"{tuple(predicted.shape)}"
            ) from error
        return torch.lerp(predicted, known, weight)

    return apply


def project(
    measurement: Tensor, forward: Callable[[Tensor], Tensor], pseudo_inverse: Callable[[Tensor], Tensor]
) -> DenoisedCallback:
    """Make the predicted clean image agree with a linear measurement y = A x, exactly.

        x̂_0 ← x̂_0 + A⁺ (y − A x̂_0)

    Args:
        measurement: y, without noise.
        forward: A; of images (B, C, *spatial).
        pseudo_inverse: A⁺, with A A⁺ A = A; the transpose for rows that are orthonormal.

    Source: Wang et al. 2023, arXiv:2212.00490, equation 13.
    """
    return lambda predicted, t: predicted + pseudo_inverse(measurement.to(predicted) - forward(predicted))
