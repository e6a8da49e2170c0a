"""Training a model to undo a corruption."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from .batches import check_first, on_device
from .checkpoint import load_latest, save_checkpoint
from .checks import check_batches, check_floating, images_of
from .corruption import Corruption, as_times, check_device, device_of
from .drawing import Draws, TimeSampling
from .model import check_output
from .nonfinite import Evidence, NonFiniteError, norms_by_module
from .objective import Objective
from .options import Precision, check_options
from .prediction import Prediction
from .preemption import Stop
from .progress import Progress
from .ranks import Ranks
from .saving import Saver
from .spectrum import PowerSpectrum
from .training_state import FORMAT, VERSION, Position, check_names, differences, of_all_ranks, plain, upgrade
from .weights import Weights


class TrainStep(NamedTuple):
    """What a training step did; the tensors are on the device, so that looking at them is the caller's choice."""

    step: int
    loss: Tensor
    grad_norm: Tensor
    """Of all gradients together, before they are clipped."""
    skipped: bool = False
    """Whether loss or gradient was not finite, and the weights stayed as they were."""

    def describe(self) -> str:
        """Return the loss in words; waits for the device."""
        return f"loss {self.loss.item():.4f}"


Callback: TypeAlias = Callable[["DiffusionTrainer", TrainStep], None]


class DiffusionTrainer:
    """Trains any model to undo any corruption.

        loss = E ‖model(x_t, t) − target‖²,    x_t = Bᵀ[ signal(t) ⊙ B x_0 + noise(t) ⊙ B ε ]

    the mean over pixels, where the target is that of the `prediction` (`shortest_path.prediction`); with a
    `weighting`, the mean over coefficients of the error that the output implies in another prediction type.

    Under `torch.distributed`, with the model wrapped in `DistributedDataParallel`, each rank takes its rows
    of random numbers drawn for the global batch: N ranks compute what one process would with the N batches
    put together, in the order of the ranks.

    Args:
        model: `model(x_t, t, **conditioning)` returns a tensor like `x_t`; `t` is float (B,) in [0, 1].
        corruption: Any object that satisfies `Corruption`, on the model's device.
        prediction: What the model returns: `"noise"`, `"data"`, `"velocity"`, or `"whitened-velocity"`, which has
            about unit size at every frequency and time.
        weighting: The prediction type whose squared error is the loss; None for the model's own. Errors of
            `"noise"` weigh without bound as signal(t) → 0, those of `"data"` as noise(t) → 0.
        spectrum: The data's power, for the whitened velocity; None takes it from the corruption if that knows it.
        optimizer: None makes `torch.optim.AdamW(model.parameters(), lr=learning_rate)`.
        learning_rate: Of the default optimizer.
        scheduler: Of the optimizer's learning rate; it takes a step after each that the optimizer takes.
        ema_decay: Of the averaged weights, in [0, 1).
        precision: `"bf16"` runs the model under bfloat16 autocast; corruption and loss stay in float32.
        time_sampling: `"uniform"` in [0, 1); `"stratified"`: one time in each of B equal intervals, in random
            order; `"discrete"`: the times of the paper's code, τ_k / T with τ = linspace(1, T − 1, T).
        discrete_steps: T, for discrete times.
        accumulation: Number of batches whose gradients make one step.
        max_grad_norm: Clip the gradient to this norm; None does not clip.
        max_skipped: Steps whose loss or gradient is not finite are skipped; `fit` stops after more in a row.
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
        ValueError: an option that is unknown or out of range, a corruption on another device, or a scheduler of
            another optimizer.

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
        weighting: Prediction | None = None,
        spectrum: PowerSpectrum | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        learning_rate: float = 2e-4,
        scheduler: LRScheduler | None = None,
        ema_decay: float = 0.9999,
        precision: Precision = "fp32",
        time_sampling: TimeSampling = "uniform",
        discrete_steps: int = 4000,
        accumulation: int = 1,
        max_grad_norm: float | None = None,
        max_skipped: int = 10,
        label_name: str | None = None,
        drop_conditioning: float = 0.0,
        null_conditioning: Mapping[str, Any] | None = None,
        seed: int = 0,
        check_range: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(corruption, Corruption):
            raise TypeError(f"corruption must have basis, signal and noise, got {type(corruption).__name__}")
        if max_skipped < 0:
            raise ValueError(f"max_skipped must be 0 or more, got {max_skipped}")
        self.model = model
        self.corruption = corruption
        self.device = device_of(model)
        check_device(corruption, self.device)
        self.optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=learning_rate)
        self.scheduler = scheduler
        self._ranks = Ranks(model, self.device)
        self._position = Position(self._ranks, self.device, seed)
        self._weights = Weights(
            self._ranks.model, self.optimizer, scheduler, ema_decay=ema_decay, max_grad_norm=max_grad_norm
        )
        self._max_skipped = max_skipped
        self._check_range = check_range
        self._metadata = dict(metadata or {})
        options = {
            "prediction": prediction,
            "weighting": weighting,
            "ema_decay": ema_decay,
            "precision": precision,
            "time_sampling": time_sampling,
            "discrete_steps": discrete_steps,
            "accumulation": accumulation,
            "max_grad_norm": max_grad_norm,
            "label_name": label_name,
            "drop_conditioning": drop_conditioning,
            "null_conditioning": null_conditioning,
            "seed": seed,
            "learning_rate": None if optimizer else learning_rate,
            "optimizer": type(self.optimizer).__name__,
            "scheduler": None if scheduler is None else type(scheduler).__name__,
            "corruption": repr(corruption),
            "spectrum": None if spectrum is None else repr(spectrum),
        }
        self._config = check_options(options, self.device)
        self._objective = Objective(corruption, prediction, weighting=weighting, spectrum=spectrum)
        self._spectrum = spectrum
        self._draws = Draws(self._config, self.generator, self._ranks)
        self._times = torch.empty(0)  # of the latest loss

    @property
    def ema_model(self) -> nn.Module:
        """The model with averaged weights, in eval mode: the one to sample from."""
        return self._weights.average.model

    @property
    def step(self) -> int:
        """Number of steps made, skipped ones counted in."""
        return self._position.step

    @property
    def skipped(self) -> int:
        """Number of steps skipped, as their loss or gradient was not finite."""
        return self._position.skipped.total

    @property
    def generator(self) -> torch.Generator:
        """Of the times and the noise."""
        return self._position.generator

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
        t = self._draws.times(len(x_0)) if t is None else as_times(t, x_0).expand(len(x_0))
        self._times = t
        eps = self._draws.noise(x_0) if eps is None else eps
        task = self._objective.pose(x_0, t, eps)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._config["precision"] == "bf16"):
            output = self.model(task.x_t, t, **(conditioning or {}))
        check_output(output, task.x_t)
        return task.loss(output)

    def train_step(self, batches: Sequence[object]) -> TrainStep:
        """Take one optimizer step on `accumulation` batches, given as `fit` takes them.

        A step is skipped if the gradient, or the loss of any rank, is not finite; to know, every step waits for the
        device before the weights change. `fit` warns, and stops if there are too many.

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
        losses, times = [], []
        for index, batch in enumerate(batches):
            x_0, conditioning = on_device(batch, self._config["label_name"], self.device)
            conditioning = self._draws.drop(conditioning, len(x_0))
            with self._ranks.exchange_gradients(now=index == len(batches) - 1):
                loss = self.loss(x_0, conditioning=conditioning) / len(batches)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            losses.append(loss.detach())
            times.append(self._times)
        norm = self._weights.gradient_norm().to(self.device)
        skipped = bool(self._ranks.largest(~torch.stack((total, norm)).isfinite().all()))
        self._position.step += 1
        if skipped:
            modules = norms_by_module(self._ranks.model)
            self._position.skipped.add(Evidence(self.step, losses, times, norm, modules))
            self._weights.stay()
        else:
            self._position.skipped.end_row()
            self._weights.move(norm)
        return TrainStep(self.step, total, norm, skipped)

    def fit(
        self,
        batches: Iterable[object],
        *,
        steps: int,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1000,
        keep_checkpoints: int = 3,
        resume: bool = True,
        allow_changes: Collection[str] = (),
        callbacks: Sequence[Callback] = (),
        progress: bool | None = None,
    ) -> None:
        """Train until `steps` steps have been made in all.

        With a `checkpoint_dir`, SIGTERM and SIGINT (Ctrl-C) end training after the present step and a checkpoint of
        it, on all ranks alike; a second signal acts at once. SLURM sends SIGTERM 120 s before it kills if told
        `--signal=TERM@120`. Under `DistributedDataParallel`, all ranks must pass the same arguments.

        Args:
            batches: An iterable of images (B, C, *spatial), of (images, labels), or of (images, mapping of
                conditioning). Iterated again and again if it can be; a `set_epoch(n)` of it or of its
                `sampler` is called before each pass. To continue exactly after a resume, a pass must be
                determined by n and torch's random state, as a `DataLoader`'s is.
            steps: Total to reach, skipped steps and those before a resume counted in.
            checkpoint_dir: Where to write `checkpoint-<step>.pt`; None writes none. Rank 0 writes, while training goes
                on; all is written when `fit` returns.
            checkpoint_every: Steps between checkpoints; one is also written at the end.
            keep_checkpoints: How many of the newest to keep.
            resume: Continue from the newest checkpoint in `checkpoint_dir` that is whole, if there is one. Warns if
                the number of processes is another.
            allow_changes: Options that may differ from the checkpoint's; see `load_state_dict`.
            callbacks: Each is called with (trainer, TrainStep) after every step.
            progress: True or False; None shows progress on a terminal if the work is long.

        Raises:
            TypeError: an item is not a floating-point tensor or a tuple that begins with one.
            ValueError: no data, images in [0, 255], wrong shapes, or a checkpoint of another configuration.
            NonFiniteError: more than `max_skipped` steps in a row were skipped. The state from before them is in
                `before-nonfinite-<step>.pt`.
            Preempted: a SystemExit with the code 75, after SIGTERM.
            KeyboardInterrupt: after SIGINT.
        """
        if steps < 0 or checkpoint_every < 1 or keep_checkpoints < 1:
            given = f"{steps}, {checkpoint_every}, {keep_checkpoints}"
            raise ValueError(f"steps must be 0 or more, checkpoint_every and keep_checkpoints 1 or more; got {given}")
        check_names(allow_changes, self._config)
        check_batches(batches)
        found = load_latest(checkpoint_dir) if resume and checkpoint_dir is not None else None
        if found is not None:
            self.load_state_dict(found[1], allow_changes=allow_changes)
        resumed, found = found is not None, None
        stream, first, good = self._position.data.read(batches), True, self._position.state_dict()
        with (
            Stop(self._ranks, active=checkpoint_dir is not None) as stop,
            Progress("training", total=steps, show=progress) as bar,
            Saver(checkpoint_dir, self._ranks, every=checkpoint_every, keep=keep_checkpoints) as saver,
        ):
            bar.advance(self.step)
            while True:
                here = self._position.state_dict()
                chunk = stop.read(stream, self._config["accumulation"]) if self.step < steps else []
                if stop.agreed() or not chunk:
                    break
                if first:
                    check_first(images_of(chunk[0]), self.model, check_range=self._check_range)
                    self._position.count_images(map(images_of, chunk), resumed=resumed, stacklevel=2)
                    first = False
                if not self._position.skipped.in_a_row:
                    good = here
                report = self.train_step(chunk)
                for callback in callbacks:
                    callback(self, report)
                bar.advance(note=report.describe)
                if self._position.skipped.in_a_row > self._max_skipped:
                    self._give_up(good, saver)
                if report.skipped and self._ranks.own == 0:
                    self._position.skipped.warn(stacklevel=2)
                if saver.due(self.step, steps):
                    saver.save(self.state_dict())
            if stop.agreed():
                stream.close()  # and with it the processes that load data
                self._position.go_back(here)
                stop.leave(self.step, saver.finish(self.state_dict()))

    def save(self, directory: str | os.PathLike[str], *, keep: int = 3) -> None:
        """Write a checkpoint of this step to `directory`; rank 0 writes, but all ranks must call it."""
        state = of_all_ranks(self.state_dict(), self._ranks)
        if self._ranks.own == 0:
            save_checkpoint(directory, self.step, state, keep=keep)

    def state_dict(self) -> dict[str, Any]:
        """Return all that continuing exactly needs, as tensors and plain values; of torch's random state, this rank's.

        Checkpoints that `save` and `fit` write hold that of all ranks.
        """
        return {
            "format": FORMAT,
            "version": VERSION,
            "config": plain(self._config),
            "metadata": self._metadata,
            "corruption": self.corruption.state_dict() if isinstance(self.corruption, nn.Module) else {},
            "spectrum": {} if self._spectrum is None else {"power": self._spectrum.power},
            **self._weights.state_dict(),
            **self._position.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, allow_changes: Collection[str] = ()) -> None:
        """Continue from what `state_dict` returned, random state of the process included.

        Args:
            state: As this version or an earlier one returned it.
            allow_changes: Names of options that may differ from those in `state`, or `"corruption"`. Another
                optimizer or scheduler begins anew, and so do times and noise with another seed.

        Raises:
            ValueError: of another kind, of a later version, or of another configuration; the differences
                are listed.
        """
        state, generator = upgrade(state, self._ranks.count), self.generator.get_state()
        changed = differences(state, self.state_dict(), allow_changes)
        self._weights.load_state_dict(state, changed)
        self._position.load_state_dict(state)
        if "seed" in changed:
            self.generator.set_state(generator)

    def _give_up(self, good: Mapping[str, Any], saver: Saver) -> NoReturn:
        """Save the state that was at a good position, and raise a report of what came after it."""
        after = self._position.data.state_dict()
        saved = saver.set_aside(f"before-nonfinite-{good['step']:08d}.pt", {**self.state_dict(), **good})
        raise NonFiniteError(self._position.skipped.report(good["data"], after, saved))
