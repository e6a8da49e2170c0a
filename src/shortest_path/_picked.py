"""Scales of some coefficients, and which coefficients of a large image stand for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ._devices import device_of
from ._exact import exact_dtype
from ._strata import largest, spread
from .corruptions import Corruption, ElementwiseCorruption, Pick, both_scales, computes_picked, divided, one_time

_TOGETHER, _PARTS = 2**15, 8  # the fewest coefficients that are computed together, and the most parts of an image
_AT_ONCE = 2**22  # numbers in memory, where scales are computed of all coefficients to take some


def picker(shape: Sequence[int], index: Tensor) -> Pick:
    """Return a function that takes the coefficients at flat places `index` (n,) of `shape`, (C, *spatial)."""
    axes, whole = len(shape), torch.Size(shape)
    place = [torch.from_numpy(each) for each in np.unravel_index(index.numpy(), tuple(shape))]  # torch's imports sympy

    def pick(x: Tensor) -> Tensor:
        """Return what x (..., C or 1, *spatial or 1) holds at the chosen places, (..., 1, …, 1, n)."""
        sizes, flat = x.shape[-axes:], index
        if sizes != whole:
            flat = torch.zeros_like(index)
            for here, size in zip(place, sizes, strict=True):
                flat = flat * size + (here if size > 1 else 0)
        picked = x.flatten(-axes)[..., flat.to(x.device)]
        return picked.reshape(*picked.shape[:-1], *(1,) * (axes - 1), len(index))

    return pick


def scales_at(corruption: Corruption, times: Tensor, pick: Pick | None = None) -> tuple[Tensor, Tensor]:
    """Return (signal, noise) at times, float64, on the CPU; of some coefficients alone, if `pick` takes them."""
    device = device_of(corruption)
    times = times.to(device, exact_dtype(device))
    if pick is None:
        signal, noise = both_scales(corruption, times)
    elif isinstance(corruption, ElementwiseCorruption):
        size = len(times)
        if not computes_picked(corruption):  # but those of all, to take some: not at all times at once
            size = max(1, _AT_ONCE // math.prod(coefficients_shape(corruption)))
        signal, noise = _joined([(part, corruption.scales_of(part, pick)) for part in torch.split(times, size)])
    else:
        signal, noise = _joined([(time, _both(corruption, time, pick)) for time in times[:, None]])
    return signal.detach().cpu().double(), noise.detach().cpu().double()


def _both(corruption: Corruption, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
    signal, noise = both_scales(corruption, time)
    return pick(signal), pick(noise)


def _joined(parts: list[tuple[Tensor, tuple[Tensor, Tensor]]]) -> tuple[Tensor, Tensor]:
    """Return the scales at all times; one that does not change with time may come once for several."""
    if len(parts) == 1:
        return parts[0][1]
    signal, noise = (
        torch.cat([pair[which].expand(len(times), *pair[which].shape[1:]) for times, pair in parts]) for which in (0, 1)
    )
    return signal, noise


def any_scale(corruption: Corruption, t: float, test: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Whether `test(signal, noise)` at a time is true of any coefficient.

    On the CPU the coefficients of a large image are computed in parts, which takes less memory, until one is found.
    """
    device = device_of(corruption)
    time = one_time(t, device)
    if device.type != "cpu" or not computes_picked(corruption):
        return bool(test(*both_scales(corruption, time)).any())
    dims, shape = corruption.basis.dims, coefficients_shape(corruption)
    rows = shape[-dims] if dims else 1
    parts = max(1, min(rows, _PARTS, math.prod(shape) // _TOGETHER))
    return any(bool(test(*corruption.scales_of(time, part)).any()) for part in divided(rows, parts, dims))


def coefficients_shape(corruption: Corruption) -> tuple[int, ...]:
    """Return the shape (C or 1, *spatial or 1) to which a corruption's scales broadcast."""
    if isinstance(corruption, ElementwiseCorruption):
        tables, pair = tables_of(corruption)
    else:
        tables, pair = [], both_scales(corruption, one_time(0.5, device_of(corruption)))
    axes = corruption.basis.dims + 1
    return np.broadcast_shapes(*(table.shape[-axes:] for table in tables), *(scale.shape[1:] for scale in pair))


def tables_of(corruption: ElementwiseCorruption) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """Return the tables of which the scales are made, and the scales of one coefficient at t = ½; cheap of any size.

    A corruption that does not compute picked coefficients shows its scales at t = ½ as tables.
    """
    tables: list[Tensor] = []

    def look(table: Tensor) -> Tensor:
        tables.append(table)
        for axis in range(-corruption.basis.dims - 1, 0):
            table = table.narrow(axis, 0, 1)
        return table

    pair = corruption.scales_of(one_time(0.5, device_of(corruption)), look)
    return tables, pair


def strongest(power: Tensor, count: int, *, candidates: int) -> tuple[Tensor, Tensor]:
    """Return the places of the `count` largest values of `power` (N,), and of others in falling order.

    Of more than `candidates` places, the others are of as many spread over all.
    """
    first = largest(power, count)
    rest = torch.arange(len(power), device="cpu") if len(power) <= candidates else spread(len(power), candidates)
    among_first = torch.zeros(len(power), dtype=torch.bool, device="cpu")
    among_first[first] = True
    rest = rest[~among_first[rest]]
    return first, rest[power[rest].argsort(descending=True)]
