"""Conditioning of a model, and the null values of classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Complex, Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._checks import values_are_readable

ROWS = (Tensor, np.ndarray, list)
"""What has a row for every image, where images are taken in parts; all else holds for all of them."""


def conditioning_of(batch: object, label_name: str | None = None, label_key: str | None = None) -> dict[str, Any]:
    """Return the conditioning of a batch: its second element, a mapping, or labels under `label_name`.

    Of a batch that is a mapping itself, the entry `label_key` is passed under `label_name`.

    Raises:
        TypeError: labels are asked for, and the batch has none.
    """
    if isinstance(batch, Mapping):
        if label_name is None:
            return {}
        if label_key not in batch:
            keys = ", ".join(map(repr, batch))
            raise TypeError(
                f"label_name={label_name!r} requires label_key, one of the batches' keys {keys}, got {label_key!r}"
            )
        return {label_name: batch[label_key]}
    extra = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
    if isinstance(extra, Mapping):
        return dict(extra)
    if label_name is not None and extra is None:
        raise TypeError(f"label_name={label_name!r} requires batches (images, labels), got images alone; omit it")
    return {} if label_name is None else {label_name: extra}


def unconditional(conditioning: Mapping[str, Any], null: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditioning with null values in place of the entries that `null` names.

    Never waits for the device, unless a null tensor has to be copied to it.

    Args:
        conditioning: Keyword arguments for a model.
        null: Null values by name: for a tensor, a number or a tensor that broadcasts to it, e.g. a row; for
            anything else, a value that takes its place.

    Raises:
        TypeError: the null value of a tensor is neither a number nor a tensor.
        ValueError: `null` names an entry that `conditioning` lacks, or a null tensor does not broadcast.

    Source: Ho & Salimans 2022, arXiv:2207.12598.
    """
    if missing := sorted(null.keys() - conditioning.keys()):
        raise ValueError(
            f"null values are given for {missing}, but the conditioning has {sorted(conditioning) or 'no entries'}; "
            "use the same names (a trainer passes labels under label_name)"
        )
    return {**conditioning, **{name: _null_like(name, conditioning[name], value) for name, value in null.items()}}


def drop(conditioning: Mapping[str, Any], null: Mapping[str, Any], dropped: Tensor) -> dict[str, Any]:
    """Return the conditioning with null values in some rows of the entries that `null` names.

    Args:
        conditioning: Keyword arguments for a model; those named in `null` are tensors (B, ...).
        null: As `unconditional` takes it.
        dropped: Mask of the rows to replace, (B,), bool.

    Raises:
        TypeError: an entry to drop is not a tensor, or as `unconditional` raises.
        ValueError: an entry to drop does not have B rows, or as `unconditional` raises.
    """
    mixed = unconditional(conditioning, null)
    for name in null:
        value = conditioning[name]
        if not isinstance(value, Tensor):
            raise TypeError(
                f"conditioning {name!r} must be a tensor to be dropped for some images only, "
                f"got {type(value).__name__}; convert it, or leave it out of the null values"
            )
        if value.ndim == 0 or len(value) != len(dropped):
            raise ValueError(
                f"conditioning {name!r} must have one row for each of {len(dropped)} images to be dropped for some "
                f"only, got shape {tuple(value.shape)}; expand it, or leave it out of the null values"
            )
        mask = dropped.view(-1, *[1] * (value.ndim - 1))
        mixed[name] = torch.where(mask, mixed[name], value)
    return mixed


def check_rows(name: str, rows: object, images: int) -> None:
    """Raise a ValueError if what has rows has another number of them than there are images."""
    if not isinstance(rows, ROWS):
        return
    shape = (len(rows),) if isinstance(rows, list) else tuple(rows.shape)
    if shape[:1] != (images,):
        mend = "; pass what holds for all images as a tuple" if isinstance(rows, list) else ""
        raise ValueError(f"{name} must have one row for each of the {images} images, got shape {shape}{mend}")


def _null_like(name: str, value: object, null: Any) -> Any:
    if not isinstance(value, Tensor):
        return null
    if isinstance(null, Complex):
        _check_number(name, value.dtype, null)
        return torch.full_like(value, _plain_number(null))
    if not isinstance(null, Tensor):
        raise TypeError(
            f"the null value of {name!r} must be a number or a tensor, as {name!r} is a tensor, "
            f"got {type(null).__name__}; convert it with torch.as_tensor"
        )
    _check_tensor(name, value.dtype, null)
    null = null.to(value)
    try:
        return null.expand_as(value)
    except RuntimeError as error:
        raise ValueError(
            f"the null value of {name!r} has shape {tuple(null.shape)}, which does not broadcast to "
            f"{tuple(value.shape)}; give it the shape of one row, {tuple(value.shape[1:])}"
        ) from error


def _check_number(name: str, dtype: torch.dtype, null: Any) -> None:
    """Raise a ValueError for a number that a type does not hold, but for rounding; without a tensor, at every call."""
    real = isinstance(null, Real)
    if not real:
        holds = dtype.is_complex
    elif dtype.is_floating_point or dtype.is_complex:
        holds = not math.isfinite(null) or abs(null) <= torch.finfo(dtype).max
    else:
        low, high = _whole_numbers(dtype)
        holds = low <= null <= high and null == int(null)
    if not holds:
        raise _cannot_hold(name, dtype, f"{null}")


def _plain_number(null: Complex) -> complex:
    """Return a number as one that torch takes: no fraction, and no whole number beyond its own."""
    if isinstance(null, Integral) and -(2**63) <= int(null) < 2**64:
        return int(null)
    return float(null) if isinstance(null, Real) else complex(null)


def _check_tensor(name: str, dtype: torch.dtype, null: Tensor) -> None:
    """Raise a ValueError for a tensor that a type does not hold, but for rounding; never waits for the device."""
    if null.dtype == dtype:
        return
    holds = dtype.is_complex or not null.is_complex()
    if holds and not null.is_complex() and values_are_readable(null):
        values = null.double()
        if dtype.is_floating_point or dtype.is_complex:
            inside = ~values.isfinite() | (values.abs() <= torch.finfo(dtype).max)
        else:
            low, high = _whole_numbers(dtype)
            inside = (values >= low) & (values <= high) & (values == values.round())
        holds = bool(inside.all())
    elif holds and dtype != torch.bool:
        holds = torch.can_cast(null.dtype, dtype)
    if not holds:
        raise _cannot_hold(name, dtype, f"a tensor of {null.dtype}")


def _whole_numbers(dtype: torch.dtype) -> tuple[int, int]:
    """Return the least and the largest whole number of a type."""
    return (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)


def _cannot_hold(name: str, dtype: torch.dtype, given: str) -> ValueError:
    return ValueError(
        f"the null value of {name!r} must be one that {dtype}, the type of {name!r}, can hold, got {given}; pass "
        f"such a value, or convert {name!r} to a type that holds it"
    )
