"""What a model predicts, and the conversions between the choices, coefficient by coefficient.

With u_t = a u_0 + s ε (DESIGN equation 1):

| prediction | the model returns | û_0 | ε̂ |
|---|---|---|---|
| `"noise"` | ε | (u_t − s ε̂) / a | ε̂ |
| `"data"` | u_0 | û_0 | (u_t − a û_0) / s |
| `"velocity"` | v = a ε − s u_0 | (a u_t − s v̂) / (a² + s²) | (s u_t + a v̂) / (a² + s²) |

All of it in coefficients; the model's output in pixels is analysed first. A conversion that divides by
zero (noise where a = 0, data where s = 0) gives inf or NaN, as it must: the caller chooses times at
which it is defined.

Source: Salimans & Ho 2022, arXiv:2202.00512, section 4 (velocity).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

Prediction: TypeAlias = Literal["noise", "data", "velocity"]


class Denoised(NamedTuple):
    """The two unknowns of u_t = a u_0 + s ε, as a model's output implies them."""

    u_0: Tensor
    eps: Tensor


def target(prediction: Prediction, u_0: Tensor, eps: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """Return what the model should output, in coefficients.

    Args:
        prediction: The prediction type.
        u_0: Coefficients of the clean image, (B, C, *spatial).
        eps: Coefficients of the noise, same shape.
        signal: a_t, broadcastable to them.
        noise: s_t, broadcastable to them.
    """
    if prediction == "noise":
        return eps
    if prediction == "data":
        return u_0
    return signal * eps - noise * u_0


def data_weights(prediction: Prediction, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return (p, q) such that û_0 = p ⊙ u_t + q ⊙ output."""
    if prediction == "noise":
        return 1 / signal, -noise / signal
    if prediction == "data":
        return torch.zeros_like(signal), torch.ones_like(signal)
    norm = signal**2 + noise**2
    return signal / norm, -noise / norm


def denoise(prediction: Prediction, output: Tensor, u_t: Tensor, signal: Tensor, noise: Tensor) -> Denoised:
    """Return û_0 and ε̂ from a model's output.

    Args:
        prediction: The prediction type.
        output: The model's output in coefficients, (B, C, *spatial).
        u_t: The coefficients the model saw, same shape.
        signal: a_t, broadcastable to them.
        noise: s_t, broadcastable to them.
    """
    if prediction == "noise":
        return Denoised((u_t - noise * output) / signal, output)
    if prediction == "data":
        return Denoised(output, (u_t - signal * output) / noise)
    norm = signal**2 + noise**2
    return Denoised((signal * u_t - noise * output) / norm, (noise * u_t + signal * output) / norm)
