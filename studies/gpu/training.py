"""Training a case in slices of time, from the newest checkpoint in its folder."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import shortest_path as sp
from examples.recipe.cifar10 import Pictures, RankBatches
from examples.recipe.runs import make_network, measure_spectrum, unet_of
from examples.recipe.settings import Settings
from shortest_path.training import load_latest
from studies.gpu.cases import Case


class Slice(NamedTuple):
    """One slice of a training: the step after it, its seconds, and the mean of its losses."""

    step: int
    seconds: float
    loss: float


class Training:
    """The training of one case.

    Seconds are those of training steps: reading images, the first step of a call (which chooses algorithms, or
    compiles) and writing checkpoints are left out. The images of a step, times, noise and initial weights depend on
    the seed and the step alone, so they are the same in all cases with networks of the same shape.

    Args:
        case: The case.
        settings: Its settings at the chosen size.
        pictures: Training images.
        folder: For the checkpoints; its parent keeps the spectra.
        device: Device of network and images.
        compile: Compile the network.
    """

    def __init__(
        self,
        case: Case,
        settings: Settings,
        pictures: Pictures,
        folder: Path,
        device: torch.device,
        *,
        compile: bool = False,
    ) -> None:
        self.case, self.settings, self.device, self._folder = case, settings, device, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.spectrum = _spectrum(settings, pictures, folder.parent)
        corruption = case.corruption(settings, self.spectrum).to(device)
        torch.manual_seed(settings.seed)
        network = make_network(settings, corruption, self.spectrum, 0).to(device)
        self.parameters = sum(weights.numel() for weights in network.parameters())
        optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, fused=device.type == "cuda")
        self.trainer = sp.DiffusionTrainer(
            network,
            corruption,
            spectrum=self.spectrum,
            optimizer=optimizer,
            prediction=settings.prediction,
            ema_decay=settings.ema_decay,
            precision="bf16" if settings.bf16 == "yes" else "fp32",
            time_sampling="stratified",
            max_grad_norm=settings.max_grad_norm,
            seed=settings.seed,
            metadata={"title": case.title},
        )
        if compile:
            for each in (self.trainer.model, self.trainer.ema_model):
                unet_of(each).compile()  # in place: the names of the weights stay
        found = load_latest(folder)
        if found is not None:
            self.trainer.load_state_dict(found[1])
        self._batches = RankBatches(pictures, settings.batch_size, seed=settings.seed, device=device)
        self._warm = False

    @property
    def step(self) -> int:
        """Number of steps so far."""
        return self.trainer.step

    def train(self, seconds: float) -> Slice:
        """Train for a time, and return the slice; at least one step."""
        stream = self._stream()
        self._warm_up(next(stream))
        stream = self._stream()
        losses: list[Tensor] = []
        begin = time.perf_counter()
        while not losses or time.perf_counter() - begin < seconds:
            rate = self.settings.learning_rate * min(1.0, (self.step + 1) / max(1, self.settings.warmup))
            for group in self.trainer.optimizer.param_groups:
                group["lr"] = rate
            done = self.trainer.train_step([next(stream)])  # waits for the device, to see whether the step is finite
            losses.append(done.loss)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        spent = time.perf_counter() - begin
        return Slice(self.step, spent, float(torch.stack(losses).mean().nan_to_num(nan=0.0)))

    def save(self) -> None:
        """Write a checkpoint in place of the one before."""
        self.trainer.save(self._folder, keep=1)

    def _stream(self) -> Iterator[Tensor]:
        """Yield the batches from this step on."""
        epoch, done = divmod(self.step, len(self._batches))
        while True:
            self._batches.set_epoch(epoch)
            yield from itertools.islice(self._batches, done, None)
            epoch, done = epoch + 1, 0

    def _warm_up(self, x_0: Tensor) -> None:
        """Run a step that changes nothing and uses none of the trainer's random numbers."""
        if self._warm:
            return
        state = torch.random.get_rng_state()
        self.trainer.model.train()
        self.trainer.loss(x_0, t=0.5, eps=torch.zeros_like(x_0)).backward()
        self.trainer.optimizer.zero_grad(set_to_none=True)
        torch.random.set_rng_state(state)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._warm = True


def _spectrum(settings: Settings, pictures: Pictures, folder: Path) -> sp.PowerSpectrum:
    """Return the spectrum of the images, measured once for all cases that share it."""
    own = settings.corruption == "shortest-path"
    kind = (settings.basis, settings.channels, settings.spectrum) if own else ("cosine", "rotate", "measured")
    path = folder / f"spectrum-{'-'.join(kind)}.npz"
    if not path.exists():
        measure_spectrum(settings, pictures).save(path)
    return sp.PowerSpectrum.load(path)
