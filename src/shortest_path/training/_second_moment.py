"""Training times where the losses are large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._ranks import Share

_BINS = 100
_MEMORY = 100  # losses of a bin that its mean remembers
_FIRST = 10  # losses of every bin before they count
_UNIFORM = 1e-3  # fraction of times that stay uniform: it bounds the weights


class Seen(NamedTuple):
    """Times of the images of all ranks, and the losses of this rank's."""

    times: Tensor
    losses: Tensor
    share: Share


class LossSecondMoment:
    """A distribution of training times that follows the losses, and the weights that undo it.

        p(t) ∝ √E[L² | t],    E_uniform[L] = E_p[w(t) L],    w = 1 / p

    of all distributions the one with the least variance of w L. [0, 1] has 100 bins of equal width; the mean of L² in
    a bin is over about the last 100 losses in it, and its density is constant. Times are uniform until every bin has
    ten losses, and one in a thousand stays uniform, so that no weight is above 1000. All processes must add the same
    losses, which they exchange once a batch. Nothing waits for the device.

    Args:
        device: Device of the times.

    Source: Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.3, for their discrete times.
    """

    def __init__(self, device: torch.device) -> None:
        self._moment = torch.zeros(_BINS, device=device)
        self._count = torch.zeros(_BINS, device=device)

    def sample(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Return times in [0, 1], (count,), on a device."""
        uniform = torch.rand(count, generator=generator, device=device)
        probability = self._probability()
        ends = probability.cumsum(0)
        place = torch.searchsorted(ends, uniform * ends[-1], right=True).clamp(max=_BINS - 1)
        begin = ends[place] - probability[place]
        inside = ((uniform * ends[-1] - begin) / probability[place]).clamp(0, 1)
        return ((place + inside) / _BINS).clamp(max=1.0)

    def weight(self, t: Tensor) -> Tensor:
        """Return w(t), the shape of `t`."""
        return 1 / (_BINS * self._probability()[_bin(t)])

    def add(self, t: Tensor, losses: Tensor, *, unless: bool | Tensor = False) -> None:
        """Take the losses of images at times t into account, each (n,), unless `unless` is true."""
        place = _bin(t)
        squares = torch.zeros_like(self._moment).index_add(0, place, losses.to(self._moment).square())
        new = torch.zeros_like(self._count).index_add(0, place, torch.ones_like(t, dtype=self._count.dtype))
        known = self._count.clamp(max=_MEMORY)
        total = known + new
        # New tensors, as a state may still hold the ones before.
        seen = (new > 0) & (~unless if isinstance(unless, Tensor) else not unless)
        self._moment = torch.where(seen, (known * self._moment + squares) / total.clamp(min=1), self._moment)
        self._count = torch.where(seen, total.clamp(max=_MEMORY), self._count)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the mean squared losses and the numbers of losses in them."""
        return {"moment": self._moment, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._moment, self._count = (state[name].to(self._moment, copy=True) for name in ("moment", "count"))

    def _probability(self) -> Tensor:
        """Return the probability of each bin."""
        root = self._moment.sqrt()
        found = root / root.sum()
        even = torch.full_like(found, 1 / _BINS)
        known = (self._count >= _FIRST).all() & (root.sum() > 0)
        return torch.where(known, _UNIFORM * even + (1 - _UNIFORM) * found, even)


def _bin(t: Tensor) -> Tensor:
    return (t * _BINS).long().clamp(max=_BINS - 1)
