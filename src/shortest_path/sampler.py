"""Drawing images: the reverse process of any corruption, with any model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from .basis import Basis
from .checks import check_choice
from .corruption import Corruption, check_device, device_of, known_power, scales
from .grids import Grid, make_grid
from .model import check_output, evaluating
from .multistep import ExponentialMultistep, RotationMultistep, Stepper
from .prediction import Prediction, data_weights
from .progress import Progress
from .spectrum import PowerSpectrum
from .transition import Solver as OneStep
from .transition import Variance, check_solver, check_times, prior_deviation, step_weights

Solver: TypeAlias = Literal["ancestral", "ddim", "multistep"]
Clip: TypeAlias = tuple[float, float]
_VANISHED = 1e-6
_NEAR_ONE = 0.999  # where a grid starts if the model predicts noise and signal(1) has vanished


class SampleStep(NamedTuple):
    """One step of a trajectory: `x_t` at time `t`, and the clean image `x_0_hat` that led to it."""

    t: float
    x_t: Tensor
    x_0_hat: Tensor


class Sampler:
    """Draws images by running a corruption backwards with a trained model.

    The state is kept in coefficients; each step calls the model once at time t and moves to s < t by

        u_s = w_t ⊙ u_t + w_0 ⊙ û_0 + σ ⊙ z

    with per-coefficient numbers computed in float64 when they are needed, so memory does not grow with the
    number of steps. The last step, to t = 0, returns the denoised image.

    Args:
        model: `model(x_t, t, **conditioning)` returns a tensor like `x_t`; `t` is float (B,) in [0, 1]. A
            module is run in eval mode without gradients, and left in the mode it was in.
        corruption: Any object that satisfies `Corruption`.
        prediction: What the model was trained to predict: `"noise"`, `"data"` or `"velocity"`.
        solver: `"ancestral"` (stochastic, the paper's), `"ddim"`, or `"multistep"`: second order, the one for few
            steps; in rotation form where the data's power is known, else in exponential form
            (`shortest_path.multistep`).
        steps: Number of model calls.
        grid: `"uniform"`: equal steps; `"cosine"`: closer together at both ends, in equal steps of the angle
            arccos(1 − 2t); `"reference"`: the chain of the paper's code. None takes `"cosine"` for the multistep
            solver, `"uniform"` for the others.
        times: Explicit falling times (steps + 1,) instead of `steps` and `grid`. A last time above 0 returns
            the image at that time.
        variance: Of the ancestral solver: `"large"` (the paper's) or `"small"`.
        eta: Of the DDIM solver: 0 is deterministic, 1 draws from the posterior.
        spectrum: The data's power, for the multistep solver and the noise to start from; None takes it from the
            corruption if that knows it. An isotropic corruption is then sampled in the spectrum's basis, which
            is as good as pixels for it.

    A model that predicts noise says nothing of the image at a time where no signal is left (0/0), so for
    `prediction="noise"` a grid starts at t = 0.999 instead of 1 if signal(1) < 1e-6. `times` is not changed: a
    first time with signal 0 is then an error. `sampler.times` shows what is used.

    Raises:
        ValueError: unknown option, wrong times, a corruption whose signal-to-noise ratio rises with t, or a
            spectrum in a basis in which the corruption is not diagonal.

    Source: Ho et al. 2020, arXiv:2006.11239; Song et al. 2021, arXiv:2010.02502; Das et al. 2023,
        arXiv:2306.00501, algorithm 2; per coefficient, DESIGN section 2.

    Example:
        >>> import torch, shortest_path as sp
        >>> def model(x_t, t):  # an untrained stand-in
        ...     return torch.zeros_like(x_t)
        >>> sampler = sp.Sampler(model, sp.GaussianCorruption("flow"), solver="ddim", steps=4)
        >>> tuple(sampler.sample((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).shape)
        (2, 3, 8, 8)
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        corruption: Corruption,
        *,
        prediction: Prediction = "noise",
        solver: Solver = "ancestral",
        steps: int = 50,
        grid: Grid | None = None,
        times: Tensor | Sequence[float] | None = None,
        variance: Variance = "large",
        eta: float = 0.0,
        spectrum: PowerSpectrum | None = None,
    ) -> None:
        if not isinstance(corruption, Corruption):
            raise TypeError(f"corruption must have basis, signal and noise, got {type(corruption).__name__}")
        if not callable(model):
            raise TypeError(f"model must be callable as model(x_t, t), got {type(model).__name__}")
        self.model = model
        self.corruption = corruption
        self.prediction: Prediction = check_choice("prediction", prediction, get_args(Prediction))
        check_solver(solver, variance, eta, get_args(Solver))
        self.solver: Solver = solver
        self.variance: Variance = variance
        self.eta = eta
        self._basis, self._power = corruption.basis, known_power(corruption)
        if spectrum is not None:
            self._basis = _common_basis(corruption, spectrum)
            self._power = spectrum.power
        chosen = self._grid(steps, grid) if times is None else torch.as_tensor(times, dtype=torch.float64).cpu()
        check_times(chosen)
        self.times = chosen
        """The falling times, (steps + 1,), float64, on the CPU; the model is called at all but the last."""
        self._check_process()

    @property
    def steps(self) -> int:
        """Number of model calls for one batch of images."""
        return len(self.times) - 1

    def sample(
        self,
        shape: Sequence[int],
        *,
        x_1: Tensor | None = None,
        conditioning: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
        clip: Clip | None = None,
        callback: Callable[[SampleStep], None] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        progress: bool | None = None,
    ) -> Tensor:
        """Draw images.

        Args:
            shape: (B, C, *spatial).
            x_1: Images at the first time to start from; None draws them as N(0, s²), or N(0, a²S + s²) if
                the corruption knows the data's power. Needed where much of the image is left at the first
                time: heat dissipation, or `times` that begin in the middle.
            conditioning: Keyword arguments for the model, passed through at every step.
            generator: Source of all random numbers, drawn on its own device: the same state gives the same images.
            clip: (low, high) to clamp the predicted clean image to, in pixels, at every step; (-1, 1) for images.
            callback: Called with a `SampleStep` after every step.
            device: Where to sample; the model's device by default.
            dtype: Of the state; the model is called in it too.
            progress: True or False; None shows progress on a terminal if the work is long.

        Returns:
            Images, of shape `shape`.

        Raises:
            ValueError: a shape that does not fit, a model whose output has another shape, or no `x_1` where
                the corruption needs one.
        """
        with Progress("sampling", total=self.steps, show=progress) as bar:
            for step in self._run(shape, x_1, conditioning, generator, clip, device, dtype):
                if callback is not None:
                    callback(self._in_pixels(step))
                bar.advance()
        return self._basis.synthesize(step.x_t)

    def trajectory(
        self,
        shape: Sequence[int],
        *,
        x_1: Tensor | None = None,
        conditioning: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
        clip: Clip | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[SampleStep]:
        """Yield (t, x_t, x_0_hat) after every step; arguments as for `sample`. The last x_t is the sample."""
        for step in self._run(shape, x_1, conditioning, generator, clip, device, dtype):
            yield self._in_pixels(step)

    def _run(
        self,
        shape: Sequence[int],
        x_1: Tensor | None,
        conditioning: Mapping[str, Any] | None,
        generator: torch.Generator | None,
        clip: Clip | None,
        device: torch.device | str | None,
        dtype: torch.dtype,
    ) -> Iterator[SampleStep]:
        """Yield every step with its tensors in coefficients."""
        device = torch.device(device) if device is not None else device_of(self.model)
        check_device(self.corruption, device)
        if clip is not None and not clip[0] < clip[1]:
            raise ValueError(f"clip must be (low, high) with low < high, got {clip}")
        if not dtype.is_floating_point:
            raise TypeError(f"dtype must be floating point, got {dtype}")
        stepper = self._stepper(device)
        at_t = self._scales(self.times[0], shape, device)
        u_t = self._start(x_1, at_t, shape, device, dtype, generator)
        for t, s in zip(self.times[:-1].tolist(), self.times[1:].tolist(), strict=True):
            at_s = self._scales(s, shape, device)
            u_0 = self._denoise(u_t, t, at_t, conditioning or {}, clip)
            if stepper is not None:
                u_t = stepper.step(u_t, u_0, at_t, at_s, last=s == 0.0)
            else:
                u_t = self._step(u_t, u_0, at_t, at_s, generator, last=s == 0.0)
            yield SampleStep(s, u_t, u_0)
            at_t = at_s

    @torch.no_grad()
    def _denoise(
        self,
        u_t: Tensor,
        t: float,
        at_t: tuple[Tensor, Tensor],
        conditioning: Mapping[str, Any],
        clip: Clip | None,
    ) -> Tensor:
        """Call the model and return û_0 in coefficients."""
        basis, dtype = self._basis, u_t.dtype
        x_t = basis.synthesize(u_t)
        times = torch.full((len(u_t),), t, dtype=dtype, device=u_t.device)
        with evaluating(self.model):
            output = self.model(x_t, times, **conditioning)
        check_output(output, x_t)
        of_state, of_output = (weight.to(dtype) for weight in data_weights(self.prediction, *at_t))
        u_0 = (of_state * u_t).addcmul_(of_output, basis.analyze(output.to(dtype)))
        return u_0 if clip is None else basis.analyze(basis.synthesize(u_0).clamp(*clip))

    @torch.no_grad()
    def _step(
        self,
        u_t: Tensor,
        u_0: Tensor,
        at_t: tuple[Tensor, Tensor],
        at_s: tuple[Tensor, Tensor],
        generator: torch.Generator | None,
        *,
        last: bool,
    ) -> Tensor:
        """Return the coefficients at the next time, by a solver of one step."""
        if last:
            return u_0
        dtype = u_t.dtype
        solver: OneStep = "ddim" if self.solver == "ddim" else "ancestral"
        weights = step_weights(at_t, at_s, solver=solver, variance=self.variance, eta=self.eta)
        u_s = (weights.w_t.to(dtype) * u_t).addcmul_(weights.w_0.to(dtype), u_0)
        if self.solver == "ddim" and self.eta == 0:
            return u_s
        return u_s.addcmul_(weights.sigma.to(dtype), _white(u_t.shape, u_t.device, dtype, generator))

    @torch.no_grad()
    def _start(
        self,
        x_1: Tensor | None,
        at_t: tuple[Tensor, Tensor],
        shape: Sequence[int],
        device: torch.device,
        dtype: torch.dtype,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return the coefficients to start from."""
        if x_1 is not None:
            if tuple(x_1.shape) != tuple(shape):
                raise ValueError(f"x_1 must have the shape asked for, {tuple(shape)}, got {tuple(x_1.shape)}")
            return self._basis.analyze(x_1.to(device, dtype))
        deviation = prior_deviation(at_t, None if self._power is None else self._power.to(device))
        if deviation is None:
            raise ValueError(
                f"{type(self.corruption).__name__} keeps part of the image at t = {float(self.times[0]):.4g}, so "
                "sampling cannot start from noise; pass x_1=corruption.corrupt(training_images, t, eps)"
            )
        return deviation.to(dtype) * _white(shape, device, dtype, generator)

    def _in_pixels(self, step: SampleStep) -> SampleStep:
        synthesize = self._basis.synthesize
        return SampleStep(step.t, synthesize(step.x_t), synthesize(step.x_0_hat))

    def _scales(self, t: Tensor | float, shape: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return (signal, noise) at one time, in float64."""
        return scales(self.corruption, torch.as_tensor(t, dtype=torch.float64, device=device).reshape(1), shape)

    def _stepper(self, device: torch.device) -> Stepper | None:
        """Return a fresh multistep solver, or None for the solvers that remember nothing."""
        if self.solver != "multistep":
            return None
        return ExponentialMultistep() if self._power is None else RotationMultistep(self._power.to(device))

    def _grid(self, steps: int, grid: Grid | None) -> Tensor:
        grid = grid or ("cosine" if self.solver == "multistep" else "uniform")
        signal = self.corruption.signal(torch.ones(1, dtype=torch.float64, device=device_of(self.corruption)))
        singular = self.prediction == "noise" and bool((signal < _VANISHED).any())
        return make_grid(grid, steps, start=_NEAR_ONE if singular else 1.0)

    def _check_process(self) -> None:
        """Look at the scales along the grid once, so that a step need not."""
        count = min(len(self.times), 16)
        probes = self.times[torch.linspace(0, len(self.times) - 1, count).long()].to(device_of(self.corruption))
        signal, noise = self.corruption.signal(probes), self.corruption.noise(probes)
        if self.prediction == "noise" and bool((signal[:-1] < 1e-12 * noise[:-1]).any()):
            raise ValueError(
                f"a model that predicts noise says nothing of the image where signal(t) = 0, here at t = "
                f"{float(self.times[0]):.6g}; start at a smaller t, or train with prediction='data' or 'velocity'"
            )
        rising = signal[1:] * noise[:-1] < signal[:-1] * noise[1:] - 1e-6 * (signal[1:] * noise[:-1]).abs()
        if bool(rising.any()):
            raise ValueError(
                f"the signal-to-noise ratio of {type(self.corruption).__name__} rises with t somewhere; "
                "signal(t) / noise(t) must not increase from t = 0 to t = 1"
            )


def _common_basis(corruption: Corruption, spectrum: PowerSpectrum) -> Basis:
    """Return the spectrum's basis, sure that the corruption is diagonal in it."""
    device = device_of(corruption)
    middle = torch.tensor([0.5], dtype=torch.float64, device=device)
    pair = scales(corruption, middle, (1, *spectrum.shape))
    ours, theirs = corruption.basis, spectrum.basis
    one_rotation = (
        ours.channel_rotation is None
        if theirs.channel_rotation is None
        else ours.channel_rotation is not None
        and torch.allclose(ours.channel_rotation.cpu(), theirs.channel_rotation.cpu())
    )
    isotropic = all(scale.numel() == 1 for scale in pair)
    alike_channels = all(scale.shape[1] == 1 for scale in pair)  # such scales commute with a channel rotation
    if not (isotropic or (ours.shares_transform(theirs) and (one_rotation or alike_channels))):
        raise ValueError(
            f"the corruption works in {ours!r}, the spectrum was measured in {theirs!r}; "
            "estimate the spectrum in the corruption's basis"
        )
    return copy.deepcopy(theirs).to(device)  # the spectrum's own stays where it is


def _white(shape: Sequence[int], device: torch.device, dtype: torch.dtype, generator: torch.Generator | None) -> Tensor:
    """Draw white normal noise on the generator's device: white in pixels is white in every orthonormal basis."""
    source = device if generator is None else generator.device
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=source).to(device)
