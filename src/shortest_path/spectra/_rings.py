"""Rings of equal |f|, one cycle wide."""

from __future__ import annotations

import torch
from torch import Tensor


def ring_means(frequency: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """Return the frequencies (n,) of the rings that hold coefficients, and their mean power (C, n)."""
    numbers, ring = _rings(frequency)
    return numbers.to(torch.float64), _means(ring, power.flatten(1))


def smooth_rings(frequency: Tensor, power: Tensor) -> Tensor:
    """Return power as a function of |f|, (C, *spatial), by the rule of `PowerSpectrum.smoothed`."""
    _, ring = _rings(frequency)
    f = frequency.flatten()
    means, centre = _means(ring, power.flatten(1)), _means(ring, f[None])[0]
    smooth = means[:, ring]
    if len(centre) > 1:
        high = torch.searchsorted(centre, f).clamp(1, len(centre) - 1)
        low = high - 1
        weight = (f - centre[low]) / (centre[high] - centre[low])
        smooth = torch.lerp(means.log()[:, low], means.log()[:, high], weight).exp()
        smooth = smooth * (means / _means(ring, smooth))[:, ring]
    return smooth.reshape(power.shape)


def _rings(frequency: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers of the rings that hold coefficients, and the place of every coefficient's ring among them."""
    ring = frequency.flatten().add(0.5).floor().long()
    filled = torch.bincount(ring) > 0
    return filled.nonzero().flatten(), (filled.cumsum(0) - 1)[ring]


def _means(ring: Tensor, values: Tensor) -> Tensor:
    size = torch.bincount(ring)
    return torch.zeros(len(values), len(size), dtype=torch.float64, device="cpu").index_add_(1, ring, values) / size
