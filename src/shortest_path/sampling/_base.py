"""A sampler's options, and sampling of one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from .._checks import (
    check_choice,
    check_floating,
    check_function,
    check_keywords,
    check_numbers,
    check_sizes,
    check_takes,
)
from .._devices import device_of, usable_device
from .._html import curves, table
from .._model import own
from .._progress import Progress
from ..corruptions import Corruption, Process, check_corruption
from ..grids import GridName, TimeGrid, falling_times, make_times
from ..prediction import Prediction
from ..solvers import Solver, SolverName, make_solver
from ..spectra import PowerSpectrum
from ._denoiser import Denoiser
from ._guidance import make_guidance
from ._noise import Generators
from ._reverse import Reverse, SampleStep
from ._times import check_along, check_start, first_time, times_from
from .edits import Clip, DenoisedCallback, then_clip


class SamplerBase:
    """The options of a sampler, and sampling of one batch; see `Sampler`."""

    def __init__(
        self,
        model: Callable[..., Tensor],
        corruption: Corruption,
        *,
        prediction: Prediction = "noise",
        solver: SolverName | Solver = "multistep",
        steps: int | None = None,
        grid: GridName | TimeGrid | None = None,
        start: float | None = None,
        times: Tensor | Sequence[float] | None = None,
        spectrum: PowerSpectrum | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        null_conditioning: Mapping[str, Any] | None = None,
    ) -> None:
        check_corruption(corruption)
        if not callable(model):
            raise TypeError(f"model must be callable as model(x_t, t), got {type(model).__name__}")
        check_takes("model", model, "(x_t, t)")
        self.model = model
        self.corruption = corruption
        self.prediction: Prediction = check_choice("prediction", prediction, get_args(Prediction))
        self.solver = make_solver(solver)
        self.spectrum = spectrum
        self._process = Process(corruption, spectrum)
        self._guidance = make_guidance(guidance_scale, guidance_interval, null_conditioning)
        self._denoiser = Denoiser(model, self._process, self.prediction, self._guidance)
        power = self._process.power
        if start is None:
            start = first_time(corruption, self.prediction, power)
        else:
            check_start(start, times, grid)
        self._has_own_times = times is not None
        """Whether the times were chosen one by one; otherwise they are those of a grid."""
        self.times = make_times(times, steps, grid, solver=self.solver, corruption=corruption, power=power, start=start)
        """The falling times, (steps + 1,), float64, on the CPU; the model is called at all but the last."""
        check_along(corruption, self.times, self.prediction)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.times) - 1

    def __repr__(self) -> str:
        model = getattr(self.model, "__name__", type(self.model).__name__)
        first, last = float(self.times[0]), float(self.times[-1])
        guided = "" if self._guidance is None else f", guidance_scale={self._guidance.scale:g}"
        return (
            f"{type(self).__name__}({model}, {self.corruption!r}, prediction={self.prediction!r}, "
            f"solver={self.solver!r}{guided}, {self.steps} steps from {first:.4g} to {last:.4g})"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        first, last = float(self.times[0]), float(self.times[-1])
        facts = {
            "model": getattr(self.model, "__name__", type(self.model).__name__),
            "corruption": repr(self.corruption),
            "prediction": self.prediction,
            "solver": repr(self.solver),
            "times": f"{self.steps} steps from {first:.4g} to {last:.4g}",
            "spectrum": repr(self.spectrum),
            "guidance scale": "none" if self._guidance is None else f"{self._guidance.scale:g}",
        }
        lines = {"times": list(enumerate(self.times.tolist()))}
        return table(type(self).__name__, facts, curves("time at every step", lines))

    def sample(
        self,
        shape: Sequence[int],
        *,
        x_1: Tensor | None = None,
        start: float | None = None,
        conditioning: Mapping[str, Any] | None = None,
        generator: Generators | None = None,
        clip: Clip | None = None,
        denoised_callback: DenoisedCallback | None = None,
        callback: Callable[[SampleStep], None] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        progress: bool | None = None,
    ) -> Tensor:
        """Sample images.

        Args:
            shape: (B, C, *spatial).
            x_1: Images at the first time to start from; None samples them as N(0, s²), or N(0, a²S + s²) if
                the data's power is known. Required where much of the image is left at the first time: heat
                dissipation, or a `start` in the middle.
            start: Time to start from, instead of the first of `times`; those below it follow.
            conditioning: Keyword arguments for the model, passed through at every step.
            generator: Source of all random numbers, which it draws on its own device: the same state gives the same
                images. One per image makes an image independent of the others in its batch.
            clip: (low, high) to which the predicted clean image is clamped, in pixels, at every step; e.g. (-1, 1).
            denoised_callback: Called as `denoised_callback(x_0_hat, t)` with the predicted clean images, in pixels,
                at every step; its result takes their place, before `clip`. A solver that extrapolates also calls it
                with the final images and t = 0. See `shortest_path.edits`.
            callback: Called with a `SampleStep` after every step.
            device: Where to sample; the model's device by default.
            dtype: Type of the state, float32 or float64; lower ones are raised to float32.
            progress: True or False; None shows progress on a terminal if the work is long.

        Returns:
            Images, of shape `shape`.

        Raises:
            TypeError: `x_1` is not floating point, or another argument of another type.
            ValueError: a shape that does not fit, a model whose output has another shape, no `x_1` where
                the corruption requires one, or a device that cannot be used.
        """
        if callback is not None:
            check_function("callback", callback, "a SampleStep")
        times, edit = self._times_from(start), then_clip(denoised_callback, clip)
        has_grad = torch.is_grad_enabled()
        with torch.no_grad(), Progress("sampling", total=len(times) - 1, show=progress) as bar:
            for step in self._run(times, shape, x_1, conditioning, generator, edit, device, dtype):
                if callback is not None:
                    with torch.set_grad_enabled(has_grad):
                        callback(self._in_pixels(step))
                t, u_t, _ = step
                del step, _  # û_0 is not held while the next step is taken
                bar.advance()
            return self._process.synthesize(u_t, self._signal(t, u_t))

    def trajectory(
        self,
        shape: Sequence[int],
        *,
        x_1: Tensor | None = None,
        start: float | None = None,
        conditioning: Mapping[str, Any] | None = None,
        generator: Generators | None = None,
        clip: Clip | None = None,
        denoised_callback: DenoisedCallback | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[SampleStep]:
        """Return an iterator over (t, x_t, x_0_hat) after every step; arguments as for `sample`, checked at the call.

        The last x_t is the sample.
        """
        times, edit = self._times_from(start), then_clip(denoised_callback, clip)
        return map(self._in_pixels, self._run(times, shape, x_1, conditioning, generator, edit, device, dtype))

    def step(
        self,
        x_t: Tensor,
        t: float,
        s: float,
        *,
        conditioning: Mapping[str, Any] | None = None,
        generator: Generators | None = None,
        clip: Clip | None = None,
        denoised_callback: DenoisedCallback | None = None,
    ) -> SampleStep:
        """Take one step of the solver, which begins without memory: for sampling loops of your own.

        Args:
            x_t: Images at time t, (B, C, *spatial), floating point.
            t: The time of `x_t`, in (0, 1].
            s: The time to move to, in [0, t).
            conditioning: As for `sample`.
            generator: As for `sample`.
            clip: As for `sample`.
            denoised_callback: As for `sample`.

        Returns:
            `SampleStep(s, x_s, x_0_hat)`.

        Raises:
            TypeError: `x_t` is not floating point, or a time no number.
            ValueError: times that do not fall from t to s within [0, 1].
        """
        check_floating(x_t, "x_t")
        check_numbers(t=t, s=s)
        if not 0 <= s < t <= 1:
            raise ValueError(f"a step goes from t to an earlier time s, 0 ≤ s < t ≤ 1, got t={t}, s={s}")
        times, edit = falling_times([t, s]), then_clip(denoised_callback, clip)
        check_along(self.corruption, times, self.prediction)
        steps = self._run(times, x_t.shape, x_t, conditioning, generator, edit, x_t.device, x_t.dtype)
        return self._in_pixels(next(steps))

    @torch.no_grad()
    def initial_noise(self, noise: Tensor) -> Tensor:
        """Return white noise as the images from which sampling begins, to pass as `x_1`.

        Its coefficients get the variance that they have at the first time, and its mean that of the data there.

        Args:
            noise: White noise in pixels, (B, C, *spatial).

        Raises:
            TypeError: `noise` is not a floating-point tensor.
            ValueError: much of the image is left at the first time, or a shape that does not fit.
        """
        check_floating(noise, "noise")
        process = self._process
        process.to(noise.device)
        process.check_shape(noise.shape)
        first = process.at(float(self.times[0]), noise.shape, noise.device)
        return process.synthesize(process.prior(first).to(noise.dtype) * process.coefficients(noise), first.signal)

    def _run(
        self,
        times: Tensor,
        shape: Sequence[int],
        x_1: Tensor | None,
        conditioning: Mapping[str, Any] | None,
        generator: Generators | None,
        edit: DenoisedCallback | None,
        device: torch.device | str | None,
        dtype: torch.dtype,
    ) -> Iterator[SampleStep]:
        """Check the arguments and return an iterator over every step, with its tensors in coefficients."""
        check_keywords("conditioning", conditioning, "{'class_labels': labels}")
        device = usable_device(device_of(self.model) if device is None else device)
        self._process.to(device)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise TypeError(f"dtype must be floating point, got {dtype!r}; use torch.float32")
        shape = check_sizes("shape", shape, "(B, C, *spatial)")
        self._process.check_shape(shape)
        if min(shape, default=0) < 0:
            raise ValueError(f"shape must be (B, C, *spatial) without negative sizes, got {shape}")
        like = torch.empty((), dtype=torch.promote_types(dtype, torch.float32), device=device).expand(shape)
        reverse = Reverse(
            self._process,
            self._denoiser,
            self.solver,
            like,
            conditioning=conditioning,
            generator=generator,
            edit=edit,
        )
        return reverse.run(x_1, times)

    @torch.no_grad()
    def _in_pixels(self, step: SampleStep) -> SampleStep:
        x_t = own(self._process.synthesize(step.x_t, self._signal(step.t, step.x_t)), step.x_t)
        return SampleStep(step.t, x_t, own(self._process.synthesize(step.x_0_hat), step.x_0_hat))

    def _signal(self, t: float, u_t: Tensor) -> Tensor | None:
        """Return a_t for coefficients, where it is needed to go back to images; None for a clean image."""
        if self._process.shift is None or t == 0:
            return None
        return self._process.at(t, u_t.shape, u_t.device).signal

    def _times_from(self, start: float | None) -> Tensor:
        """Return the times from `start` on, after checking the scales along them."""
        times = times_from(start, self.times)
        if start is not None:
            check_along(self.corruption, times, self.prediction)
        return times


# What Python's errors of wrong arguments call them.
SamplerBase.__init__.__qualname__ = "Sampler"
for _method in (SamplerBase.sample, SamplerBase.trajectory, SamplerBase.step, SamplerBase.initial_noise):
    _method.__qualname__ = f"Sampler.{_method.__name__}"
