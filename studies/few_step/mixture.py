"""Data with an exact denoiser: a mixture of real images, each with a Gaussian cloud around it.

    x_0 = Bᵀ u_0,    u_0 = √(1 − r) c_i + √(r S) ⊙ z,    i uniform over N images c_i,  z ~ N(0, I)

S is the power spectrum of the images in the basis B, and r the fraction of it in the clouds, so that mixture and images
have the same spectrum. Under a corruption that is diagonal in B, with scales a and s, and v = a² r S + s²,

    E[u_0 | u_t] = μ + (a r S / v) (u_t − a μ),    μ = Σ_i w_i √(1 − r) c_i,
    w_i ∝ exp(−½ Σ_f (u_t − a √(1 − r) c_i)² / v)

Without a network, all error is the solver's. With r = 1 the data are Gaussian.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

import shortest_path as sp

Model: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class Mixture:
    """Equal clouds around images.

    Args:
        images: Centres before scaling by √(1 − r), (N, C, *spatial).
        spectrum: S, and the basis B in which the clouds are diagonal.
        residual: r, in (0, 1].

    Raises:
        ValueError: `residual` outside (0, 1], or shapes of images and spectrum differ.
    """

    def __init__(self, images: Tensor, spectrum: sp.PowerSpectrum, *, residual: float = 0.25) -> None:
        if not 0 < residual <= 1:
            raise ValueError(f"residual must lie in (0, 1], got {residual}")
        if tuple(images.shape[1:]) != spectrum.shape:
            raise ValueError(f"images must have the spectrum's shape {spectrum.shape}, got {tuple(images.shape[1:])}")
        self.spectrum, self.basis, self.power = spectrum, spectrum.basis, spectrum.power
        self.cloud = residual * self.power
        self.centres = math.sqrt(1 - residual) * self.basis.analyze(images.double())
        self._flat: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def posterior_mean(self, u_t: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """Return E[u_0 | u_t].

        Args:
            u_t: Coefficients, (B, C, *spatial).
            signal: a, broadcastable to (C, *spatial), float64.
            noise: s, likewise.
        """
        variance = signal**2 * self.cloud + noise**2
        centres, squares = self._centres(u_t.dtype)
        # |u − a c|² / v without its first term, which all centres share; as matrix products, for speed.
        along = ((signal / variance).to(u_t.dtype) * u_t).flatten(1) @ centres.T
        size = squares @ (signal**2 / variance).to(u_t.dtype).flatten()
        mean = (torch.softmax(along - size / 2, 1) @ centres).view_as(u_t)
        gain = (signal * self.cloud / variance).to(u_t.dtype)
        return mean + gain * (u_t - signal.to(u_t.dtype) * mean)

    def model(self, corruption: sp.Corruption) -> Model:
        """Return `model(x_t, t)`, the exact prediction of data under a corruption; all times of a batch must be equal.

        Raises:
            ValueError: the corruption is not diagonal in this basis.
        """
        self._check_diagonal(corruption)

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            if bool((t != t[0]).any()):
                raise ValueError("the exact denoiser requires one time for the whole batch, got several")
            u_0 = self.posterior_mean(self.basis.analyze(x_t), *self.scales(corruption, t[0]))
            return self.basis.synthesize(u_0)

        return predict

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """Return D(x; σ) = E[x_0 | x_0 + σ ε = x], the variance-exploding form."""
        one = torch.ones((1,) * self.power.ndim, dtype=torch.float64)
        return self.basis.synthesize(self.posterior_mean(self.basis.analyze(x), one, sigma * one))

    def scales(self, corruption: sp.Corruption, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return (signal, noise) of a corruption at one time, broadcastable to (C, *spatial), float64."""
        time = torch.as_tensor(t, dtype=torch.float64).reshape(1)
        return corruption.signal(time)[0], corruption.noise(time)[0]

    def start(self, corruption: sp.Corruption, t: Tensor | float, white: Tensor) -> Tensor:
        """Return white noise, (B, C, *spatial), scaled to the spectrum of the corrupted data at a time."""
        signal, noise = self.scales(corruption, t)
        deviation = (signal**2 * self.power + noise**2).sqrt().to(white.dtype)
        return self.basis.synthesize(deviation * self.basis.analyze(white))

    def sample(self, count: int, seed: int) -> Tensor:
        """Return samples of the mixture, (count, C, *spatial), float64."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(self.centres), (count,), generator=generator)
        white = torch.randn((count, *self.spectrum.shape), generator=generator, dtype=torch.float64)
        return self.basis.synthesize(self.centres[chosen] + self.cloud.sqrt() * white)

    def _centres(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if dtype not in self._flat:
            flat = self.centres.flatten(1)
            self._flat[dtype] = flat.to(dtype), (flat**2).to(dtype)
        return self._flat[dtype]

    def _check_diagonal(self, corruption: sp.Corruption) -> None:
        """Raise unless applying the signal in either basis gives the same image."""
        probe = torch.randn((1, *self.spectrum.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        signal, _ = self.scales(corruption, 0.5)
        theirs = corruption.basis.synthesize(signal * corruption.basis.analyze(probe))
        ours = self.basis.synthesize(signal * self.basis.analyze(probe))
        if not torch.allclose(ours, theirs, rtol=0, atol=1e-8):
            raise ValueError(
                f"{type(corruption).__name__} in {corruption.basis!r} is not diagonal in {self.basis!r}; "
                "make the mixture with a spectrum in the corruption's basis"
            )


def edm_heun(
    denoise: Callable[[Tensor, float], Tensor],
    white: Tensor,
    steps: int,
    *,
    sigma_max: float = 80.0,
    sigma_min: float = 0.002,
    rho: float = 7.0,
) -> Tensor:
    """Sample with EDM's deterministic second-order solver: 2 steps − 1 calls.

    Args:
        denoise: D(x, σ).
        white: Unit normal noise, (B, C, *spatial).
        steps: N, at least 2.
        sigma_max: σ_max, the first noise level.
        sigma_min: σ_min, the last noise level before 0.
        rho: ρ of the grid.

    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 1 and equation 5.
    """
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = [(first + i / (steps - 1) * (last - first)) ** rho for i in range(steps)] + [0.0]
    x = sigma_max * white
    for now, after in itertools.pairwise(sigmas):
        slope = (x - denoise(x, now)) / now
        euler = x + (after - now) * slope
        if after == 0:
            return euler
        x = x + (after - now) * (slope + (euler - denoise(euler, after)) / after) / 2
    raise AssertionError("the last sigma is 0")


def sliced_distance(x: Tensor, y: Tensor, directions: Tensor) -> float:
    """Return the sliced Wasserstein-2 distance of two sets of equally many images.

    Args:
        x: Images, (n, C, *spatial).
        y: Images, same shape.
        directions: Unit vectors in pixels, (D, number).

    Source: Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of measures".
    """
    of_x, of_y = (images.flatten(1).to(directions.dtype) @ directions for images in (x, y))
    return float((of_x.sort(0).values - of_y.sort(0).values).square().mean().sqrt())


def random_directions(shape: tuple[int, ...], count: int = 512, seed: int = 0) -> Tensor:
    """Return `count` unit vectors in the space of images of `shape`, (D, count), float32."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn((math.prod(shape), count), generator=generator)
    return directions / directions.norm(dim=0)
