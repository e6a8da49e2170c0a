"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import check_count, check_flag, check_numbers, kind_of
from .._exact import exact_dtype
from ._fit import check_fit
from ._trainable import check_tensors


class ExponentialMovingAverage:
    """Keeps a second model whose weights follow the trained ones slowly.

        θ_ema ← d_k θ_ema + (1 − d_k) θ,    d_k = min(decay, (1 + k) / (10 + k)) at update k

    The warm-up d_k lets the average forget the initial weights in a short training. Weights are averaged by name, in
    float32 or float64 whatever their own type, complex ones too. Frozen and integer weights and buffers, such as the
    statistics of batch normalisation, are copied; buffers that the model makes later are taken over.

    Args:
        model: The model to follow.
        decay: Decay per step, in [0, 1); 0.9999 averages over about 10,000 steps.
        warmup: Whether to use d_k; False uses `decay` from the first update on.
        copied: Names of weights that are copied as frozen ones are, e.g. those of a corruption that is learned.

    Raises:
        TypeError: `model` is not a module, `decay` not a number, `warmup` not True or False, or `copied` no collection.
        ValueError: `decay` out of range, a name in `copied` that is no weight, or weights that have no shape yet.
        RuntimeError: it is made in inference mode, or the model was.

    Source: the warm-up of TensorFlow's `ExponentialMovingAverage(num_updates=...)`.
    """

    def __init__(self, model: nn.Module, decay: float, *, warmup: bool = True, copied: Collection[str] = ()) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, whose weights are averaged, got {kind_of(model)}")
        check_numbers(ema_decay=decay)
        check_flag("warmup", warmup)
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {decay}")
        check_tensors(model, "make the average")
        if isinstance(copied, str) or not isinstance(copied, Collection):
            raise TypeError(f"copied must be a collection of names, e.g. ['layer.weight'], got {copied!r}")
        if unknown := sorted(set(copied) - {name for name, _ in model.named_parameters()}, key=str):
            raise ValueError(f"copied must be names of weights of {type(model).__name__}, got {unknown}")
        self.decay, self.warmup, self._copied = decay, warmup, frozenset(copied)
        self._updates: int | Tensor = 0  # a tensor where the device decides which updates are made
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        """The averaged model, in eval mode."""
        self._exact = {  # what the weights of lower precision are rounded from
            name: weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
            for name, weight in self.model.named_parameters()
            if _has_fractions(weight) and torch.promote_types(weight.dtype, torch.float32) != weight.dtype
        }

    @property
    def updates(self) -> int:
        """Number of updates; waits for the device if it decides which are made."""
        return int(self._updates)

    @torch.no_grad()
    def update(self, model: nn.Module, *, unless: Tensor | None = None) -> None:
        """Move the average towards the weights of `model`.

        Args:
            model: The model that is followed.
            unless: Whether the average stays as it is, a tensor of one boolean on the device; nothing waits for it.

        Raises:
            ValueError: the model has other weights, or of other shapes, types or devices; nothing is changed then.
        """
        mine, theirs = dict(self.model.named_parameters()), dict(model.named_parameters())
        _check_same(mine, theirs)
        step = self._step() if unless is None else self._step_unless(unless)
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for name, weight in theirs.items():
            kept = self._exact.get(name, mine[name])
            if not (weight.requires_grad and _has_fractions(weight)) or name in self._copied:
                kept.copy_(weight)
                continue
            averaged.append(kept)
            current.append(weight.to(kept.dtype))
        if averaged and isinstance(step, Tensor):
            _move(averaged, current, step)
        elif averaged and not isinstance(step, Tensor):
            torch._foreach_lerp_(averaged, current, step)
        for name, exact in self._exact.items():
            mine[name].copy_(exact)
        copy_buffers(model, self.model)

    def _step(self) -> float:
        """Return 1 − d_k, and count the update."""
        k = self.updates
        self._updates = k + 1
        return 1 - (min(self.decay, (1 + k) / (10 + k)) if self.warmup else self.decay)

    def _step_unless(self, bad: Tensor) -> Tensor:
        """Return 1 − d_k, or 0 for an update that is not made, and count it; on the device."""
        k = self._updates
        if not isinstance(k, Tensor):
            k = torch.full((), k, dtype=torch.int64, device=bad.device)
        self._updates = k + ~bad
        exact = k.to(exact_dtype(bad.device))
        decay = (
            ((1 + exact) / (10 + exact)).clamp(max=self.decay) if self.warmup else torch.full_like(exact, self.decay)
        )
        return torch.where(bad, 0.0, 1 - decay)

    @torch.no_grad()
    def begin(self, weights: Mapping[str, Any]) -> None:
        """Begin anew at the weights that a model's `state_dict` returned, with no updates.

        Raises:
            ValueError: they are those of another model; nothing is changed then.
        """
        check_fit("model", weights, self.model.state_dict(), "average")
        self.model.load_state_dict(weights)
        for name, weight in self.model.named_parameters():
            if name in self._exact:
                self._exact[name].copy_(weight)
        self._updates = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights, those of lower precision also before rounding, and the number of updates.

        As in torch, later updates change the tensors that it returns; copy it with `copy.deepcopy` to keep it.
        """
        return {"model": self.model.state_dict(), "exact": dict(self._exact), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            TypeError: its number of updates is not a whole number.
            ValueError: the state has other entries, or is that of another model, e.g. in another type; nothing is
                changed then.
        """
        entries = ("model", "exact", "updates")
        if not isinstance(state, Mapping) or any(name not in state for name in entries):
            found = list(state) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"the state of an average has the entries {entries}, got {found}; pass its state_dict()")
        check_count("updates", state["updates"], least=0)
        for part, own in (("model", self.model.state_dict()), ("exact", self._exact)):
            check_fit(part, state[part], own, "average")
        self.model.load_state_dict(state["model"])
        for name, exact in self._exact.items():
            exact.copy_(state["exact"][name])
        self._updates = int(state["updates"])


def _has_fractions(weight: Tensor) -> bool:
    """Whether an average of the weight's values is of its type: it is no whole number."""
    return weight.is_floating_point() or weight.is_complex()


def _check_same(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Raise a ValueError unless two models have the same weights."""
    for name, weight in theirs.items():
        own = mine.get(name)
        if own is None or own.shape != weight.shape or own.dtype != weight.dtype or own.device != weight.device:
            raise ValueError(
                f"the average follows another model: it has no weight {name!r} of shape {tuple(weight.shape)}, "
                f"{weight.dtype} on {weight.device}; make an average of this model"
            )
    if missing := mine.keys() - theirs.keys():
        raise ValueError(
            f"the average follows another model: this one has no weight {min(missing)!r}; make an average of it"
        )


def _move(averaged: list[Tensor], current: list[Tensor], step: Tensor) -> None:
    """Move averages by a step, a tensor, that nothing waits for."""
    kinds = {(each.device, each.dtype) for each in averaged}  # one tensor multiplies those of its own kind
    for device, dtype in kinds:
        pairs = [
            pair for pair in zip(averaged, current, strict=True) if (pair[0].device, pair[0].dtype) == (device, dtype)
        ]
        mine, theirs, own_step = [a for a, _ in pairs], [b for _, b in pairs], step.to(device, dtype)
        if device.type != "cpu":
            change = torch._foreach_sub(theirs, mine)
            torch._foreach_mul_(change, own_step)
            torch._foreach_add_(mine, change)
            continue
        # One after the other in the same memory, which stays in the cache: a quarter of the time.
        scratch = torch.empty(max(each.numel() for each in mine), dtype=dtype, device=device)
        for average, weight in pairs:
            change_here = scratch.as_strided(average.size(), average.stride())
            average.add_(torch.sub(weight, average, out=change_here).mul_(own_step))


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
