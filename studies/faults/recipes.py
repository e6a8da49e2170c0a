"""The kinds of training that the faults strike: optimizers, precisions and sources of random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import shortest_path as sp

_PADDING = 2**20  # floats; makes a checkpoint of 4 MB, so that writing it takes a while
_BATCH = 8


class Recipe(NamedTuple):
    """One kind of training.

    `loader`: a `DataLoader` with a generator of its own shuffles; else the order depends on the pass alone.
    """

    words: str
    optimizer: Callable[..., torch.optim.Optimizer]
    options: dict[str, Any]
    schedule: bool = False
    dtype: torch.dtype = torch.float32
    loader: bool = False


RECIPES = {
    "adamw": Recipe("AdamW", torch.optim.AdamW, {}),
    "sgd": Recipe("SGD with momentum and a cosine schedule", torch.optim.SGD, {}, schedule=True),
    "adam-bf16": Recipe('Adam, precision="bf16", a DataLoader', torch.optim.Adam, {"precision": "bf16"}, loader=True),
    "adamw-fp16": Recipe('AdamW, precision="fp16"', torch.optim.AdamW, {"precision": "fp16"}),
    "bfloat16": Recipe("AdamW, weights in bfloat16", torch.optim.AdamW, {}, dtype=torch.bfloat16),
    "no-average": Recipe("AdamW, no average, a DataLoader", torch.optim.AdamW, {"ema_decay": None}, loader=True),
}


class Images(Dataset[Tensor]):
    """Images with noise from the global generators of torch, numpy and Python.

    Args:
        mark: Called before each image is read.
    """

    def __init__(self, mark: Callable[[], None]) -> None:
        self._images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
        self._mark = mark

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        self._mark()
        image, shift = self._images[index], 0.01 * np.random.normal() + 0.01 * random.gauss(0, 1)
        return image + 0.01 * torch.randn(image.shape) + shift


class Shuffled:
    """Batches in an order that depends on the epoch and the rank."""

    def __init__(self, images: Images, rank: int) -> None:
        self._images, self._rank, self._epoch = images, rank, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self._images), generator=torch.Generator().manual_seed(2 * self._epoch + self._rank))
        for rows in order.split(_BATCH):
            yield torch.stack([self._images[row] for row in rows.tolist()])


class Network(nn.Module):
    """A tiny network with batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.layers = nn.Sequential(first, nn.BatchNorm2d(8), nn.SiLU(), last)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return a velocity; the time is ignored."""
        return self.layers(x_t)  # type: ignore[no-any-return]


def data(recipe: str, mark: Callable[[], None], *, rank: int = 0) -> Iterable[Tensor]:
    """Return the batches of a recipe; `mark` is called before each image is read."""
    images = Images(mark)
    if RECIPES[recipe].loader:
        generator = torch.Generator().manual_seed(3 + rank)
        return DataLoader(images, batch_size=_BATCH, shuffle=True, generator=generator)
    return Shuffled(images, rank)


def trainer(
    recipe: str, *, steps: int, rank: int = 0, wrap: Callable[[nn.Module], nn.Module] | None = None
) -> sp.DiffusionTrainer:
    """Return the trainer of a recipe, the same one each time, and seed all global generators.

    Args:
        recipe: Its name in `RECIPES`.
        steps: Length of the schedule.
        rank: Added to the seeds once the weights are made.
        wrap: Wraps the network, e.g. `DistributedDataParallel`.
    """
    given = RECIPES[recipe]
    torch.manual_seed(0)
    network: nn.Module = Network().to(given.dtype)
    _seed(rank)
    network = network if wrap is None else wrap(network)
    momentum = {"momentum": 0.9} if given.optimizer is torch.optim.SGD else {}
    optimizer = given.optimizer(network.parameters(), lr=1e-2, **momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if given.schedule else None
    spectrum = sp.PowerSpectrum.power_law((3, 8, 8), amplitude=1.59, offset=0.0086, exponent=2.0)
    padding = torch.rand(_PADDING, generator=torch.Generator().manual_seed(2))
    return sp.DiffusionTrainer(
        network,
        sp.ShortestPathCorruption(spectrum),
        optimizer=optimizer,
        scheduler=schedule,
        prediction="velocity",
        max_grad_norm=1.0,
        time_sampling="stratified",
        metadata={"padding": padding},
        **{"ema_decay": 0.9, **given.options},
    )


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
