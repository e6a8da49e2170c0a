"""What the library asks of a model, and how it handles one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel


def evaluating(model: object) -> AbstractContextManager[None]:
    """Hold a module in eval mode, and restore the mode of each of its parts afterwards.

    A module in eval mode is not touched, so threads may share it. A module in training mode belongs to one thread: to
    sample from several, or while it is trained, use a copy in eval mode such as `DiffusionTrainer.ema_model`.
    """
    return _evaluating(model) if isinstance(model, nn.Module) and model.training else nullcontext()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
    except NotImplementedError as error:  # an exported module is in the mode of its export
        raise TypeError(
            "the model must be a module that has an eval mode, got one whose eval() raises, as that of a module from "
            "torch.export does; export it in eval mode, and pass a function: lambda x, t: exported(x, t)"
        ) from error
    try:
        yield
    finally:
        for module in training:
            module.training = True


def network_of(model: Any) -> Any:
    """Return the network inside torch's own wrappers, in any order; other objects are returned as they are."""
    while True:
        if isinstance(model, (DataParallel, DistributedDataParallel, AveragedModel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):  # a compiled module
            model = inner
        else:
            return model


def check_output(output: Tensor, x_t: Tensor) -> None:
    """Raise unless a model's output is a real tensor of the shape of its input.

    Raises:
        TypeError: the output is not a tensor, or complex.
        ValueError: the output has another shape.
    """
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the model must return a tensor like x_t, got {type(output).__name__}; wrap it, e.g. model(x, t).sample"
        )
    if output.is_complex():
        raise TypeError(f"the model must return real numbers, got {output.dtype}; return its real part, output.real")
    if output.shape != x_t.shape:
        raise ValueError(
            f"the model must return a tensor of the shape of x_t, {tuple(x_t.shape)}, got {tuple(output.shape)}; "
            "a learned variance, if any, has to be split off"
        )


def depends_on(output: Tensor, node: Node) -> bool:
    """Return whether a node is in the graph from which autograd derives a tensor."""
    seen: set[Node] = set()
    waiting = [output.grad_fn]
    while waiting:
        here = waiting.pop()
        if here is node:
            return True
        if here is not None and here not in seen:
            seen.add(here)
            waiting.extend(before for before, _ in here.next_functions)
    return False


def own(tensor: Tensor, *others: Tensor) -> Tensor:
    """Return a tensor that shares no memory with the others: itself, or a copy.

    In some bases a transform returns its argument; what a model, a callback or a caller is given is theirs to change.
    """
    for other in others:
        if tensor is other or tensor.untyped_storage()._cdata == other.untyped_storage()._cdata:
            return tensor.clone()
    return tensor


def weights_dtype(model: object, default: torch.dtype) -> torch.dtype:
    """Return the floating-point type in which a module expects its input: that of its weights, or its `input_dtype`."""
    if isinstance(model, nn.Module):
        own = getattr(network_of(model), "input_dtype", None)
        if isinstance(own, torch.dtype):
            return own
        for parameter in model.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return default
