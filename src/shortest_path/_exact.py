"""Modules whose tables keep their precision whatever dtype the rest of a model is cast to."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from typing_extensions import Self

ROUNDING = 1e-5
"""More than the relative difference between machines, versions and types of what is computed from the same numbers."""
_OF_LARGEST = 1e-6  # the same of sums whose terms cancel, in units of the largest

_HAS_FLOAT64 = {"cpu": True, "cuda": True, "meta": True}  # others are tried once


class ExactModule(nn.Module):
    """A module that follows `.to(device)` but never `.half()`, `.bfloat16()` or `.to(dtype)`.

    Rounding a spectrum or a rotation to half precision would corrupt every image a little, silently. On a device
    without float64 its tables are in float32; back on another they are as they were.
    """

    def __init__(self) -> None:
        super().__init__()
        self._unrounded: dict[str, Tensor] = {}  # of buffers on a device without float64

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(lambda tensor: moved(tensor, fn), recurse)  # type: ignore[no-untyped-call]
        for name, old in before.items():
            new = self._buffers[name]
            if old is None or new is None or old.is_meta or new.is_meta:
                continue
            if old.dtype == torch.float64 != new.dtype:
                self._unrounded[name] = old.detach().to("cpu", copy=True)
            elif name in self._unrounded and exact_dtype(new.device) == torch.float64:
                exact = self._unrounded.pop(name)
                if torch.equal(exact.to(new.dtype), new.cpu()):  # else it was given other values there
                    self._buffers[name] = exact.to(new.device)
        return self


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return the type of tables on a device: float64, or float32 on one without it, as Apple's."""
    if device.type not in _HAS_FLOAT64:
        try:
            torch.empty(0, dtype=torch.float64, device=device)
            _HAS_FLOAT64[device.type] = True
        except (TypeError, RuntimeError):
            _HAS_FLOAT64[device.type] = False
    return torch.float64 if _HAS_FLOAT64[device.type] else torch.float32


def moved(tensor: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a tensor where `move` would take it, in its own type if there is one; NaN for values that it never had."""
    device = move(torch.empty(0, device=tensor.device)).device
    narrow = tensor.dtype == torch.float64 and exact_dtype(device) != torch.float64
    if tensor.is_meta and device.type != "meta":  # by `to_empty`, as `to` refuses it
        empty = torch.zeros_like(tensor, dtype=torch.float32 if narrow else None, device=device)
        return empty.fill_(math.nan) if empty.is_floating_point() else empty
    if narrow:
        return tensor.to(device, torch.float32)
    return tensor.to(move(tensor).device)


def has_values(table: Tensor) -> bool:
    """Whether a table was ever filled: not on the meta device, and not NaN as it is on coming from there."""
    return not table.is_meta and not (table.is_floating_point() and bool(table.isnan().all()))


def check_constant(tensor: Tensor, name: str) -> None:
    """Raise a ValueError if a tensor that becomes a table is one that is trained: the table would stay as it is."""
    if tensor.requires_grad:
        raise ValueError(
            f"{name} is kept as a constant, got a tensor that requires a gradient, which it would not get; pass "
            f"{name}.detach(); learn a parameter of the model, or of a schedule or corruption of your own"
        )


def same_but_rounding(one: Tensor, other: Tensor, *, beside: float = 0.0) -> bool:
    """Whether two tables are computed from the same numbers, be it on another machine or in another type.

    Values that are all positive, such as a power, must agree each for itself, unless they count `beside` others of that
    size alone.
    """
    if one.shape != other.shape:
        return False
    one, other = (each.detach().cpu() for each in (one, other))
    if not all(each.is_floating_point() or each.is_complex() for each in (one, other)):
        return torch.equal(one, other)
    exact = torch.promote_types(torch.promote_types(one.dtype, other.dtype), torch.float64)
    one, other = one.to(exact), other.to(exact)
    finite = other[other.isfinite()].abs()
    positive = not exact.is_complex and bool((one > 0).all() and (other > 0).all())
    size = beside if positive or not finite.numel() else max(beside, float(finite.max()))
    return torch.allclose(one, other, rtol=ROUNDING, atol=_OF_LARGEST * size, equal_nan=True)


def same_table(name: str, one: Tensor, other: Tensor) -> bool:
    """`same_but_rounding` of tables of a corruption or model; a mean of images counts beside noise of variance 1."""
    return same_but_rounding(one, other, beside=1.0 if name.rpartition(".")[2] in ("mean", "shift") else 0.0)


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off for the device of `x`."""
    if x.device.type == "meta":  # has no such thing
        return nullcontext()
    return torch.autocast(device_type=x.device.type, enabled=False)


def as_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `x.to(dtype)`; does not call it in vain, which would take as long as a small operation."""
    return x if x.dtype == dtype else x.to(dtype)


def working_dtype(x: Tensor) -> torch.dtype:
    """The dtype to compute in: that of `x`, but float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)
