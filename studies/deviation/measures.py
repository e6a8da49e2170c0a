"""Measures of the deviation study, and the real images to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

import shortest_path as sp
from examples.recipe import cifar10
from examples.recipe.images import to_unit
from examples.recipe.monitor import mean_over, sliced_wasserstein
from examples.recipe.runs import Run, make_sampler, split
from examples.recipe.settings import Settings


class Real(NamedTuple):
    """Real images, floats (n, C, H, W): part of the training images, held-out images, and their origin."""

    training: Tensor
    held_out: Tensor
    source: str
    sha256: str


def read_real(settings: Settings, held_out: str | None, count: int) -> Real:
    """Read `count` training images, and held-out images to compare with.

    Raises:
        ValueError: there are no images, or `held_out` has the training images.
    """
    data = cifar10.load(settings.data, size=settings.size, count=settings.images)
    training, held = split(data, settings)
    source = f"set aside of {data.provenance['source']}"
    if held_out or not Path(settings.data).exists():  # a data set on the hub has a test split
        held = cifar10.load(held_out or settings.data, split="test", size=settings.size)
        source = f"{held.provenance['source']} ({held.provenance['split']})"
        if held.provenance["sha256"] == data.provenance["sha256"]:
            raise ValueError(f"--held-out {held_out} has the training images; pass other images")
    chosen = training.images[:: max(1, len(training.images) // count)][:count]
    return Real(to_unit(chosen), to_unit(held.images), source, data.provenance["sha256"])


def kl(run: Run, calls: int) -> float:
    """Return the KL divergence of ancestral sampling with the optimal denoiser, at the times of the network's calls."""
    times = make_sampler(run, solver="ancestral", steps=calls).times
    return sp.gaussian_kl(run.corruption, run.spectrum, times=times)


def measure(images: Tensor, real: Real) -> dict[str, float]:
    """Return the measures of images against held-out images."""
    basis = sp.PowerSpectrum.estimate([real.held_out], "cosine").basis
    ratio = ring_power(images, basis) / ring_power(real.held_out, basis)
    return {
        "distance": sliced_wasserstein(images, real.held_out),
        "power_error": ratio.log().abs().mean().item(),
    }


def ring_power(images: Tensor, basis: sp.bases.Basis) -> Tensor:
    """Return the mean power at each integer frequency, (C, n)."""
    power = sum(basis.analyze(part.double()).square().sum(0) for part in images.split(1024)) / len(images)
    ring = basis.frequencies(tuple(images.shape[2:])).flatten().round().long()
    return mean_over(power.flatten(1), ring).clamp(min=1e-12)
