"""One process or many: who this one is among those that torchrun started."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist

from shortest_path.training import Preempted

PATIENCE = timedelta(minutes=10)
T = TypeVar("T")


class Ranks(NamedTuple):
    """This process: its number, how many there are, and its device."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def gather(self, own: T) -> list[T]:
        """Return the plain values of all processes, by rank. Collective."""
        if self.world == 1:
            return [own]
        found: list[T] = [own] * self.world
        dist.all_gather_object(found, own)
        return found


@contextmanager
def ranks(device: str | None = None, patience: timedelta = PATIENCE) -> Iterator[Ranks]:
    """Join the other processes, if torchrun started any, and leave them at the end.

    One that dies ends the others at once, with its own traceback; one that hangs ends them when they have waited for
    it as long as `patience`.

    Args:
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        patience: How long the others may take before a rank gives up on them.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if "RANK" not in os.environ:  # plain python
        yield Ranks(0, 1, torch.device(kind))
        return
    if kind == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
        dist.init_process_group("nccl", timeout=patience, device_id=chosen)
    else:
        chosen = torch.device("cpu")
        dist.init_process_group("gloo", timeout=patience)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), chosen)
    except SystemExit as stopped:  # all ranks agreed on it; but what failed on one must not wait for the others
        if isinstance(stopped, Preempted):
            _leave()
        raise
    _leave()


def _leave() -> None:
    # What still refers to the group is let go first, as gloo's threads may otherwise outlive it and abort the process.
    gc.collect()
    dist.destroy_process_group()
