"""The processes of the family study."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.corruptions import ClockCorruption, StaggeredCorruption


def five_processes(spectrum: sp.PowerSpectrum) -> dict[str, sp.Corruption]:
    """Return processes that share ends, clocks, or neither, for data whose coefficients are independent."""
    deviation = spectrum.power.sqrt()
    gaussian = sp.GaussianCorruption("cosine")

    def gaussian_clock(t: Tensor) -> Tensor:
        signal, noise = gaussian.scales(t.flatten())
        return torch.atan2(noise, signal * deviation)

    def transported(t: Tensor) -> Tensor:
        return (1 - t) * deviation + t

    def transport_clock(t: Tensor) -> Tensor:
        return torch.atan2((t**2 + 2 * t * (1 - t) * deviation).sqrt(), (1 - t) * deviation)

    return {
        "shortest path": sp.ShortestPathCorruption(spectrum),
        "Gaussian, cosine": gaussian,
        "the same, rescaled onto the geodesic": ClockCorruption(
            spectrum, gaussian_clock, lambda t: spectrum.power ** ((1 - t) / 2)
        ),
        "Wasserstein-2 geodesic": ClockCorruption(spectrum, transport_clock, transported),
        "equal SNR, to N(0, S)": sp.GaussianCorruption(_quarter_turn, noise=spectrum),
    }


def _quarter_turn(t: Tensor) -> tuple[Tensor, Tensor]:
    angle = math.pi / 2 * t
    return torch.sin(math.pi / 2 - angle), torch.sin(angle)


def rotations(data: sp.PowerSpectrum) -> dict[str, sp.PowerSpectrum]:
    """Return the spectrum of the same data with the channels rotated by three rules."""
    assert data.cross is not None
    covariance = data.cross.real if data.cross.is_complex() else data.cross
    plain = covariance.flatten(2).mean(-1)
    turned = torch.linalg.eigh((plain + plain.T) / 2).eigenvectors.flip(1).T
    result = {}
    for name, rotation in (("none", torch.eye(len(turned), dtype=torch.float64)), ("mean of C", turned)):
        power = torch.einsum("ki,ij...,kj->k...", rotation, covariance, rotation)
        result[name] = sp.PowerSpectrum(data.basis.with_channel_rotation(rotation), power, cross=data.cross)
    return {**result, "mean of C / tr C": data}


def family(data: sp.PowerSpectrum) -> dict[str, sp.Corruption]:
    """Return the family side by side: ends, colours of the noise, and delays."""
    frequency = data.basis.frequencies(data.shape[1:])[None]
    shortest = sp.ShortestPathCorruption(data)
    return {
        "Gaussian, cosine": sp.GaussianCorruption("cosine"),
        "Gaussian, noise of colour S^½": sp.GaussianCorruption("cosine", noise=data.tempered(0.5)),
        "Gaussian, noise of colour S (equal SNR)": sp.GaussianCorruption("cosine", noise=data),
        "blur and noise": sp.BlurCorruption(spatial=data.shape[1:]),
        "shortest path to white noise": shortest,
        "shortest path to S^½": sp.ShortestPathCorruption(data, final=data.tempered(0.5)),
        "shortest path, fine scales first, w = 1": StaggeredCorruption(
            shortest, 1 - frequency / frequency.max(), spread=1
        ),
        "equal clocks, a² + s² = 1": ClockCorruption(data, lambda t: math.pi / 2 * t),
    }
