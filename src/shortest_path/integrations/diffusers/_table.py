"""The corruption of a scheduler of diffusers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ..._checks import ELSEWHERE
from ..._exact import check_constant
from ...bases import PixelBasis
from ...corruptions import Corruption, ElementwiseCorruption, Pick, register
from ...prediction import Prediction

NAMES: dict[str, Prediction] = {name: ELSEWHERE[name] for name in ("epsilon", "sample", "v_prediction")}
"""Predictions by what diffusers calls them."""


@register
class TableCorruption(ElementwiseCorruption):
    """Gaussian noise with a table of ᾱ_k at t = (k + 1) / N, as diffusers' schedulers have it.

        a_t = √ᾱ(t),    s_t = √(1 − ᾱ(t)),    ᾱ(0) = 1

    Between the entries log ᾱ is linear in t; before a last entry of 0, which has no logarithm, a_t is.

    Args:
        alphas_cumprod: ᾱ_k, (N,), falling, in (0, 1]; the last may be 0, as with `rescale_betas_zero_snr`.

    Raises:
        ValueError: another shape, values outside this range, or values that rise.
    """

    argument_names = ("alphas_cumprod",)
    alphas_cumprod: Tensor

    def __init__(self, alphas_cumprod: Tensor) -> None:
        table = torch.as_tensor(alphas_cumprod, dtype=torch.float64, device="cpu").clone()
        check_constant(table, "alphas_cumprod")
        if table.ndim != 1 or not len(table):
            raise ValueError(f"alphas_cumprod must be (N,), got {tuple(table.shape)}; pass scheduler.alphas_cumprod")
        inside = (table > 0) & (table <= 1)
        inside[-1] |= table[-1] == 0
        if not bool(inside.all()):
            raise ValueError(
                "alphas_cumprod must lie in (0, 1], the last in [0, 1], got "
                f"{float(table[~inside][0]):g}; pass scheduler.alphas_cumprod"
            )
        if bool((table.diff() > 0).any()):
            raise ValueError("alphas_cumprod must fall, got values that rise; pass scheduler.alphas_cumprod")
        super().__init__(PixelBasis(2))
        self.register_buffer("alphas_cumprod", table)

    @override
    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        logs = torch.cat([torch.zeros_like(self.alphas_cumprod[:1]), self.alphas_cumprod.log()])
        place = time.to(logs.dtype) * len(self.alphas_cumprod)
        low = place.floor().long().clamp(max=len(self.alphas_cumprod) - 1)
        before, after, part = logs[low], logs[low + 1], place - low
        to_zero = after.isinf()
        log = torch.lerp(before, torch.where(to_zero, before, after), part)
        signal = torch.where(to_zero, (1 - part) * (before / 2).exp(), (log / 2).exp())
        variance = torch.where(to_zero, 1 - signal.square(), -torch.expm1(log))
        return signal, variance.sqrt()

    @override
    def extra_repr(self) -> str:
        return f"{len(self.alphas_cumprod)} steps to a²={self.alphas_cumprod[-1].item():.3g}"


def read_scheduler(scheduler: Any) -> tuple[TableCorruption, Prediction]:
    """Return the corruption and the prediction of a scheduler of diffusers, e.g. `pipeline.scheduler`.

    With `rescale_betas_zero_snr` the last signal is 0. A `Sampler` of a network that predicts noise begins before it.

    Raises:
        ValueError: a `CorruptionScheduler`, a scheduler without `alphas_cumprod` or `prediction_type`, or a prediction
            of another kind.
    """
    if isinstance(getattr(scheduler, "corruption", None), Corruption):
        raise ValueError(
            f"{type(scheduler).__name__} has a corruption of its own, and no table to read; run its pipeline as it is, "
            "or sample with Sampler(TimedModel(unet), scheduler.corruption, prediction=scheduler.prediction, "
            "spectrum=scheduler.spectrum)"
        )
    table = getattr(scheduler, "alphas_cumprod", None)
    if table is None:
        raise ValueError(
            f"{type(scheduler).__name__} has no alphas_cumprod, so it is of no variance-preserving chain; pass the "
            "scheduler that the network was trained with, or a corruption, e.g. GaussianCorruption('flow') for flow "
            "matching (docs/coming-from/diffusers.md)"
        )
    config = getattr(scheduler, "config", {})
    kind = config.get("prediction_type")
    if kind is None:
        raise ValueError(
            f"{type(scheduler).__name__} has no prediction_type, one of {', '.join(NAMES)}; pass the scheduler that "
            "the network was trained with"
        )
    if kind not in NAMES:
        raise ValueError(f"prediction_type must be one of {', '.join(NAMES)}, got {kind!r}")
    if config.get("rescale_betas_zero_snr"):
        table = torch.cat([table[:-1], torch.zeros_like(table[-1:])])  # some have 2⁻²⁴, more than in the step before
    return TableCorruption(table), NAMES[kind]
