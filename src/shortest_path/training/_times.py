"""At which times a model is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from .._checks import check_count, check_time

TimeSamplingName: TypeAlias = Literal["uniform", "stratified", "discrete"]
TimeSampling: TypeAlias = TimeSamplingName | Callable[[Tensor], Tensor]
BY_LOSS = "loss-second-moment"  # of trainers only
_DISCRETE_STEPS = 4000  # of the paper


class TimeDistribution:
    """A distribution of training times.

    Args:
        sampling: `"uniform"` in [0, 1); `"stratified"`: one time in each of n equal intervals, in random order;
            `"discrete"`: the times of the paper's code, τ_k / T with τ = linspace(1, T − 1, T); or a function that maps
            uniform numbers (n,) to times (n,), the inverse of a distribution function.
        discrete_steps: T, only for `"discrete"`; None is 4000.

    Raises:
        TypeError: `sampling` is neither a name nor a function.
        ValueError: an unknown name, or `discrete_steps` below 3 or without `"discrete"`.
    """

    def __init__(self, sampling: TimeSampling, discrete_steps: int | None = None) -> None:
        if sampling == BY_LOSS:
            raise ValueError(f"time_sampling={BY_LOSS!r} requires DiffusionTrainer, which keeps the losses; use it")
        names = get_args(TimeSamplingName)
        if isinstance(sampling, str) and sampling not in names:
            raise ValueError(
                f"unknown time_sampling {sampling!r}; choose one of {', '.join(map(repr, names))}, or, in a "
                f"DiffusionTrainer, {BY_LOSS!r}"
            )
        if not isinstance(sampling, str) and not callable(sampling):
            raise TypeError(f"time_sampling must be a name or a function, got {type(sampling).__name__}")
        if discrete_steps is not None:
            check_count("discrete_steps", discrete_steps, least=3)
            if sampling != "discrete":
                raise ValueError(
                    f"discrete_steps={discrete_steps} requires time_sampling='discrete', got {sampling!r}; omit it"
                )
        self._sampling = sampling
        self._steps = _DISCRETE_STEPS if discrete_steps is None else discrete_steps

    def sample(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Return times in [0, 1], (count,), on a device."""
        uniform = torch.rand(count, generator=generator, device=device)
        if callable(self._sampling):
            times = self._sampling(uniform)
            if not isinstance(times, Tensor) or times.shape != uniform.shape:
                found = tuple(times.shape) if isinstance(times, Tensor) else type(times).__name__
                raise ValueError(f"time_sampling must return one time for each of {count} numbers, got {found}")
            check_time(times)
            return times
        if self._sampling == "stratified":
            order = torch.randperm(count, generator=generator, device=device)
            uniform = (order + uniform) / count
        elif self._sampling == "discrete":
            index = (uniform * self._steps).floor().clamp(max=self._steps - 1)
            uniform = (1 + index * ((self._steps - 2) / (self._steps - 1))) / self._steps
        return uniform.clamp(max=1.0)
