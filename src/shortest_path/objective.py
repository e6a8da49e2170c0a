"""What a model is trained to return, and how its errors are weighed."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import mse_loss

from .basis import Basis
from .corruption import Corruption, scales
from .exact import working_dtype
from .prediction import Prediction, check_power, error_weight, target
from .process import Process
from .spectrum import PowerSpectrum


class Task(NamedTuple):
    """Corrupted images, what a model should return for them in pixels, and the weights of its errors."""

    x_t: Tensor
    wanted: Tensor
    weight: Tensor | None
    """Of the errors' coefficients; None for equal ones."""
    basis: Basis

    def loss(self, output: Tensor) -> Tensor:
        """Return the mean squared error of a model's output, weighed; a scalar with its graph."""
        output = output.to(self.wanted.dtype)
        if self.weight is None:
            return mse_loss(output, self.wanted)
        return (self.weight * self.basis.analyze(output - self.wanted)).square().mean()


class Objective:
    """Makes a task of images, times and noise.

    Args:
        corruption: Any object that satisfies `Corruption`.
        prediction: What the model returns.
        weighting: The prediction type whose squared error is the loss; None for the model's own.
        spectrum: The data's power, for a whitened velocity; None takes what the corruption knows.

    Raises:
        TypeError: `spectrum` is something else.
        ValueError: a whitened velocity without a power, or a spectrum where the corruption is not diagonal.
    """

    def __init__(
        self,
        corruption: Corruption,
        prediction: Prediction,
        *,
        weighting: Prediction | None = None,
        spectrum: PowerSpectrum | None = None,
    ) -> None:
        self._process = Process(corruption, spectrum)
        self._prediction: Prediction = prediction
        self._weighting: Prediction | None = None if weighting == prediction else weighting
        for name in (prediction, weighting):
            if name == "whitened-velocity":
                check_power(name, self._process.power)

    def pose(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Task:
        """Return the task of clean images `x_0`, (B, C, *spatial), at times `t`, (B,), with white noise `eps`.

        Raises:
            ValueError: shapes that the corruption was not made for.
        """
        process, dtype = self._process, working_dtype(x_0)
        basis, power = process.basis, process.power
        signal, noise = scales(process.corruption, t, x_0.shape, dtype)
        if power is not None:
            power = power.to(x_0.device, dtype)
        u_0, u_eps = basis.analyze(x_0), basis.analyze(eps)
        x_t = basis.synthesize((signal * u_0).addcmul_(noise, u_eps))
        if self._prediction in ("noise", "data"):
            wanted = eps if self._prediction == "noise" else x_0
        else:
            wanted = basis.synthesize(target(self._prediction, u_0, u_eps, signal, noise, power))
        weight = None
        if self._weighting is not None:
            weight = error_weight(self._weighting, self._prediction, signal, noise, power)
        return Task(x_t, wanted.to(dtype), weight, basis)
