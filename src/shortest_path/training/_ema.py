"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Keeps a second model whose weights follow the trained ones slowly.

        θ_ema ← d_k θ_ema + (1 − d_k) θ,    d_k = min(decay, (1 + k) / (10 + k)) at update k

    The warm-up d_k lets the average forget the initial weights in a short training. Weights are averaged by name, in
    float32 or float64 whatever their own type. Frozen and integer weights and buffers, such as the statistics of batch
    normalisation, are copied; buffers that the model makes later are taken over.

    Args:
        model: The model to follow.
        decay: Decay per step, in [0, 1); 0.9999 averages over about 10,000 steps.
        warmup: Whether to use d_k; False uses `decay` from the first update on.

    Raises:
        ValueError: `decay` out of range.

    Source: the warm-up of TensorFlow's `ExponentialMovingAverage(num_updates=...)`.
    """

    def __init__(self, model: nn.Module, decay: float, *, warmup: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {decay}")
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        """The averaged model, in eval mode."""
        self._exact = {  # what the weights of lower precision are rounded from
            name: weight.detach().to(torch.float32)
            for name, weight in self.model.named_parameters()
            if weight.is_floating_point() and torch.promote_types(weight.dtype, torch.float32) != weight.dtype
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        self.updates += 1
        mine = dict(self.model.named_parameters())
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for name, weight in model.named_parameters():
            if name not in mine or mine[name].shape != weight.shape:
                raise ValueError(
                    f"the average follows another model: it has no weight {name!r} of shape {tuple(weight.shape)}; "
                    "make an average of this model"
                )
            if not (weight.requires_grad and weight.is_floating_point()):
                mine[name].copy_(weight)
                continue
            exact = self._exact.get(name)
            averaged.append(mine[name] if exact is None else exact)
            current.append(weight if exact is None else weight.to(exact.dtype))
        if averaged:
            torch._foreach_lerp_(averaged, current, 1 - decay)
        for name, exact in self._exact.items():
            mine[name].copy_(exact)
        copy_buffers(model, self.model)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights, those of lower precision also before rounding, and the number of updates."""
        return {"model": self.model.state_dict(), "exact": dict(self._exact), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        for name, exact in self._exact.items():
            exact.copy_(state["exact"][name])
        self.updates = state["updates"]


@torch.no_grad()
def copy_buffers(source: nn.Module, target: nn.Module) -> None:
    """Copy buffers by name; the target gets those that only the source has."""
    own = dict(target.named_buffers())
    for name, buffer in source.named_buffers():
        if name in own and own[name].shape == buffer.shape:
            own[name].copy_(buffer)
            continue
        path, _, last = name.rpartition(".")
        module = source.get_submodule(path)
        persistent = last not in module._non_persistent_buffers_set
        target.get_submodule(path).register_buffer(last, buffer.detach().clone(), persistent=persistent)
