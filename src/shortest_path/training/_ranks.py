"""The processes that train one model, and what they agree on."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .._model import network_of


class Share(NamedTuple):
    """The images of this process among those of a global batch: the batches of all ranks, one after the other."""

    first: int
    images: int
    total: int

    def of(self, rows: Tensor) -> Tensor:
        """Return this process's rows of those drawn for the global batch."""
        return rows[self.first : self.first + self.images]


class Ranks:
    """The processes of a model's `DistributedDataParallel`, or this process alone.

    The wrapper is found under and over `torch.compile`, and inside modules around it, such as Fabric's and
    Accelerate's. A collective method must be called by all processes, in the same order.

    Args:
        model: Model, wrapped or not.
        device: Device of the model, on which tensors are exchanged.

    Raises:
        ValueError: several processes, and a model whose weights they do not exchange, or hold in parts.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        if sharded := _sharded(model):
            raise ValueError(
                f"{sharded} holds each weight in parts, which the average and the checkpoints of DiffusionTrainer do "
                "not put together; use DistributedDataParallel, or sp.DiffusionLoss in a loop of your own"
            )
        self._wrapped = _distributed(model)
        if self._wrapped is None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            raise ValueError(
                f"{dist.get_world_size()} processes train {type(model).__name__}, which is not in a "
                "DistributedDataParallel, so that each would train a model of its own; pass "
                "DistributedDataParallel(model), or destroy the process group"
            )
        self._group = None if self._wrapped is None else self._wrapped.process_group
        self._device = device
        self.model: nn.Module = network_of(model if self._wrapped is None else self._wrapped)
        """The network itself, without wrappers."""
        self.count = 1 if self._wrapped is None else dist.get_world_size(self._group)
        self.own = 0 if self._wrapped is None else dist.get_rank(self._group)
        self._beside: list[Tensor] = []  # what is trained outside the wrapper

    def even_share(self, size: int) -> Share:
        """Return the share of this process where each has a batch of `size` images."""
        return Share(self.own * size, size, self.count * size)

    def shares(self, sizes: Sequence[int]) -> list[Share]:
        """Return this process's share in each of the global batches, from the sizes of its own. Collective.

        Waits for the device if the process group has no exchange for the CPU ("cpu:gloo,cuda:nccl" has one).
        """
        if self._wrapped is None:
            return [self.even_share(size) for size in sizes]
        on_cpu = "cpu" in dist.get_backend_config(self._group)
        own = torch.tensor(sizes, dtype=torch.int64, device="cpu" if on_cpu else self._device)
        found = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(found, own, self._group)
        by_batch = torch.stack(found, 1).tolist()
        return [Share(sum(each[: self.own]), each[self.own], sum(each)) for each in by_batch]

    def rows(self, own: Tensor, share: Share) -> Tensor:
        """Return the numbers of all images of a global batch, (n,), from those of this process. Collective."""
        if self._wrapped is None:
            return own
        found = own.new_zeros(share.total)
        found[share.first : share.first + share.images] = own
        dist.all_reduce(found, dist.ReduceOp.SUM, self._group)
        return found

    def exchange_gradients(self, now: bool) -> AbstractContextManager[None]:
        """Average gradients over the processes in a backward pass, or leave it to a later one."""
        return nullcontext() if self._wrapped is None or now else self._wrapped.no_sync()

    def train_also(self, parameters: Iterable[Tensor]) -> None:
        """Begin with the first process's values of parameters, and average their gradients. Collective.

        Those inside the wrapper are its own affair.

        Raises:
            ValueError: the processes have different parameters.
        """
        if self._wrapped is None:
            return
        inside = {id(parameter) for parameter in self._wrapped.parameters()}
        self._beside = list({id(each): each for each in parameters if id(each) not in inside}.values())
        kinds = [(tuple(each.shape), str(each.dtype)) for each in self._beside]
        if not self.agree(zlib.crc32(repr(kinds).encode())):
            raise ValueError(
                "the optimizers of the processes train different parameters of the corruption, here "
                f"{len(kinds)} ({', '.join(f'{shape} {dtype}' for shape, dtype in kinds[:3])}); make each of the same "
                "parameters"
            )
        for parameter in self._beside:
            self._begin_as_first(parameter.detach())

    def agree(self, value: int) -> bool:
        """Whether all processes have the same integer. Collective; waits for the device."""
        return self.largest(value) == -self.largest(-value)

    def raise_together(self, problem: Exception | None, elsewhere: str) -> None:
        """Raise a process's problem in it, and a RuntimeError that tells of it in the others. Collective."""
        failed = self.largest(problem is not None)
        if problem is not None:
            raise problem
        if failed:
            raise RuntimeError(f"{elsewhere}; its own error says why")

    def of_first(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tensors and plain values that the first process has. Collective."""
        if self._wrapped is None:
            return dict(own)
        packed = _packed(own).to(self._device)
        length = torch.tensor(len(packed), device=self._device)
        self._begin_as_first(length)
        if self.own:
            packed = packed.new_empty(int(length))
        self._begin_as_first(packed)
        return _unpacked(packed)

    def _begin_as_first(self, tensor: Tensor) -> None:
        """Give a tensor the values that it has in the first process of the wrapper's."""
        assert self._group is not None
        dist.broadcast(tensor, dist.get_global_rank(self._group, 0), self._group)

    def average_gradients(self) -> None:
        """Average the gradients of `train_also` over the processes, after all backward passes of a step. Collective.

        A process without a gradient counts as zero. Synchronises the device if there are such parameters.
        """
        if not self._beside:
            return
        there = self.any(torch.tensor([parameter.grad is not None for parameter in self._beside], device="cpu"))
        for parameter, has_gradient in zip(self._beside, there.tolist(), strict=True):
            if has_gradient:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(parameter.grad, dist.ReduceOp.SUM, self._group)
                parameter.grad /= self.count

    def largest(self, value: Tensor | int) -> int:
        """All-reduce an integer with MAX. Collective; synchronises the device."""
        if self._wrapped is None:
            return int(value)
        found = torch.as_tensor(value, device=self._device).to(torch.int64, copy=True)
        dist.all_reduce(found, dist.ReduceOp.MAX, self._group)
        return int(found)

    def any(self, value: Tensor) -> Tensor:
        """All-reduce a boolean with OR. Collective; does not wait for the device."""
        if self._wrapped is None:
            return value
        found = value.to(self._device, torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MAX, self._group)
        return found.bool()

    def gather(self, own: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        """Gather tensors and plain values of all processes, by rank. Collective."""
        if self._wrapped is None:
            return {self.own: dict(own)}
        packed = _packed(own).to(self._device)
        lengths = [torch.zeros((), dtype=torch.int64, device=self._device) for _ in range(self.count)]
        dist.all_gather(lengths, torch.tensor(len(packed), device=self._device), self._group)
        longest = max(map(int, lengths))
        found = [packed.new_empty(longest) for _ in range(self.count)]
        dist.all_gather(found, nn.functional.pad(packed, (0, longest - len(packed))), self._group)
        parts = [each[: int(length)] for each, length in zip(found, lengths, strict=True)]
        return {rank: _unpacked(part) for rank, part in enumerate(parts)}

    def wait(self) -> None:
        """Return once all processes have called this method. Collective."""
        self.largest(0)


def _packed(values: Mapping[str, Any]) -> Tensor:
    """Return tensors and plain values as bytes."""
    file = io.BytesIO()
    torch.save(dict(values), file)
    return torch.frombuffer(file.getbuffer(), dtype=torch.uint8)


def _unpacked(packed: Tensor) -> dict[str, Any]:
    file = io.BytesIO(packed.cpu().numpy().tobytes())
    values: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return values


def _sharded(model: nn.Module) -> str | None:
    """Return the name of what holds weights in parts: FSDP, of either version; else None."""
    names = {base.__name__ for module in model.modules() for base in type(module).__mro__}
    return next((name for name in ("FSDPModule", "FullyShardedDataParallel") if name in names), None)


def _distributed(model: nn.Module) -> DistributedDataParallel | None:
    """Return the wrapper that exchanges all of a model's gradients, or None."""
    found = [module for module in model.modules() if isinstance(module, DistributedDataParallel)]
    if not found:
        return None
    inside = {id(parameter) for parameter in found[0].parameters()}
    outside = [name for name, parameter in model.named_parameters() if id(parameter) not in inside]
    if len(found) > 1 or outside:
        names = ", ".join(outside[:3]) or f"{len(found)} wrappers"
        raise ValueError(
            f"DistributedDataParallel must hold the whole model once, got parameters outside it or several wrappers "
            f"({names}); wrap the whole model"
        )
    return found[0]
