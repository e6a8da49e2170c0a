"""The random numbers that a trainer draws: times, noise, and whose conditioning is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .._conditioning import drop
from .._exact import working_dtype
from ._ranks import Share
from ._second_moment import LossSecondMoment
from ._times import TimeDistribution


class GlobalRandom:
    """Draws for the batches of all ranks together, and keeps the rows of this rank.

    Args:
        generator: Generator, in the same state on all ranks.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def drop(
        self, conditioning: Mapping[str, Any], null: Mapping[str, Any], probability: float, share: Share
    ) -> Mapping[str, Any]:
        """Replace the conditioning of some images; draws nothing where the probability is 0."""
        if probability == 0:
            return conditioning
        generator = self._generator
        uniform = torch.rand(share.total, generator=generator, device=generator.device)
        return drop(conditioning, null, share.of(uniform) < probability)

    def times(self, distribution: TimeDistribution | LossSecondMoment, share: Share) -> Tensor:
        """Return times in [0, 1] for the images of all ranks."""
        generator = self._generator
        return distribution.sample(share.total, generator, generator.device)

    def noise(self, x_0: Tensor, share: Share) -> Tensor:
        """Return white noise like `x_0`."""
        shape, generator = (share.total, *x_0.shape[1:]), self._generator
        noise = torch.randn(shape, generator=generator, device=generator.device, dtype=working_dtype(x_0))
        return share.of(noise).to(x_0.dtype)
