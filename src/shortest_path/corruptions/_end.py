"""The two ends of a path: the spectrum of the data, and that of the end state in the same basis."""

from __future__ import annotations

import torch
from torch import Tensor

from .._exact import same_table
from ..bases import Basis
from ..spectra import PowerSpectrum, require_power


def check_spectrum(spectrum: object, name: str = "spectrum") -> None:
    """Raise unless `spectrum` is a power spectrum without empty coefficients."""
    if not isinstance(spectrum, PowerSpectrum):
        raise TypeError(f"{name} must be a PowerSpectrum, got {type(spectrum).__name__}; see PowerSpectrum.estimate")
    require_power(spectrum, name)


def end_power(final: object, spectrum: PowerSpectrum) -> Tensor:
    """Return the power of an end state in the basis of the data's spectrum, (C, *spatial).

    Raises:
        TypeError: `final` is not a `PowerSpectrum`.
        ValueError: another shape or mean, an empty coefficient, or an end state that is not diagonal in that basis.
    """
    check_spectrum(final, "final")
    assert isinstance(final, PowerSpectrum)  # for the type checker
    if final.shape != spectrum.shape:
        raise ValueError(f"final must have the shape of spectrum, {spectrum.shape}, got {final.shape}")
    if final.mean is not None and (spectrum.mean is None or not same_table("mean", final.mean, spectrum.mean)):
        raise ValueError(
            "final has another mean than spectrum, and equation 1 keeps the data's mean at every time; "
            "pass PowerSpectrum(final.basis, final.power), which has none"
        )
    power, ours, theirs = final.power, spectrum.basis, final.basis
    isotropic = bool((power == power.flatten()[0]).all())
    alike_channels = bool((power == power[:1]).all())  # such a power commutes with a rotation of the channels
    if not (isotropic or (ours.shares_transform(theirs) and (alike_channels or same_rotation(ours, theirs)))):
        raise ValueError(
            f"final must be diagonal in the basis of spectrum, {ours!r}, got one in {theirs!r}: covariances that do "
            "not commute are joined by a path that is diagonal in no orthonormal basis; use one basis for both, e.g. "
            "PowerSpectrum(spectrum.basis, power)"
        )
    return power.clone()


def same_rotation(ours: Basis, theirs: Basis, *, exactly: bool = False) -> bool:
    """Whether two bases rotate the channels alike, up to rounding or to the last bit."""
    first, second = ours.channel_rotation, theirs.channel_rotation
    if first is None or second is None:
        return first is second
    compare = torch.equal if exactly else torch.allclose
    return first.shape == second.shape and compare(first.cpu(), second.cpu())
