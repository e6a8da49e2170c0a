"""Watch a training run: its log, its speed, and measures of the averaged weights."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import shortest_path as sp
from shortest_path.training import DiffusionLoss, TrainStep

from . import figures, runs
from .cifar10 import Pictures
from .fid import FID
from .files import replacing
from .images import to_unit
from .metrics import sliced_wasserstein
from .ranks import Ranks

MEASURE = "sliced_wasserstein"
_TIMES, _BANDS = 10, 8
_SHOWN = 64  # images in a grid


class Log:
    """Writes numbers to `log.jsonl`, one object a line, and to TensorBoard.

    Args:
        folder: For `log.jsonl` and `tensorboard`.
        step: Step from which training continues. Lines of later steps are removed: they will be written again.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        path = folder / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        with replacing(path) as file:
            file.write("".join(f"{line}\n" for line in lines if _step(line) <= step).encode())
        self._file = path.open("a", buffering=1)  # line by line, so that an interruption loses none
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, kind: str, step: int, values: Mapping[str, float | list[float]]) -> None:
        """Write numbers; a number that is not finite becomes null, as JSON has no other."""
        finite = {name: _finite(value) for name, value in values.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, **finite}, allow_nan=False) + "\n")
        for name, value in values.items():
            for index, number in enumerate(value if isinstance(value, list) else [value]):
                tag = f"{name}/{index}" if isinstance(value, list) else name
                self._board.add_scalar(f"{kind}/{tag}", number, step)

    def show(self, name: str, step: int, path: Path) -> None:
        """Show an image file in TensorBoard."""
        with Image.open(path) as image:
            self._board.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        self._file.close()
        self._board.close()


class Meter:
    """Means over processes and the steps since the last reading; only a reading synchronises the device.

    Args:
        images: Number of images in a step, of all processes.
        world: Number of processes; all of them must read.
    """

    def __init__(self, images: int, world: int = 1) -> None:
        self._images, self._world = images, world
        self._sum: Tensor | None = None
        self._steps, self._start = 0, time.perf_counter()

    def add(self, done: TrainStep) -> None:
        """Count a step, unless it was skipped; never waits for the device, which may be the one that knows."""
        found = torch.stack([done.loss, done.grad_norm, torch.ones_like(done.loss)])
        if isinstance(done.skipped, Tensor):
            found = torch.where(done.skipped, 0.0, found)
        elif done.skipped:
            found.zero_()
        self._sum = found if self._sum is None else self._sum + found
        self._steps += 1

    @property
    def counted(self) -> int:
        """Number of steps since the last reading."""
        return self._steps

    def read(self) -> dict[str, float]:
        """Return the means, the elapsed seconds and the images per second, and start again from zero.

        Raises:
            ValueError: no step was counted.
        """
        if self._sum is None:
            raise ValueError("no step since the last reading; call add after every step")
        if self._world > 1:
            dist.all_reduce(self._sum)
        *sums, counted = self._sum.tolist()
        means = [value / counted for value in sums] if counted else []
        seconds = time.perf_counter() - self._start
        rates = {"seconds": seconds, "images_per_second": self._steps * self._images / seconds}
        self._sum, self._steps, self._start = None, 0, time.perf_counter()
        return dict(zip(("loss", "gradient_norm"), means, strict=False)) | rates  # all skipped: no means

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time spent in this context."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start


class Monitor:
    """Measures a network by its loss on images that it was not trained on, and by its samples.

    Images, times, noise and labels are the same at every step, so that only the network changes. The samples are
    divided among all processes; the first process does the rest.

    Args:
        run: The network with averaged weights, and its settings.
        held: Images that it is not trained on.
        real: Images to compare with; twice as many as samples are used, if there are as many.
        me: This process.
        fid: Measure of samples to add; None omits it.
    """

    def __init__(self, run: runs.Run, held: Pictures, real: np.ndarray, me: Ranks, fid: FID | None = None) -> None:
        settings = run.settings
        self._run, self._held, self._me, self._fid = run, held, me, fid
        self._count = settings.evaluation_samples
        self._sampler = runs.make_sampler(run, steps=settings.evaluation_steps)
        if not me.first:
            return
        basis = run.spectrum.basis
        named = sp.CosineBasis() if isinstance(basis, sp.PrincipalBasis) else copy.deepcopy(basis).cpu()
        self._basis, frequency = named, named.frequencies(run.shape[1:]).flatten()
        self._band = (frequency / frequency.max() * _BANDS).long().clamp(max=_BANDS - 1)
        self._ring = frequency.round().long()
        if self._count:
            chosen = to_unit(real[:: max(1, len(real) // (2 * self._count))][: 2 * self._count])
            self._real, others = chosen[::2], chosen[1::2]
            self._power = self._power_of(chosen)
            self._floor = sliced_wasserstein(others, self._real)

    def __call__(self, path: Path) -> dict[str, float | list[float]]:
        """Return all measures in the first process, and draw a grid of samples to `path`.

        `loss`: mean squared error of the network's prediction on held-out images; `loss_per_time`: in ten equal
        intervals of t; `loss_per_band`: in eight equal intervals of frequency. `log_power_ratio`: log of the
        power of samples over that of real images, per whole frequency; `log_power_error` and `log_power_error_max`:
        mean and maximum of its absolute value over frequencies and channels. `sliced_wasserstein`: distance between
        samples and real images; `sliced_wasserstein_of_real`: the same between two sets of real images, as a floor.
        With a FID, its value under the name that tells the number of samples and the reference.
        """
        start = time.perf_counter()
        count = max(self._count, self._fid.count if self._fid else 0)
        samples = self.sample(count) if count else torch.empty(0)
        distance = self._fid(samples) if self._fid else {}
        if not self._me.first:
            return {}
        values = self._losses()
        if self._count:
            values |= self._compare(samples[: self._count])
            figures.draw_samples(path, samples[:_SHOWN], self._real)
        return values | distance | {"seconds": time.perf_counter() - start}

    def sample(self, count: int) -> Tensor:
        """Return samples of the network: the same in every process, and for any number of processes."""
        run, me = self._run, self._me
        own = range(me.rank, count + -count % me.world, me.world)  # as many for each
        labels = {runs.LABELS: torch.tensor(own, device=me.device) % run.classes} if run.classes else None
        batches = self._sampler.batches(
            own,
            run.shape,
            batch_size=run.settings.batch_size,
            seed=run.settings.seed,
            conditioning=labels,
            clip=(-1, 1),
            progress=False,
        )
        samples = torch.cat(list(batches))
        if me.world > 1:
            parts = [torch.empty_like(samples) for _ in range(me.world)]
            dist.all_gather(parts, samples)
            samples = torch.stack(parts, 1).flatten(0, 1)
        return samples[:count].cpu()

    @torch.no_grad()
    def _losses(self) -> dict[str, float | list[float]]:
        run, device = self._run, self._me.device
        count = max(len(self._held.images), 10 * _TIMES)
        row = torch.arange(count) % len(self._held.images)
        images, times = to_unit(self._held.images)[row], (torch.arange(count) + 0.5) / count
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(run.settings.seed))
        loss = DiffusionLoss(run.corruption, run.settings.prediction, spectrum=run.spectrum)
        errors = []
        for rows in torch.arange(count).split(run.settings.batch_size):
            x_0, t, eps = (whole[rows].to(device) for whole in (images, times, noise))
            labels: dict[str, Any] = {}
            if run.classes and self._held.labels is not None:
                labels = {runs.LABELS: torch.from_numpy(self._held.labels)[row[rows]].to(device)}
            task = loss.task(x_0, t, eps)
            error = run.model(task.x_t, task.t, **labels) - task.target
            errors.append(self._basis.analyze(error.cpu()).square().flatten(2).mean(1))
        error = torch.cat(errors).double()  # (images, coefficients)
        return {
            "loss": error.mean().item(),
            "loss_per_time": mean_over(error.mean(1), (times * _TIMES).long()).tolist(),
            "loss_per_band": mean_over(error.mean(0), self._band).tolist(),
        }

    def _compare(self, samples: Tensor) -> dict[str, float | list[float]]:
        ratio = (self._power_of(samples) / self._power).log()
        return {
            "log_power_ratio": ratio.mean(0).tolist(),
            "log_power_error": ratio.abs().mean().item(),
            "log_power_error_max": ratio.abs().max().item(),
            MEASURE: sliced_wasserstein(samples, self._real),
            f"{MEASURE}_of_real": self._floor,
        }

    def _power_of(self, images: Tensor) -> Tensor:
        """Return the mean power of images in each channel of the basis and at each whole frequency, (C, n)."""
        power = self._basis.analyze(images.double()).square().mean(0)
        return mean_over(power.flatten(1), self._ring).clamp(min=1e-12)


def mean_over(values: Tensor, group: Tensor) -> Tensor:
    """Return the means of the last axis over its groups, in the order of their numbers; empty groups are left out."""
    names, index = group.unique(return_inverse=True)
    total = values.new_zeros((*values.shape[:-1], len(names))).index_add_(-1, index, values)
    return total / torch.bincount(index)


def _step(line: str) -> float:
    """Return the step of a line of the log; infinity if the line is incomplete."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return math.inf


def _finite(value: float | list[float]) -> float | list[float | None] | None:
    if isinstance(value, list):
        return [number if math.isfinite(number) else None for number in value]
    return value if math.isfinite(value) else None
