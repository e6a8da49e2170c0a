"""What tells one corruption from another: numbers that follow from its scales, whatever its class does not tell."""

from __future__ import annotations

import torch
from torch import Tensor

from .._devices import device_of
from .._exact import ROUNDING
from ..bases import kind_of
from ..corruptions import Corruption, both_scales
from ..spectra import PowerSpectrum

_TIMES = (0.05, 0.25, 0.5, 0.75, 0.95)


@torch.no_grad()
def fingerprint(corruption: Corruption) -> Tensor:
    """Return two means of signal and of noise over the coefficients at some times, (5, 4), float64 on the CPU.

    One of them is weighted, so that the same values in other places are noticed.
    """
    device = device_of(corruption)
    rows = []
    for t in _TIMES:  # one after another, as all scales of large images would take memory
        row = []
        for scale in both_scales(corruption, torch.full((1,), t, device=device)):
            row += two_means(scale)
        rows.append(torch.stack(row))
    return torch.stack(rows).cpu().double()


def measured(spectrum: PowerSpectrum | None) -> dict[str, Tensor | str]:
    """Return the power, basis and mean of a spectrum, in the way in which two are compared; nothing for None."""
    if spectrum is None:
        return {}
    found: dict[str, Tensor | str] = {"power": spectrum.power, "basis": kind_of(spectrum.basis)}
    found |= {f"basis.{name}": each.detach() for name, each in spectrum.basis.state_dict().items()}
    return found if spectrum.mean is None else {**found, "mean": spectrum.mean}


def two_means(table: Tensor) -> list[Tensor]:
    """Return the mean of a table, and one that is weighted by place."""
    values = table.flatten().double() if table.device.type == "cpu" else table.flatten()
    weights = torch.cos(torch.arange(len(values), dtype=values.dtype, device=values.device))
    return [values.mean(), (weights * values).mean()]


def is_another(theirs: Tensor, ours: Tensor) -> bool:
    """Whether two fingerprints are of different corruptions."""
    return theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=ROUNDING, atol=ROUNDING, equal_nan=True)
