"""Corrupting a batch with white noise that is given, at times that are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

import shortest_path as sp
from benchmarks.alternatives.libraries import load

Corrupt: TypeAlias = Callable[[], Tensor]
COUNT = 1000  # times of diffusers' tables


class Case(NamedTuple):
    """One schedule, and who corrupts a batch by it."""

    name: str
    ours: Corrupt
    others: dict[str, Corrupt]


def cases(shape: tuple[int, ...], found: set[str]) -> list[Case]:
    """Return the calls to compare, for a batch of `shape` and the libraries that were found."""
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(shape, generator=generator) * 2 - 1
    eps = torch.randn(shape, generator=generator)
    index = torch.randint(0, COUNT, (shape[0],), generator=generator)
    t = (index + 1) / COUNT
    linear, flow = sp.GaussianCorruption("linear"), sp.GaussianCorruption("flow")
    tables: dict[str, Corrupt] = {}
    straight: dict[str, Corrupt] = {}
    if "diffusers" in found:
        scheduler = load("diffusers").DDPMScheduler(COUNT)
        tables["diffusers"] = lambda: scheduler.add_noise(x_0, eps, index)
    if "flow_matching" in found:
        path = load("flow_matching.path").CondOTProbPath()
        straight["flow_matching"] = lambda: path.sample(x_0=eps, x_1=x_0, t=1 - t).x_t
    if "azula" in found:
        schedule = load("azula.noise").RectifiedSchedule(alpha_min=0.0, sigma_min=0.0)

        def by_azula() -> Tensor:  # the line of its losses; it has no function of its own
            alpha, sigma = schedule(t)
            while alpha.ndim < x_0.ndim:
                alpha, sigma = alpha[..., None], sigma[..., None]
            return alpha * x_0 + sigma * eps

        straight["azula"] = by_azula
    return [
        Case("corrupt, DDPM's linear schedule", lambda: linear.corrupt(x_0, t, eps), tables),
        Case("corrupt, flow matching", lambda: flow.corrupt(x_0, t, eps), straight),
    ]


def largest_difference(ours: Corrupt, theirs: Corrupt) -> float:
    return (ours() - theirs()).abs().max().item()
