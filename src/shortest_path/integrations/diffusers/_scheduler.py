"""A scheduler of diffusers made of any corruption and solver."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin
from diffusers.configuration_utils import ConfigMixin
from torch import Tensor
from typing_extensions import Self

from ..._checks import check_count, check_finite, check_floating
from ..._devices import usable_device
from ..._files import SAMPLER_FILE, check_entries, checked_path, naming, read_description
from ..._folders import reading, replace_folder
from ...corruptions import Corruption, Process, as_times, check_corruption, corrupt
from ...grids import GridName, TimeGrid
from ...prediction import Prediction, target_weights
from ...sampling import Sampler, SampleStep, first_time
from ...solvers import Solver, SolverName
from ...spectra import PowerSpectrum
from . import _loops
from ._given import Given, given_output
from ._loops import CorruptionSchedulerOutput
from ._models import STEPS
from ._table import NAMES

_ROUNDING = 1e-5
_NOT_SAVED = (
    "grid {!r} is not saved: a loaded scheduler has the present times, until set_timesteps(n) of a pipeline chooses "
    "those of the default grid; pass a grid by name, or after loading make the scheduler again, with this grid"
)


class CorruptionScheduler(SchedulerMixin, ConfigMixin):
    """A scheduler of diffusers made of any corruption and solver.

    Pipelines and loops that call `add_noise`, `set_timesteps`, `scale_model_input` and `step` run unchanged. It has no
    betas: schedulers of diffusers that are made of betas raise a NotImplementedError if made from its `config`, as
    `DDIMPipeline` makes its own.

    Images are those of `Sampler` to rounding, if the loop hands every `prev_sample` to the next call; a sample that
    was changed in between is followed, by a solver that begins again without memory. So is one that was changed in
    place: on the CPU in any way, elsewhere by operations of torch on the tensor itself, and not on its `data`.

    Args:
        corruption: Any corruption.
        prediction: What the model predicts.
        solver: As for `Sampler`.
        grid: As for `Sampler`.
        spectrum: As for `Sampler`.
        num_train_timesteps: Number of steps that timesteps count, 1 or more.
        shift: Timestep of t is `num_train_timesteps · t + shift`; as for `TimedModel`.

    Raises:
        TypeError: as `Sampler` raises, or `num_train_timesteps` or `shift` is not such a number.
        ValueError: as `Sampler` raises, `num_train_timesteps` less than 1, or a `shift` that is infinite or NaN.

    Example:
        >>> import shortest_path as sp
        >>> scheduler = CorruptionScheduler(sp.GaussianCorruption("cosine"), solver="ddim")
        >>> scheduler.set_timesteps(4)
        >>> [round(float(each)) for each in scheduler.timesteps]
        [998, 748, 498, 249]
    """

    config_name: Any = "scheduler_config.json"
    order = 1
    init_noise_sigma = 1.0

    def __init__(
        self,
        corruption: Corruption,
        prediction: Prediction = "noise",
        solver: SolverName | Solver = "multistep",
        grid: GridName | TimeGrid | None = None,
        spectrum: PowerSpectrum | None = None,
        num_train_timesteps: int = STEPS,
        shift: float = -1.0,
    ) -> None:
        check_corruption(corruption)
        check_finite(shift=shift)
        self.corruption, self.prediction, self.spectrum = corruption, prediction, spectrum
        self._options: dict[str, Any] = {"solver": solver, "grid": grid}
        self._steps, self._shift = check_count("num_train_timesteps", num_train_timesteps), float(shift)
        self._config_of_loops()
        self.set_timesteps(50)

    def _config_of_loops(self) -> None:
        """Keep in `config`, which is written as JSON, only what loops look up."""
        names = {ours: theirs for theirs, ours in NAMES.items()}
        self.register_to_config(  # type: ignore[no-untyped-call]
            num_train_timesteps=self._steps,
            timestep_shift=self._shift,  # "shift" is an option of schedulers of flows, which would take it
            prediction_type=names.get(self.prediction, self.prediction),
            beta_schedule=_loops.NO_BETAS,
            grid=self._options["grid"] if isinstance(self._options["grid"], str) else None,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied or pickled: all but the run in progress, which a copy begins again without memory."""
        return {**self.__dict__, "_run": None, "_last": None, "_mark": None}

    def __len__(self) -> int:
        """Return the number of steps that timesteps count."""
        return self._steps

    def set_timesteps(self, num_inference_steps: int | None = None, device: Any = None, **options: Any) -> None:
        """Choose the number of steps, with one model call each; None is 50. Further options are those of `Sampler`.

        The first step is at the end of the corruption, as pipelines begin there with white noise. A `Sampler` of a
        model that predicts noise begins earlier: pass `times=sampler.times`, and begin with `initial_noise`.

        Raises:
            TypeError: as `Sampler` raises, or `timesteps` or `sigmas`, in whose place are `times`.
            ValueError: as `Sampler` raises, or a device that cannot be used.
        """
        _loops.check_options(options, self._steps, self._shift)
        device = usable_device("cpu" if device is None else device)
        chosen = {**self._options, "spectrum": self.spectrum, "prediction": self.prediction, **options}
        if chosen.get("times") is None:
            chosen.setdefault("start", first_time(self.corruption, chosen["prediction"], None))
        self.sampler = Sampler(given_output, self.corruption, steps=num_inference_steps, **chosen)
        self.num_inference_steps = self.sampler.steps
        times = self.sampler.times[:-1]
        self._every = (self._steps * times + self._shift).to(torch.float32)
        self.timesteps = self._every.to(device, copy=True)  # a pipeline may cut it
        self._run: tuple[Iterator[SampleStep], Given] | None = None
        self._last: Tensor | None = None
        self._mark: int | Tensor | None = None
        self._index = 0
        self.begin_index: int | None = None

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Say that the next run begins with images corrupted to `timesteps[begin_index]`, as pipelines that edit do.

        Then `begin_index` is the place of that timestep among all that `set_timesteps` chose.

        The first `step` must be at that timestep. At the first of all timesteps this also allows samples that are not
        noise, which are refused there otherwise. `begin_index` is None again after that step, or after `set_timesteps`.

        Args:
            begin_index: Place in `timesteps` at which sampling begins.

        Raises:
            TypeError: `begin_index` is not a whole number.
            ValueError: a place beyond the last.
        """
        place = check_count("begin_index", begin_index, least=0)
        if place >= len(self.timesteps):
            raise ValueError(
                f"begin_index must be less than the number of timesteps, {len(self.timesteps)}, got {place}"
            )
        self.begin_index = self._place(self.timesteps[place], due=place)

    def initial_noise(self, noise: Tensor) -> Tensor:
        """Return white noise as the images from which sampling begins, at the first timestep.

        Args:
            noise: White noise in pixels, (B, C, *spatial).

        Raises:
            TypeError: `noise` is not a floating-point tensor.
            ValueError: much of the image is left at the first timestep, or a shape that does not fit.
        """
        check_floating(noise, "noise")
        # Raises in the words of a loop what `Sampler` raises in its own.
        _loops.deviation_at(self._process(noise.device), float(self.sampler.times[0]), noise)
        self._index, self._run = 0, None
        return self._hand(self.sampler.initial_noise(noise))

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """Return the sample, as it is."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor | float) -> Tensor:
        """Return images corrupted to timesteps, whole numbers or not; see `shortest_path.corrupt`.

        Args:
            original_samples: Clean images, (B, C, *spatial).
            noise: White noise in pixels, same shape.
            timesteps: One for each image, (B,), or one for all: `shift` is clean, the last of the training is noise.

        Raises:
            TypeError: images or noise that are not floating-point tensors, or timesteps that are not numbers.
            ValueError: timesteps beyond these, checked on the CPU only; or noise of another shape or on another device.
        """
        _loops.check_pair("original_samples", original_samples, noise)
        return corrupt(self.corruption, original_samples, self._time(timesteps, original_samples), noise)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor | float) -> Tensor:
        """Return the target of a model that predicts a velocity, a ε − s (x_0 − x̄), in coefficients.

        x̄ is the mean image that the corruption knows; the target is that of `DiffusionLoss`.

        Args:
            sample: Clean images, (B, C, *spatial).
            noise: White noise in pixels, same shape.
            timesteps: As in `add_noise`.

        Raises:
            TypeError: as in `add_noise`.
            ValueError: as in `add_noise`.
        """
        _loops.check_pair("sample", sample, noise)
        process = self._process(sample.device)
        at_t = process.scales(as_times(self._time(timesteps, sample), sample), sample)
        _, wanted = process.mix(sample, noise, at_t, target_weights("velocity", *at_t))
        return wanted.to(sample.dtype)

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> CorruptionSchedulerOutput | tuple[Tensor, Tensor]:
        """Take the step at a timestep, to the next of those that `set_timesteps` chose.

        A sample that comes back as it was handed out is at one timestep, which is checked. Any other is taken to be at
        the timestep that is given, so that a loop can begin with images corrupted to any of `timesteps`.

        Args:
            model_output: What the model returned for `sample` at `timestep`.
            timestep: The timestep, one of `timesteps`; or a tensor (B,) in which all are that one.
            sample: The images there.
            generator: Source of the noise of this step.
            return_dict: Whether to return an object, or the pair of its values.

        Raises:
            TypeError: `model_output` or `sample` is not a floating-point tensor, `timestep` not a number, or
                `generator` not made of generators.
            ValueError: a timestep that is not one of `timesteps`, not that of `sample`, or not that of
                `set_begin_index`; a corruption that does not end in white noise whose sampling did not begin with
                `initial_noise` or `set_begin_index`; or a generator of another kind or on another device than the
                one of the step before.
        """
        _loops.check_model_output(model_output)
        check_floating(sample, "sample")
        known = sample is self._last
        as_handed = known and not _loops.was_changed(sample, self._mark)
        place = self._place(timestep, due=self._index if self.begin_index is None else self.begin_index)
        _loops.check_place(place, self._every, begin=self.begin_index, due=self._index if as_handed else None)
        if place == 0 and not known and self.begin_index is None:
            _loops.check_white(self._process(sample.device), float(self.sampler.times[0]), sample)
        run = self._run if as_handed else None
        if run is not None:
            run[1].check(generator)
        self._index, self._run = place, None  # an error ends the run
        trajectory, given = run or self._begin(sample, generator)
        with given.lent(model_output, generator):
            found = next(trajectory)
        self._run, self.begin_index = (trajectory, given), None
        self._index += 1
        clean = found.x_0_hat.to(sample.dtype)
        sample = self._hand(found.x_t.to(sample.dtype))
        return CorruptionSchedulerOutput(sample, clean) if return_dict else (sample, clean)

    def _hand(self, sample: Tensor) -> Tensor:
        """Return a sample after noting what it is, so that it is known if it comes back as it was."""
        self._last, self._mark = sample, _loops.mark_of(sample)
        return sample

    def _begin(self, sample: Tensor, generator: Any) -> tuple[Iterator[SampleStep], Given]:
        given, sampler = Given(generator), copy.copy(self.sampler)
        sampler.times = self.sampler.times[self._index :]  # `start` would leave out a time that is close
        options: dict[str, Any] = {"generator": given.source, "device": sample.device, "dtype": sample.dtype}
        return sampler.trajectory(sample.shape, x_1=sample, conditioning={"given": given}, **options), given

    def _place(self, timestep: Tensor | float, due: int) -> int:
        return _loops.place_of(timestep, self._every, due=due, rounding=_ROUNDING * self._steps)

    def _process(self, device: torch.device) -> Process:
        process = Process(self.corruption, self.spectrum)
        process.to(device)
        return process

    def _time(self, timesteps: Tensor | float, like: Tensor) -> Tensor:
        return _loops.times_of(timesteps, like, self._steps, self._shift, _ROUNDING * self._steps)

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration, and the corruption, spectrum and solver as `Sampler.save_pretrained` does.

        A grid is kept by its name; of one that is a value, the present times alone.

        Raises:
            TypeError: a corruption made of functions, or `save_directory` is not a path.
            ValueError: a corruption or basis that is not registered, or `save_directory` is empty.

        Warns:
            RuntimeWarning: the grid is a value, which is not kept.
        """
        folder = checked_path("save_directory", save_directory, "'.' for the present folder")

        def write(new: Path) -> None:
            self.sampler.save_pretrained(new, model=False)
            self.save_config(new)

        replace_folder(folder, write, SAMPLER_FILE)
        if not isinstance(grid := self._options["grid"], (str, type(None))):
            warnings.warn(_NOT_SAVED.format(grid), RuntimeWarning, stacklevel=2)
        if push_to_hub:
            super().save_pretrained(str(folder), push_to_hub=True, **kwargs)  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """Raise a TypeError: a configuration holds neither corruption nor solver."""
        raise TypeError(_loops.NO_CONFIG)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], subfolder: str | None = None, **kwargs: Any
    ) -> Self:
        """Return the scheduler in a folder that `save_pretrained` wrote.

        Raises:
            FileNotFoundError: the folder holds none.
            TypeError: `pretrained_model_name_or_path` or `subfolder` is not a path.
            ValueError: a damaged file, or a corruption that is not registered.
        """
        folder = checked_path(
            "pretrained_model_name_or_path", pretrained_model_name_or_path, "the folder that was saved"
        )
        if subfolder is not None:
            folder = folder / checked_path("subfolder", subfolder, "None for the folder itself")
        with reading(folder, SAMPLER_FILE) as saved:
            sampler = Sampler.from_pretrained(saved, given_output)
            file, what = saved / cls.config_name, "the configuration of a CorruptionScheduler"
            config = read_description(file, what, num_train_timesteps="a whole number")
        shift = "shift" if "shift" in config else "timestep_shift"  # its former name
        check_entries(file, config, **{shift: "a number"})
        with naming(file):
            made = cls(
                sampler.corruption,
                prediction=sampler.prediction,
                solver=sampler.solver,
                spectrum=sampler.spectrum,
                grid=config.get("grid"),
                num_train_timesteps=config["num_train_timesteps"],
                shift=config[shift],
            )
        made.set_timesteps(None, times=sampler.times, grid=None)
        return made
