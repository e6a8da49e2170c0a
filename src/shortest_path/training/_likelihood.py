"""The weights with which a model's errors bound the likelihood of the data."""

from __future__ import annotations

import torch
from torch import Tensor

from ..corruptions import Corruption, both_scales
from ..prediction import Prediction, mixture


def likelihood_factor(
    corruption: Corruption, t: Tensor, prediction: Prediction, power: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Return the factors √w of a prediction's errors in the evidence lower bound, coefficient by coefficient.

        ½ (−d SNR/dt) (û_0 − u_0)² = w · (error of the prediction)²,    w = a (a ṡ − s ȧ) / (s D²),    SNR = a² / s²

    with D as in `shortest_path.prediction`. 0 where a coefficient has no noise yet, as its error is 0 there.

    Args:
        corruption: Any corruption whose scales are differentiable in t.
        t: Times, (B,).
        prediction: What the model predicts.
        power: S, broadcastable to coefficients; used only by `"whitened-velocity"`.
        dtype: Type of the result.

    Source: Kingma et al. 2021, arXiv:2107.00630, equation 17; per coefficient, docs/theory.md.
    """
    if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():  # torch 2.4 derives 0 there
        with torch.inference_mode(False), torch.no_grad():
            return likelihood_factor(corruption, t.clone(), prediction, power, dtype)
    (signal, noise), pull_back = torch.func.vjp(lambda time: both_scales(corruption, time), t.detach().clone())[:2]
    # Pulling back is linear. Every image has its own time, so that its transpose maps ones to the scales' derivatives.
    _, transposed = torch.func.vjp(pull_back, (torch.zeros_like(signal), torch.zeros_like(noise)))[:2]
    ((signal_rate, noise_rate),) = transposed((torch.ones_like(t),))
    turn = (signal * noise_rate - noise * signal_rate).clamp(min=0)  # below 0 by rounding: the ratio does not rise
    determinant = mixture(prediction, signal, noise, power).determinant
    changing = (turn > 0) & (noise > 0)
    weight = signal * torch.where(changing, turn, 1.0) / torch.where(changing, noise * determinant**2, 1.0)
    visible = changing & (weight > 0)  # the derivative of a root is infinite at 0
    return torch.where(visible, torch.where(visible, weight, 1.0).sqrt(), 0.0).to(dtype)
