"""On which device a model or a corruption is."""

from __future__ import annotations

import torch


def device_of(module: object) -> torch.device:
    """Return the device of a module's parameters and buffers; the CPU for anything without them."""
    found = device_of_tensors(module)
    return torch.device("cpu") if found is None else found


def device_of_tensors(module: object) -> torch.device | None:
    """Return the device of a module's parameters and buffers, where images must be too; None for one without them."""
    if not isinstance(module, torch.nn.Module):
        return None
    for table in (module._parameters, module._buffers):  # the tables themselves: this is asked at every `corrupt`
        for tensor in table.values():
            if tensor is not None:
                return tensor.device
    for part in module._modules.values():
        found = device_of_tensors(part)
        if found is not None:
            return found
    return None


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
