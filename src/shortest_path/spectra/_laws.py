"""Laws: power as a function of |f|, in cycles per longest side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import broadcasts, check_numbers, check_sizes
from ..bases import Basis, FourierBasis
from ._power_law import PowerLaw


def law_frequencies(shape: Sequence[int], basis: Basis | None) -> tuple[Basis, Tensor]:
    """Return the basis of a law, by default the paper's, and |f| of every coefficient, (C, *spatial)."""
    shape = check_sizes("shape", shape)
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"shape must be (C, *spatial) with every size 1 or more, got {tuple(shape)}")
    basis = FourierBasis(len(shape) - 1) if basis is None else basis
    if not isinstance(basis, Basis):
        raise TypeError(f"basis must be a Basis, such as CosineBasis(2), got {type(basis).__name__}")
    frequency = basis.frequencies(shape[1:])
    if not broadcasts(frequency.shape, shape[1:]):
        raise ValueError(
            f"{basis!r} has frequencies of shape {tuple(frequency.shape)}, which do not broadcast to the spatial axes "
            f"{tuple(shape[1:])}; make the basis for images of this size"
        )
    return basis, frequency.expand(*shape)


def law_parameters(law: PowerLaw | None, numbers: dict[str, Any]) -> dict[str, float]:
    """Return amplitude, offset and exponent by name, from a fitted law or from the three numbers."""
    missing = [name for name, number in numbers.items() if number is None]
    if law is None and missing:
        raise TypeError(
            f"power_law requires a law, or amplitude, offset and exponent; {', '.join(missing)} missing, "
            "pass e.g. spectrum.fit_power_law()"
        )
    if law is not None and len(missing) < len(numbers):
        given = ", ".join(name for name in numbers if name not in missing)
        raise TypeError(f"power_law takes a law or numbers, got both; omit {given}, or the law")
    if law is not None and not isinstance(law, PowerLaw):
        raise TypeError(f"law must be a PowerLaw, got {type(law).__name__}; pass spectrum.fit_power_law()")
    return numbers if law is None else {name: getattr(law, name) for name in numbers}


def power_law(frequency: Tensor, *, amplitude: float, offset: float, exponent: float) -> Tensor:
    """Return amplitude / (offset + |f|)^exponent."""
    check_numbers(amplitude=amplitude, offset=offset, exponent=exponent)
    amplitude, offset, exponent = float(amplitude), float(offset), float(exponent)
    if not (amplitude > 0 and offset > 0):
        raise ValueError(f"amplitude and offset must be positive, got {amplitude} and {offset}")
    power = amplitude / (offset + frequency) ** exponent
    return _in_range(power, f"amplitude={amplitude}, offset={offset}, exponent={exponent}")


def matern(frequency: Tensor, *, length: float, smoothness: float, dims: int) -> Tensor:
    """Return (1 + (length |f|)²)^(−smoothness − dims / 2)."""
    check_numbers(length=length, smoothness=smoothness)
    length, smoothness = float(length), float(smoothness)
    if not (length > 0 and smoothness > 0):
        raise ValueError(f"length and smoothness must be positive, got {length} and {smoothness}")
    power = (1 + (length * frequency) ** 2) ** (-smoothness - dims / 2)
    return _in_range(power, f"length={length}, smoothness={smoothness}")


def band(frequency: Tensor, low: float, high: float, *, power: float, outside: float) -> Tensor:
    """Return `power` for low ≤ |f| < high, and `outside` elsewhere."""
    check_numbers(low=low, high=high, power=power, outside=outside)
    low, high, power, outside = float(low), float(high), float(power), float(outside)
    if not 0 <= low < high:
        raise ValueError(f"a band requires 0 ≤ low < high, in cycles per longest side, got {low} and {high}")
    within = (frequency >= low) & (frequency < high)
    values = torch.full_like(frequency, outside).masked_fill(within, power)
    if not bool((values > 0).any() and (values >= 0).all() and values.isfinite().all()):
        raise ValueError(
            f"a band requires finite power ≥ 0 in every coefficient and more than 0 in some, got power={power} in "
            f"{int(within.sum())} and outside={outside} in {int((~within).sum())} coefficients, whose |f| are "
            f"{frequency.min():.3g} … {frequency.max():.3g}"
        )
    return values


def _in_range(power: Tensor, parameters: str) -> Tensor:
    if not bool((power.isfinite() & (power > 0)).all()):
        raise ValueError(
            f"a law must have positive and finite power, got {power.min():.3g} … {power.max():.3g} from {parameters}; "
            "choose milder values"
        )
    return power
