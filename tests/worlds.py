"""Corruptions, solvers, grids, data and exact denoisers on which the laws run."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.corruptions import corruption_state

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
    return sp.PowerSpectrum.estimate([correlated_images()], basis, channels, center=False)


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


_DEVIATION = spectrum().power.sqrt()
CORRUPTIONS: dict[str, Callable[[], sp.Corruption]] = {
    "gaussian-cosine": lambda: sp.GaussianCorruption("cosine"),
    "gaussian-linear": lambda: sp.GaussianCorruption("linear"),
    "gaussian-flow": lambda: sp.GaussianCorruption("flow"),
    "gaussian-callable": lambda: sp.GaussianCorruption(_wave),
    "blur": lambda: sp.BlurCorruption(4.0, spatial=SHAPE[1:]),
    "heat": lambda: sp.HeatDissipationCorruption(3.0, spatial=SHAPE[1:]),
    "shortest-reference": lambda: sp.ShortestPathCorruption(
        sp.PowerSpectrum.power_law(SHAPE, amplitude=1.59, offset=0.0086, exponent=2.0)
    ),
    "shortest-cosine": lambda: sp.ShortestPathCorruption(spectrum()),
    "shortest-fourier": lambda: sp.ShortestPathCorruption(spectrum("fourier", "independent")),
    "shortest-principal": lambda: sp.ShortestPathCorruption(spectrum("principal")),
    "shortest-final": lambda: sp.ShortestPathCorruption(spectrum(), final=spectrum().tempered(0.3)),
    "gaussian-coloured": lambda: sp.GaussianCorruption("cosine", noise=spectrum().tempered(0.5)),
    "staggered-scales": lambda: sp.StaggeredCorruption(
        sp.ShortestPathCorruption(spectrum()), sp.CosineBasis().frequencies(SHAPE[1:])[None] / 5, spread=0.3
    ),
    "clock": lambda: sp.ClockCorruption(
        spectrum(), lambda t: torch.pi / 2 * t, lambda t: (1 - t) * _DEVIATION.to(t) + 2 * t
    ),
    "own": Sharpen,
}
ENDS = {"shortest-final": spectrum().tempered(0.3), "gaussian-coloured": spectrum().tempered(0.5)}
SOLVERS: dict[str, sp.solvers.Solver] = {
    "multistep": sp.solvers.Multistep(),
    "multistep-1": sp.solvers.Multistep(order=1),
    "multistep-predictor": sp.solvers.Multistep(corrector=False),
    "multistep-noisy": sp.solvers.Multistep(eta=0.7),
    "ddim": sp.solvers.DDIM(),
    "ddim-noisy": sp.solvers.DDIM(eta=0.7),
    "ancestral-large": sp.solvers.Ancestral(),
    "ancestral-small": sp.solvers.Ancestral(variance="small"),
}
INFORMED = {"ancestral-exact": sp.solvers.Ancestral(variance="exact")}
"""Solvers that require the data's power."""
GRIDS: dict[str, Callable[[sp.Corruption, sp.PowerSpectrum], sp.grids.TimeGrid]] = {
    "uniform": lambda corruption, data: sp.grids.Uniform(),
    "cosine": lambda corruption, data: sp.grids.Cosine(),
    "power": lambda corruption, data: sp.grids.Power(),
    "reference": lambda corruption, data: sp.grids.Reference(),
    "log-snr": lambda corruption, data: sp.grids.LogSnr(corruption),
    "spectrum": lambda corruption, data: sp.grids.Spectrum(corruption, data.power),
    "fisher": lambda corruption, data: sp.grids.Fisher(corruption, data),
}
BLIND = [("staggered-scales", "noise")]
"""A model that predicts noise cannot tell a coefficient whose signal has vanished."""
TO_NOISE = [name for name in CORRUPTIONS if name != "heat"]


def _can_be_saved(name: str) -> bool:
    try:
        corruption_state(CORRUPTIONS[name]())
    except (TypeError, ValueError):
        return False
    return True


TO_SAVE = [name for name in TO_NOISE if _can_be_saved(name)]
SHORTEST = [name for name in CORRUPTIONS if name.startswith("shortest")]


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


def point(corruption: sp.Corruption, t: float) -> sp.solvers.Point:
    """The scales of a corruption at one time, float64."""
    time = torch.tensor([t], dtype=torch.float64)
    return sp.solvers.Point(t, corruption.signal(time), corruption.noise(time))


def step_numbers(solver: sp.solvers.Solver, here: sp.solvers.Point, there: sp.solvers.Point) -> sp.solvers.StepWeights:
    """The numbers of u_s = w_t u_t + w_0 u_0 + sigma z, by what a step without memory answers to unit inputs."""
    like = torch.ones((1, *SHAPE), dtype=torch.float64)
    one, zero = like, torch.zeros_like(like)

    def answer(u_t: Tensor, u_0: Tensor, z: Tensor) -> Tensor:
        return solver.start(None, lambda t: there)(u_t, u_0, here, there, lambda: z)

    return sp.solvers.StepWeights(answer(one, zero, zero), answer(zero, one, zero), answer(zero, zero, one))


def white(count: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Mixture(torch.nn.Module):
    """The exact denoiser of a mixture of two Gaussians that share a diagonal covariance; predicts data."""

    def __init__(self, corruption: sp.Corruption, power: Tensor) -> None:
        super().__init__()
        self.corruption, self.power = corruption, power
        self.centres = 0.15 * power.sqrt() * white(2, seed=3)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        basis = self.corruption.basis
        signal, noise = self.corruption.signal(t), self.corruption.noise(t)
        u_t = basis.analyze(x_t)
        variance = signal**2 * self.power + noise**2
        away = torch.stack([((u_t - signal * centre) ** 2 / variance).flatten(1).sum(1) for centre in self.centres], 1)
        weight = torch.softmax(-away / 2, 1)[..., None, None, None]
        guess = torch.stack([c + signal * self.power / variance * (u_t - signal * c) for c in self.centres], 1)
        return basis.synthesize((weight * guess).sum(1))
