"""Delays: every coefficient runs another corruption at a time of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from .._checks import check_floating, check_has_values, check_numbers
from .._devices import device_of
from .._exact import check_constant, exact_dtype
from ..bases import FourierBasis
from ._elementwise import ElementwiseCorruption, Pick, everything, takes_own_times
from ._protocol import Corruption, check_corruption
from ._registry import register
from ._scales import both_scales, known_mean, known_power, one_time

_MOST_SPREAD = 1e9  # above, float64 cannot tell one delay from another


@register
class StaggeredCorruption(ElementwiseCorruption):
    """Another corruption with a delay for every coefficient: by scale, row, or frame.

        a_t, s_t of coefficient f = those of `corruption` at time clip(t (1 + w) − w δ_f, 0, 1)

    A coefficient starts at t = w δ / (1 + w) and takes 1 / (1 + w) of the time: from diffusion (w = 0) to
    autoregression, in which one group of coefficients ends before the next starts (w → ∞). The coefficients with the
    largest delay are corrupted last and generated first. Before its start a coefficient is as at the corruption's time
    0, after its end as at time 1. Where its signal has vanished, a model that predicts noise does not tell the image:
    train with `prediction="data"`, `"velocity"` or `"whitened-velocity"`. A delayed shortest path requires more steps:
    its noise begins like √t within a step, and the multistep solver is then of about first order; with delayed flow and
    cosine schedules it is of about third. `.to(device)` moves the delayed corruption too.

    Args:
        corruption: The corruption to delay. Those of this library cost what they cost without delays; one of your own
            is evaluated once for every different delay.
        delay: δ in [0, 1], floating point, broadcastable to coefficients (C, *spatial).
        spread: w, in [0, 1e9].

    Raises:
        TypeError: `corruption` does not implement `Corruption`, or `delay` is not a floating-point tensor.
        ValueError: a delay outside [0, 1] or that does not broadcast, or `spread` outside [0, 1e9].

    Source: Gerdes, Welling & Cheng 2024, arXiv:2410.02667, section 3.

    Example:
        >>> import shortest_path as sp
        >>> rows = torch.linspace(1, 0, 8).view(1, 8, 1)  # the first row is generated first
        >>> corruption = StaggeredCorruption(sp.GaussianCorruption("flow"), rows, spread=7.0)
        >>> [round(each, 3) for each in corruption.noise(torch.tensor([0.5])).flatten().tolist()]
        [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    """

    argument_names = ("corruption", "delay", "spread")
    delay: Tensor

    def __init__(self, corruption: Corruption, delay: Tensor, *, spread: float) -> None:
        check_corruption(corruption)
        check_floating(delay, "delay")
        check_has_values(delay, "delay")
        check_constant(delay, "delay")
        check_numbers(spread=spread)
        basis = corruption.basis
        if delay.ndim != basis.dims + 1 or not delay.numel():
            raise ValueError(
                f"delay must broadcast to coefficients (C, *spatial) with {basis.dims} spatial axes, got shape "
                f"{tuple(delay.shape)}; shape delays of frequencies as basis.frequencies(spatial)[None]"
            )
        if not bool(((delay >= 0) & (delay <= 1)).all()):
            raise ValueError(
                f"delay must lie in [0, 1], got {float(delay.min()):.4g} … {float(delay.max()):.4g}; divide it by its "
                "largest value"
            )
        if not 0 <= spread <= _MOST_SPREAD:
            raise ValueError(f"spread must lie in [0, {_MOST_SPREAD:g}], got {spread}")
        signal, noise = both_scales(corruption, one_time(0.5, device_of(corruption)))
        for scale in (signal, noise):
            if any(1 not in pair and pair[0] != pair[1] for pair in zip(scale.shape[1:], delay.shape, strict=True)):
                raise ValueError(
                    f"delay must broadcast to the coefficients of {type(corruption).__name__}, "
                    f"{tuple(scale.shape[1:])}, got shape {tuple(delay.shape)}"
                )
        super().__init__(basis, mean=known_mean(corruption))
        self.corruption = corruption
        self.spread = float(spread)
        self.register_buffer("delay", delay.to(device_of(corruption), torch.float64, copy=True))
        self._even = self._is_even()

    def _is_even(self) -> bool:
        basis, delay = self.basis, self.delay
        symmetric = isinstance(basis, FourierBasis) and torch.equal(delay, basis.mirror(delay))
        symmetric = symmetric and self._keeps_scales_of(StaggeredCorruption)
        return symmetric and bool(getattr(self.corruption, "_even", False))

    @override
    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._even = self._is_even()

    @override
    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        base = self.corruption
        if not takes_own_times(base):
            signal, noise = self._one_by_one(base, time)
        elif base.picks:
            return base._scales(self._own_time(time, pick(self.delay)), pick)
        else:
            signal, noise = base._scales(self._own_time(time, self.delay), everything)
        return pick(signal), pick(noise)

    def _own_time(self, time: Tensor, delay: Tensor) -> Tensor:
        """Return clip(t (1 + w) − w δ), counted from the nearer end of time: so that both ends are exact."""
        exact, w = time.to(exact_dtype(time.device)), self.spread
        begun, left = exact * (1 + w) - w * delay, (1 - exact) * (1 + w) - w * (1 - delay)
        return torch.where(exact < 0.5, begun.clamp(0, 1), 1 - left.clamp(0, 1)).to(time.dtype)

    def _one_by_one(self, base: Corruption, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales of a corruption that takes one time for all coefficients: once for every delay."""
        signal = noise = torch.zeros((), dtype=time.dtype, device=time.device)
        for value in torch.unique(self.delay):
            here = self.delay == value
            of_signal, of_noise = both_scales(base, self._own_time(time, value).flatten())
            signal, noise = torch.where(here, of_signal, signal), torch.where(here, of_noise, noise)
        return signal, noise

    @property
    def power(self) -> Tensor | None:
        """The data's power that the delayed corruption knows, or None."""
        return known_power(self.corruption)

    @override
    def extra_repr(self) -> str:
        return f"{self.corruption!r}, delay={tuple(self.delay.shape)}, spread={self.spread!r}"
