"""One reverse step of a sampler: the same chain from each library's public entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

import shortest_path as sp
from benchmarks.alternatives.libraries import load

Chain: TypeAlias = Callable[[Tensor], Tensor]
Network: TypeAlias = Callable[[Tensor], Tensor]
COUNT = 1000  # times of diffusers' tables
_SIGMA = 80.0  # k-diffusion's noise at t = 1


class Method(NamedTuple):
    """One kind of step in several libraries."""

    name: str
    solver: sp.solvers.Solver
    calls: int  # of the model in a step of the others
    others: dict[str, str]  # what it is called there
    same: bool  # whether all compute the same numbers


METHODS = (
    Method(
        "ancestral (DDPM)",
        sp.solvers.Ancestral(variance="small"),
        1,
        {"diffusers": "DDPMScheduler", "azula": "DDPMSampler", "k_diffusion": "sample_euler_ancestral"},
        True,
    ),
    Method(
        "first order (DDIM, Euler)",
        sp.solvers.DDIM(),
        1,
        {
            "diffusers": "DDIMScheduler",
            "azula": "EulerSampler",
            "flow_matching": "euler",
            "k_diffusion": "sample_euler",
        },
        True,
    ),
    Method(
        "second order, one call (DPM-Solver++)",
        sp.solvers.Multistep(corrector=False),
        1,
        {"diffusers": "DPMSolverMultistepScheduler", "k_diffusion": "sample_dpmpp_2m"},
        True,
    ),
    Method(
        "second order, per model call (Heun; ours with corrector)",
        sp.solvers.Multistep(),
        2,
        {"azula": "HeunSampler", "flow_matching": "heun2", "k_diffusion": "sample_heun"},
        False,
    ),
)


def ours(method: Method, corruption: sp.Corruption, network: Network, times: Tensor) -> Chain:
    """Return our chain along falling times, with a network that returns clean images."""
    sampler = sp.Sampler(lambda x_t, t: network(x_t), corruption, prediction="data", solver=method.solver, times=times)
    return lambda x_1: sampler.sample(x_1.shape, x_1=x_1, progress=False)


def falling(steps: int, *, last: float = 0.0) -> Tensor:
    """Return even times from 0.98 to `last`."""
    return torch.linspace(0.98, last, steps + 1, dtype=torch.float64)


def counterpart(library: str, method: Method, network: Network, times: Tensor) -> tuple[Chain, sp.Corruption, Tensor]:
    """Return another library's chain, and the corruption and the times with which ours does the same."""
    return _COUNTERPARTS[library](method, network, times)


def _diffusers(method: Method, network: Network, times: Tensor) -> tuple[Chain, sp.Corruption, Tensor]:
    """Index k of diffusers is our (k + 1) / 1000, and the state before index 0 is t = 0."""
    kind = getattr(load("diffusers"), method.others["diffusers"])
    options: dict[str, Any] = {"num_train_timesteps": COUNT, "prediction_type": "sample"}
    options |= {"DDPMScheduler": {"clip_sample": False}, "DDIMScheduler": {"clip_sample": False}}.get(
        kind.__name__, {"final_sigmas_type": "zero"}
    )
    scheduler, steps = kind(**options), len(times) - 1

    def chain(x: Tensor) -> Tensor:
        scheduler.set_timesteps(steps)
        with torch.no_grad():
            for t in scheduler.timesteps:
                x = scheduler.step(network(x), t, x, return_dict=False)[0]
        return x

    scheduler.set_timesteps(steps)
    matched = torch.cat([(scheduler.timesteps.double() + 1) / COUNT, torch.zeros(1, dtype=torch.float64)])
    return chain, sp.GaussianCorruption("linear"), matched


def _azula(method: Method, network: Network, times: Tensor) -> tuple[Chain, sp.Corruption, Tensor]:
    denoise, schedule = load("azula.denoise"), load("azula.noise").VPSchedule()

    class Denoiser(denoise.Denoiser):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: Tensor, t: Tensor) -> Any:
            return denoise.DiracPosterior(network(x_t))

    kind = getattr(load("azula.sample"), method.others["azula"])
    first, last = float(times[0]), float(times[-1])
    sampler = kind(Denoiser(), start=first, stop=last, steps=len(times) - 1, silent=True)
    return sampler, sp.GaussianCorruption(schedule), times


def _flow_matching(method: Method, network: Network, times: Tensor) -> tuple[Chain, sp.Corruption, Tensor]:
    """Their time is ours, run from noise, 0, to data, 1; the velocity of a clean image x̂_0 is (x̂_0 − x_t) / t."""
    free = network is identity

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return network(x) if free else (network(x) - x) / (1 - t)

    solver, grid = load("flow_matching.solver").ODESolver(velocity), (1 - times).float()

    def chain(x: Tensor) -> Tensor:
        result: Tensor = solver.sample(x_init=x, step_size=None, method=method.others["flow_matching"], time_grid=grid)
        return result

    return chain, sp.GaussianCorruption("flow"), times


def _k_diffusion(method: Method, network: Network, times: Tensor) -> tuple[Chain, sp.Corruption, Tensor]:
    sample, sigmas = getattr(load("k_diffusion.sampling"), method.others["k_diffusion"]), (_SIGMA * times).float()
    exploding = sp.GaussianCorruption(lambda t: (torch.ones_like(t), _SIGMA * t))
    return lambda x: sample(lambda x_t, sigma: network(x_t), x, sigmas, disable=True), exploding, times


_COUNTERPARTS = {
    "diffusers": _diffusers,
    "azula": _azula,
    "flow_matching": _flow_matching,
    "k_diffusion": _k_diffusion,
}


def identity(x: Tensor) -> Tensor:
    """Return the input: a network that costs nothing."""
    return x


def half(x: Tensor) -> Tensor:
    """Return half the input: a network with which all libraries must agree."""
    return x / 2


def largest_difference(library: str, method: Method, steps: int) -> float:
    """Run a chain in another library and in ours, with the same noise; return the largest relative difference."""
    times = falling(steps, last=0.02 if library == "azula" else 0.0)  # its noise does not end at 0
    if not method.same:
        times = falling(20 * steps, last=0.3)
    theirs, corruption, matched = counterpart(library, method, half, times)
    x_1 = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    expected = theirs(x_1)
    torch.manual_seed(1)
    result = ours(method, corruption, half, matched)(x_1)
    return ((result - expected).abs().max() / expected.abs().max()).item()
