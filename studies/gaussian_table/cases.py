"""Corruptions of the Gaussian table, and deviations from the measured spectrum."""

from __future__ import annotations

import torch
from torch import Tensor

import shortest_path as sp


def corruptions(data: sp.PowerSpectrum, unrotated: sp.PowerSpectrum) -> dict[str, sp.Corruption]:
    """Return the corruptions of the table, for the same data each."""
    constants = sp.PowerSpectrum.power_law(data.shape, amplitude=1.59, offset=0.0086, exponent=2.0)
    return {
        "channel rotation + Fourier": sp.ShortestPathCorruption(data),
        "RGB + Fourier, measured spectrum": sp.ShortestPathCorruption(unrotated),
        "reference constants (1.59, 0.0086, 2)": sp.ShortestPathCorruption(constants),
        "Gaussian, cosine": sp.GaussianCorruption("cosine"),
        "Gaussian, linear (continuous VP-SDE)": sp.GaussianCorruption(vp_sde_schedule),
        "Gaussian, linear (DDPM's table)": sp.GaussianCorruption("linear"),
        "Gaussian, flow": sp.GaussianCorruption("flow"),
    }


def deviating(data: sp.PowerSpectrum) -> dict[str, sp.PowerSpectrum]:
    """Return spectra that deviate from the measured one, in its basis."""
    laws = [data.fit_power_law(channel) for channel in range(data.shape[0])]
    frequency = data.basis.frequencies(data.shape[1:])
    log_f = torch.stack([(law.offset + frequency).log() for law in laws])
    log_f = log_f - log_f.mean((-2, -1), keepdim=True)  # so that a change of exponent keeps the mean of log S
    mean = data.power.log().mean((-2, -1), keepdim=True)
    exponent = torch.tensor([law.exponent for law in laws], dtype=torch.float64)[:, None, None]
    fitted = torch.exp(mean - exponent * log_f)
    result = {f"log S × {scale:g}": data.tempered(scale) for scale in (0.9, 1.0, 1.1)}
    for name, power in (("measured", data.power), ("fitted power law", fitted)):
        for change in (-0.5, 0.0, 0.5):
            if change or power is fitted:
                changed = f"{name}, exponent {change:+g}" if change else name
                result[changed] = sp.PowerSpectrum(data.basis, power * torch.exp(-change * log_f))
    return result


def vp_sde_schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (a_t, s_t) of the continuous limit of DDPM's noise: ᾱ_t = exp(−(0.1 t + 9.95 t²)), β from 0.1 to 20."""
    log_alpha_bar = -(0.1 * t + 9.95 * t**2)
    return torch.exp(log_alpha_bar / 2), (-torch.expm1(log_alpha_bar)).sqrt()


def eigenvalue_spectrum(data: sp.PowerSpectrum) -> sp.PowerSpectrum:
    """Return the spectrum of the data in the eigenvectors of the channel covariance at *each* frequency.

    There the covariance is diagonal, and neither length nor KL depends on a rotation. So the eigenvalues serve as three
    independent channels; for real images they are equal at k and −k.
    """
    assert data.cross is not None
    eigenvalues = torch.linalg.eigvalsh(data.cross.movedim((0, 1), (-2, -1)))
    return sp.PowerSpectrum(sp.FourierBasis(data.basis.dims), eigenvalues.movedim(-1, 0), count=data.count)
