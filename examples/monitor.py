"""Watching a training run: its log, and what the averaged weights can do so far."""

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

import figures
import runs
import shortest_path as sp
from cifar10 import Pictures
from images import to_unit
from ranks import Ranks
from shortest_path.objective import Objective

MEASURE = "sliced_wasserstein"
_TIMES, _BANDS = 10, 8
_SHOWN = 64  # pictures in a grid
_SLICES = 256


class Log:
    """Writes numbers to `log.jsonl`, one object a line, and to TensorBoard.

    Args:
        folder: For `log.jsonl` and `tensorboard`.
        step: That training continues from. What was logged after it will be logged again, and is removed.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        path = folder / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step(line) <= step]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(f"{line}\n" for line in kept))
        temporary.replace(path)
        self._file = path.open("a", buffering=1)  # line by line, so that an interruption loses none
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, kind: str, step: int, values: Mapping[str, float | list[float]]) -> None:
        """Write numbers; those that are not finite become null, as JSON knows no others."""
        finite = {name: _finite(value) for name, value in values.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, **finite}, allow_nan=False) + "\n")
        for name, value in values.items():
            for index, number in enumerate(value if isinstance(value, list) else [value]):
                tag = f"{name}/{index}" if isinstance(value, list) else name
                self._board.add_scalar(f"{kind}/{tag}", number, step)

    def show(self, name: str, step: int, path: Path) -> None:
        """Show a picture file in TensorBoard."""
        with Image.open(path) as picture:
            self._board.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        self._file.close()
        self._board.close()


class Meter:
    """Means over processes and the steps since the last reading; nothing but a reading waits for the device.

    Args:
        pictures: In a step, of all processes.
        world: Number of processes; all of them must read.
    """

    def __init__(self, pictures: int, world: int = 1) -> None:
        self._pictures, self._world = pictures, world
        self._sum: Tensor | None = None
        self._steps, self._start = 0, time.perf_counter()

    def add(self, done: sp.TrainStep) -> None:
        """Count a step."""
        values = [done.loss] if done.grad_norm is None else [done.loss, done.grad_norm]
        found = torch.stack(values)
        self._sum = found if self._sum is None else self._sum + found
        self._steps += 1

    @property
    def counted(self) -> int:
        """Number of steps since the last reading."""
        return self._steps

    def read(self) -> dict[str, float]:
        """Return the means, the seconds passed and the pictures a second, and begin anew.

        Raises:
            ValueError: no step was counted.
        """
        if self._sum is None:
            raise ValueError("no step since the last reading; call add after every step")
        if self._world > 1:
            dist.all_reduce(self._sum)
        means = (self._sum / (self._steps * self._world)).tolist()
        seconds = time.perf_counter() - self._start
        rates = {"seconds": seconds, "images_per_second": self._steps * self._pictures / seconds}
        self._sum, self._steps, self._start = None, 0, time.perf_counter()
        return dict(zip(("loss", "gradient_norm"), means, strict=False)) | rates

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time that something else takes."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start


class Monitor:
    """Measures what a network can do: on pictures it was not trained on, and by drawing its own.

    The pictures, times, noise and labels are the same at every step, so that differences are the network's. All
    processes draw their share of the pictures; the first one does the rest.

    Args:
        run: The network with averaged weights, and what it was trained for.
        held: Pictures that it is not trained on.
        real: Pictures to compare with; twice as many as are drawn, if there are as many.
        me: This process.
    """

    def __init__(self, run: runs.Run, held: Pictures, real: np.ndarray, me: Ranks) -> None:
        settings = run.settings
        self._run, self._held, self._me, self._count = run, held, me, settings.evaluation_samples
        self._sampler = runs.make_sampler(run, solver="multistep", steps=settings.evaluation_steps)
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
        """Return all measures, in the first process; draws a grid of pictures to `path`.

        `loss`: mean squared error of what the network predicts, on held-out pictures; `loss_per_time`: in ten equal
        intervals of t; `loss_per_band`: in eight equal intervals of frequency. `log_power_ratio`: log of the drawn
        pictures' power over the real ones', per whole frequency; `log_power_error` and `log_power_error_max`: mean
        and maximum of its size over frequencies and channels. `sliced_wasserstein`: distance between drawn and real
        pictures; `sliced_wasserstein_of_real`: the same between two sets of real ones, which is the least to expect.
        """
        start = time.perf_counter()
        samples = self.draw() if self._count else None
        if not self._me.first:
            return {}
        values = self._losses()
        if samples is not None:
            values |= self._compare(samples)
            figures.draw_samples(path, samples[:_SHOWN], self._real)
        return values | {"seconds": time.perf_counter() - start}

    def draw(self) -> Tensor:
        """Return the network's own pictures: in every process, and the same whatever their number."""
        run, me = self._run, self._me
        own = range(me.rank, self._count + -self._count % me.world, me.world)  # as many for each
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
        drawn = torch.cat(list(batches))
        if me.world > 1:
            parts = [torch.empty_like(drawn) for _ in range(me.world)]
            dist.all_gather(parts, drawn)
            drawn = torch.stack(parts, 1).flatten(0, 1)
        return drawn[: self._count].cpu()

    @torch.no_grad()
    def _losses(self) -> dict[str, float | list[float]]:
        run, device = self._run, self._me.device
        count = max(len(self._held.images), 10 * _TIMES)
        row = torch.arange(count) % len(self._held.images)
        images, times = to_unit(self._held.images)[row], (torch.arange(count) + 0.5) / count
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(run.settings.seed))
        objective = Objective(run.corruption, run.settings.prediction, spectrum=run.spectrum)
        errors = []
        for rows in torch.arange(count).split(run.settings.batch_size):
            x_0, t, eps = (whole[rows].to(device) for whole in (images, times, noise))
            labels: dict[str, Any] = {}
            if run.classes and self._held.labels is not None:
                labels = {runs.LABELS: torch.from_numpy(self._held.labels)[row[rows]].to(device)}
            task = objective.pose(x_0, t, eps)
            error = run.model(task.x_t, t, **labels) - task.wanted
            errors.append(self._basis.analyze(error.cpu()).square().flatten(2).mean(1))
        error = torch.cat(errors).double()  # (pictures, coefficients)
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

    def _power_of(self, pictures: Tensor) -> Tensor:
        """Return the mean power of pictures in each channel of the basis and at each whole frequency, (C, n)."""
        power = self._basis.analyze(pictures.double()).square().mean(0)
        return mean_over(power.flatten(1), self._ring).clamp(min=1e-12)


def mean_over(values: Tensor, group: Tensor) -> Tensor:
    """Return the means of the last axis over its groups, in their order; numbers that no group has are left out."""
    names, index = group.unique(return_inverse=True)
    total = values.new_zeros((*values.shape[:-1], len(names))).index_add_(-1, index, values)
    return total / torch.bincount(index)


def sliced_wasserstein(x: Tensor, y: Tensor, *, slices: int = _SLICES, seed: int = 0) -> float:
    """Return the sliced Wasserstein-2 distance between two sets of pictures.

        √ mean over directions ω of  W₂²(⟨ω, x⟩, ⟨ω, y⟩),    ‖ω‖ = 1

    The larger set is cut to the size of the smaller. The directions are a function of the seed.

    Args:
        x: Pictures, (N, C, H, W).
        y: Pictures, (M, C, H, W).
        slices: Number of random directions.
        seed: Of the directions.

    Source: Rabin et al. 2012, "Wasserstein barycenter and its application to texture mixing".
    """
    count, size = min(len(x), len(y)), x[0].numel()
    directions = torch.randn(size, slices, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    directions /= directions.norm(dim=0)
    a, b = ((pictures[:count].flatten(1).double() @ directions).sort(0).values for pictures in (x, y))
    return (a - b).square().mean().sqrt().item()


def _step(line: str) -> float:
    """Return the step of a line of the log; of one that was cut off in the middle, infinity."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return math.inf


def _finite(value: float | list[float]) -> float | list[float | None] | None:
    if isinstance(value, list):
        return [number if math.isfinite(number) else None for number in value]
    return value if math.isfinite(value) else None
