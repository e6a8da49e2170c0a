"""What can be trained: checked before a step moves anything."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from .._checks import kind_of


def check_model(model: object, optimizer: object) -> None:
    """Raise unless a model can be trained, by its own optimizer or by one made of its parameters.

    Raises:
        TypeError: it is not a module.
        ValueError: it has no parameters, or some have no shape yet.
        RuntimeError: it was made in inference mode, or this is called in it.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, got {kind_of(model)}; its forward is called as model(x_t, t)"
        )
    if optimizer is None and not any(True for _ in model.parameters()):
        raise ValueError(f"model {type(model).__name__} has no parameters to train; pass an optimizer of others")
    check_tensors(model, "make the trainer")


def check_tensors(model: nn.Module, action: str) -> None:
    """Raise unless a model's tensors can be copied and trained.

    Args:
        model: The model.
        action: What is done with it, in words.

    Raises:
        ValueError: some have no shape yet.
        RuntimeError: its parameters were made in inference mode, or this is called in it.
    """
    check_inference_mode(action)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if lazy := [name for name, tensor in tensors.items() if is_lazy(tensor)]:
        more = f" and {len(lazy) - 1} more" if len(lazy) > 1 else ""
        raise ValueError(
            f"model {type(model).__name__} has no shape yet for {lazy[0]}{more}; call it once on a batch, "
            f"model(x_0, t), before you {action}"
        )
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise RuntimeError(_made_in_inference_mode("make the model"))


def check_inference_mode(action: str) -> None:
    """Raise a RuntimeError in inference mode, before an action makes tensors of it."""
    if torch.is_inference_mode_enabled():
        raise RuntimeError(_made_in_inference_mode(action))


class Trainable:
    """The parameters of a trainer, as they were when it was made.

    Args:
        model: The network, without wrappers.
        optimizer: The optimizer, which may train others too.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        names = dict.fromkeys(self._optimized(), "a parameter of the optimizer")
        names |= {parameter: name for name, parameter in model.named_parameters()}
        self._made = [(each, name, each.dtype, each.device) for each, name in names.items()]

    def check(self) -> None:
        """Raise unless a step can be taken; does not wait for the device.

        Raises:
            RuntimeError: gradients are turned off.
            ValueError: all parameters of the optimizer are frozen, or one has another type or device than before.
        """
        if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
            modes = "torch.no_grad() or torch.set_grad_enabled(False)"
            mode = "torch.inference_mode()" if torch.is_inference_mode_enabled() else modes
            raise RuntimeError(f"training requires gradients, which {mode} turns off; train outside of it")
        for parameter, name, dtype, device in self._made:
            if parameter.dtype != dtype or parameter.device != device:
                raise ValueError(
                    f"{name} was {dtype} on {device} when the trainer was made, and is {parameter.dtype} on "
                    f"{parameter.device} now; cast or move the model before making the trainer"
                )
        if not any(parameter.requires_grad for parameter in self._optimized()):
            raise ValueError(
                f"all parameters of the optimizer {type(self._optimizer).__name__} are frozen; call "
                "model.requires_grad_(True), or pass an optimizer of parameters that are trained"
            )

    def _optimized(self) -> Iterator[nn.Parameter]:
        for group in self._optimizer.param_groups:
            yield from group["params"]


def _made_in_inference_mode(action: str) -> str:
    return f"tensors made in torch.inference_mode() cannot be trained; {action} outside of it"
