"""The random numbers that training draws: times, noise, and whose conditioning is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from .conditioning import drop
from .exact import working_dtype
from .ranks import Ranks

TimeSampling: TypeAlias = Literal["uniform", "stratified", "discrete"]


class Draws:
    """Draws for the batches of all ranks together, and keeps the rows of this one.

    Args:
        options: Of `DiffusionTrainer`, by name.
        generator: The same on all ranks.
        ranks: The processes that train.
    """

    def __init__(self, options: Mapping[str, Any], generator: torch.Generator, ranks: Ranks) -> None:
        self._options, self._generator, self._ranks = options, generator, ranks

    def drop(self, conditioning: Mapping[str, Any], batch: int) -> Mapping[str, Any]:
        """Replace the conditioning of some images; draws nothing if none is to be dropped."""
        probability = self._options["drop_conditioning"]
        if probability == 0:
            return conditioning
        generator = self._generator
        draw = torch.rand(batch * self._ranks.count, generator=generator, device=generator.device)
        return drop(conditioning, self._options["null_conditioning"], self._ranks.rows(draw) < probability)

    def times(self, batch: int) -> Tensor:
        """Return times in [0, 1], (B,)."""
        total, generator = batch * self._ranks.count, self._generator
        draw = torch.rand(total, generator=generator, device=generator.device)
        if self._options["time_sampling"] == "stratified":
            order = torch.randperm(total, generator=generator, device=generator.device)
            draw = (order + draw) / total
        elif self._options["time_sampling"] == "discrete":
            count = self._options["discrete_steps"]
            index = (draw * count).floor().clamp(max=count - 1)
            draw = (1 + index * ((count - 2) / (count - 1))) / count
        return self._ranks.rows(draw.clamp(max=1.0))

    def noise(self, x_0: Tensor) -> Tensor:
        """Return white noise like `x_0`."""
        shape, generator = (len(x_0) * self._ranks.count, *x_0.shape[1:]), self._generator
        noise = torch.randn(shape, generator=generator, device=generator.device, dtype=working_dtype(x_0))
        return self._ranks.rows(noise).to(x_0.dtype)
