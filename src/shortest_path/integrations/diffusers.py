"""Schedulers, pretrained models and pipelines of diffusers. Optional: requires the extra `diffusers`.

    from shortest_path.integrations.diffusers import CorruptionScheduler, TimedModel

diffusers counts time in whole steps k, from 0 to 999: k = 1000 t − 1. Everything here keeps to that, and between the
whole numbers too, so a pretrained model is given the numbers that it was trained with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    ConfigMixin,
    DiTTransformer2DModel,
    ModelMixin,
    SchedulerMixin,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from typing_extensions import Self, override

from ..bases import PixelBasis
from ..corruptions import Corruption, DiagonalCorruption, Process, corrupt, register
from ..grids import GridName, TimeGrid
from ..prediction import Prediction
from ..prediction import target as target_of
from ..sampling import Sampler, register_model
from ..solvers import Solver, SolverName
from ..spectra import PowerSpectrum

__all__ = ["CorruptionScheduler", "CorruptionSchedulerOutput", "TableCorruption", "TimedModel", "read_scheduler"]

STEPS = 1000
_MODELS = {each.__name__: each for each in (UNet2DModel, UNet2DConditionModel, DiTTransformer2DModel)}
_NAMES = {"epsilon": "noise", "sample": "data", "v_prediction": "velocity"}
_WRAPPER, _DESCRIPTION = "timed_model.json", "sampler.json"


@register_model
class TimedModel(nn.Module):
    """A model of diffusers, called with t in [0, 1].

        model(x_t, steps · t + shift).sample

    Channels of the output beyond those of x_t, a learned variance, are cut off.

    Args:
        model: A `UNet2DModel`, `UNet2DConditionModel`, `DiTTransformer2DModel`, or a model called the same way.
        steps: Number of steps that the model's time counts.
        shift: −1 (default): the numbers of diffusers' schedulers. 0 suits a model that was trained with `steps · t`.

    Example:
        >>> from diffusers import UNet2DModel
        >>> unet = UNet2DModel(8, 3, 3, block_out_channels=(8,), down_block_types=("DownBlock2D",),
        ...                    up_block_types=("UpBlock2D",), norm_num_groups=8)
        >>> TimedModel(unet)(torch.zeros(2, 3, 8, 8), torch.tensor([0.1, 0.5])).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, model: nn.Module, *, steps: int = STEPS, shift: float = -1.0) -> None:
        super().__init__()
        self.model, self.steps, self.shift = model, steps, shift

    @override
    def forward(self, x_t: Tensor, t: Tensor, **conditioning: Any) -> Tensor:
        # A float tensor of shape (B,): a Python float would be cut down to a whole number.
        output: Tensor = self.model(x_t, self.steps * t + self.shift, **conditioning).sample
        return output[:, : x_t.shape[1]]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model by its own `save_pretrained`, and beside it how it counts time.

        Raises:
            ValueError: the model is of another class than those that `from_pretrained` loads.
        """
        kind = type(self.model).__name__
        if kind not in _MODELS or not isinstance(self.model, ModelMixin):
            raise ValueError(f"only {', '.join(_MODELS)} can be saved, got {kind}; pass a wrapper of your own")
        self.model.save_pretrained(folder)
        facts = {"class": kind, "steps": self.steps, "shift": self.shift}
        (Path(folder) / _WRAPPER).write_text(json.dumps(facts) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the model in a folder.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the class of the model is not one of the three.
        """
        facts = json.loads((Path(folder) / _WRAPPER).read_text(encoding="utf-8"))
        if facts["class"] not in _MODELS:
            raise ValueError(f"the model in {folder} is a {facts['class']}, expected one of {', '.join(_MODELS)}")
        model = _MODELS[facts["class"]].from_pretrained(folder)
        return cls(model, steps=facts["steps"], shift=facts["shift"])


@register
class TableCorruption(DiagonalCorruption):
    """Gaussian noise with a table of ᾱ_k at t = (k + 1) / N, as diffusers' schedulers have it.

        a_t = √ᾱ(t),    s_t = √(1 − ᾱ(t)),    ᾱ(0) = 1

    Between the entries log ᾱ is linear in t.

    Args:
        alphas_cumprod: ᾱ_k, (N,), falling, in (0, 1].

    Raises:
        ValueError: another shape, values outside (0, 1], or values that rise.
    """

    argument_names = ("alphas_cumprod",)
    alphas_cumprod: Tensor

    def __init__(self, alphas_cumprod: Tensor) -> None:
        table = torch.as_tensor(alphas_cumprod).detach().to("cpu", torch.float64, copy=True)
        if table.ndim != 1 or not len(table) or not bool(((table > 0) & (table <= 1)).all()):
            raise ValueError(
                f"alphas_cumprod must be (N,) with values in (0, 1], got {tuple(table.shape)}; a schedule that ends at "
                "signal 0 (rescale_betas_zero_snr) has none"
            )
        if bool((table.diff() > 0).any()):
            raise ValueError("alphas_cumprod must fall, got values that rise; pass scheduler.alphas_cumprod")
        super().__init__(PixelBasis(2))
        self.register_buffer("alphas_cumprod", table)

    @override
    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        logs = torch.cat([torch.zeros_like(self.alphas_cumprod[:1]), self.alphas_cumprod.log()])
        place = t.to(logs.dtype).clamp(0, 1) * len(self.alphas_cumprod)
        low = place.floor().long().clamp(max=len(self.alphas_cumprod) - 1)
        log = torch.lerp(logs[low], logs[low + 1], place - low).view(-1, 1, 1, 1)
        return (log / 2).exp().to(t.dtype), (-torch.expm1(log)).sqrt().to(t.dtype)

    @override
    def signal(self, t: Tensor) -> Tensor:
        return self.scales(t)[0]

    @override
    def noise(self, t: Tensor) -> Tensor:
        return self.scales(t)[1]

    @override
    def extra_repr(self) -> str:
        return f"{len(self.alphas_cumprod)} steps to a²={self.alphas_cumprod[-1].item():.3g}"


def read_scheduler(scheduler: Any) -> tuple[TableCorruption, Prediction]:
    """Return the corruption and the prediction of a scheduler of diffusers, e.g. `pipeline.scheduler`.

    Raises:
        ValueError: a scheduler without `alphas_cumprod`, or a prediction of another kind.
    """
    table = getattr(scheduler, "alphas_cumprod", None)
    if table is None:
        raise ValueError(
            f"{type(scheduler).__name__} has no alphas_cumprod; pass one of a variance-preserving chain, e.g. "
            "DDPMScheduler.from_config(scheduler.config)"
        )
    kind = scheduler.config.prediction_type
    if kind not in _NAMES:
        raise ValueError(f"prediction_type must be one of {', '.join(_NAMES)}, got {kind!r}")
    name: Any = _NAMES[kind]
    return TableCorruption(table), name


class CorruptionSchedulerOutput(BaseOutput):  # type: ignore[misc]
    """What a step returns: `prev_sample`, and the predicted clean image `pred_original_sample`."""

    prev_sample: Tensor
    pred_original_sample: Tensor | None = None


class CorruptionScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """A scheduler of diffusers made of any corruption and solver.

    Pipelines and training loops that call `add_noise`, `set_timesteps`, `scale_model_input` and `step` run unchanged.
    Images are those of `Sampler` to rounding, if the loop hands every `prev_sample` to the next call; a sample that
    was changed in between is followed, by a solver that begins again without memory.

    Args:
        corruption: Any corruption.
        prediction: What the model predicts.
        solver: As for `Sampler`.
        grid: As for `Sampler`.
        spectrum: As for `Sampler`.
        num_train_timesteps: Number of steps that timesteps count.
        shift: Timestep of t is `num_train_timesteps · t + shift`; as for `TimedModel`.

    Raises:
        TypeError: as `Sampler` raises.
        ValueError: as `Sampler` raises.

    Example:
        >>> import shortest_path as sp
        >>> scheduler = CorruptionScheduler(sp.GaussianCorruption("cosine"), solver="ddim")
        >>> scheduler.set_timesteps(4)
        >>> [round(float(each)) for each in scheduler.timesteps]
        [998, 748, 498, 249]
    """

    config_name = "scheduler_config.json"
    order = 1
    init_noise_sigma = 1.0

    @register_to_config
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
        self.corruption, self.prediction, self.spectrum = corruption, prediction, spectrum
        self._options: dict[str, Any] = {"solver": solver, "grid": grid}
        self._steps, self._shift = num_train_timesteps, shift
        self._config_of_loops()
        self._given: Tensor | None = None
        self.set_timesteps(50)

    def _config_of_loops(self) -> None:
        """Keep in `config`, which is written as JSON, only what loops look up."""
        names = {ours: theirs for theirs, ours in _NAMES.items()}
        self._internal_dict: Any = None
        self.register_to_config(
            num_train_timesteps=self._steps,
            shift=self._shift,
            prediction_type=names.get(self.prediction, self.prediction),
        )

    def __len__(self) -> int:
        """Return the number of steps that timesteps count."""
        return self._steps

    def set_timesteps(self, num_inference_steps: int | None = None, device: Any = None, **options: Any) -> None:
        """Choose the number of steps, with one model call each; None is 50. Further options are those of `Sampler`."""
        chosen = {**self._options, "spectrum": self.spectrum, "prediction": self.prediction, **options}
        self.sampler = Sampler(self._model, self.corruption, steps=num_inference_steps, **chosen)
        self.num_inference_steps = self.sampler.steps
        times = self.sampler.times[:-1]
        self.timesteps = (self._steps * times + self._shift).to(device or "cpu", torch.float32)
        self._trajectory: Any = None
        self._last: Tensor | None = None
        self._index = 0

    def initial_noise(self, noise: Tensor) -> Tensor:
        """Return white noise as the noise in which the corruption ends: coloured where that is.

        Args:
            noise: White noise in pixels, (B, C, *spatial).
        """
        self._last = self._prior(noise)
        return self._last

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """Return the sample, as it is."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return images corrupted to timesteps, whole numbers or not; see `shortest_path.corrupt`."""
        return corrupt(self.corruption, original_samples, self._time(timesteps, original_samples), noise)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the target of a model that predicts a velocity, a ε − s x_0, in coefficients."""
        process = self._process(sample.device)
        signal, scale = process.scales(self._time(timesteps, sample), sample)
        of_data, of_noise = process.analyze(sample), process.basis.analyze(noise)
        wanted = target_of("velocity", of_data, of_noise, signal, scale)
        return process.basis.synthesize(wanted.to(sample.dtype))

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> CorruptionSchedulerOutput | tuple[Tensor, Tensor]:
        """Take the next step of `timesteps`.

        Args:
            model_output: What the model returned for `sample` at `timestep`.
            timestep: The timestep, one of `timesteps`.
            sample: The images there.
            generator: Source of the solver's noise.
            return_dict: Whether to return an object, or the pair of its values.

        Raises:
            ValueError: a timestep that is not the next one, or a corruption that ends in coloured noise whose sampling
                did not begin with `initial_noise`.
        """
        self._index = self._check(timestep, sample)
        self._given = model_output
        if self._trajectory is None or sample is not self._last:
            self._begin(sample, generator)
        found = next(self._trajectory)
        self._index += 1
        self._last = found.x_t.to(sample.dtype)
        clean = found.x_0_hat.to(sample.dtype)
        return CorruptionSchedulerOutput(self._last, clean) if return_dict else (self._last, clean)

    def _begin(self, sample: Tensor, generator: Any) -> None:
        first, times = self._index == 0, self.sampler.times
        start = None if first else float(times[self._index])
        options = {"start": start, "generator": generator, "device": sample.device, "dtype": sample.dtype}
        self._trajectory = self.sampler.trajectory(sample.shape, x_1=sample, **options)

    def _model(self, x_t: Tensor, t: Tensor) -> Tensor:
        assert self._given is not None
        return self._given.to(x_t)

    def _check(self, timestep: Tensor | float, sample: Tensor) -> int:
        wanted = torch.as_tensor(timestep, dtype=torch.float32).cpu()
        places = (self.timesteps.cpu() - wanted).abs() < 1e-3
        if not bool(places.any()):
            raise ValueError(
                f"timestep must be one of scheduler.timesteps, got {float(wanted):g}; call set_timesteps and loop over "
                "scheduler.timesteps"
            )
        index = int(places.float().argmax())
        if index == 0 and sample is not self._last and not self._ends_white(sample):
            raise ValueError(
                f"{type(self.corruption).__name__} does not end in white noise; begin with "
                "sample = scheduler.initial_noise(noise)"
            )
        return index

    def _ends_white(self, like: Tensor) -> bool:
        ones = torch.ones((), dtype=like.dtype, device=like.device)
        deviation = self._deviation(like)
        return bool(((deviation - ones).abs() < 0.01).all())

    def _prior(self, noise: Tensor) -> Tensor:
        process = self._process(noise.device)
        coloured = self._deviation(noise).to(noise.dtype) * process.basis.analyze(noise)
        first = process.at(float(self.sampler.times[0]), noise.shape, noise.device)
        return process.synthesize(coloured, first.signal)

    def _deviation(self, like: Tensor) -> Tensor:
        process = self._process(like.device)
        return process.prior(process.at(float(self.sampler.times[0]), like.shape, like.device))

    def _process(self, device: torch.device) -> Process:
        process = Process(self.corruption, self.spectrum)
        process.to(device)
        return process

    def _time(self, timesteps: Tensor, like: Tensor) -> Tensor:
        exact = torch.promote_types(like.dtype, torch.float32)
        return ((timesteps.to(like.device, exact) - self._shift) / self._steps).clamp(0, 1)

    @override
    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration, and the corruption, spectrum and solver as `Sampler.save_pretrained` does."""
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        self.sampler.save_pretrained(save_directory, model=False)

    @classmethod
    @override
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], subfolder: str | None = None, **kwargs: Any
    ) -> Self:
        """Return the scheduler in a folder that `save_pretrained` wrote.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: a damaged file, or a corruption that is not registered.
        """
        folder = Path(pretrained_model_name_or_path, subfolder or "")
        sampler = Sampler.from_pretrained(folder, _nothing)
        config: Mapping[str, Any] = json.loads((folder / cls.config_name).read_text(encoding="utf-8"))
        made = cls(
            sampler.corruption,
            prediction=sampler.prediction,
            solver=sampler.solver,
            spectrum=sampler.spectrum,
            num_train_timesteps=config["num_train_timesteps"],
            shift=config["shift"],
        )
        made.set_timesteps(None, times=sampler.times, grid=None)
        return made


def _nothing(x_t: Tensor, t: Tensor) -> Tensor:
    raise RuntimeError("a scheduler has no model of its own")
