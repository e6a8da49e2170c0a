"""Measures of a trained network: likelihood of held-out images, and distances of samples from real images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import shortest_path as sp
from examples.recipe.metrics import kernel_distance
from studies.trained_networks.cases import ANGLES
from studies.trained_networks.images import rounded

Features = Callable[[Tensor], Tensor]
"""Maps float images in [-1, 1], (B, C, H, W), to features, (B, D)."""

_PART = 500
_SEED = 99


def held_out_bits(sampler: sp.Sampler, images: Tensor) -> Tensor:
    """Return bits per dimension of each image, (N,); signs of the trace estimate depend on the image's place alone."""
    parts = []
    for first, part in zip(range(0, len(images), _PART), images.split(_PART), strict=True):
        generator = torch.Generator().manual_seed(_SEED + first)
        nats = sampler.log_likelihood(part, generator=generator, progress=False)
        parts.append(sp.sampling.bits_per_dim(nats.double(), part.shape[1:], scale=128))
    return torch.cat(parts)


def normal_bits(whitened: Tensor, log_determinant: Tensor, shape: Sequence[int]) -> float:
    """Return the mean bits per dimension of a normal distribution.

    Args:
        whitened: Images whitened by it, (N, D).
        log_determinant: Half the log of the determinant of its covariance.
        shape: Shape of an image.
    """
    nats = -(whitened.square() + math.log(2 * math.pi)).sum(1) / 2 - log_determinant
    return sp.sampling.bits_per_dim(nats, shape, scale=128).mean().item()


def kernel(samples: Tensor, real: Tensor, features: Features) -> tuple[float, float]:
    """Return the kernel distance in features of samples, rounded to 8 bits, from real features; and its standard error.

    Both sets must be in random order.
    """
    return kernel_distance(features(rounded(samples)), real)


def classifier_auc(samples: Tensor, real: Tensor, *, seed: int = 0, epochs: int = 20) -> float:
    """Return the area under the curve of a small network that tells samples from real images: 0.5 is chance.

    A half of each set trains it, and the other half measures it.

    Args:
        samples: Samples, (N, C, H, W); rounded to 8 bits.
        real: Real images of 8 bits, likewise, floats in (-1, 1).
        seed: Random seed of weights and order.
        epochs: Number of passes.
    """
    count = min(len(samples), len(real)) // 2
    a, b = rounded(samples).flatten(1), rounded(real).flatten(1)
    x, y = torch.cat([a[:count], b[:count]]), torch.cat([torch.ones(count), torch.zeros(count)])
    mean, deviation = x.mean(0), x.std(0).clamp(min=1e-6)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        width = 128
        network = nn.Sequential(
            nn.Linear(x.shape[1], width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, width), nn.ReLU(),
            nn.Dropout(0.3), nn.Linear(width, 1),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(128):
                logits = network((x[rows] - mean) / deviation)[:, 0]
                loss = nn.functional.binary_cross_entropy_with_logits(logits, y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    network.eval()
    with torch.no_grad():
        of_samples, of_real = (network((part[count : 2 * count] - mean) / deviation)[:, 0] for part in (a, b))
    return area(of_samples, of_real)


def area(positive: Tensor, negative: Tensor) -> float:
    """Return the probability that a positive score exceeds a negative one; ties count one half.

    Source: Mann and Whitney 1947, doi:10.1214/aoms/1177730491.
    """
    ordered = negative.sort().values
    below = torch.searchsorted(ordered, positive, right=False)
    up_to = torch.searchsorted(ordered, positive, right=True)
    return ((below + up_to).double().mean() / (2 * len(negative))).item()


def band_power(samples: Tensor, real: Tensor, basis: sp.bases.Basis) -> list[float]:
    """Return the log of the samples' power over that of real images, a mean over each third of whole frequencies."""
    ratio = (ring_power(rounded(samples), basis) / ring_power(rounded(real), basis)).log().mean(0)
    return [part.mean().item() for part in torch.tensor_split(ratio, 3)]


def ring_power(images: Tensor, basis: sp.bases.Basis) -> Tensor:
    """Return the mean power at each whole frequency, (C, n)."""
    power = sum(basis.analyze(part.double()).square().sum(0) for part in images.split(1024)) / len(images)
    ring = basis.frequencies(tuple(images.shape[2:])).flatten().round().long()
    sums = torch.zeros(power.shape[0], int(ring.max()) + 1, dtype=power.dtype).index_add_(1, ring, power.flatten(1))
    return (sums / ring.bincount().clamp(min=1)).clamp(min=1e-12)


@torch.no_grad()
def chain_bits(
    denoise: Callable[[Tensor, Tensor], Tensor],
    process: sp.corruptions.Process,
    images: Tensor,
    steps: int,
    *,
    strata: int = 25,
) -> float:
    """Return an upper bound of bits per dimension: the ELBO of the ancestral chain with times k / T.

        ½ Σ_k Σ_f E[ log(1 + Δ_k W_k) + (1 + Δ_k (u_0 − û_0)²) / (1 + Δ_k W_k) − 1 ] − E log N(u_0; û_0, W_1)

    with Δ_k = SNR_{k−1} − SNR_k, SNR = a² / s², and the error W = S / (1 + S SNR) of the best linear prediction. The
    sum is over k = 2 … T; its terms are divergences between normal distributions, the chain's with the exact variance
    of Gaussian data (`solvers.Ancestral(variance="exact")`). Each image takes part in `strata` terms, spread evenly. At
    t = 1 nothing of the image is left, and û_0 is the mean.

    Args:
        denoise: Maps x_t and t to the predicted coefficients of the clean image.
        process: The corruption, bound to the data's power.
        images: Images, (N, C, H, W).
        steps: T.
        strata: Number of terms for each image.

    Source: Kingma et al. 2021, arXiv:2107.00630, equation 11; Bao et al. 2022, arXiv:2201.06503 (the variance).
    """
    generator = torch.Generator().manual_seed(_SEED)
    u_0, count = process.analyze(images), images[0].numel()
    total = torch.zeros(len(images), dtype=torch.float64)
    strata = min(strata, steps - 1)
    for stratum in range(strata):
        low = 2 + stratum * (steps - 1) / strata
        k = (low + torch.rand(len(images), generator=generator) * (steps - 1) / strata).floor().clamp(max=steps)
        t, s = k / steps, (k - 1) / steps
        gain = _snr(process, s) - _snr(process, t)
        ratio = 1 + gain / (_snr(process, t) + 1 / process.power)
        error = _squared_error(denoise, process, u_0, t, generator)
        divergence = (ratio.log() + (1 + gain * error) / ratio - 1) / 2
        total += divergence.flatten(1).double().sum(1) * (steps - 1) / strata
    t = torch.full((len(images),), 1 / steps)
    variance = 1 / (_snr(process, t) + 1 / process.power)
    error = _squared_error(denoise, process, u_0, t, generator)
    total += ((error / variance + (2 * math.pi * variance).log()) / 2).flatten(1).double().sum(1)
    return (total.mean() / (count * math.log(2)) + math.log2(128)).item()


@torch.no_grad()
def relative_errors(
    denoise: Callable[[Tensor, Tensor], Tensor],
    process: sp.corruptions.Process,
    images: Tensor,
    *,
    times: int = 24,
    angles: Sequence[float] = ANGLES,
) -> list[float]:
    """Return E(u_0 − û_0)² / (S sin²θ) at given angles θ, in units of π/2: the geometric mean over coefficients.

    S sin²θ is the error of the best linear prediction, and tan θ = s / (a √S), so corruptions are compared where they
    leave each coefficient the same signal-to-noise ratio.
    """
    generator = torch.Generator().manual_seed(_SEED)
    u_0 = process.analyze(images)
    found_angles, found = [], []
    for time in torch.linspace(0, 1, times + 2)[1:-1]:
        t = time.expand(len(images))
        ratio = (1 / (_snr(process, t[:1]) * process.power))[0]  # tan²θ
        error = _squared_error(denoise, process, u_0, t, generator).double().mean(0)
        found.append((error / (process.power * ratio / (1 + ratio))).log().flatten())
        found_angles.append(torch.atan(ratio.sqrt()).flatten() / (math.pi / 2))
    own, logs = torch.stack(found_angles), torch.stack(found)  # both (times, coefficients)
    return [_interpolated(own, logs, angle).mean().exp().item() for angle in angles]


def _interpolated(places: Tensor, values: Tensor, place: float) -> Tensor:
    """Return values at a place, linear between the columns' own rising places."""
    above = (places < place).sum(0).clamp(1, len(places) - 1)
    rows = torch.stack([above - 1, above])
    (low, high), (left, right) = places.gather(0, rows), values.gather(0, rows)
    fraction = ((place - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return left + fraction * (right - left)


def _snr(process: sp.corruptions.Process, t: Tensor) -> Tensor:
    return process.corruption.signal(t).square() / process.corruption.noise(t).square()


def _squared_error(
    denoise: Callable[[Tensor, Tensor], Tensor],
    process: sp.corruptions.Process,
    u_0: Tensor,
    t: Tensor,
    generator: torch.Generator,
) -> Tensor:
    eps = torch.randn(u_0.shape, generator=generator)
    x_0 = process.synthesize(u_0)
    predicted = torch.cat([
        denoise(sp.corrupt(process.corruption, x, time, noise), time)
        for x, time, noise in zip(x_0.split(_PART), t.split(_PART), eps.split(_PART), strict=True)
    ])  # fmt: skip
    return (u_0 - predicted).square()
