"""Drawing images: the reverse process of any corruption, with any model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from .checks import check_choice, check_count, check_floating, check_has_values, check_share, check_sizes
from .corruption import Corruption, corrupt, device_of
from .denoiser import Denoiser, make_guidance
from .edits import Clip, DenoisedCallback, then_clip
from .encoding import Encoded, encode, log_density, spherical
from .exact import working_dtype
from .forms import Exponential, Scales
from .grids import GridName, TimeGrid, make_grid
from .multistep import Multistep
from .prediction import Prediction
from .process import Generators, Process, clean, white
from .progress import Progress
from .spectrum import PowerSpectrum
from .transition import Solver as OneStep
from .transition import Variance, check_solver, check_times, forward_weights, step_weights

Solver: TypeAlias = Literal["ancestral", "ddim", "multistep"]
_VANISHED = 1e-6
_NEAR_ONE = 0.999  # where a grid starts if the model predicts noise and signal(1) has vanished


class SampleStep(NamedTuple):
    """One step of a trajectory: `x_t` at time `t`, and the clean image `x_0_hat` that led to it."""

    t: float
    x_t: Tensor
    x_0_hat: Tensor


class Sampler:
    """Draws images by running a corruption backwards with a trained model.

    The state is kept in coefficients, in float32 or float64 whatever the model's type. Each step calls the model
    once at time t and moves to s < t with per-coefficient numbers that are computed in float64 when they are
    needed, so memory does not grow with the number of steps; the loop never waits for the device. The last
    step, to t = 0, returns the clean image.

    Args:
        model: `model(x_t, t, **conditioning)` returns a tensor like `x_t`; `t` is float (B,) in [0, 1]. A
            module is run in eval mode without gradients, and left in the mode it was in. It gets `x_t` in the
            type of its weights, and `t` in float32 or better. May be compiled.
        corruption: Any object that satisfies `Corruption`.
        prediction: What the model was trained to predict: `"noise"`, `"data"`, `"velocity"` or
            `"whitened-velocity"`, which needs the data's power.
        solver: `"multistep"`, the default (docs/results.md): second order, in rotation form where the data's power is
            known, else in exponential form (`shortest_path.multistep`); `"ancestral"` (stochastic, the paper's); or
            `"ddim"`. A model that predicts noise may do better with 50 or more ancestral steps: after 300 steps of
            training along the shortest path, Fréchet distance 92.6 in 50 such calls, 125 in 20 multistep calls.
        steps: Number of steps, each with one call of the model.
        grid: The name of a grid, a `TimeGrid`, or any function of its form. None takes, for the multistep solver,
            `"spectrum"` where the data's power is known and `"cosine"` where not, and `"uniform"` for the others.
        times: Explicit falling times (steps + 1,) instead of `steps` and `grid`. A last time above 0 returns
            the image at that time.
        variance: Of the ancestral solver: `"large"` (the paper's) or `"small"`.
        eta: Share of noise of the other two. 0 is deterministic; 1 is the posterior for DDIM. The multistep solver
            steps beyond s by η² (t − s), and adds the noise that the corruption adds from there to s: with η = 1,
            the reverse stochastic equation in the limit of small steps. Any η keeps the marginals of Gaussian data.
        order: Of the multistep solver: 2, or 1, which takes every step with the model's last word alone.
        corrector: Of the deterministic multistep solver: take each step again once the next call of the model is
            made. False with `order=2` and no spectrum is DPM-Solver++(2M).
        spectrum: The data's power, for the multistep solver, the noise to start from and the whitened velocity;
            None takes it from the corruption if that knows it. An isotropic corruption is then sampled in the
            spectrum's basis, which is as good as pixels for it.
        guidance_scale: Of classifier-free guidance, w in null + w (conditioned − null): 1 is none, 0 ignores the
            conditioning. Costs a second call of the model per step.
        guidance_interval: (low, high): the times at which guidance acts.
        null_conditioning: What stands for no conditioning, as `DiffusionTrainer` was given it.

    A model that predicts noise says nothing of the image at a time where no signal is left (0/0), so for
    `prediction="noise"` a grid starts at t = 0.999 instead of 1 if signal(1) < 1e-6. `times` is not changed: a
    first time with signal 0 is then an error. `sampler.times` shows what is used.

    Raises:
        TypeError: an argument of another kind.
        ValueError: unknown option, wrong times, a corruption whose signal-to-noise ratio rises with t, or a
            spectrum in a basis in which the corruption is not diagonal.

    Source: Ho et al. 2020, arXiv:2006.11239; Song et al. 2021, arXiv:2010.02502; Das et al. 2023,
        arXiv:2306.00501, algorithm 2; per coefficient, docs/theory.md.

    Example:
        >>> import torch, shortest_path as sp
        >>> def model(x_t, t):  # an untrained stand-in
        ...     return torch.zeros_like(x_t)
        >>> sampler = sp.Sampler(model, sp.GaussianCorruption("flow"), solver="multistep", steps=4)
        >>> tuple(sampler.sample((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).shape)
        (2, 3, 8, 8)
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        corruption: Corruption,
        *,
        prediction: Prediction = "noise",
        solver: Solver = "multistep",
        steps: int = 50,
        grid: GridName | TimeGrid | None = None,
        times: Tensor | Sequence[float] | None = None,
        variance: Variance = "large",
        eta: float = 0.0,
        order: Literal[1, 2] = 2,
        corrector: bool = True,
        spectrum: PowerSpectrum | None = None,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        null_conditioning: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(corruption, Corruption):
            raise TypeError(f"corruption must have basis, signal and noise, got {type(corruption).__name__}")
        if not callable(model):
            raise TypeError(f"model must be callable as model(x_t, t), got {type(model).__name__}")
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order}")
        self.model = model
        self.corruption = corruption
        self.prediction: Prediction = check_choice("prediction", prediction, get_args(Prediction))
        check_solver(solver, variance, eta, get_args(Solver))
        self.solver: Solver = solver
        self.variance: Variance = variance
        self.eta = eta
        self.order = order
        self.corrector = corrector
        self._process = Process(corruption, spectrum)
        guidance = make_guidance(guidance_scale, guidance_interval, null_conditioning)
        self._denoiser = Denoiser(model, self._process, self.prediction, guidance)
        self.times = _as_times(self._grid(steps, grid) if times is None else times)
        """The falling times, (steps + 1,), float64, on the CPU; the model is called at all but the last."""
        self._process.check(self.times, self.prediction)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.times) - 1

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
        """Draw images.

        Args:
            shape: (B, C, *spatial).
            x_1: Images at the first time to start from; None draws them as N(0, s²), or N(0, a²S + s²) if
                the corruption knows the data's power. Needed where much of the image is left at the first
                time: heat dissipation, or a `start` in the middle.
            start: Time to start from, instead of the first of `times`; those below it follow.
            conditioning: Keyword arguments for the model, passed through at every step.
            generator: Source of all random numbers, drawn on its own device: the same state gives the same images.
                One per image makes an image independent of those beside it.
            clip: (low, high) to clamp the predicted clean image to, in pixels, at every step; (-1, 1) for images.
            denoised_callback: Called as `denoised_callback(x_0_hat, t)` with the predicted clean images, in pixels,
                at every step; what it returns takes their place, before `clip`. The multistep solver also calls it
                with the final images and t = 0. See `shortest_path.edits`.
            callback: Called with a `SampleStep` after every step.
            device: Where to sample; the model's device by default.
            dtype: Of the state.
            progress: True or False; None shows progress on a terminal if the work is long.

        Returns:
            Images, of shape `shape`.

        Raises:
            TypeError: `x_1` is not floating point, or another argument of another kind.
            ValueError: a shape that does not fit, a model whose output has another shape, no `x_1` where
                the corruption needs one, or a device that cannot be used.
        """
        times, edit = self._times_from(start), then_clip(denoised_callback, clip)
        with Progress("sampling", total=len(times) - 1, show=progress) as bar:
            for step in self._run(times, shape, x_1, conditioning, generator, edit, device, dtype):
                if callback is not None:
                    callback(self._in_pixels(step))
                bar.advance()
        return self._process.basis.synthesize(step.x_t)

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
        """Yield (t, x_t, x_0_hat) after every step; arguments as for `sample`. The last x_t is the sample."""
        times, edit = self._times_from(start), then_clip(denoised_callback, clip)
        for step in self._run(times, shape, x_1, conditioning, generator, edit, device, dtype):
            yield self._in_pixels(step)

    def batches(
        self,
        images: int | Sequence[int],
        shape: Sequence[int],
        *,
        batch_size: int = 64,
        seed: int = 0,
        x_1: Tensor | None = None,
        conditioning: Mapping[str, Any] | None = None,
        device: torch.device | str | None = None,
        progress: bool | None = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """Draw any number of images, a batch at a time, each from random numbers of its own.

        Image i is a function of (seed, i), whatever the batch size and whichever others are drawn: to rounding,
        as a network may add in another order for another batch size. So several processes can share the
        work, and an interrupted one can go on.

        Args:
            images: How many, or their indices, say `range(1000, 2000)`.
            shape: Of one image, (C, *spatial).
            batch_size: Images in memory at once.
            seed: Of all random numbers.
            x_1: As for `sample`, one for every image.
            conditioning: As for `sample`; tensors have one row for every image.
            device: As for `sample`; the random numbers are drawn there.
            progress: True or False; None shows progress on a terminal if the work is long.
            **options: Further arguments of `sample`.

        Yields:
            Images, (B, C, *spatial), B = `batch_size` or fewer in the last.

        Raises:
            TypeError: a number that is not whole.
            ValueError: a batch size below 1, a negative number, or another number of rows than of images.
        """
        check_count("batch_size", batch_size)
        check_count("seed", seed, least=0)
        indices = images if isinstance(images, Sequence) else range(check_count("images", images, least=0))
        device = _usable(device_of(self.model) if device is None else device)
        for name, rows in {"x_1": x_1, **(conditioning or {})}.items():
            if isinstance(rows, Tensor) and (rows.ndim == 0 or len(rows) != len(indices)):
                raise ValueError(
                    f"{name} must have one row for each of the {len(indices)} images, got shape {tuple(rows.shape)}"
                )
        with Progress("sampling", total=len(indices), unit="images", show=progress) as bar:
            for first in range(0, len(indices), batch_size):
                rows = slice(first, first + batch_size)
                chosen = indices[rows]
                yield self.sample(
                    (len(chosen), *shape),
                    x_1=None if x_1 is None else x_1[rows],
                    conditioning={
                        name: value[rows] if isinstance(value, Tensor) else value
                        for name, value in (conditioning or {}).items()
                    },
                    generator=[torch.Generator(device).manual_seed(_mixed(seed, index)) for index in chosen],
                    device=device,
                    progress=False,
                    **options,
                )
                bar.advance(len(chosen))

    def image_to_image(
        self, x_0: Tensor, *, start: float, generator: Generators | None = None, **options: Any
    ) -> Tensor:
        """Corrupt images to a time in the middle, and draw them anew from there.

        Args:
            x_0: Images, (B, C, *spatial).
            start: The time, in (0, 1]: little of them changes near 0, and little is left of them near 1.
            generator: Of the noise and of the solver.
            **options: Further arguments of `sample`.

        Returns:
            Images, of the shape and type of `x_0`.

        Raises:
            TypeError: `x_0` is not floating point.
            ValueError: `start` outside (0, 1].

        Source: Meng et al. 2022, arXiv:2108.01073.
        """
        check_floating(x_0, "x_0")
        check_has_values(x_0, "x_0")
        self._times_from(start)
        device = options.pop("device", None)
        device = _usable(device_of(self.model) if device is None else device)
        self._process.to(device)
        x_0 = x_0.to(device)
        noise = white(x_0.shape, device, x_0.dtype, generator)
        x_t = corrupt(self.corruption, x_0, start, noise)
        options.setdefault("dtype", x_0.dtype)
        images = self.sample(x_0.shape, x_1=x_t, start=start, generator=generator, device=device, **options)
        return images.to(options["dtype"])

    def invert(
        self, x_0: Tensor, *, conditioning: Mapping[str, Any] | None = None, progress: bool | None = None
    ) -> Tensor:
        """Encode images: follow the probability-flow ODE from the last of `times` to the first.

        `sample(x_0.shape, x_1=sampler.invert(x_0))` gives the images back, up to the error of both solvers. Of second
        order whatever the solver, with one call of the model a step (`shortest_path.encoding`).

        Args:
            x_0: Images, (B, C, *spatial), floating point, range [-1, 1].
            conditioning: Keyword arguments for the model.
            progress: True or False; None shows progress on a terminal if the work is long.

        Returns:
            The images at `times[0]`: noise, with the variance that sampling starts from.

        Raises:
            TypeError: `x_0` is not floating point.
            ValueError: a stochastic solver.

        Source: Song et al. 2021, arXiv:2010.02502, section 4.3.
        """
        encoded = self._encode(x_0, conditioning, progress)
        return self._process.basis.synthesize(encoded.radius_1 * encoded.y_1)

    def interpolate(
        self,
        x_a: Tensor,
        x_b: Tensor,
        shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
        *,
        conditioning: Mapping[str, Any] | None = None,
        progress: bool | None = None,
        **options: Any,
    ) -> Tensor:
        """Draw images between two, along the arc between their encodings.

        Args:
            x_a: Images, (B, C, *spatial).
            x_b: Images, same shape.
            shares: How far from the first to the second, each in [0, 1].
            conditioning: Keyword arguments for the model.
            progress: True or False; None shows progress on a terminal if the work is long.
            **options: Further arguments of `sample`.

        Returns:
            Images, (len(shares), B, C, *spatial).

        Raises:
            TypeError: images that are not floating point.
            ValueError: a stochastic solver, different shapes, or shares that are none.

        Source: Song et al. 2021, arXiv:2010.02502, section 5.3.
        """
        check_floating(x_a, "x_a")
        check_floating(x_b, "x_b")
        if not len(shares):
            raise ValueError("shares must hold at least one number in [0, 1], got none")
        for share in shares:
            check_share("every share", share)
        if x_a.shape != x_b.shape:
            raise ValueError(f"both images must have one shape, got {tuple(x_a.shape)} and {tuple(x_b.shape)}")
        a, b = (self._encode(x, conditioning, progress) for x in (x_a, x_b))
        options = {"dtype": a.y_1.dtype, "device": a.y_1.device, **options}
        options.update(conditioning=conditioning, progress=progress)
        between = [a.radius_1 * spherical(a.y_1, b.y_1, share) for share in shares]
        return torch.stack([self.sample(u.shape, x_1=self._process.basis.synthesize(u), **options) for u in between])

    def log_likelihood(
        self,
        x_0: Tensor,
        *,
        conditioning: Mapping[str, Any] | None = None,
        probes: int = 1,
        generator: torch.Generator | None = None,
        progress: bool | None = None,
    ) -> Tensor:
        """Return the log-density of images under the model's probability-flow ODE.

        Exact, at any number of steps and without noise, for a Gaussian model whose power is known; otherwise it
        has the error of a second-order solver, and the variance of Hutchinson's estimate of the trace.

        Args:
            x_0: Images, (B, C, *spatial), floating point, range [-1, 1]. Add noise of one level to 8-bit images.
            conditioning: Keyword arguments for the model.
            probes: Random sign vectors to average over; each costs a backward pass through the model a step.
            generator: Of the signs.
            progress: True or False; None shows progress on a terminal if the work is long.

        Returns:
            log p(x_0) in nats, (B,); `bits_per_dim` converts it.

        Raises:
            TypeError: `x_0` is not floating point.
            ValueError: a stochastic solver, no probes, or a corruption that does not end in noise.

        Source: Song et al. 2021, arXiv:2011.13456, appendix D.2.
        """
        check_count("probes", probes)
        check_floating(x_0, "x_0")
        check_has_values(x_0, "x_0")
        device, dtype = device_of(self.model), working_dtype(x_0)
        first = self._process.scales(self.times[0].to(device), x_0.shape)
        self._process.prior(first, float(self.times[0]))  # raises if there is none
        signs = [white(x_0.shape, device, dtype, generator).sign() for _ in range(probes)]
        return log_density(self._encode(x_0, conditioning, progress, signs))

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
        """Yield every step with its tensors in coefficients."""
        device = _usable(device_of(self.model) if device is None else device)
        self._process.to(device)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise TypeError(f"dtype must be floating point, got {dtype!r}; say torch.float32")
        shape = check_sizes("shape", shape, "(B, C, *spatial)")
        if min(shape, default=0) < 0:
            raise ValueError(f"shape must be (B, C, *spatial) without negative sizes, got {shape}")
        dtype = torch.promote_types(dtype, torch.float32)
        beyond = (times[1:] - self.eta**2 * (times[:-1] - times[1:])).clamp(min=0)
        falling, skipped = times.tolist(), beyond.tolist()
        times, beyond = times.to(device), beyond.to(device)  # once: the loop must not wait for the device
        basis, multistep = self._process.basis, self._multistep(device)
        at_t = self._process.scales(times[0], shape)
        u_t = self._start(x_1, falling[0], at_t, torch.empty(tuple(shape), dtype=dtype, device=device), generator)
        for k, (t, s) in enumerate(itertools.pairwise(falling)):
            with torch.no_grad():
                u_0 = self._denoiser(u_t, t, at_t, conditioning or {}, edit)
                at_s = clean(at_t) if s == 0 else self._process.scales(times[k + 1], shape)
                sigma = None
                if multistep is None:
                    u_t, sigma = (u_0, None) if s == 0 else self._one_step(u_t, u_0, at_t, at_s)
                elif s == 0 or self.eta == 0:
                    u_t = multistep.step(u_t, u_0, at_t, at_s)
                    if s == 0 and edit is not None:  # the image is not the last prediction, but extrapolated from it
                        u_t = basis.analyze(edit(basis.synthesize(u_t), 0.0).to(dtype))
                else:
                    at_r = clean(at_t) if skipped[k] == 0 else self._process.scales(beyond[k], shape)
                    ratio, sigma = forward_weights(at_r, at_s)
                    u_t = ratio.to(dtype) * multistep.step(u_t, u_0, at_t, at_r)
                if sigma is not None:
                    u_t = u_t.addcmul_(sigma.to(dtype), white(u_t.shape, device, dtype, generator))
            yield SampleStep(s, u_t, u_0)
            at_t = at_s

    def _one_step(self, u_t: Tensor, u_0: Tensor, at_t: Scales, at_s: Scales) -> tuple[Tensor, Tensor | None]:
        """Return the mean of the coefficients at the next time, and the deviation of the noise to add to it."""
        solver: OneStep = "ddim" if self.solver == "ddim" else "ancestral"
        weights = step_weights(at_t, at_s, solver=solver, variance=self.variance, eta=self.eta)
        u_s = (weights.w_t.to(u_t.dtype) * u_t).addcmul_(weights.w_0.to(u_t.dtype), u_0)
        return u_s, None if solver == "ddim" and self.eta == 0 else weights.sigma

    def _multistep(self, device: torch.device) -> Multistep | None:
        """Return a fresh multistep solver, or None for the solvers that remember nothing."""
        if self.solver != "multistep":
            return None
        form = Exponential() if self._process.power is None else self._process.rotation(device)
        return Multistep(form, order=self.order, corrector=self.corrector and self.eta == 0)

    @torch.no_grad()
    def _start(self, x_1: Tensor | None, t: float, at_t: Scales, like: Tensor, generator: Generators | None) -> Tensor:
        """Return the coefficients to start from, of the shape, type and device of `like`."""
        if x_1 is None:
            check_has_values(like, "the images to draw")
            deviation = self._process.prior(at_t, t)
            return deviation.to(like.dtype) * white(like.shape, like.device, like.dtype, generator)
        check_floating(x_1, "x_1")
        if not like.is_meta:  # where a run without values is a rehearsal
            check_has_values(x_1, "x_1")
        if x_1.shape != like.shape:
            raise ValueError(f"x_1 must have the shape asked for, {tuple(like.shape)}, got {tuple(x_1.shape)}")
        return self._process.basis.analyze(x_1.to(like))

    def _encode(
        self,
        x_0: Tensor,
        conditioning: Mapping[str, Any] | None,
        progress: bool | None = None,
        probes: Sequence[Tensor] = (),
    ) -> Encoded:
        """Follow the ODE from images to noise, in whitened coefficients."""
        check_floating(x_0, "x_0")
        check_has_values(x_0, "x_0")
        if self.solver == "ancestral" or self.eta > 0:
            raise ValueError(
                f"encoding follows a deterministic process, which solver={self.solver!r} with eta={self.eta:g} is not; "
                "use solver='multistep'"
            )
        device = device_of(self.model)
        self._process.to(device)
        times = self.times.flip(0)
        rising, on_device = times.tolist(), times.to(device)
        from_data = rising[0] == 0

        def scales_at(k: int) -> Scales:
            pair = self._process.scales(on_device[k], x_0.shape)
            return clean(pair) if from_data and k == 0 else pair

        def denoise(u_t: Tensor, k: int) -> Tensor:
            bar.advance()
            return self._denoiser(u_t, rising[k], scales_at(k), conditioning or {})

        calls = self.steps + (not from_data)
        with torch.no_grad(), Progress("encoding", total=calls, show=progress) as bar:
            u_0 = self._process.basis.analyze(x_0.to(device, working_dtype(x_0)))
            form = self._process.rotation(device)
            return encode(u_0, self.steps, scales_at, denoise, form, from_data=from_data, probes=probes)

    def _in_pixels(self, step: SampleStep) -> SampleStep:
        synthesize = self._process.basis.synthesize
        return SampleStep(step.t, synthesize(step.x_t), synthesize(step.x_0_hat))

    def _times_from(self, start: float | None) -> Tensor:
        """Return the times from `start` on."""
        if start is None:
            return self.times
        if not 0 < start <= 1 or start <= float(self.times[-1]):
            raise ValueError(f"start must lie in (0, 1] and above the last time {float(self.times[-1]):g}, got {start}")
        times = torch.cat([torch.tensor([start], dtype=torch.float64), self.times[self.times < start]])
        self._process.check(times, self.prediction)
        return times

    def _grid(self, steps: int, grid: GridName | TimeGrid | None) -> Tensor:
        if grid is None:  # benchmarks/README.md, "Few steps"
            grid = "uniform" if self.solver != "multistep" else "cosine" if self._process.power is None else "spectrum"
        signal = self.corruption.signal(torch.ones(1, dtype=torch.float64, device=device_of(self.corruption)))
        singular = self.prediction == "noise" and bool((signal < _VANISHED).any())
        start = _NEAR_ONE if singular else 1.0
        if isinstance(grid, str):
            return make_grid(grid, steps, corruption=self.corruption, power=self._process.power, start=start)
        if not callable(grid):
            raise TypeError(f"grid must be a name or a function of (steps, start), got {type(grid).__name__}")
        return _as_times(grid(steps, start=start))


def _as_times(times: object) -> Tensor:
    """Return falling times as a tensor, float64, on the CPU; see `check_times`."""
    if not isinstance(times, Tensor):
        try:
            times = torch.as_tensor(times, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"times must be a tensor or a sequence of falling numbers, got {times!r}") from error
    check_times(times)
    return times.detach().to("cpu", torch.float64)


def _usable(device: torch.device | str) -> torch.device:
    """Return a device that tensors with values can be made on."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used; say 'cpu', or 'cuda' where there is one") from error
    return torch.device(device)


def _mixed(seed: int, index: int) -> int:
    """Return one seed for both numbers; near numbers give unrelated ones."""
    check_count("every index", index, least=0)
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])
