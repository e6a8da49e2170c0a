"""What a model predicts, and the conversions between the choices, coefficient by coefficient.

Each prediction is one mixture o = c_0 u_0 + c_ε ε of the two unknowns of u_t = a u_0 + s ε (equation 1 of
docs/theory.md):

| prediction | c_0 | c_ε | D = a c_ε − s c_0 |
|---|---|---|---|
| `"noise"` | 0 | 1 | a |
| `"data"` | 1 | 0 | −s |
| `"velocity"` | −s | a | a² + s² |
| `"whitened-velocity"` | −sin θ / √S | cos θ | √(V / S) |

with the data's power S, V = a² S + s² and θ = atan2(s, a √S): the last is −sin θ ξ + cos θ ε for whitened data
ξ = u_0 / √S, what the rotation form integrates (`shortest_path.solvers.Rotation`). It has about unit size at every
coefficient and time, and is zero on average for Gaussian data. Two equations in two unknowns give both:

    û_0 = (c_ε u_t − s ô) / D,    ε̂ = (a ô − c_0 u_t) / D

so an error of ô is one of s / D times its size in û_0. All of it in coefficients; the model's output in pixels is
analysed first. A conversion that divides by zero (noise where a = 0, the noise of data where s = 0) gives inf or NaN,
as it must: the caller chooses times at which it is defined.

Source: Salimans & Ho 2022, arXiv:2202.00512, section 4 (velocity); equation 4 of docs/theory.md (whitened velocity).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

__all__ = [
    "Denoised",
    "Mixture",
    "Prediction",
    "check_fits_float32",
    "check_power",
    "data_weights",
    "denoise",
    "error_weight",
    "fits_float32",
    "mixture",
    "target",
    "target_weights",
]

Prediction: TypeAlias = Literal["noise", "data", "velocity", "whitened-velocity"]

_LEAST_POWER = 1e-37  # above it and below its inverse, neither a power, its inverse nor the root of one leaves float32


class Denoised(NamedTuple):
    """The two unknowns of u_t = a u_0 + s ε, as a model's output implies them."""

    u_0: Tensor
    eps: Tensor


class Mixture(NamedTuple):
    """The weights of u_0 and ε in a prediction, and the determinant D."""

    of_data: Tensor
    of_noise: Tensor
    determinant: Tensor


def mixture(prediction: Prediction, signal: Tensor, noise: Tensor, power: Tensor | None = None) -> Mixture:
    """Return (c_0, c_ε, D) of a prediction.

    Args:
        prediction: The prediction type.
        signal: a_t, broadcastable to coefficients (B, C, *spatial).
        noise: s_t, broadcastable to them.
        power: S, the data's power, broadcastable to them; used only by `"whitened-velocity"`.

    Raises:
        ValueError: a whitened velocity without a power.
    """
    of_data, of_noise = target_weights(prediction, signal, noise, power)
    if prediction == "noise":
        return Mixture(of_data, of_noise, signal)
    if prediction == "data":
        return Mixture(of_data, of_noise, -noise)
    if prediction == "velocity":
        return Mixture(of_data, of_noise, signal**2 + noise**2)
    deviation = check_power(prediction, power).to(signal.dtype).sqrt()
    return Mixture(of_data, of_noise, torch.hypot(signal * deviation, noise) / deviation)


def target_weights(
    prediction: Prediction, signal: Tensor, noise: Tensor, power: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (c_0, c_ε) of a prediction, such that the target is c_0 u_0 + c_ε ε; arguments as for `mixture`."""
    if prediction == "noise":
        return torch.zeros_like(signal), torch.ones_like(signal)
    if prediction == "data":
        return torch.ones_like(noise), torch.zeros_like(noise)
    if prediction == "velocity":
        return -noise, signal
    # With n = s / √S the pair is (−n / √S, a) / √(a² + n²). These squares neither vanish nor overflow, and
    # cost less than a hypotenuse.
    scale = check_power(prediction, power).to(signal.dtype).rsqrt()
    scaled = noise * scale
    size = torch.addcmul(signal.square(), scaled, scaled).rsqrt()
    return scaled * size * -scale, signal * size


def check_power(prediction: Prediction, power: Tensor | None) -> Tensor:
    """Return the data's power, after checking that it is known.

    Raises:
        ValueError: the power is not known.
    """
    if power is None:
        raise ValueError(
            f"prediction={prediction!r} requires the data's power spectrum; "
            "pass spectrum=PowerSpectrum.estimate(batches)"
        )
    return power


def fits_float32(power: Tensor) -> bool:
    """Return whether float32 holds a power and its inverse."""
    return bool(((power >= _LEAST_POWER) & (power <= 1 / _LEAST_POWER)).all())


def check_fits_float32(what: str, power: Tensor) -> None:
    """Raise a ValueError unless float32 holds a power and its inverse.

    Args:
        what: What computes in float32.
        power: S.
    """
    if not fits_float32(power):
        raise ValueError(
            f"{what} computes in float32 and requires power between {_LEAST_POWER:g} and {1 / _LEAST_POWER:g}, got "
            f"{float(power.min()):.3g} to {float(power.max()):.3g}; scale the data"
        )


def target(
    prediction: Prediction, u_0: Tensor, eps: Tensor, signal: Tensor, noise: Tensor, power: Tensor | None = None
) -> Tensor:
    """Return what the model should output, in coefficients.

    Args:
        prediction: The prediction type.
        u_0: Coefficients of the clean image, (B, C, *spatial).
        eps: Coefficients of the noise, same shape.
        signal: a_t, broadcastable to them.
        noise: s_t, broadcastable to them.
        power: S, the data's power, broadcastable to them; used only by `"whitened-velocity"`.
    """
    if prediction == "noise":
        return eps
    if prediction == "data":
        return u_0
    of_data, of_noise = target_weights(prediction, signal, noise, power)
    return of_noise * eps + of_data * u_0


def data_weights(
    prediction: Prediction, signal: Tensor, noise: Tensor, power: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (p, q) such that û_0 = p ⊙ u_t + q ⊙ output; arguments as for `mixture`."""
    if prediction == "data":  # D cancels; where there is no noise yet, the state tells the image exactly
        started = noise > 0
        return torch.where(started, 0.0, 1 / signal), started.to(noise.dtype)
    mixed = mixture(prediction, signal, noise, power)
    return mixed.of_noise / mixed.determinant, -noise / mixed.determinant


def denoise(
    prediction: Prediction, output: Tensor, u_t: Tensor, signal: Tensor, noise: Tensor, power: Tensor | None = None
) -> Denoised:
    """Return û_0 and ε̂ from a model's output.

    Args:
        prediction: The prediction type.
        output: The model's output in coefficients, (B, C, *spatial).
        u_t: The coefficients the model saw, same shape.
        signal: a_t, broadcastable to them.
        noise: s_t, broadcastable to them.
        power: S, the data's power, broadcastable to them; used only by `"whitened-velocity"`.
    """
    of_state, of_output = data_weights(prediction, signal, noise, power)
    u_0 = output if prediction == "data" else of_state * u_t + of_output * output
    if prediction == "noise":
        return Denoised(u_0, output)
    mixed = mixture(prediction, signal, noise, power)
    return Denoised(u_0, (signal * output - mixed.of_data * u_t) / mixed.determinant)


def error_weight(
    measured_in: Prediction, prediction: Prediction, signal: Tensor, noise: Tensor, power: Tensor | None = None
) -> Tensor:
    """Return the factor that turns an error of one prediction type into an error of another.

        error of `measured_in` = (D of it / D of `prediction`) · error of `prediction`

    up to its sign. Infinite where D of `prediction` vanishes and the other does not.

    Args:
        measured_in: The prediction type whose error counts.
        prediction: The prediction type of the model.
        signal: a_t, broadcastable to coefficients (B, C, *spatial).
        noise: s_t, broadcastable to them.
        power: S, the data's power, broadcastable to them; used only by `"whitened-velocity"`.
    """
    ours, theirs = (mixture(name, signal, noise, power).determinant for name in (prediction, measured_in))
    return (theirs / ours).abs()
