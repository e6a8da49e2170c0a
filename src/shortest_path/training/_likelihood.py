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
    with torch.inference_mode(False), torch.enable_grad():
        time = t.clone().detach().requires_grad_()
        signal, noise = both_scales(corruption, time)
        signal_rate, noise_rate = (_rate(scale, time) for scale in (signal, noise))
    turn = (signal * noise_rate - noise * signal_rate).clamp(min=0)  # below 0 by rounding: the ratio does not rise
    determinant = mixture(prediction, signal, noise, power).determinant
    changing = (turn > 0) & (noise > 0)
    weight = signal * torch.where(changing, turn, 1.0) / torch.where(changing, noise * determinant**2, 1.0)
    visible = changing & (weight > 0)  # the derivative of a root is infinite at 0
    return torch.where(visible, torch.where(visible, weight, 1.0).sqrt(), 0.0).to(dtype)


def _rate(scale: Tensor, time: Tensor) -> Tensor:
    """Return the derivative of every coefficient's scale (B, C, *spatial) in its own time (B,), with its graph."""
    if not scale.requires_grad:
        return torch.zeros_like(scale)
    # Linear in the direction: the derivative of Σ_f v_f ∂scale_f/∂t in v is that of each coefficient.
    direction = torch.zeros_like(scale, requires_grad=True)
    (total,) = torch.autograd.grad(scale, time, direction, create_graph=True, allow_unused=True)
    if total is None:
        return torch.zeros_like(scale)
    rate: Tensor = torch.autograd.grad(total, direction, torch.ones_like(total), create_graph=True)[0]
    return rate
