"""On which device a model or a corruption is."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def device_of(module: object) -> torch.device:
    """Return the device of a module's parameters and buffers; the CPU for anything without them."""
    return next((tensor.device for tensor in _tensors(module)), torch.device("cpu"))


def has_tensors(module: object) -> bool:
    """Return whether a module has parameters or buffers, which must be on the device of the images."""
    return any(True for _ in _tensors(module))


def usable_device(device: torch.device | str) -> torch.device:
    """Return a device on which tensors can be made.

    Raises:
        ValueError: the device does not exist or cannot be used.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used; use 'cpu', or 'cuda' where there is a GPU") from error
    return torch.device(device)


def _tensors(module: object) -> Iterator[Tensor]:
    if isinstance(module, torch.nn.Module):
        yield from module.parameters()
        yield from module.buffers()
