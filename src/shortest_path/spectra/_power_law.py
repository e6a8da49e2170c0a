"""Power laws, and fitting one to a spectrum."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor


class PowerLaw(NamedTuple):
    """A power law S(f) = amplitude / |offset + |f||^exponent, and how well it fits.

    `r_squared` is the fraction of the variance of log S over coefficients that the law explains.
    """

    amplitude: float
    offset: float
    exponent: float
    r_squared: float


def fit_power_law(frequency: Tensor, log_power: Tensor) -> PowerLaw:
    """Fit log S = log amplitude − exponent · log(offset + |f|) by least squares over all coefficients.

    The offset is sought in [1e-4, 1] cycles: it is there to keep S(0) finite, not to bend the law.
    """

    def residual(offset: float) -> tuple[float, Tensor]:
        # For a given offset the law is linear in log amplitude and exponent.
        design = torch.stack([torch.ones_like(frequency), -(offset + frequency).log()], dim=1)
        solution = torch.linalg.lstsq(design, log_power[:, None]).solution[:, 0]
        return float(((design @ solution - log_power) ** 2).sum()), solution

    candidates = torch.logspace(-4, 0, 41, dtype=torch.float64, device="cpu").tolist()
    best = min(range(len(candidates)), key=lambda index: residual(candidates[index])[0])
    low, high = candidates[max(best - 1, 0)], candidates[min(best + 1, len(candidates) - 1)]
    golden = (5**0.5 - 1) / 2
    for _ in range(60):  # golden section in log offset
        span = math.log(high / low)
        left, right = high * math.exp(-golden * span), low * math.exp(golden * span)
        if residual(left)[0] < residual(right)[0]:
            high = right
        else:
            low = left
    offset = math.sqrt(low * high)
    if best in (0, len(candidates) - 1) and min(offset / candidates[0], candidates[-1] / offset) < 1.01:
        warnings.warn(
            f"the offset of the power law lies at a bound of its range, {offset:.3g}: the spectrum bends more than a "
            "power law does; look at r_squared",
            RuntimeWarning,
            stacklevel=3,
        )
    error, solution = residual(offset)
    variance = float(((log_power - log_power.mean()) ** 2).sum())
    r_squared = 1 - error / variance if variance > 0 else 1.0
    return PowerLaw(float(solution[0].exp()), offset, float(solution[1]), r_squared)
