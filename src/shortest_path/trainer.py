"""Training a model to undo a corruption."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .batches import BatchStream
from .checkpoint import CheckpointWriter, load_latest, save_checkpoint
from .checks import check_batches, check_choice, check_floating, check_images, images_of
from .conditioning import conditioning_of, drop
from .corruption import Corruption, as_times, check_device, device_of, scales
from .ema import ExponentialMovingAverage
from .exact import working_dtype
from .model import check_output
from .prediction import Prediction, target
from .progress import Progress
from .training_state import check_state, plain

Precision: TypeAlias = Literal["fp32", "bf16"]
TimeSampling: TypeAlias = Literal["uniform", "stratified", "discrete"]
_FORMAT, _VERSION = "shortest_path.DiffusionTrainer", 1


class TrainStep(NamedTuple):
    """What a training step did; the tensors are on the device, so that looking at them is the caller's choice."""

    step: int
    loss: Tensor
    grad_norm: Tensor | None

    def describe(self) -> str:
        """Return the loss in words; waits for the device."""
        return f"loss {self.loss.item():.4f}"


Callback: TypeAlias = Callable[["DiffusionTrainer", TrainStep], None]


class DiffusionTrainer:
    """Trains any model to undo any corruption.

        loss = E ‖model(x_t, t) − target‖²,    x_t = Bᵀ[ signal(t) ⊙ B x_0 + noise(t) ⊙ B ε ]

    the mean over pixels, where the target is ε, x_0, or the velocity Bᵀ(a ⊙ Bε − s ⊙ Bx_0). A mean over
    pixels is one over coefficients (Parseval).

    Under `torch.distributed`, with the model wrapped in `DistributedDataParallel`, each rank takes its rows
    of random numbers drawn for the global batch: N ranks compute what one process would with the N batches
    put together, in the order of the ranks.

    Args:
        model: `model(x_t, t, **conditioning)` returns a tensor like `x_t`; `t` is float (B,) in [0, 1].
        corruption: Any object that satisfies `Corruption`, on the model's device.
        prediction: `"noise"`, `"data"` or `"velocity"`.
        optimizer: None makes `torch.optim.AdamW(model.parameters(), lr=learning_rate)`.
        learning_rate: Of the default optimizer.
        ema_decay: Of the averaged weights, in [0, 1).
        precision: `"bf16"` runs the model under bfloat16 autocast; corruption and loss stay in float32.
        time_sampling: `"uniform"` in [0, 1); `"stratified"`: one time in each of B equal intervals, in random
            order; `"discrete"`: the times of the paper's code, τ_k / T with τ = linspace(1, T − 1, T).
        discrete_steps: T, for discrete times.
        accumulation: Number of batches whose gradients make one step.
        max_grad_norm: Clip the gradient to this norm; None does not clip.
        label_name: Under which name the second element of a (images, labels) batch is passed to the model;
            None leaves labels out.
        drop_conditioning: Probability in [0, 1) that an image is trained on with `null_conditioning`, as
            classifier-free guidance needs it; 0.1 is usual.
        null_conditioning: What stands for none, by name: a number, or a fixed tensor that broadcasts to the
            batch's. Entries that it does not name are never dropped.
        seed: Of the times and the noise.
        check_range: Refuse training images that look like [0, 255]; False for latents of any scale.
        metadata: Tensors and plain values to keep in every checkpoint, say the settings and the spectrum from which
            network and corruption can be made again. Not looked at.

    Raises:
        ValueError: an option that is unknown or out of range, or a corruption on another device.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 14; Das et al. 2023, arXiv:2306.00501, algorithm 1;
        Salimans & Ho 2022, arXiv:2202.00512 (velocity); Ho & Salimans 2022, arXiv:2207.12598, algorithm 1
        (dropped conditioning).

    Example:
        >>> import torch, shortest_path as sp
        >>> class Model(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)
        ...     def forward(self, x_t, t):
        ...         return self.layer(x_t)
        >>> trainer = sp.DiffusionTrainer(Model(), sp.GaussianCorruption(), seed=1)
        >>> trainer.fit([torch.randn(8, 3, 8, 8)], steps=2)
        >>> trainer.step
        2
    """

    def __init__(
        self,
        model: nn.Module,
        corruption: Corruption,
        *,
        prediction: Prediction = "noise",
        optimizer: torch.optim.Optimizer | None = None,
        learning_rate: float = 2e-4,
        ema_decay: float = 0.9999,
        precision: Precision = "fp32",
        time_sampling: TimeSampling = "uniform",
        discrete_steps: int = 4000,
        accumulation: int = 1,
        max_grad_norm: float | None = None,
        label_name: str | None = None,
        drop_conditioning: float = 0.0,
        null_conditioning: Mapping[str, Any] | None = None,
        seed: int = 0,
        check_range: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(corruption, Corruption):
            raise TypeError(f"corruption must have basis, signal and noise, got {type(corruption).__name__}")
        check_choice("prediction", prediction, get_args(Prediction))
        check_choice("precision", precision, get_args(Precision))
        check_choice("time_sampling", time_sampling, get_args(TimeSampling))
        if accumulation < 1:
            raise ValueError(f"accumulation must be 1 or more, got {accumulation}")
        if discrete_steps < 3:
            raise ValueError(f"discrete_steps must be 3 or more, got {discrete_steps}")
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive, got {max_grad_norm}; None does not clip")
        if not 0 <= drop_conditioning < 1:
            raise ValueError(f"drop_conditioning must be a probability in [0, 1), got {drop_conditioning}")
        if drop_conditioning > 0 and not null_conditioning:
            raise ValueError(
                f"drop_conditioning is {drop_conditioning}, but nothing says what stands for 'none'; "
                "pass null_conditioning={'class_labels': 10}, say, a class of its own for 'none'"
            )
        self.model = model
        self.corruption = corruption
        self.device = device_of(model)
        check_device(corruption, self.device)
        self.optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=learning_rate)
        self.step = 0
        """Number of optimizer steps taken."""
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._ema = ExponentialMovingAverage(self._bare_model, ema_decay)
        self._label_name = label_name
        self._check_range = check_range
        self._metadata = dict(metadata or {})
        self._config: dict[str, Any] = {
            "prediction": prediction,
            "ema_decay": ema_decay,
            "precision": precision,
            "time_sampling": time_sampling,
            "discrete_steps": discrete_steps,
            "accumulation": accumulation,
            "max_grad_norm": max_grad_norm,
            "label_name": label_name,
            "drop_conditioning": drop_conditioning,
            "null_conditioning": {
                name: null.detach().to(self.device, copy=True) if isinstance(null, Tensor) else null
                for name, null in (null_conditioning or {}).items()
            },
            "seed": seed,
            "optimizer": type(self.optimizer).__name__,
            "corruption": repr(corruption),
        }
        self._prediction: Prediction = prediction
        self._data = BatchStream()

    @property
    def ema_model(self) -> nn.Module:
        """The model with averaged weights, in eval mode: the one to sample from."""
        return self._ema.model

    def loss(
        self,
        x_0: Tensor,
        *,
        t: Tensor | None = None,
        eps: Tensor | None = None,
        conditioning: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Return the loss of a batch, a scalar with its graph.

        Args:
            x_0: Clean images, (B, C, *spatial), floating point, on the model's device.
            t: Times, (B,); None draws them.
            eps: White noise in pixels, the shape of `x_0`; None draws it.
            conditioning: Keyword arguments for the model, passed as they are; only `train_step` drops.

        Raises:
            TypeError: `x_0` is not floating point.
            ValueError: wrong shapes, of the inputs or of the model's output.
        """
        check_floating(x_0, "x_0")
        t = self._draw_times(len(x_0)) if t is None else as_times(t, x_0).expand(len(x_0))
        eps = self._draw_noise(x_0) if eps is None else eps
        basis, dtype = self.corruption.basis, working_dtype(x_0)
        signal, noise = scales(self.corruption, t, x_0.shape, dtype)
        u_0, u_eps = basis.analyze(x_0), basis.analyze(eps)
        x_t = basis.synthesize((signal * u_0).addcmul_(noise, u_eps))
        if self._prediction == "noise":
            wanted = eps
        elif self._prediction == "data":
            wanted = x_0
        else:
            wanted = basis.synthesize(target(self._prediction, u_0, u_eps, signal, noise))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._config["precision"] == "bf16"):
            output = self.model(x_t, t, **(conditioning or {}))
        check_output(output, x_t)
        return torch.nn.functional.mse_loss(output.to(dtype), wanted.to(dtype))

    def train_step(self, batches: Sequence[object]) -> TrainStep:
        """Take one optimizer step on `accumulation` batches, given as `fit` takes them.

        Raises:
            TypeError: a batch is not a floating-point tensor, or a tuple that begins with one; or conditioning
                to drop is not a tensor.
            ValueError: wrong number of batches, wrong shapes, or no conditioning of a name to drop.
        """
        if len(batches) != self._config["accumulation"]:
            raise ValueError(f"expected {self._config['accumulation']} batches for a step, got {len(batches)}")
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for index, batch in enumerate(batches):
            x_0, conditioning = self._unpack(batch)
            conditioning = self._drop(conditioning, len(x_0))
            with self._synchronised(index == len(batches) - 1):
                loss = self.loss(x_0, conditioning=conditioning) / len(batches)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        grad_norm = None
        if self._config["max_grad_norm"] is not None:
            grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self._config["max_grad_norm"])
        self.optimizer.step()
        self._ema.update(self._bare_model)
        self.step += 1
        return TrainStep(self.step, total, grad_norm)

    def fit(
        self,
        batches: Iterable[object],
        *,
        steps: int,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1000,
        keep_checkpoints: int = 3,
        resume: bool = True,
        callbacks: Sequence[Callback] = (),
        progress: bool | None = None,
    ) -> None:
        """Train until `steps` optimizer steps have been taken in all.

        Args:
            batches: An iterable of images (B, C, *spatial), of (images, labels), or of (images, mapping of
                conditioning). Iterated again and again if it can be; a `set_epoch(n)` of it or of its
                `sampler` is called before each pass. To continue exactly after a resume, a pass must be
                determined by n and torch's random state, as a `DataLoader`'s is.
            steps: Total to reach, steps before a resume counted in.
            checkpoint_dir: Where to write `checkpoint-<step>.pt`; None writes none. Rank 0 writes, while training goes
                on; all is written when `fit` returns.
            checkpoint_every: Steps between checkpoints; one is also written at the end.
            keep_checkpoints: How many of the newest to keep.
            resume: Continue from the newest checkpoint in `checkpoint_dir` that is whole, if there is one.
            callbacks: Each is called with (trainer, TrainStep) after every step.
            progress: True or False; None shows progress on a terminal if the work is long.

        Raises:
            TypeError: an item is not a floating-point tensor or a tuple that begins with one.
            ValueError: no data, images in [0, 255], wrong shapes, or a checkpoint of another configuration.
        """
        if steps < 0 or checkpoint_every < 1 or keep_checkpoints < 1:
            raise ValueError(
                f"steps must be 0 or more, checkpoint_every and keep_checkpoints 1 or more; "
                f"got {steps}, {checkpoint_every}, {keep_checkpoints}"
            )
        if resume and checkpoint_dir is not None and (found := load_latest(checkpoint_dir)) is not None:
            self.load_state_dict(found[1])
        check_batches(batches)
        stream = self._data.read(batches)
        writes = checkpoint_dir is not None and self._rank == 0
        with (
            Progress("training", total=steps, show=progress) as bar,
            CheckpointWriter(checkpoint_dir or "", keep=keep_checkpoints) if writes else nullcontext() as writer,
        ):
            bar.advance(self.step)
            first = True
            while self.step < steps:
                chunk = [next(stream) for _ in range(self._config["accumulation"])]
                if first:
                    self._check_first(self._unpack(chunk[0])[0])
                    first = False
                report = self.train_step(chunk)
                for callback in callbacks:
                    callback(self, report)
                bar.advance(note=report.describe)
                if writer is not None and (self.step % checkpoint_every == 0 or self.step == steps):
                    writer.save(self.step, self.state_dict())

    def save(self, directory: str | os.PathLike[str], *, keep: int = 3) -> None:
        """Write a checkpoint of this step to `directory`; does nothing on ranks other than 0."""
        if self._rank == 0:
            save_checkpoint(directory, self.step, self.state_dict(), keep=keep)

    def state_dict(self) -> dict[str, Any]:
        """Return all that continuing exactly needs, as tensors and plain values."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "config": plain(self._config),
            "metadata": self._metadata,
            "step": self.step,
            "model": self._bare_model.state_dict(),
            "ema": self.ema_model.state_dict(),
            "corruption": self.corruption.state_dict() if isinstance(self.corruption, nn.Module) else {},
            "optimizer": self.optimizer.state_dict(),
            "data": self._data.state_dict(),
            "random": {
                "trainer": self.generator.get_state(),
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, random state of the process included.

        Raises:
            ValueError: of another kind, of a later version, or of another configuration; the differences
                are listed.
        """
        check_state(state, self.state_dict())
        self._bare_model.load_state_dict(state["model"])
        self.ema_model.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self._data.load_state_dict(state["data"])
        self.generator.set_state(state["random"]["trainer"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)

    def _check_first(self, images: Tensor) -> None:
        """Look at the values of the first images: once, as it waits for the device."""
        check_images(images, check_range=self._check_range)
        weight = next((parameter for parameter in self.model.parameters() if parameter.is_floating_point()), None)
        if weight is not None and images.dtype == torch.float64 != weight.dtype:
            raise TypeError(f"images are torch.float64, the model's weights {weight.dtype}; pass images.float()")

    def _unpack(self, batch: object) -> tuple[Tensor, Mapping[str, Any]]:
        """Split a batch into images on the device and conditioning."""
        images = images_of(batch)
        check_floating(images, "images")
        conditioning = {
            name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in conditioning_of(batch, self._label_name).items()
        }
        return images.to(self.device, non_blocking=True), conditioning

    def _drop(self, conditioning: Mapping[str, Any], batch: int) -> Mapping[str, Any]:
        """Replace the conditioning of some images; draws nothing if none is to be dropped."""
        probability = self._config["drop_conditioning"]
        if probability == 0:
            return conditioning
        draw = torch.rand(batch * self._world, generator=self.generator, device=self.device)
        return drop(conditioning, self._config["null_conditioning"], self._own_rows(draw) < probability)

    def _draw_times(self, batch: int) -> Tensor:
        total = batch * self._world
        draw = torch.rand(total, generator=self.generator, device=self.device)
        if self._config["time_sampling"] == "stratified":
            order = torch.randperm(total, generator=self.generator, device=self.device)
            draw = (order + draw) / total
        elif self._config["time_sampling"] == "discrete":
            count = self._config["discrete_steps"]
            index = (draw * count).floor().clamp(max=count - 1)
            draw = (1 + index * ((count - 2) / (count - 1))) / count
        return self._own_rows(draw.clamp(max=1.0))

    def _draw_noise(self, x_0: Tensor) -> Tensor:
        shape = (len(x_0) * self._world, *x_0.shape[1:])
        noise = torch.randn(shape, generator=self.generator, device=self.device, dtype=working_dtype(x_0))
        return self._own_rows(noise).to(x_0.dtype)

    def _own_rows(self, rows: Tensor) -> Tensor:
        own = len(rows) // self._world
        return rows[self._rank * own : (self._rank + 1) * own]

    @property
    def _bare_model(self) -> nn.Module:
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    @property
    def _world(self) -> int:
        return dist.get_world_size() if isinstance(self.model, DistributedDataParallel) else 1

    @property
    def _rank(self) -> int:
        return dist.get_rank() if isinstance(self.model, DistributedDataParallel) else 0

    def _synchronised(self, last: bool) -> Any:
        """Reduce gradients over ranks only on the last batch of a step."""
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) and not last else nullcontext()
