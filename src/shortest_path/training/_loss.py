"""What a model is trained to return, and how its errors are weighted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from .._checks import check_choice, check_flag, check_floating, check_function, values_are_readable
from .._devices import device_of
from .._exact import working_dtype
from .._model import check_output, weights_dtype
from ..bases import Basis
from ..corruptions import Corruption, Process, as_times, check_corruption, check_noise
from ..prediction import Prediction, check_fits_float32, check_power, error_weight, fits_float32, target_weights
from ..sampling import first_time, start_error
from ..spectra import PowerSpectrum
from ._likelihood import likelihood_factor
from ._times import TimeDistribution, TimeSampling

Weighting: TypeAlias = Prediction | Literal["likelihood"] | Callable[[Tensor, Tensor, Tensor], Tensor]
_WEIGHTINGS = (*get_args(Prediction), "likelihood")


class Task(NamedTuple):
    """Corrupted images, what a model should return for them in pixels, and the weights of its errors."""

    x_t: Tensor
    t: Tensor
    target: Tensor
    weight: Tensor | None
    """Factors of the errors' coefficients; None for equal weights."""
    basis: Basis

    def loss(self, output: Tensor) -> Tensor:
        """Return the weighted mean squared error of a model's output, a scalar with its graph.

        Raises:
            TypeError: `output` is not a tensor.
            ValueError: `output` has another shape than the images.
        """
        check_output(output, self.x_t)
        output = output.to(self.target.dtype)
        if self.weight is None:
            return mse_loss(output, self.target)
        return self._errors(output).square().mean()

    def losses(self, output: Tensor) -> Tensor:
        """Return the weighted mean squared error of each image, (B,), whose mean is `loss`; raises as `loss`."""
        check_output(output, self.x_t)
        return self._errors(output.to(self.target.dtype)).square().flatten(1).mean(1)

    def _errors(self, output: Tensor) -> Tensor:
        error = output - self.target
        return error if self.weight is None else self.weight * self.basis.analyze(error)


class DiffusionLoss:
    """The training loss of a model that undoes a corruption, for training loops of your own.

        E ‖model(x_t, t) − target‖²,    x_t = Bᵀ[ signal(t) ⊙ B x_0 + noise(t) ⊙ B ε ]

    the mean over pixels, where the target belongs to the `prediction` (`shortest_path.prediction`); with a `weighting`,
    the mean over coefficients of w ⊙ (error)². `DiffusionTrainer` is one user of this class.

    Args:
        corruption: Any object that implements `Corruption`, on the device of the images.
        prediction: What the model returns: `"noise"`, `"data"`, `"velocity"`, or `"whitened-velocity"`, which has
            about unit size at every frequency and time. Warns of `"noise"` where the signal of some coefficients
            vanishes so early that no sampler could start.
        weighting: None (default) weights the model's own errors equally. A prediction type weights them as errors of
            that type: the weights of a noise prediction then grow without bound as signal(t) → 0, those of a data
            prediction as noise(t) → 0. `"likelihood"` gives the evidence lower bound of the data in nats a coefficient
            for times uniform in [0, 1], without its terms at the two ends: the loss that schedules with parameters are
            trained by. It grows without bound as t → 0 where noise(0) = 0: leave out small times with
            `time_sampling=lambda u: 1e-3 + (1 - 1e-3) * u`. A function `weighting(t, signal, noise)` returns weights
            w ≥ 0 of the squared errors: (B,) of images, else broadcastable to (B, C, *spatial), (C, 1, 1) of channels.
        spectrum: The data's power, for the whitened velocity; None takes the corruption's own, if it has one. Make
            another loss after a state was loaded into the corruption.
        time_sampling: Distribution of times: `"uniform"` in [0, 1); `"stratified"`: one time in each of B equal
            intervals, in random order; `"discrete"`: the times of the paper's code, τ_k / T with
            τ = linspace(1, T − 1, T); or a function that maps uniform numbers (B,) to times (B,).
        discrete_steps: T, only for `"discrete"`; None is 4000.

    Raises:
        TypeError: an argument of another type.
        ValueError: an unknown option or one without effect, a whitened velocity without a power, or a spectrum in a
            basis in which the corruption is not diagonal.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 14; Das et al. 2023, arXiv:2306.00501, algorithm 1;
        Salimans & Ho 2022, arXiv:2202.00512 (velocity); Kingma et al. 2021, arXiv:2107.00630, and Sahoo et al. 2024,
        arXiv:2312.13236 (likelihood, per coefficient).

    Example:
        >>> import torch, shortest_path as sp
        >>> loss = sp.DiffusionLoss(sp.GaussianCorruption("flow"), "velocity")
        >>> x_0 = torch.zeros(4, 3, 8, 8)
        >>> loss(lambda x_t, t: torch.zeros_like(x_t), x_0, t=0.0, eps=torch.ones_like(x_0)).item()
        1.0
    """

    def __init__(
        self,
        corruption: Corruption,
        prediction: Prediction = "noise",
        *,
        weighting: Weighting | None = None,
        spectrum: PowerSpectrum | None = None,
        time_sampling: TimeSampling = "uniform",
        discrete_steps: int | None = None,
    ) -> None:
        check_corruption(corruption)
        self.prediction: Prediction = check_choice("prediction", prediction, get_args(Prediction))
        if isinstance(weighting, str):
            check_choice("weighting", weighting, _WEIGHTINGS)
        elif weighting is not None and not callable(weighting):
            raise TypeError(
                f"weighting must be a prediction type, 'likelihood' or a function, got {type(weighting).__name__}"
            )
        self._weighting = None if weighting == prediction else weighting
        self._process = Process(corruption, spectrum)
        self._too_wide: Tensor | None = None  # a power that float32 does not hold
        if "whitened-velocity" in (prediction, weighting):
            power = check_power("whitened-velocity", self._process.power)
            self._too_wide = None if fits_float32(power) else power
        if prediction == "noise" and device_of(corruption).type != "meta":
            reason = start_error(corruption, first_time(corruption, prediction, self._process.power))
            if reason is not None:
                warnings.warn(f"no sampler will start from noise: {reason}", RuntimeWarning, stacklevel=2)
        self.times = TimeDistribution(time_sampling, discrete_steps)
        """The distribution of times; `times.sample(count, generator, device)` draws from it."""

    def __repr__(self) -> str:
        weighting = self._weighting if isinstance(self._weighting, str) else getattr(self._weighting, "__name__", None)
        weighted = "" if weighting is None else f", weighting={weighting!r}"
        return f"{type(self).__name__}({self._process.corruption!r}, prediction={self.prediction!r}{weighted})"

    def __call__(
        self,
        model: Callable[..., Tensor],
        x_0: Tensor,
        /,
        *,
        t: Tensor | float | None = None,
        eps: Tensor | None = None,
        generator: torch.Generator | None = None,
        **conditioning: Any,
    ) -> Tensor:
        """Return the loss of a batch, a scalar with its graph.

        Args:
            model: `model(x_t, t, **conditioning)` returns a tensor like `x_t`. A module gets `x_t` in the type of its
                weights.
            x_0: Clean images, (B, C, *spatial), floating point, on the model's device.
            t: Times, (B,) or scalar; None draws them.
            eps: White noise in pixels, the shape of `x_0`; None draws it.
            generator: Source of times and noise, in that order; None is torch's own.
            **conditioning: Keyword arguments for the model.

        Raises:
            TypeError: `x_0` is not floating point.
            ValueError: no images, wrong shapes, of the inputs or of the model's output, or noise on another device.
        """
        check_floating(x_0, "x_0")
        check_function("model", model, "(x_t, t)")
        if not isinstance(generator, (torch.Generator, type(None))):
            raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
        device = x_0.device if generator is None else generator.device
        if t is None:
            t = self.times.sample(len(x_0), generator, device)
        if eps is None:
            eps = torch.randn(x_0.shape, generator=generator, device=device, dtype=working_dtype(x_0)).to(x_0)
        task = self.task(x_0, t, eps)
        return task.loss(model(task.x_t.to(weights_dtype(model, task.x_t.dtype)), task.t, **conditioning))

    @property
    def draws_coefficients(self) -> bool:
        """Whether `task` costs a transform less with noise drawn as coefficients, in which it is as white.

        The trainer draws pixels all the same, so that trainings with different corruptions share their noise.
        """
        return self.prediction != "noise" and self._process.mixes_coefficients

    def task(self, x_0: Tensor, t: Tensor | float, eps: Tensor, *, analyzed: bool = False) -> Task:
        """Return the task that a batch sets: for loops that call the model themselves.

        Args:
            x_0: Clean images, (B, C, *spatial), floating point.
            t: Times, (B,) or scalar.
            eps: White noise, the shape of `x_0`.
            analyzed: Whether `eps` are coefficients and not pixels; with `draws_coefficients` this costs a transform
                less, and the distribution is the same.

        Returns:
            x_t, t (B,), the target, and `loss(output)`.

        Raises:
            TypeError: `x_0` or `eps` is not floating point, or `analyzed` not True or False.
            ValueError: no images, wrong shapes, or noise or a corruption on another device.
        """
        check_floating(x_0, "x_0")
        if x_0.shape[:1] == (0,):
            raise ValueError("x_0 holds no images, so that a loss has no value; leave out empty batches")
        check_noise(eps, x_0)
        check_flag("analyzed", analyzed)
        process, prediction, dtype = self._process, self.prediction, working_dtype(x_0)
        if not (x_0.is_meta or torch.compiler.is_compiling()):
            process.to(x_0.device)
        t = as_times(t, x_0).expand(len(x_0))
        if self._too_wide is not None and dtype == torch.float32:
            check_fits_float32("'whitened-velocity' of such images", self._too_wide)
        power = None if process.power is None else process.power.to(x_0.device, dtype)
        signal, noise = process.scales(t, x_0)
        if analyzed and not process.mixes_coefficients:
            eps, analyzed = process.basis.synthesize(eps), False
        if prediction in ("noise", "data"):
            (x_t,) = process.mix(x_0, eps, (signal, noise), analyzed=analyzed)
            target = x_0 if prediction == "data" else process.basis.synthesize(eps) if analyzed else eps
        else:
            of_data, of_noise = target_weights(prediction, signal, noise, power)
            centred = prediction == "whitened-velocity"  # whitened data have no mean
            x_t, target = process.mix(
                x_0, eps, (signal, noise), (of_data, of_noise), analyzed=analyzed, centred=centred
            )
        target = target.to(dtype)
        weight = None
        if callable(self._weighting):
            weight = _factors(self._weighting(t, signal, noise), x_0)
        elif self._weighting == "likelihood":
            weight = likelihood_factor(process.corruption, t, prediction, power, dtype)
            if not (signal.requires_grad or noise.requires_grad):  # no schedule is trained
                weight = weight.detach()
        elif self._weighting is not None:
            weight = error_weight(self._weighting, prediction, signal, noise, power)
        return Task(x_t, t, target, weight, process.basis)


def _factors(weight: Tensor, x_0: Tensor) -> Tensor:
    """Return the factors of errors, √w, for the weights of squared errors that a function returned."""
    if not isinstance(weight, Tensor):
        raise TypeError(f"weighting must return a tensor, got {type(weight).__name__}")
    if weight.ndim == 1:
        weight = weight.view(-1, *(1,) * (x_0.ndim - 1))
    try:
        weight.expand(x_0.shape)
    except RuntimeError as error:
        raise ValueError(
            f"weighting must return weights (B,) or broadcastable to {tuple(x_0.shape)}, got {tuple(weight.shape)}"
        ) from error
    if values_are_readable(weight) and not bool((weight >= 0).all()):
        raise ValueError(f"weighting must return weights of 0 or more, got {float(weight.min())}")
    return weight.sqrt()
