"""Which coefficients of a large image stand for all in sums over them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_CANDIDATES = 2**15  # places whose second numbers are found
_FINE = 2**13  # bins of log power
_ROW = 64  # places whose maximum is compared first
_STEP = 32  # strata of a group that covers one step of the range of powers


class Chosen(NamedTuple):
    """Places that stand for all."""

    places: Tensor
    """The places, (n,)."""
    weight: Tensor
    """How many places each stands for, (n,), float64; their sum is the number of all."""


class Size(NamedTuple):
    """How many places are chosen."""

    ends: int
    """Number of places at either end that stand for themselves."""
    strata: int
    """Number of strata, about."""


class Groups(NamedTuple):
    """Places grouped by their power."""

    of: Tensor
    """The group of every place, (N,)."""
    number: Tensor
    """The number of places of a group, (G,), without those that stand for themselves."""
    strata: Tensor
    """The number of strata of a group, (G,), rising with the part of the power's range that it covers."""


def choose(power: Tensor, second: Callable[[Tensor], Tensor], size: Size, *, weakest: Tensor | None = None) -> Chosen:
    """Choose places for sums of functions of the power and of a second number.

    The strongest and the weakest places stand for themselves, as a few of them may decide a sum of squared logarithms.
    The others are grouped by their power (`_grouped`), every one of them counted. Each group is divided by the second
    number, found of some of its places, into strata of equal size, and the place in the middle stands for its stratum.

    Args:
        power: Power of each place, (N,), on the CPU.
        second: Returns the second number for places (n,).
        size: How many are chosen.
        weakest: Power by which the weakest are found, (N,); None is `power`.
    """
    alone = torch.zeros(len(power), dtype=torch.bool, device="cpu")
    alone[largest(power, size.ends)] = True
    alone[largest(-(power if weakest is None else weakest), size.ends)] = True
    groups = _grouped(power, alone, size)
    rest, group = _candidates(groups, alone)
    order = second(rest).argsort(stable=True)
    order = order[group[order].argsort(stable=True)]  # by group, in each by the second number
    sizes = torch.bincount(group, minlength=len(groups.number))
    of, low, high = _divided(sizes, torch.minimum(sizes, groups.strata))
    weight = (high - low) * (groups.number[of] / sizes[of])
    first = alone.nonzero().flatten()
    index = torch.cat([first, rest[order[(low + high - 1) // 2]]])
    return Chosen(index, torch.cat([torch.ones(len(first), dtype=torch.float64, device="cpu"), weight]))


def _grouped(power: Tensor, alone: Tensor, size: Size) -> Groups:
    """Return groups of places in rising order of power, whose borders are those of bins of log power.

    They are equal steps of the mean of three measures, so that each is fine enough where it matters: the logarithm of
    the rank among the strongest, that among the weakest, and the logarithm of the power where there are any places.
    """
    (ends, strata), (bins, full) = size, _binned(power, alone)
    below = full.cumsum(0) - full
    total = float(full.sum())

    def measure(rank: Tensor) -> Tensor:
        return torch.log((ends + rank) / ends) / math.log((ends + total) / ends)

    there = full > 0
    width = (there.cumsum(0) - there.long()) / max(1, int(there.sum()))
    begin = (2 * (1 - measure(total - below)) + measure(below) + width) / 4
    number = (begin * (strata / _STEP)).long().clamp(max=math.ceil(strata / _STEP) - 1)
    used, group = torch.unique_consecutive(number[there], return_inverse=True)
    compact = torch.zeros(len(full), dtype=torch.long, device="cpu")
    compact[there] = group
    count = torch.zeros(len(used), dtype=torch.float64, device="cpu").index_add_(0, group, full[there])
    first = torch.zeros(len(used), dtype=torch.float64, device="cpu").scatter_reduce_(
        0, group, begin[there], "amin", include_self=False
    )
    covered = torch.cat([first[1:], torch.ones(1, dtype=torch.float64, device="cpu")]) - first
    parts = torch.minimum((covered * strata).ceil().clamp(min=1), count).long()
    return Groups(compact[bins], count, parts)


def _binned(power: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bin of log power of every place, (N,), and how many places a bin has but for those alone, float64."""
    height = power.clamp(min=torch.finfo(power.dtype).tiny).log()
    low, high = float(torch.where(alone, math.inf, height).amin()), float(torch.where(alone, -math.inf, height).amax())
    bins = ((height - low) * ((_FINE - 1) / max(high - low, 1e-300))).clamp_(0, _FINE - 1).long()
    counts = torch.bincount(bins, minlength=_FINE) - torch.bincount(bins[alone], minlength=_FINE)
    return bins, counts.double()


def _candidates(groups: Groups, alone: Tensor) -> tuple[Tensor, Tensor]:
    """Return places and their groups: of each group as many as it has strata, and more of those with many places."""
    places = torch.arange(len(alone), device="cpu") if len(alone) <= _CANDIDATES else spread(len(alone), _CANDIDATES)
    places = places[~alone[places]]
    group = groups.of[places]
    few = torch.bincount(group, minlength=len(groups.number)) < groups.strata
    if not bool(few.any()):
        return places, group
    others = (few[groups.of] & ~alone).nonzero().flatten()  # all places of the groups with too few candidates
    others = others[groups.of[others].argsort(stable=True)]
    sizes = torch.bincount(groups.of[others], minlength=len(few))
    _, low, high = _divided(sizes, torch.minimum(sizes, 2 * groups.strata))
    enough = ~few[group]
    places = torch.cat([places[enough], others[(low + high - 1) // 2]])
    return places, groups.of[places]


def _divided(sizes: Tensor, parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Divide consecutive runs of items into parts of equal size: return the run, the begin and the end of each part."""
    of = torch.repeat_interleave(torch.arange(len(sizes), device="cpu"), parts)
    part = torch.arange(len(of), device="cpu") - (parts.cumsum(0) - parts)[of]
    begin = (sizes.cumsum(0) - sizes)[of]
    return of, begin + part * sizes[of] // parts[of], begin + (part + 1) * sizes[of] // parts[of]


def largest(values: Tensor, count: int) -> Tensor:
    """Return the places of the `count` largest of values (N,): a fraction of the time of `topk`, which orders more.

    Each lies in one of the `count` rows that have the largest maxima.
    """
    rows = len(values) // _ROW
    if rows <= 2 * count:
        return values.topk(count).indices
    heads = values[: rows * _ROW].view(rows, _ROW).amax(1).topk(count).indices
    inside = heads[:, None] * _ROW + torch.arange(_ROW, device="cpu")
    among = torch.cat([inside.flatten(), torch.arange(rows * _ROW, len(values), device="cpu")])
    return among[values[among].topk(count).indices]


def spread(size: int, count: int) -> Tensor:
    """Return rising places (count,) among `size`, one at a fixed random place of each of `count` equal parts.

    Equal steps could fall on the same columns of an image in every row.
    """
    jitter = torch.rand(count, generator=torch.Generator("cpu").manual_seed(0), dtype=torch.float64, device="cpu")
    return ((torch.arange(count, dtype=torch.float64, device="cpu") + jitter) * (size / count)).long()
