"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class ExponentialMovingAverage:
    """Keeps a second model whose weights follow the trained ones slowly.

        θ_ema ← decay · θ_ema + (1 − decay) · θ

    Buffers, such as the statistics of batch normalisation, are copied unchanged.

    Args:
        model: The model to follow.
        decay: Decay per step, in [0, 1); 0.9999 averages over about 10,000 steps.

    Raises:
        ValueError: `decay` out of range.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        """The averaged model, in eval mode."""

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`."""
        averaged: list[torch.Tensor] = list(self.model.parameters())
        current: list[torch.Tensor] = list(model.parameters())
        if averaged:
            torch._foreach_lerp_(averaged, current, 1 - self.decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
