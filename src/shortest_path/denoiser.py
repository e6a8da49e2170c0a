"""From a model's output to the clean image that it implies, with guidance and edits on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .conditioning import unconditional
from .edits import DenoisedCallback
from .forms import Scales
from .model import check_output, evaluating
from .prediction import Prediction, check_power, data_weights
from .process import Process


class Guidance(NamedTuple):
    """Classifier-free guidance: at times in `interval`, output = null + scale · (conditioned − null).

    Source: Ho & Salimans 2022, arXiv:2207.12598, equation 6 (scale = 1 + w); Kynkäänniemi et al. 2024,
    arXiv:2404.07724 (interval).
    """

    scale: float
    interval: tuple[float, float]
    null: Mapping[str, Any]


def make_guidance(scale: float, interval: Sequence[float], null: Mapping[str, Any] | None) -> Guidance | None:
    """Return the guidance of a sampler's options, or None for a scale of 1.

    Raises:
        ValueError: a scale that is not finite, no null conditioning, or an interval that is not one.
    """
    if scale == 1:
        return None
    if not math.isfinite(scale):
        raise ValueError(f"guidance_scale must be finite, got {scale}")
    pair = isinstance(interval, Sequence) and not isinstance(interval, str) and len(interval) == 2
    if not pair or not 0 <= interval[0] <= interval[1] <= 1:
        raise ValueError(f"guidance_interval must be (low, high) with 0 <= low <= high <= 1, got {interval!r}")
    if not null:
        raise ValueError(
            f"guidance_scale={scale:g} needs null_conditioning, what stands for no conditioning as in training; "
            "say null_conditioning={'class_labels': 10}"
        )
    return Guidance(scale, (interval[0], interval[1]), null)


class Denoiser:
    """Calls a model and returns û_0, in coefficients.

    Args:
        model: `model(x_t, t, **conditioning)`.
        process: The corruption's, whose basis the coefficients are in.
        prediction: What the model predicts.
        guidance: None asks the model once, with the conditioning as given.

    Raises:
        ValueError: a model that predicts a whitened velocity, of data whose power is not known.
    """

    def __init__(
        self, model: Callable[..., Tensor], process: Process, prediction: Prediction, guidance: Guidance | None = None
    ) -> None:
        if prediction == "whitened-velocity":
            check_power(prediction, process.power)
        self._model, self._process = model, process
        self._prediction: Prediction = prediction
        self._guidance = guidance

    def __call__(
        self, u_t: Tensor, t: float, at_t: Scales, conditioning: Mapping[str, Any], edit: DenoisedCallback | None = None
    ) -> Tensor:
        """Return û_0.

        Args:
            u_t: Coefficients at t.
            t: The time.
            at_t: (signal, noise) at t, float64.
            conditioning: For the model.
            edit: Applied to (x̂_0, t), x̂_0 in pixels; returns another x̂_0.

        Raises:
            TypeError: the model or `edit` returns something else than a tensor.
            ValueError: one of another shape.
        """
        basis, power, dtype = self._process.basis, self._process.power, u_t.dtype
        output = self._output(basis.synthesize(u_t), t, conditioning)
        of_state, of_output = (weight.to(dtype) for weight in data_weights(self._prediction, *at_t, power))
        u_0 = (of_state * u_t).addcmul_(of_output, basis.analyze(output.to(dtype)))
        if edit is None:
            return u_0
        x_0 = basis.synthesize(u_0)
        edited = edit(x_0, t)
        if not isinstance(edited, Tensor) or edited.shape != x_0.shape:
            found = tuple(edited.shape) if isinstance(edited, Tensor) else type(edited).__name__
            raise ValueError(
                f"denoised_callback must return the clean images it was given, changed, of shape {tuple(x_0.shape)}; "
                f"got {found}"
            )
        return basis.analyze(edited.to(dtype))

    def _output(self, x_t: Tensor, t: float, conditioning: Mapping[str, Any]) -> Tensor:
        """Return the model's output, guided."""
        x_t = x_t.to(_weights_dtype(self._model, x_t.dtype))
        # Times stay in float32 at least: bfloat16 has no number between 0.996 and 1.
        times = torch.full((len(x_t),), t, dtype=torch.promote_types(x_t.dtype, torch.float32), device=x_t.device)
        guidance = self._guidance
        with evaluating(self._model):
            output = self._model(x_t, times, **conditioning)
            check_output(output, x_t)
            if guidance is None or not guidance.interval[0] <= t <= guidance.interval[1]:
                return output
            null = self._model(x_t, times, **unconditional(conditioning, guidance.null))
        return torch.lerp(null, output, guidance.scale)


def _weights_dtype(model: object, default: torch.dtype) -> torch.dtype:
    """Return the floating-point type of a module's weights: what it wants to be given."""
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return default
