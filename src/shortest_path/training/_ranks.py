"""The processes that train one model, and what they agree on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Ranks:
    """The processes of a model's `DistributedDataParallel`, or this process alone.

    A collective method must be called by all processes, in the same order.

    Args:
        model: Model, wrapped or not.
        device: Device of the model, on which tensors are exchanged.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._wrapped = model if isinstance(model, DistributedDataParallel) else None
        self._group = None if self._wrapped is None else self._wrapped.process_group
        self._device = device
        self.model: nn.Module = model if self._wrapped is None else self._wrapped.module
        """The model without its wrapper."""
        self.count = 1 if self._wrapped is None else dist.get_world_size(self._group)
        self.own = 0 if self._wrapped is None else dist.get_rank(self._group)

    def rows(self, rows: Tensor) -> Tensor:
        """Return this process's rows of those drawn for all processes."""
        count = len(rows) // self.count
        return rows[self.own * count : (self.own + 1) * count]

    def exchange_gradients(self, now: bool) -> AbstractContextManager[None]:
        """Average gradients over the processes in a backward pass, or leave it to a later one."""
        return nullcontext() if self._wrapped is None or now else self._wrapped.no_sync()

    def largest(self, value: Tensor) -> int:
        """All-reduce an integer with MAX. Collective; synchronises the device."""
        if self._wrapped is not None:
            value = value.to(self._device, torch.int32)
            dist.all_reduce(value, dist.ReduceOp.MAX, self._group)
        return int(value.item())

    def gather(self, own: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """Gather named tensors of bytes, of equal lengths on all processes, by rank. Collective."""
        if self._wrapped is None:
            return {self.own: dict(own)}
        packed = torch.cat(list(own.values())).to(self._device)
        found = [torch.empty_like(packed) for _ in range(self.count)]
        dist.all_gather(found, packed, self._group)
        lengths = [len(value) for value in own.values()]
        parts = [[part.clone() for part in torch.split(values.cpu(), lengths)] for values in found]
        return {rank: dict(zip(own, values, strict=True)) for rank, values in enumerate(parts)}

    def wait(self) -> None:
        """Return once all processes have called this method. Collective."""
        self.largest(torch.zeros(()))
