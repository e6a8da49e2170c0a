"""What is written with what is saved: plain values, and classes by their names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_plain(value: object) -> Any:
    """Return a value with Python's numbers in place of numpy's, also in lists and tuples."""
    if isinstance(value, (list, tuple)):
        return type(value)(as_plain(each) for each in value) if type(value) in (list, tuple) else value
    return value.item() if isinstance(value, np.generic) else value


def is_plain(value: object) -> bool:
    """Return whether a value is a number, a string, None, or a sequence of such: what JSON holds."""
    if isinstance(value, (list, tuple)):
        return all(is_plain(each) for each in value)
    return value is None or isinstance(value, (bool, int, float, str))


def check_can_be_written(name: str, value: object) -> None:
    """Raise a ValueError for a plain value with an infinite number or NaN, or a tensor that is no dense array."""
    if isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            check_can_be_written(f"{name}[{index}]", each)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"cannot save {name} = {value}: numbers are written as JSON, which are finite; pass a tensor")
    elif isinstance(value, Tensor) and (value.layout is not torch.strided or value.is_quantized):
        raise ValueError(f"cannot save {name}, a tensor that is sparse or quantized; make it dense, or dequantize it")


def same_class(ours: type, theirs: type) -> bool:
    """Return whether two classes are one by their name: a notebook that runs a cell again makes the class again."""
    return (ours.__module__, ours.__qualname__) == (theirs.__module__, theirs.__qualname__)


def check_name_is_free(registered: Mapping[str, type], added: type, what: str) -> None:
    """Raise a ValueError if another class is registered under the name of the one that is added."""
    known = registered.get(added.__name__)
    if known is not None and not same_class(known, added):
        raise ValueError(
            f"a {what} named {added.__name__} is already registered, from {known.__module__}; rename your class"
        )
