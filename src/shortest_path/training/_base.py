"""A trainer's options, and how it takes a step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from .._checks import check_floating, check_keywords, check_mapping, images_of
from .._devices import device_of
from .._html import table
from .._model import weights_dtype
from ..corruptions import Corruption, check_corruption, check_device
from ..sampling import Sampler
from ..spectra import PowerSpectrum
from ._agreement import check_agreement
from ._batches import on_device
from ._loss import DiffusionLoss
from ._options import TrainingOptions, described, digest
from ._random import GlobalRandom
from ._ranks import Ranks, Share
from ._second_moment import LossSecondMoment, Seen
from ._settings import Settings, settings_of
from ._state import Position
from ._step import TrainStep
from ._take import take_or_skip
from ._times import BY_LOSS
from ._trainable import Trainable, check_model
from ._weights import Weights

_LEARNING_RATE = 2e-4


class TrainerBase:
    """The options of a trainer, and one training step; see `DiffusionTrainer`."""

    def __init__(
        self,
        model: nn.Module,
        corruption: Corruption,
        *,
        spectrum: PowerSpectrum | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: LRScheduler | None = None,
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        check_corruption(corruption)
        check_model(model, optimizer)
        check_mapping("metadata", metadata, "{'settings': settings}")
        known = {field.name for field in fields(TrainingOptions)}
        if unknown := sorted(options.keys() - known):
            raise TypeError(f"unknown options {', '.join(unknown)}; choose from {', '.join(sorted(known))}")
        self.options = TrainingOptions(**options)
        """The options, with their defaults."""
        given = self.options
        if optimizer is not None and given.learning_rate is not None:
            raise ValueError(
                f"learning_rate={given.learning_rate:g} has no effect beside optimizer; set it in the optimizer"
            )
        self.model = model
        self.corruption = corruption
        self.spectrum = spectrum
        self.device = device_of(model)
        check_device(corruption, self.device)
        rate = float(_LEARNING_RATE if given.learning_rate is None else given.learning_rate)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=rate) if optimizer is None else optimizer
        self.scheduler = scheduler
        self._by_loss = LossSecondMoment(self.device) if given.time_sampling == BY_LOSS else None
        self._ranks = Ranks(model, self.device)
        self._position = Position(self._ranks, self.device, given.seed, self._by_loss)
        self._random = GlobalRandom(self.generator)
        self._limit: int | None = None  # of skipped steps in a row, while `fit` looks at them now and then
        self._weights = Weights(
            self._ranks.model,
            self.optimizer,
            scheduler,
            decays=given.decays,
            ema_warmup=given.ema_warmup is not False,
            max_grad_norm=given.max_grad_norm,
            scale_loss_on=self.device.type if given.precision == "fp16" else None,
            also=_parameters(corruption),
        )
        self._ranks.train_also(self._weights.trained_in(corruption).values())
        self._trainable = Trainable(self._ranks.model, self.optimizer)
        self._known: dict[str, Any] = {"prediction": given.prediction, "spectrum": spectrum}  # to samplers
        self._null = {
            name: null.to(self.device, copy=True) if isinstance(null, Tensor) else null
            for name, null in (given.null_conditioning or {}).items()
        }
        self._metadata = dict(metadata or {})
        self._settings = settings_of(self.optimizer, scheduler)
        self._left: tuple[int, Settings] | None = None  # the step at which `fit` returned, and what they were there
        self._config = given.recorded() | {
            "learning_rate": rate if optimizer is None else None,
            "optimizer": type(self.optimizer).__name__,
            "scheduler": None if scheduler is None else type(scheduler).__name__,
            "corruption": described(corruption),
            "spectrum": None if spectrum is None else repr(spectrum),
        }
        names = self._weights.names()
        self._training = digest([self._config, self._settings, names])  # of the kind of training that this is
        alike = {**self._config, "max_skipped": given.max_skipped, "fused": self._weights.can_skip_on_device()}
        check_agreement(self._ranks, corruption, spectrum, self.optimizer, alike, self._settings, names)
        self._objective = DiffusionLoss(
            corruption,
            given.prediction,
            weighting=given.weighting,
            spectrum=spectrum,
            time_sampling="uniform" if self._by_loss else given.time_sampling,  # type: ignore[arg-type]
            discrete_steps=given.discrete_steps,
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        facts = {
            "model": type(self.model).__name__,
            "corruption": repr(self.corruption),
            "prediction": self.options.prediction,
            "optimizer": type(self.optimizer).__name__,
            "steps": f"{self.step}, {self.skipped} skipped",
            "precision": f"{self.options.precision} on {self.device}",
        }
        return table(type(self).__name__, facts)

    def __repr__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return (
            f"{type(self).__name__}({type(self._ranks.model).__name__}, {self.corruption!r}, "
            f"prediction={self.options.prediction!r}, {type(self.optimizer).__name__}, {self.step} steps{skipped})"
        )

    @property
    def ema_model(self) -> nn.Module:
        """The model with averaged weights, in eval mode, to sample from; without an average, the model itself.

        Of several averages, that of the first `ema_decay`.
        """
        return next(iter(self.ema_models.values()), self._ranks.model)

    @property
    def ema_models(self) -> dict[float, nn.Module]:
        """The models with averaged weights, by their `ema_decay`, e.g. `ema_models[0.999]`."""
        return {decay: average.model for decay, average in self._weights.averages.items()}

    @property
    def step(self) -> int:
        """Number of steps, including skipped ones."""
        return self._position.step

    @property
    def skipped(self) -> int:
        """Number of steps skipped because the loss or a gradient was not finite."""
        return self._position.skipped.total

    @property
    def generator(self) -> torch.Generator:
        """Generator of times and noise."""
        return self._position.generator

    def sampler(self, **options: Any) -> Sampler:
        """Return a sampler of the averaged model with this trainer's corruption, prediction and spectrum.

        Args:
            **options: Further arguments of `Sampler`, e.g. `steps=20`. With `guidance_scale`, the null conditioning is
                this trainer's.

        Raises:
            TypeError: an argument that `Sampler` does not have.
            ValueError: as `Sampler` raises.
        """
        if options.get("guidance_scale") is not None:
            options.setdefault("null_conditioning", self._null)
        prediction = options.get("prediction", self.options.prediction)
        if prediction != self.options.prediction:
            raise ValueError(
                f"this trainer's model predicts {self.options.prediction!r}, got prediction={prediction!r}; omit it"
            )
        return Sampler(self.ema_model, self.corruption, **{**self._known, **options})

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Write a sampler of the averaged model to a folder, for `Sampler.from_pretrained` on any machine.

        Args:
            folder: The folder, made if missing.
            **options: Arguments of `sampler`: what a user of the folder gets by default, e.g. `steps=20`.

        Raises:
            TypeError: a corruption made of functions, or an argument that `Sampler` does not have.
            ValueError: a corruption or basis that is not registered, or as `Sampler` raises.
            OSError: a file could not be written.
        """
        self.sampler(**options).save_pretrained(folder)

    def loss(
        self,
        x_0: Tensor,
        *,
        t: Tensor | float | None = None,
        eps: Tensor | None = None,
        conditioning: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Return the loss of a batch, a scalar with its graph.

        Args:
            x_0: Clean images, (B, C, *spatial), floating point, on the model's device.
            t: Times, (B,) or scalar; None draws them.
            eps: White noise in pixels, the shape of `x_0`; None draws it.
            conditioning: Keyword arguments for the model, passed as they are; only `train_step` drops.

        Raises:
            TypeError: `x_0` is not floating point.
            ValueError: wrong shapes, of the inputs or of the model's output.
        """
        check_floating(x_0, "x_0")
        check_keywords("conditioning", conditioning, "{'class_labels': labels}")
        return self._loss(x_0, self._ranks.even_share(len(x_0)), conditioning or {}, t, eps)[0]

    def _loss(
        self,
        x_0: Tensor,
        share: Share,
        conditioning: Mapping[str, Any],
        t: Tensor | float | None = None,
        eps: Tensor | None = None,
    ) -> tuple[Tensor, Seen | None]:
        """Return the loss of a batch, and where times follow the losses, those of its images."""
        times = None
        if t is None:
            times = self._random.times(self._by_loss or self._objective.times, share)
            t = share.of(times)
        eps = self._random.noise(x_0, share) if eps is None else eps
        task = self._objective.task(x_0, t, eps)
        x_t = task.x_t.to(weights_dtype(self.model, task.x_t.dtype))
        with self._autocast():
            output = self.model(x_t, task.t, **conditioning)
        if self._by_loss is None or times is None:
            return task.loss(output), None
        losses = task.losses(output)
        return (self._by_loss.weight(share.of(times)) * losses).mean(), Seen(times, losses.detach(), share)

    def train_step(self, batches: Sequence[object]) -> TrainStep:
        """Take one optimizer step on `accumulation` batches, given as `fit` takes them; every image counts the same.

        A step is skipped if the gradient, or the loss of any rank, is not finite. With a fused Adam or AdamW and no
        float16, the device skips it without a wait, and `TrainStep.skipped` is a tensor. Otherwise the check waits for
        the device. A scheduler counts skipped steps too. `fit` warns of skipped steps, and raises after too many. With
        `precision="fp16"`, a gradient that is too large for float16 halves the scale of the loss, and its step does not
        count as skipped.

        Raises:
            TypeError: a batch is not a floating-point tensor, or a tuple that begins with one; or conditioning
                to drop is not a tensor.
            ValueError: wrong number of batches, wrong shapes, or a name in `null_conditioning` that the batch lacks; or
                parameters that are all frozen, or were cast or moved after the trainer was made.
            RuntimeError: it is called in `torch.no_grad()` or `torch.inference_mode()`.
        """
        given = self.options
        self._trainable.check()
        if len(batches) != given.accumulation:
            raise ValueError(f"expected {given.accumulation} batches for a step, got {len(batches)}")
        sizes = [len(images_of(batch, given.image_key)) for batch in batches]
        if 0 in sizes:
            raise ValueError("got a batch without images; leave it out, e.g. with drop_last=True in a DataLoader")
        shares = self._ranks.shares(sizes)
        images = sum(share.images for share in shares)
        mean = sum(share.total for share in shares) / self._ranks.count  # DDP takes the mean over the ranks
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        seen = []
        for index, (batch, share) in enumerate(zip(batches, shares, strict=True)):
            x_0, conditioning = on_device(
                batch, self.device, image_key=given.image_key, label_name=given.label_name, label_key=given.label_key
            )
            conditioning = self._random.drop(conditioning, self._null, given.drop_conditioning, share)
            with self._ranks.exchange_gradients(now=index == len(batches) - 1):
                loss, of_images = self._loss(x_0, share, conditioning)
                self._weights.backward(loss / (mean / share.images))
            total += loss.detach() / (images / share.images)
            seen += [] if of_images is None else [of_images]
        self._ranks.average_gradients()
        norm = self._weights.gradient_norm().to(self.device)
        self._position.step += 1
        parts = self._weights, self._position.skipped, self._ranks
        skipped = take_or_skip(*parts, step=self.step, loss=total, norm=norm, limit=self._limit)
        if self._by_loss is not None and skipped is not True:
            for each in seen:
                self._by_loss.add(each.times, self._ranks.rows(each.losses, each.share), unless=skipped)
        return TrainStep(self.step, total, norm, skipped)

    def _autocast(self) -> AbstractContextManager[object]:
        """Run the model in the precision that was asked for."""
        precision = self.options.precision
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=precision != "fp32")


def _parameters(corruption: Corruption) -> dict[str, Tensor]:
    """Return the parameters of a corruption by names that are none of a model's."""
    named = corruption.named_parameters() if isinstance(corruption, nn.Module) else ()
    return {f"corruption: {name}": each for name, each in named}
