"""Processes of other papers, from their own formulas: each is one of the library's with a spectrum or a delay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.bases import SeparableBasis
from shortest_path.corruptions import StaggeredCorruption
from tests.worlds import SHAPE, correlated_images, spectrum

TIMES = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)


def noise_covariance(corruption: sp.Corruption, shape: tuple[int, ...], t: float) -> Tensor:
    """The covariance of what a corruption adds to an image, in pixels, (D, D)."""
    size = math.prod(shape)
    pixels = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    added = sp.corrupt(corruption, torch.zeros_like(pixels), t, pixels).flatten(1)
    return added.T @ added


def test_equal_snr_of_falck_and_others() -> None:
    """arXiv:2505.11278: noise of the data's power gives every frequency the signal-to-noise ratio of the schedule."""
    images = correlated_images(512)
    data = sp.PowerSpectrum.estimate([images], "fourier", "independent", center=False)
    corruption = sp.GaussianCorruption("cosine", noise=data)
    for t in TIMES:
        of_signal, of_noise = (scale[0] ** 2 for scale in corruption.scales(t[None]))
        measured = torch.fft.fftn(images, dim=(-2, -1), norm="ortho").abs().square().mean(0)
        ratio = of_signal * measured / of_noise
        angle = (t + 0.008) / 1.008 * math.pi / 2
        alpha_bar = (math.cos(angle) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
        torch.testing.assert_close(ratio, torch.full(SHAPE, float(alpha_bar / (1 - alpha_bar))).double())


def test_frames_correlated_in_time_of_pyoco() -> None:
    """arXiv:2305.10474, mixed noise: ε_i = √(α²/(1+α²)) ε_shared + √(1/(1+α²)) ε_own, one ε_shared for all frames."""
    frames, alpha = 5, 1.4
    rho = alpha**2 / (1 + alpha**2)
    power = torch.full((2, frames, 3, 4), 1 - rho, dtype=torch.float64)
    power[:, 0] = 1 + (frames - 1) * rho
    noise = sp.PowerSpectrum(SeparableBasis(("cosine", "pixel", "pixel")), power)
    covariance = noise_covariance(sp.GaussianCorruption("flow", noise=noise), (2, frames, 3, 4), 1.0)
    shared, own = math.sqrt(alpha**2 / (1 + alpha**2)), math.sqrt(1 / (1 + alpha**2))
    between_frames = own**2 * torch.eye(frames) + shared**2 * torch.ones(frames, frames)
    expected = torch.kron(torch.eye(2), torch.kron(between_frames, torch.eye(12))).double()
    torch.testing.assert_close(covariance, expected, atol=1e-7, rtol=0)


def test_matern_noise_of_denoising_diffusion_operators() -> None:
    """arXiv:2302.07400: on a line, ν = ½ is the kernel exp(−2π r / ℓ), summed over the periods."""
    size, length = 512, 0.3
    noise = sp.PowerSpectrum.matern((1, size), length=length, smoothness=0.5)
    covariance = noise_covariance(sp.GaussianCorruption("flow", noise=noise), (1, size), 1.0)
    lag = torch.arange(size, dtype=torch.float64) / size
    kernel = sum(torch.exp(-2 * math.pi / length * (lag + period).abs()) for period in range(-8, 9))
    assert isinstance(kernel, Tensor)
    measured = covariance[0] / covariance[0, 0]
    # Frequencies above half the sampling rate are missing: the kink at r = 0 is a little rounded.
    torch.testing.assert_close(measured, kernel / kernel[0], atol=0.02, rtol=0)
    torch.testing.assert_close((covariance[0] / measured)[size // 8], (covariance[5] / measured.roll(5))[size // 8 + 5])


def test_noise_by_band() -> None:
    """arXiv:2510.09660: noise with power in a band of frequencies only, here measured from draws."""
    noise = sp.PowerSpectrum.band(SHAPE, 1.5, 3.0, power=2.0)
    corruption = sp.GaussianCorruption("flow", noise=noise)
    eps = torch.randn(4000, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    added = corruption.corrupt(torch.zeros_like(eps), 0.5, eps)
    power = torch.fft.fftn(added, dim=(-2, -1), norm="ortho").abs().square().mean(0)
    f = torch.hypot(*torch.meshgrid(torch.fft.fftfreq(8, 1 / 8), torch.fft.fftfreq(8, 1 / 8), indexing="ij"))
    inside = (f >= 1.5) & (f < 3)
    assert float(power[:, ~inside].max()) < 1e-20
    torch.testing.assert_close(power[:, inside], torch.full_like(power[:, inside], 2.0 * 0.25), rtol=0.15, atol=0)


@pytest.mark.parametrize(("spread", "groups"), [(0.0, 8), (1.0, 8), (7.0, 8)])
def test_schedules_between_diffusion_and_autoregression_of_gud(spread: float, groups: int) -> None:
    """arXiv:2410.02667: a fraction 1/(1 + w) of the time for each component, the starts spread evenly over the rest."""
    delay = torch.linspace(0, 1, groups, dtype=torch.float64).view(1, groups, 1)
    corruption = StaggeredCorruption(sp.GaussianCorruption("flow"), delay, spread=spread)
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    noise = corruption.noise(t).expand(-1, 1, groups, 1).flatten(1)
    for group in range(groups):
        started, ended = t[noise[:, group] > 0].min(), t[noise[:, group] >= 1].min()
        first = spread / (1 + spread) * group / (groups - 1)
        assert float(started) == pytest.approx(first, abs=1e-3)
        assert float(ended - started) == pytest.approx(1 / (1 + spread), abs=2e-3)


def test_the_paper_by_its_theorem() -> None:
    """arXiv:2306.00501, theorem 3.2 and equation 17, with another end state put in the place of the unit one."""
    data, final = spectrum(), spectrum().tempered(0.4)
    corruption = sp.ShortestPathCorruption(data, final=final)
    for t in TIMES.tolist():
        whitened = data.power / final.power
        signal = ((whitened ** (1 - t) - 1) / (whitened - 1)).sqrt()
        time = torch.tensor([t], dtype=torch.float64)
        torch.testing.assert_close(corruption.signal(time)[0], signal, rtol=1e-9, atol=0)
        torch.testing.assert_close(corruption.noise(time)[0], (final.power * (1 - signal**2)).sqrt(), rtol=1e-9, atol=0)
