"""The weights with which a model's errors bound the likelihood of the data."""

from __future__ import annotations

import torch
from torch import Tensor

from ..corruptions import Corruption, both_scales
from ..prediction import Prediction, mixture


def likelihood_weight(
    corruption: Corruption, t: Tensor, prediction: Prediction, power: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Return the weights of squared errors of a prediction in the evidence lower bound, coefficient by coefficient.

        ½ (−d SNR/dt) (û_0 − u_0)² = a (a ṡ − s ȧ) / (s D²) · (error of the prediction)²,    SNR = a² / s²

    with D as in `shortest_path.prediction`. 0 where a coefficient has no noise yet, as its error is 0 there.

    Args:
        corruption: Any corruption whose scales are differentiable in t.
        t: Times, (B,).
        prediction: What the model predicts.
        power: S, broadcastable to coefficients; used only by `"whitened-velocity"`.
        dtype: Type of the result.

    Source: Kingma et al. 2021, arXiv:2107.00630, equation 17; per coefficient, docs/theory.md.
    """
    t = t.contiguous()  # one time expanded to many shares its memory, and cannot be written to
    (signal, noise), (signal_rate, noise_rate) = torch.func.jvp(
        lambda time: both_scales(corruption, time), (t,), (torch.ones_like(t),)
    )[:2]
    turn = (signal * noise_rate - noise * signal_rate).clamp(min=0)  # below 0 by rounding: the ratio does not rise
    determinant = mixture(prediction, signal, noise, power).determinant
    changing = (turn > 0) & (noise > 0)
    weight: Tensor = signal * torch.where(changing, turn, 0.0) / torch.where(changing, noise * determinant**2, 1.0)
    return weight.to(dtype)
