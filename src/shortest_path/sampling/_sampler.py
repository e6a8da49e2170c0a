"""Sampling images: the reverse process of any corruption, with any model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import check_count, check_floating, check_fraction, check_has_values, check_keywords, check_sizes
from .._conditioning import ROWS, check_rows
from .._devices import device_of, usable_device
from .._exact import working_dtype
from .._progress import Progress
from ..corruptions import as_times
from ..solvers import is_deterministic
from ._encoding import Encoded, encode, log_density, spherical
from ._noise import Generators, indices_of, mixed_seed, white
from ._parts import Numbers
from ._saved import SavedSampler
from ._times import check_has_own_start
from .edits import then_clip


class Sampler(SavedSampler):
    """Samples images by running a corruption backwards with a trained model.

    The state is kept in coefficients, in float32 or float64 whatever the model's type. Each step calls the model
    once at time t and moves to s < t with per-coefficient numbers that are computed in float64 when they are
    needed, so memory does not grow with the number of steps; the loop never waits for the device. The last
    step, to t = 0, returns the clean image.

    Args:
        model: `model(x_t, t, **conditioning)` returns a tensor like `x_t`; `t` is float (B,) in [0, 1]. A module is run
            in eval mode without gradients, and left in the mode it was in. It gets `x_t` in the type of its weights,
            and `t` in float32 or better. May be compiled.
        corruption: Any object that implements `Corruption`. Times, and the data's power that it knows, are taken now:
            after a state is loaded into it, make another sampler.
        prediction: What the model was trained to predict: `"noise"`, `"data"`, `"velocity"` or
            `"whitened-velocity"`, which requires the data's power.
        solver: A value of `shortest_path.solvers` or of your own, or a name: `"multistep"` (default), `"ddim"` or
            `"ancestral"`. Compared in docs/results.md.
        steps: Number of steps, each with one model call; None (default) is 50.
        grid: The name of a grid, a value of `shortest_path.grids`, or any function of that form. None (default) is the
            solver's own: for multistep `"spectrum"` where the data's power is known and `"cosine"` where not, else
            `"uniform"`.
        start: First time of the grid, in (0, 1]; None (default) is 1, or earlier for a model that predicts noise, see
            below.
        times: Explicit falling times (steps + 1,) instead of `steps`, `grid` and `start`. A last time above 0 returns
            the image at that time.
        spectrum: The data's power, for the multistep solver, the noise to start from and the whitened velocity; None
            takes the corruption's own, if it has one. An isotropic corruption is then sampled in the spectrum's basis,
            which is as good as pixels for it.
        guidance_scale: Scale w of classifier-free guidance, null + w (conditioned − null): 1 is no guidance, 0 ignores
            the conditioning. Costs a second model call per step. None (default) is no guidance.
        guidance_interval: Times (low, high) between which guidance acts; all by default.
        null_conditioning: Conditioning that means "no conditioning", as given to `DiffusionTrainer`.

    Where does a grid start? At 1, but for `prediction="noise"`: there the model's error is divided by the signal, so
    where the data's power is known a grid starts at the time at which a tenth of the noise's power is left of the
    strongest coefficient, and else at t = 0.999 if signal(1) < 1e-6. `times` is not changed: a first time with signal
    0 is then an error. `sampler.times` shows what is used.

    Raises:
        TypeError: an argument of another type.
        ValueError: an unknown option or one without effect, wrong times, a corruption whose signal-to-noise ratio rises
            with t, or a spectrum in a basis in which the corruption is not diagonal.

    Source: Ho et al. 2020, arXiv:2006.11239; Song et al. 2021, arXiv:2010.02502; Das et al. 2023,
        arXiv:2306.00501, algorithm 2; per coefficient, docs/theory.md.

    Example:
        >>> import torch, shortest_path as sp
        >>> def model(x_t, t):  # an untrained stand-in
        ...     return torch.zeros_like(x_t)
        >>> sampler = sp.Sampler(model, sp.GaussianCorruption("flow"), solver="ddim", steps=4)
        >>> sampler
        Sampler(model, GaussianCorruption(schedule='flow', basis=PixelBasis(dims=2)), prediction='noise',
        solver=DDIM(eta=0.0), 4 steps from 0.999 to 0)
        >>> tuple(sampler.sample((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).shape)
        (2, 3, 8, 8)
    """

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
        """Return an iterator over any number of images, a batch at a time, each image from its own random numbers.

        Image i depends on (seed, i) alone, not on the batch size or on the other images: to rounding, as a network
        may add in another order for another batch size. So several processes can divide the
        work, and an interrupted one can continue. Arguments are checked at the call.

        Args:
            images: Number of images, or their indices, e.g. `range(1000, 2000)`.
            shape: Shape of one image, (C, *spatial).
            batch_size: Number of images in memory at once.
            seed: Random seed.
            x_1: As for `sample`, one row for every image.
            conditioning: As for `sample`; tensors, arrays and lists have one row for every image, all else holds for
                all images.
            device: As for `sample`; the random numbers are drawn there.
            progress: True or False; None shows progress on a terminal if the work is long.
            **options: Further arguments of `sample`.

        Yields:
            Images, (B, C, *spatial), B = `batch_size` or fewer in the last.

        Raises:
            TypeError: a number that is not whole, or an argument that `sample` does not have.
            ValueError: a batch size below 1, a negative number, or another number of rows than of images.
        """
        check_count("batch_size", batch_size)
        check_count("seed", seed, least=0)
        shape = check_sizes("shape", shape)
        indices = indices_of(images)
        device = usable_device(device_of(self.model) if device is None else device)
        check_keywords("conditioning", conditioning, "{'class_labels': labels}")
        for name, rows in {"x_1": x_1, **(conditioning or {})}.items():
            check_rows(name, rows, len(indices))
        if "generator" in options:
            raise TypeError("batches makes a generator for every image; pass seed= instead of generator=")
        own = {"generator": None, "x_1": None, "conditioning": None, "device": None, "progress": None}
        inspect.signature(self.sample).bind(shape, **own, **options)
        self._times_from(options.get("start"))
        then_clip(options.get("denoised_callback"), options.get("clip"))

        def iterate() -> Iterator[Tensor]:
            with Progress("sampling", total=len(indices), unit="images", show=progress) as bar:
                for first in range(0, len(indices), batch_size):
                    rows = slice(first, first + batch_size)
                    chosen = indices[rows]
                    yield self.sample(
                        (len(chosen), *shape),
                        x_1=None if x_1 is None else x_1[rows],
                        conditioning={
                            name: value[rows] if isinstance(value, ROWS) else value
                            for name, value in (conditioning or {}).items()
                        },
                        generator=[torch.Generator(device).manual_seed(mixed_seed(seed, index)) for index in chosen],
                        device=device,
                        progress=False,
                        **options,
                    )
                    bar.advance(len(chosen))

        return iterate()

    def image_to_image(
        self, x_0: Tensor, *, start: float, generator: Generators | None = None, **options: Any
    ) -> Tensor:
        """Corrupt images to a time in the middle, and sample from there.

        Args:
            x_0: Images, (B, C, *spatial).
            start: The time, in (0, 1]: little of them changes near 0, and little is left of them near 1.
            generator: Source of the noise, and of the solver's random numbers.
            **options: Further arguments of `sample`.

        Returns:
            Images, of the shape and type of `x_0`.

        Raises:
            TypeError: `x_0` is not floating point, or an argument that `sample` does not have, or `x_1` or `shape`.
            ValueError: `start` outside (0, 1].

        Source: Meng et al. 2022, arXiv:2108.01073.
        """
        check_floating(x_0, "x_0")
        check_has_values(x_0, "x_0")
        check_has_own_start("image_to_image", options)
        self._times_from(start)
        device = options.pop("device", None)
        device = usable_device(device_of(self.model) if device is None else device)
        self._process.to(device)
        x_0 = x_0.to(device)
        noise = white(x_0.shape, device, x_0.dtype, generator)
        x_t = self._process.mix(x_0, noise, self._process.scales(as_times(start, x_0), x_0))[0]
        options.setdefault("dtype", x_0.dtype)
        images = self.sample(x_0.shape, x_1=x_t, start=start, generator=generator, device=device, **options)
        return images.to(options["dtype"])

    def invert(
        self, x_0: Tensor, *, conditioning: Mapping[str, Any] | None = None, progress: bool | None = None
    ) -> Tensor:
        """Encode images: follow the probability-flow ODE from the last of `times` to the first.

        `sample(x_0.shape, x_1=sampler.invert(x_0))` gives the images back, up to the error of both solvers. Of second
        order with any solver, with one model call a step. Warns if a model that predicts `"data"` changes clean images.

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
        return self._noisy(encoded.radius_1 * encoded.y_1)

    def interpolate(
        self,
        x_a: Tensor,
        x_b: Tensor,
        fractions: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
        *,
        conditioning: Mapping[str, Any] | None = None,
        progress: bool | None = None,
        **options: Any,
    ) -> Tensor:
        """Sample images between two, along the arc between their encodings.

        Args:
            x_a: Images, (B, C, *spatial).
            x_b: Images, same shape.
            fractions: Positions between the first and the second image, each in [0, 1].
            conditioning: Keyword arguments for the model.
            progress: True or False; None shows progress on a terminal if the work is long.
            **options: Further arguments of `sample`.

        Returns:
            Images, (len(fractions), B, C, *spatial).

        Raises:
            TypeError: images that are not floating point, or `x_1`, `shape` or `start`, which it finds itself.
            ValueError: a stochastic solver, different shapes, or no fractions.

        Source: Song et al. 2021, arXiv:2010.02502, section 5.3.
        """
        check_has_own_start("interpolate", options)
        check_floating(x_a, "x_a")
        check_floating(x_b, "x_b")
        if not hasattr(fractions, "__len__"):
            raise TypeError(f"fractions must be a sequence of numbers in [0, 1], got {fractions!r}; pass a list")
        if not len(fractions):
            raise ValueError("fractions must hold at least one number in [0, 1], got an empty sequence")
        for fraction in fractions:
            check_fraction("every fraction", fraction)
        if x_a.shape != x_b.shape:
            raise ValueError(f"both images must have one shape, got {tuple(x_a.shape)} and {tuple(x_b.shape)}")
        a, b = (self._encode(x, conditioning, progress) for x in (x_a, x_b))
        options = {"dtype": a.y_1.dtype, "device": a.y_1.device, **options}
        options.update(conditioning=conditioning, progress=progress)
        between = [a.radius_1 * spherical(a.y_1, b.y_1, fraction) for fraction in fractions]
        return torch.stack([self.sample(u.shape, x_1=self._noisy(u), **options) for u in between])

    @torch.no_grad()
    def _noisy(self, w: Tensor) -> Tensor:
        """Return the images of coefficients at the first time."""
        return self._process.synthesize(w, self._process.at(float(self.times[0]), w.shape, w.device).signal)

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

        Exact, at any number of steps and without noise, for a Gaussian model whose power is known; otherwise it has the
        error of a second-order solver, and the variance of Hutchinson's estimate of the trace. Warns as `invert` does.

        Args:
            x_0: Images, (B, C, *spatial), floating point, range [-1, 1]. Add noise of one level to 8-bit images.
            conditioning: Keyword arguments for the model.
            probes: Random sign vectors to average over; each costs a backward pass through the model a step.
            generator: Source of the signs.
            progress: True or False; None shows progress on a terminal if the work is long.

        Returns:
            log p(x_0) in nats, (B,); `bits_per_dim` converts it.

        Raises:
            TypeError: `x_0` is not floating point.
            ValueError: a stochastic solver, no probes, a corruption that does not end in noise, or a model whose output
                comes without a derivative in x_t.

        Source: Song et al. 2021, arXiv:2011.13456, appendix D.2.
        """
        check_count("probes", probes)
        check_floating(x_0, "x_0")
        check_has_values(x_0, "x_0")
        with torch.inference_mode(False), torch.no_grad():  # the trace enables gradients where it requires them
            return self._log_likelihood(x_0.clone(), conditioning, probes, generator, progress)

    def _log_likelihood(
        self,
        x_0: Tensor,
        conditioning: Mapping[str, Any] | None,
        probes: int,
        generator: torch.Generator | None,
        progress: bool | None,
    ) -> Tensor:
        device, dtype = device_of(self.model), working_dtype(x_0)
        first = float(self.times[0])
        self._process.prior(self._process.at(first, x_0.shape, device))  # raises if there is none
        signs = [white(x_0.shape, device, dtype, generator).sign() for _ in range(probes)]
        encoded = self._encode(x_0, conditioning, progress, signs)
        return log_density(encoded, self._process.prior(self._process.at(first, x_0.shape, device)))

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
        if not is_deterministic(self.solver):
            raise ValueError(f"encoding requires a deterministic solver, got {self.solver!r}; use solver='multistep'")
        device = device_of(self.model)
        self._process.to(device)
        rising = self.times.flip(0).tolist()
        with torch.no_grad():
            x_0 = x_0.to(device, working_dtype(x_0))
            u_0 = self._process.analyze(x_0, self._signal(rising[0], x_0))
        # Another power than the data's is only another choice of coordinates.
        numbers = Numbers(self._process, self._process.power_or_end(device), u_0, rising)

        def denoise(u_t: Tensor, k: int) -> Tensor:
            bar.advance()
            return numbers.denoise(self._denoiser, u_t, k, conditioning or {})

        ends = {"from_data": rising[0] == 0, "predicts_data": self.prediction == "data"}
        calls = self.steps + (rising[0] > 0)
        with torch.no_grad(), Progress("encoding", total=calls, show=progress) as bar:
            return encode(u_0, self.steps, numbers, denoise, probes=probes, **ends)
