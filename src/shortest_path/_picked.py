"""Scales of some coefficients, and which coefficients of a large image stand for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._devices import device_of
from ._exact import exact_dtype
from .corruptions import Corruption, ElementwiseCorruption, Pick, both_scales, one_time

_CANDIDATES = 2**15  # places of whose scales strata are made
_TOGETHER, _PARTS = 2**15, 8  # the fewest coefficients that are computed together, and the most parts of an image
_AT_ONCE = 2**22  # numbers in memory, where scales are computed of all coefficients to take some


class Chosen(NamedTuple):
    """Places that stand for all."""

    places: Tensor
    """The places, (n,)."""
    weight: Tensor
    """How many places each stands for, (n,), float64; their sum is the number of all."""


def picker(shape: Sequence[int], index: Tensor) -> Pick:
    """Return a function that takes the coefficients at flat places `index` (n,) of `shape`, (C, *spatial)."""
    axes = len(shape)
    place = torch.unravel_index(index, tuple(shape))

    def pick(x: Tensor) -> Tensor:
        """Return what x (..., C or 1, *spatial or 1) holds at the chosen places, (..., 1, …, 1, n)."""
        flat = torch.zeros_like(index)
        for here, size in zip(place, x.shape[-axes:], strict=True):
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
        # Where the scales of all coefficients are computed to take some, not at all times at once.
        size = len(times) if _picks(corruption) else max(1, _AT_ONCE // math.prod(coefficients_shape(corruption)))
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
    if device.type != "cpu" or not _picks(corruption):
        return bool(test(*both_scales(corruption, time)).any())
    assert isinstance(corruption, ElementwiseCorruption)
    axis, shape = -corruption.basis.dims, coefficients_shape(corruption)
    rows = 1 if not shape[1:] else shape[axis]
    part = max(-(-rows // _PARTS), _TOGETHER * rows // math.prod(shape))
    for first in range(0, rows, part):

        def pick(table: Tensor, first: int = first) -> Tensor:
            whole = rows == 1 or table.shape[axis] == 1
            return table if whole else table.narrow(axis, first, min(part, rows - first))

        if bool(test(*corruption.scales_of(time, pick)).any()):
            return True
    return False


def coefficients_shape(corruption: Corruption) -> tuple[int, ...]:
    """Return the shape (C or 1, *spatial or 1) to which a corruption's scales broadcast."""
    half, axes = one_time(0.5, device_of(corruption)), corruption.basis.dims + 1
    tables: list[tuple[int, ...]] = []

    def look(table: Tensor) -> Tensor:
        tables.append(tuple(table.shape[-axes:]))
        for axis in range(-axes, 0):
            table = table.narrow(axis, 0, 1)
        return table

    if isinstance(corruption, ElementwiseCorruption):  # the tables tell, and one coefficient is computed
        pair = corruption.scales_of(half, look)
    else:
        pair = both_scales(corruption, half)
    return np.broadcast_shapes(*tables, *(tuple(scale.shape[1:]) for scale in pair))


def _picks(corruption: object) -> bool:
    """Whether a corruption, and each inside it, computes the scales of picked coefficients alone."""
    inner = getattr(corruption, "corruption", None)
    return isinstance(corruption, ElementwiseCorruption) and corruption.picks and (inner is None or _picks(inner))


def spread(size: int, count: int) -> Tensor:
    """Return rising places (count,) among `size`, one at a fixed random place of each of `count` equal parts.

    Equal steps could fall on the same columns of an image in every row.
    """
    jitter = torch.rand(count, generator=torch.Generator("cpu").manual_seed(0), dtype=torch.float64, device="cpu")
    return ((torch.arange(count, dtype=torch.float64, device="cpu") + jitter) * (size / count)).long()


def strongest(power: Tensor, count: int, *, candidates: int) -> tuple[Tensor, Tensor]:
    """Return the places of the `count` largest values of `power` (N,), and of others in falling order.

    Of more than `candidates` places, the others are of as many spread over all.
    """
    first = power.topk(count).indices
    rest = torch.arange(len(power), device="cpu") if len(power) <= candidates else spread(len(power), candidates)
    among_first = torch.zeros(len(power), dtype=torch.bool, device="cpu")
    among_first[first] = True
    rest = rest[~among_first[rest]]
    return first, rest[power[rest].argsort(descending=True)]


def choose(power: Tensor, second: Callable[[Tensor], Tensor], *, strong: int, groups: int, inside: int) -> Chosen:
    """Choose places for sums of functions of the power and of a second number.

    The strongest stand for themselves. The others are divided into `groups` by their power, of sizes in proportion to
    the rank at which they begin; each group is divided by the second number into `inside` strata of equal size, and
    the place in the middle stands for its stratum.

    Args:
        power: Power of each place, (N,), on the CPU.
        second: Returns the second number for places (n,).
        strong: Number of places that stand for themselves.
        groups: Number of groups by power.
        inside: Number of strata in each.
    """
    first, rest = strongest(power, strong, candidates=_CANDIDATES)
    every = (len(power) - strong) / len(rest)
    ranks = torch.logspace(math.log10(strong), math.log10(len(power)), groups + 1, dtype=torch.float64, device="cpu")
    group = torch.searchsorted(ranks[1:-1], strong + every * torch.arange(len(rest), device="cpu"), right=True)
    number = second(rest)
    order = number.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]  # by group, in each by the second number
    sizes = torch.bincount(group, minlength=groups)
    begin = sizes.cumsum(0) - sizes
    parts = sizes.clamp(max=inside)
    stratum = torch.cat([torch.arange(int(n), dtype=torch.float64, device="cpu") for n in parts])
    of = torch.repeat_interleave(torch.arange(groups, device="cpu"), parts)
    low = begin[of] + (stratum * sizes[of] / parts[of]).long()
    high = begin[of] + ((stratum + 1) * sizes[of] / parts[of]).long()
    index = torch.cat([first, rest[order[(low + high - 1) // 2]]])
    return Chosen(
        index, torch.cat([torch.ones(strong, dtype=torch.float64, device="cpu"), every * (high - low).double()])
    )
