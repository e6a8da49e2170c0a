"""Training a model to undo a corruption."""

from __future__ import annotations

import inspect
import os
import warnings
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from .._checks import check_batches, check_count, check_function, images_of
from .._files import checked_path
from .._progress import Progress
from ._base import TrainerBase
from ._batches import check_first
from ._checkpoint import checksum, load_checkpoint, load_latest, save_checkpoint, whole_checkpoints
from ._continued import ContinuedTrainer
from ._options import TrainingOptions
from ._preemption import Stop
from ._saver import Saver
from ._settings import settings_of
from ._state import check_names, of_all_ranks
from ._step import TrainStep

_LOOK_EVERY = 50  # steps between looks at how many the device has skipped

Callback: TypeAlias = Callable[["DiffusionTrainer", TrainStep], None]


class DiffusionTrainer(ContinuedTrainer):
    """Trains any model to undo any corruption.

        loss = E ‖model(x_t, t) − target‖²,    x_t = Bᵀ[ signal(t) ⊙ B x_0 + noise(t) ⊙ B ε ]

    as `DiffusionLoss` computes it.

    Under `torch.distributed`, with the model wrapped in `DistributedDataParallel`, each rank takes its rows
    of random numbers drawn for the global batch: N ranks compute what one process would with the N batches
    put together, in the order of the ranks.

    Args:
        model: `model(x_t, t, **conditioning)` returns a tensor like `x_t`; `t` is float (B,) in [0, 1].
        corruption: Any object that implements `Corruption`, on the model's device.
        spectrum: The data's power, for the whitened velocity; None takes the corruption's own, if it has one.
        optimizer: None makes `torch.optim.AdamW(model.parameters(), lr=learning_rate)`.
        scheduler: Schedule of the optimizer's learning rate, stepped after each training step, taken or skipped.
        metadata: Tensors and plain values to keep in every checkpoint, e.g. the settings and the spectrum from which
            network and corruption can be made again. The trainer does not read them.
        prediction: What the model returns, as in `DiffusionLoss`.
        weighting: As in `DiffusionLoss`.
        learning_rate: Learning rate of the default optimizer; None is 2e-4.
        ema_decay: Decay of the averaged weights, in [0, 1), or a sequence of several: `ema_models` holds an average
            for each, and the first is `ema_model`. None keeps no average.
        ema_warmup: Whether an average forgets the initial weights sooner, with decay
            min(ema_decay, (1 + k) / (10 + k)) at step k; None (default) does.
        precision: `"bf16"` or `"fp16"` runs the model under autocast in bfloat16 or float16; corruption and loss stay
            in float32. With float16 the loss is scaled, as its gradients would vanish.
        time_sampling: As in `DiffusionLoss`, or `"loss-second-moment"`: times are drawn in proportion to √E[L² | t],
            measured in 100 bins of t during training, and the losses are weighted with the inverse, so that the
            expected loss is that of uniform times. It lowers the variance of losses that depend strongly on t.
        discrete_steps: As in `DiffusionLoss`.
        accumulation: Number of batches whose gradients make one step.
        max_grad_norm: Norm to which the gradient is clipped; None does not clip.
        max_skipped: Number of consecutive non-finite steps after which `fit` raises.
        image_key: Key of the images in batches that are mappings.
        label_name: Name under which the second element of a (images, labels) batch is passed to the model;
            None leaves labels out.
        label_key: Key of the labels in batches that are mappings.
        drop_conditioning: Probability in [0, 1) with which an image is trained on with `null_conditioning`, as
            classifier-free guidance requires; 0.1 is usual.
        null_conditioning: Conditioning that means "no conditioning", by name: a number, or a fixed tensor that
            broadcasts to the batch's. Entries that it does not name are never dropped.
        seed: Random seed for times and noise.
        check_range: Refuse training images that look like [0, 255], and warn of [0, 1]; False for latents of any scale.

    Raises:
        TypeError: an argument of another type, or an unknown option.
        ValueError: an option that is unknown, out of range or without effect, a corruption on another device, or a
            scheduler of another optimizer.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 14; Das et al. 2023, arXiv:2306.00501, algorithm 1;
        Ho & Salimans 2022, arXiv:2207.12598, algorithm 1 (dropped conditioning); Nichol & Dhariwal 2021,
        arXiv:2102.09672, section 3.3 (times by loss).

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
        >>> trainer
        DiffusionTrainer(Model, GaussianCorruption(schedule='cosine', basis=PixelBasis(dims=2)),
        prediction='noise', AdamW, 2 steps)
    """

    def fit(
        self,
        batches: Iterable[object],
        *,
        steps: int,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1000,
        keep_checkpoints: int = 3,
        resume: bool | str | os.PathLike[str] = True,
        on_signal: Literal["save"] | None = None,
        allow_changes: Collection[str] = (),
        callbacks: Sequence[Callback] = (),
        progress: bool | None = None,
    ) -> None:
        """Train until `steps` steps have been made in total.

        Under `DistributedDataParallel`, all ranks must pass the same arguments.

        Args:
            batches: An iterable of images (B, C, *spatial), of (images, labels), of (images, mapping of conditioning),
                or of mappings with `image_key` and `label_key`. Iterated again and again if it can be; a
                `set_epoch(n)` of it or of its `sampler` is called before each pass. To continue exactly after a resume,
                a pass must be determined by n, the random states of torch, numpy and Python, and generators that it,
                its samplers or its `dataset` have as `generator`, as a `DataLoader`'s is. Warns if it is not known to.
            steps: Total number of steps to reach, including skipped steps and those before a resume.
            checkpoint_dir: Folder in which to write `checkpoint-<step>.pt`; None writes none. It is made, tried and
                locked before the first step. Rank 0 writes, while training goes on; all is written when `fit` returns.
            checkpoint_every: Steps between checkpoints; one is also written at the end.
            keep_checkpoints: Number of newest checkpoints of this training to keep; damaged ones do not count.
            resume: Continue from the newest undamaged checkpoint in `checkpoint_dir`, if there is one. Warns if the
                number of processes differs. A file: continue from this checkpoint where `checkpoint_dir` has none, so
                that the same call continues after an interruption too. False requires a folder without later
                checkpoints.
            on_signal: `"save"` turns SIGTERM and SIGINT (Ctrl-C) into a request: all ranks finish the present step,
                write its checkpoint and stop; a second signal acts at once. It requires `checkpoint_dir`, and installs
                signal handlers while training. SLURM sends SIGTERM 120 s before it kills if told `--signal=TERM@120`.
            allow_changes: Options that may differ from the checkpoint's; see `load_state_dict`.
            callbacks: Each is called with (trainer, TrainStep) after every step.
            progress: True or False; None shows progress on a terminal if the work is long.

        Raises:
            TypeError: an item is not a floating-point tensor or a tuple that begins with one.
            FileNotFoundError: the file of `resume` does not exist.
            ValueError: no data, images in [0, 255], wrong shapes, a checkpoint of another configuration, or the file of
                `resume` is not a checkpoint; or as `train_step` raises.
            RuntimeError: it is called in `torch.no_grad()` or `torch.inference_mode()`.
            NonFiniteError: more than `max_skipped` steps in a row were skipped. The state from before them is in
                `before-nonfinite-<step>.pt`. Where the device skips steps (see `train_step`), this and the warnings
                come up to 50 steps later; until then, no later step changes anything.
            Preempted: a SystemExit with the code 75, after SIGTERM with `on_signal="save"`.
            KeyboardInterrupt: after SIGINT.
        """
        self._trainable.check()
        check_count("steps", steps, least=0)
        check_count("checkpoint_every", checkpoint_every)
        check_count("keep_checkpoints", keep_checkpoints)
        if on_signal not in (None, "save"):
            raise ValueError(f"on_signal must be 'save' or None, got {on_signal!r}")
        if on_signal is not None and checkpoint_dir is None:
            raise ValueError("on_signal='save' requires checkpoint_dir, where it saves; pass one, or omit it")
        check_names(allow_changes, self._config)
        if not isinstance(callbacks, Iterable):
            raise TypeError(f"callbacks must be a sequence of functions, got {type(callbacks).__name__}; pass a list")
        for callback in callbacks:
            check_function("every callback", callback, "(trainer, TrainStep)")
        if checkpoint_dir is not None:
            checkpoint_dir = checked_path("checkpoint_dir", checkpoint_dir, "'.' for the present folder")
        check_batches(batches)
        if steps < self.step:
            warnings.warn(
                f"steps={steps} is the total to reach, and {self.step} steps are made: nothing is left to do",
                RuntimeWarning,
                stacklevel=2,
            )
        file = None if isinstance(resume, bool) else checked_path("resume", resume, "True")
        if (
            checkpoint_dir is not None
            and resume is False
            and (later := whole_checkpoints(checkpoint_dir, after=self.step))
        ):
            raise ValueError(
                f"resume=False requires a folder without checkpoints of later steps than {self.step}, got "
                f"{later[-1].name} in {os.fspath(checkpoint_dir)}; pass another checkpoint_dir, or move them away"
            )
        with (
            self._limited(),
            Stop(self._ranks, active=on_signal is not None) as stop,
            Progress("training", total=steps, show=progress) as bar,
            Saver(checkpoint_dir, self._ranks, every=checkpoint_every, keep=keep_checkpoints) as saver,
        ):
            found = self._found_by_all(checkpoint_dir, file) if resume is not False else None
            if found is not None:
                self._load_together(found[1], allow_changes)
            elif checkpoint_dir is not None:
                self._state()  # raises for what a checkpoint could not give back, before the first step
            resumed, found, self._left = found is not None, None, None
            stream, first = self._position.data.read(batches), True
            marks = [self._position.mark()]  # positions since the last step that was taken
            bar.advance(self.step)
            while True:
                here = self._position.mark()
                chunk = stop.read(stream, self.options.accumulation) if self.step < steps else []
                if stop.agreed() or not chunk:
                    self._look(marks, saver, stacklevel=3)
                    break
                if first:
                    check_first(chunk[0], self._ranks.model, self.options)
                    self._position.count_images(
                        (images_of(batch, self.options.image_key) for batch in chunk), resumed=resumed, stacklevel=2
                    )
                    first = False
                marks.append(here)
                report = self.train_step(chunk)
                for callback in callbacks:
                    callback(self, report)
                bar.advance(note=report.describe)
                due = saver.due(self.step, steps)
                if due or self.step == steps or self.step % _LOOK_EVERY == 0:
                    self._check_rates()
                if due or isinstance(report.skipped, bool) or self.step % _LOOK_EVERY == 0:
                    self._look(marks, saver, stacklevel=3)
                if due:
                    saver.save(self._state())
            if stop.agreed():
                stream.close()  # and with it the processes that load data
                self._position.go_back({**here, "skipped": self._position.skipped.state_dict()})
                stop.leave(self.step, saver.finish(self._state()))

    def save(self, directory: str | os.PathLike[str], *, keep: int = 3) -> None:
        """Write a checkpoint of this step to `directory`; rank 0 writes, but all ranks must call it."""
        state = of_all_ranks(self._state(), self._ranks)
        if self._ranks.own == 0:
            save_checkpoint(directory, self.step, state, keep=keep)

    @staticmethod
    def _found(folder: Path | None, file: Path | None) -> tuple[Path, dict[str, Any]] | None:
        """Return the checkpoint to continue from."""
        if folder is not None:
            return load_latest(folder, otherwise=file)
        return None if file is None else (file, load_checkpoint(file))

    def _found_by_all(self, folder: Path | None, file: Path | None) -> tuple[Path, dict[str, Any]] | None:
        """Return the checkpoint to continue from, of the same content in all processes. Collective."""
        problem, found = None, None
        try:
            found = self._found(folder, file)
        except (OSError, ValueError) as error:
            problem = error
        self._ranks.raise_together(problem, "another process cannot read its checkpoint to continue from")
        if not self._ranks.agree(-1 if found is None else checksum(found[0])):
            here = "no checkpoint" if found is None else f"{found[0]} of step {found[1].get('step')}"
            raise ValueError(
                f"the processes would continue from different checkpoints, this one from {here}; let checkpoint_dir be "
                "a folder that all of them share, as rank 0 alone writes"
            )
        return found

    def _load_together(self, state: Mapping[str, Any], allow_changes: Collection[str]) -> None:
        """Continue from a state, or raise in all processes where one of them cannot. Collective."""
        problem = None
        try:
            self.load_state_dict(state, allow_changes=allow_changes)
        except (TypeError, ValueError, RuntimeError) as error:
            problem = error
        self._ranks.raise_together(problem, "another process cannot continue from the checkpoint")

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Let nothing change after too many skipped steps in a row, until `_look` raises."""
        self._limit = self.options.max_skipped
        self._position.skipped.begin()
        try:
            yield
        finally:
            self._limit = None
            if self._left is None:  # else it did not come to a step
                self._left = self.step, settings_of(self.optimizer, self.scheduler)

    def _check_rates(self) -> None:
        """Raise a ValueError in all processes if their learning rates differ. Collective."""
        if self._ranks.count == 1:
            return
        rates = [float(group["lr"]) for group in self.optimizer.param_groups if "lr" in group]
        if not self._ranks.agree(zlib.crc32(repr(rates).encode())):
            raise ValueError(
                f"the processes have different learning rates after step {self.step}, this one {rates}; make their "
                "schedules of the same numbers, e.g. of the number of steps and not of each process's len(loader)"
            )

    def _look(self, marks: list[dict[str, Any]], saver: Saver, *, stacklevel: int) -> None:
        """Warn of skipped steps, and raise after too many; waits for the device if it counts them.

        Args:
            marks: Positions since the last step that was taken, the oldest first; those before are removed.
            saver: Saves the state of the oldest.
            stacklevel: As `warnings.warn` takes it.
        """
        skipped = self._position.skipped
        row = skipped.in_a_row
        marks[:] = [each for each in marks if row and each["step"] >= skipped.last_step - row]
        if row > self.options.max_skipped:
            good = marks[0]
            since = skipped.last_step - good["step"]
            counts = {"total": skipped.total - since, "in_a_row": row - since}
            state = {**self._state(), **good, "skipped": counts}
            saved = saver.set_aside(f"before-nonfinite-{good['step']:08d}.pt", state)
            raise skipped.error(saved, first=self._likely_cure())
        if self._ranks.own == 0:
            skipped.warn(stacklevel=stacklevel)

    def _likely_cure(self) -> str:
        """Return what to try where too many steps were not finite, if something is likely to be the cause."""
        cures = []
        if callable(self.options.weighting):
            cures.append("a function weighting whose weights are finite at every time")
        if any(each.dtype == torch.float16 for each in self.model.parameters()):
            cures.append("model.float() with precision='fp16', as weights in float16 cannot hold small gradients")
        return ", and ".join(cures)


def _signature() -> inspect.Signature:
    """Return the constructor's signature with every option in the place of `**options`, for `help` and editors."""
    own = inspect.signature(TrainerBase.__init__).parameters
    options = inspect.signature(TrainingOptions).parameters.values()
    return inspect.Signature([*(each for name, each in own.items() if name not in ("self", "options")), *options])


DiffusionTrainer.__signature__ = _signature()  # type: ignore[attr-defined]
