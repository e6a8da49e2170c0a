"""Corruptions, data and exact denoisers shared by the tests."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import shortest_path as sp

torch.set_num_threads(1)  # parallel test processes would only disturb each other

SHAPE = (3, 8, 8)


def correlated_images(count: int = 256, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    """Smooth random images with strongly correlated channels, float64, about unit range."""
    generator = torch.Generator().manual_seed(seed)
    basis = sp.CosineBasis(len(shape) - 1)
    white = torch.randn((count, *shape), generator=generator, dtype=torch.float64)
    smooth = basis.synthesize(white / (0.5 + basis.frequencies(shape[1:])) ** 1.5)
    mixing = torch.full((shape[0], shape[0]), 0.6, dtype=torch.float64) + 0.4 * torch.eye(shape[0], dtype=torch.float64)
    return 0.3 * torch.einsum("ij,bj...->bi...", mixing, smooth)


def spectrum(basis: str = "cosine", channels: str = "rotate") -> sp.PowerSpectrum:
    return sp.PowerSpectrum.estimate([correlated_images()], basis, channels)


class Sharpen:
    """A user's own corruption: three members, no base class, and a² + s² ≠ 1."""

    def __init__(self) -> None:
        self.basis = sp.CosineBasis()
        self.frequency = self.basis.frequencies(SHAPE[1:])

    def signal(self, t: Tensor) -> Tensor:
        return (1 - t.view(-1, 1, 1, 1)) ** (1 + 1 / (1 + self.frequency.to(t.dtype)))

    def noise(self, t: Tensor) -> Tensor:
        return 2 * t.view(-1, 1, 1, 1).sqrt()


def _wave(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cos(torch.pi / 2 * t), torch.sin(torch.pi / 2 * t)


CORRUPTIONS: dict[str, Callable[[], sp.Corruption]] = {
    "gaussian-cosine": lambda: sp.GaussianCorruption("cosine"),
    "gaussian-linear": lambda: sp.GaussianCorruption("linear"),
    "gaussian-flow": lambda: sp.GaussianCorruption("flow"),
    "gaussian-callable": lambda: sp.GaussianCorruption(_wave),
    "blur": lambda: sp.BlurCorruption(4.0, spatial=SHAPE[1:]),
    "heat": lambda: sp.BlurCorruption.heat_dissipation(3.0, spatial=SHAPE[1:]),
    "shortest-reference": lambda: sp.ShortestPathCorruption(
        sp.PowerSpectrum.power_law(SHAPE, amplitude=1.59, offset=0.0086, exponent=2.0)
    ),
    "shortest-cosine": lambda: sp.ShortestPathCorruption(spectrum()),
    "shortest-fourier": lambda: sp.ShortestPathCorruption(spectrum("fourier", "independent")),
    "shortest-principal": lambda: sp.ShortestPathCorruption(spectrum("principal")),
    "own": Sharpen,
}
TO_NOISE = [name for name in CORRUPTIONS if name != "heat"]
SHORTEST = [name for name in CORRUPTIONS if name.startswith("shortest")]


@pytest.fixture(params=CORRUPTIONS)
def corruption(request: pytest.FixtureRequest) -> sp.Corruption:
    return CORRUPTIONS[request.param]()


@pytest.fixture
def images() -> Tensor:
    return correlated_images(16)


class GaussianDenoiser(torch.nn.Module):
    """The exact denoiser for data N(0, Bᵀ diag(power) B), in any prediction type."""

    def __init__(self, corruption: sp.Corruption, power: Tensor, prediction: str = "noise") -> None:
        super().__init__()
        self.corruption, self.power, self.prediction = corruption, power, prediction

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        basis = self.corruption.basis
        signal, noise = self.corruption.signal(t), self.corruption.noise(t)
        u_t = basis.analyze(x_t)
        total = signal**2 * self.power + noise**2
        u_0, eps = signal * self.power / total * u_t, noise / total * u_t
        answer = {
            "noise": eps,
            "data": u_0,
            "velocity": signal * eps - noise * u_0,
            "whitened-velocity": torch.zeros_like(u_t),
        }[self.prediction]
        return basis.synthesize(answer)


def gaussian_world(corruption: sp.Corruption, prediction: str = "noise") -> SimpleNamespace:
    """A Gaussian data set that is diagonal in the corruption's basis, and its exact denoiser."""
    generator = torch.Generator().manual_seed(7)
    power = torch.exp(torch.randn(SHAPE, generator=generator, dtype=torch.float64))
    if isinstance(corruption.basis, sp.FourierBasis):
        power = (power + power.flip(-1, -2).roll((1, 1), (-1, -2))) / 2
    if isinstance(corruption.basis, sp.PixelBasis):
        power = power[..., :1, :1].expand(SHAPE).contiguous()
    return SimpleNamespace(power=power, model=GaussianDenoiser(corruption, power, prediction))
