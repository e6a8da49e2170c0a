"""From a model's output to the clean image that it implies, with guidance and edits on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import kind_of, values_are_readable
from .._conditioning import unconditional
from .._exact import as_dtype
from .._model import check_output, depends_on, evaluating, own, weights_dtype
from ..corruptions import Point, Process
from ..prediction import Prediction, check_power, data_weights
from ..solvers import StepNumbers, add_scaled
from ._guidance import Guidance
from .edits import DenoisedCallback


class Denoiser:
    """Calls a model and returns û_0, in coefficients.

    Args:
        model: `model(x_t, t, **conditioning)`.
        process: The corruption, bound to the basis of the coefficients.
        prediction: What the model predicts.
        guidance: Classifier-free guidance; None calls the model once, with the conditioning as given.

    Raises:
        ValueError: a model that predicts a whitened velocity, of data whose power is not known.
    """

    def __init__(
        self, model: Callable[..., Tensor], process: Process, prediction: Prediction, guidance: Guidance | None = None
    ) -> None:
        if prediction == "whitened-velocity":
            check_power(prediction, process.power)
        self._model, self._process = model, process
        self.prediction: Prediction = prediction
        self._guidance = guidance

    def weights(self, here: Point, power: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return (p, q) such that û_0 = p ⊙ u_t + q ⊙ output, float64, or nothing where û_0 is the output itself.

        That is seen only where looking at the values does not wait for a device.

        Args:
            here: The time and the scales there.
            power: S of the coefficients of `here`; None takes that of all.
        """
        if self.prediction == "data" and values_are_readable(here.noise) and bool((here.noise > 0).all()):
            return ()
        power = self._process.power if power is None else power
        return data_weights(self.prediction, here.signal, here.noise, power)

    def __call__(
        self,
        u_t: Tensor,
        here: Point,
        conditioning: Mapping[str, Any],
        edit: DenoisedCallback | None = None,
        *,
        weights: StepNumbers | None = None,
    ) -> Tensor:
        """Return û_0.

        Args:
            u_t: Coefficients at t.
            here: The time and the scales there.
            conditioning: Keyword arguments for the model.
            edit: Applied to (x̂_0, t), x̂_0 in pixels; returns another x̂_0.
            weights: The numbers of `weights`, some of them found before.

        Raises:
            TypeError: the model does not return a tensor.
            ValueError: the model or `edit` returns another shape.
        """
        predicted = self.predict(u_t, here.time, here.signal, conditioning)
        numbers = (weights or StepNumbers(self.weights, reach=1))(here, dtype=u_t.dtype)
        u_0 = self.clean(u_t, predicted, here, numbers, self._process.shift)
        return u_0 if edit is None else self.edited(u_0, here.time, edit)

    def predict(
        self, u_t: Tensor, t: float, signal: Tensor | None, conditioning: Mapping[str, Any], *, owned: bool = False
    ) -> Tensor:
        """Return the coefficients of the model's output.

        Args:
            u_t: Coefficients at t.
            t: The time.
            signal: a_t, used only where the process has a shift.
            conditioning: Keyword arguments for the model.
            owned: Whether the caller changes them, so that they must not be the output itself.
        """
        process = self._process
        output = self._output(own(process.synthesize(u_t, signal), u_t), t, conditioning)
        output = as_dtype(output, u_t.dtype)
        # Only clean images have the data's mean; velocities are measured from what the corruption knows of it.
        data = self.prediction == "data"
        predicted = process.analyze(output) if data else process.coefficients(output)
        return own(predicted, output) if data or owned else predicted

    def clean(
        self, u_t: Tensor, predicted: Tensor, here: Point, numbers: Sequence[Tensor | float], shift: Tensor | None
    ) -> Tensor:
        """Return û_0 of what `predict` returned, coefficient by coefficient.

        Args:
            u_t: Coefficients at t: all, or some, as in the other arguments.
            predicted: The coefficients of the model's output.
            here: The time and the scales there.
            numbers: What `weights` returns, in the type of `u_t`.
            shift: The mean that the corruption was not told, or None.
        """
        if self.prediction == "velocity" and shift is not None:
            predicted = predicted + (here.noise * shift).to(u_t.dtype)
        if not numbers:
            return predicted
        of_state, of_output = numbers
        return add_scaled(of_state * u_t, of_output, predicted)

    def edited(self, u_0: Tensor, t: float, edit: DenoisedCallback) -> Tensor:
        """Return û_0 after an edit of the clean images at time t.

        Raises:
            ValueError: `edit` returns another shape, or complex numbers.
        """
        x_0 = own(self._process.synthesize(u_0), u_0)
        edited = edit(x_0, t)
        if not isinstance(edited, Tensor) or edited.shape != x_0.shape or edited.is_complex():
            found = f"{edited.dtype} of shape {tuple(edited.shape)}" if isinstance(edited, Tensor) else kind_of(edited)
            raise ValueError(
                "denoised_callback must return the clean images it was given, changed, real and of shape "
                f"{tuple(x_0.shape)}; got {found}"
            )
        return own(self._process.analyze(edited.to(u_0.dtype)), edited)

    def _output(self, x_t: Tensor, t: float, conditioning: Mapping[str, Any]) -> Tensor:
        """Return the model's output, guided."""
        x_t = as_dtype(x_t, weights_dtype(self._model, x_t.dtype))
        # Times stay in float32 at least: bfloat16 has no number between 0.996 and 1.
        times = torch.full((x_t.shape[0],), t, dtype=torch.promote_types(x_t.dtype, torch.float32), device=x_t.device)
        guidance = self._guidance
        with evaluating(self._model):
            if guidance is None or not guidance.acts(t):
                return self._call(x_t, times, conditioning)
            output = self._call(x_t.clone(), times.clone(), conditioning)
            null = self._call(x_t, times, unconditional(conditioning, guidance.null))
        return torch.lerp(null, output, guidance.scale)

    def _call(self, x_t: Tensor, times: Tensor, conditioning: Mapping[str, Any]) -> Tensor:
        """Call the model; where it is to be derived in x_t, check that it can be."""
        derived = x_t.grad_fn if x_t.requires_grad and torch.is_grad_enabled() else None
        output = self._model(x_t, times, **conditioning)
        check_output(output, x_t)
        if derived is not None and not depends_on(output, derived):
            with torch.no_grad():
                other = self._model(2 * x_t + 1, times, **conditioning)
            if not torch.equal(other, output):
                raise ValueError(
                    "the likelihood requires the derivative of model(x_t, t) in x_t, and its output comes without one, "
                    "though it is another for another x_t; call the network without torch.no_grad, "
                    "torch.inference_mode, detach and numpy, or return 0 * x_t for a constant"
                )
        return output
