"""Plain values: what a checkpoint may hold, because it can be read back without running anything."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def copied(state: dict[str, Any]) -> dict[str, Any]:
    """Return a nest of plain values with memory of its own; tensors that share memory share the new one."""
    return copy.deepcopy(state)


def plain(value: Any, name: str = "state") -> Any:
    """Return a nest of dictionaries, lists and tuples as plain values: numpy's numbers become Python's.

    Args:
        value: The nest.
        name: Its name in an error.

    Raises:
        TypeError: a value that a checkpoint could not give back, named by its keys.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return {plain(key, name): plain(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(item, f"{name}[{index}]") for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    raise TypeError(
        f"a checkpoint holds tensors, numbers, strings, and dictionaries, lists and tuples of them; got "
        f"{type(value).__name__} at {name}; convert it, e.g. with str(), torch.as_tensor() or state_dict()"
    )
