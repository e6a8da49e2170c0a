"""Modules whose tables keep their precision whatever dtype the rest of a model is cast to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from typing_extensions import Self


class ExactModule(nn.Module):
    """A module that follows `.to(device)` but never `.half()`, `.bfloat16()` or `.to(dtype)`.

    Rounding a spectrum or a rotation to half precision would corrupt every image a little, silently.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)  # type: ignore[no-untyped-call]
        return self


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off for the device of `x`."""
    if x.device.type == "meta":  # has no such thing
        return nullcontext()
    return torch.autocast(device_type=x.device.type, enabled=False)


def working_dtype(x: Tensor) -> torch.dtype:
    """The dtype to compute in: that of `x`, but float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)
