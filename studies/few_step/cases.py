"""Corruptions, solvers and peers of the few-step study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

import shortest_path as sp
from studies.few_step.mixture import Mixture, Model

EXACT_BOUND = 1e-6  # relative error on Gaussian data
FEW, MANY = 50, 400  # the shortest path in FEW calls against DDIM in MANY
COMPARED = (10, 20, 50)
SETS = 8  # of fresh samples to which a set of samples is compared

OURS = "shortest path, cosine + rotation"
EDM = "EDM, variance exploding"
DDIM, DEFAULT = "DDIM, uniform", "rotation, order 2 + corrector, default grid"


class Process(NamedTuple):
    """A corruption, data with an exact denoiser under it, and the spectrum passed to its solvers.

    With `told` None the solver has only the corruption's own spectrum. `exact`: the solver's spectrum is the true one.
    """

    name: str
    corruption: sp.Corruption
    mixture: Mixture
    told: sp.PowerSpectrum | None
    isotropic: bool = False
    exact: bool = True

    @property
    def knows(self) -> bool:
        """Whether the corruption has a spectrum, which all solvers then use."""
        return isinstance(self.corruption, sp.ShortestPathCorruption)


class Setting(NamedTuple):
    """A solver and its grid; `informed` if the spectrum is passed to it."""

    name: str
    informed: bool
    options: dict[str, Any]


class Error(NamedTuple):
    """Root mean square distance from the converged ODE, over images."""

    process: str
    setting: str
    calls: int
    median: float
    upper: float
    """The 90 % quantile."""


class Sizes(NamedTuple):
    """Sizes of the parts of the study."""

    reference: int
    many: tuple[int, ...]
    samples: int
    network_reference: int
    network_samples: int


FULL = Sizes(reference=1000, many=(200, 400, 800), samples=512, network_reference=400, network_samples=256)
QUICK = Sizes(reference=32, many=(8, 16), samples=32, network_reference=32, network_samples=16)


def processes(mixtures: Sequence[Mixture]) -> list[Process]:
    """Return the processes, given the data in the cosine and in the Fourier basis."""
    cosine, fourier = mixtures
    shape = cosine.spectrum.shape
    law = sp.PowerSpectrum.power_law(shape, amplitude=1.59, offset=0.0086, exponent=2.0)
    constants = sp.ShortestPathCorruption(law)
    isotropic = [
        Process(f"Gaussian, {name}", sp.GaussianCorruption(name), cosine, cosine.spectrum, isotropic=True)
        for name in ("cosine", "linear", "flow")
    ]
    return [
        *isotropic,
        Process("blur", sp.BlurCorruption(20.0, spatial=shape[1:]), cosine, cosine.spectrum),
        Process("shortest path, reference constants", constants, fourier, None, exact=False),
        Process("shortest path, reference constants; solver told the truth", constants, fourier, fourier.spectrum),
        Process("shortest path, Fourier, RGB", sp.ShortestPathCorruption(fourier.spectrum), fourier, None),
        Process(OURS, sp.ShortestPathCorruption(cosine.spectrum), cosine, None),
    ]


def settings(process: Process) -> list[Setting]:
    """Return the solvers and grids to compare."""

    def multistep(name: str, grid: str | None, order: Literal[1, 2], corrector: bool, informed: bool = True) -> Setting:
        kind = "rotation" if informed else "exponential"
        options = {"solver": sp.solvers.Multistep(order=order, corrector=corrector), "grid": grid}
        return Setting(f"{kind}, order {order}{' + corrector' if corrector else ''}, {name}", informed, options)

    result = [
        Setting(DDIM, False, {"solver": "ddim", "grid": "uniform"}),
        Setting("DDIM, spectrum grid", True, {"solver": "ddim", "grid": "spectrum"}),
    ]
    if not process.knows:
        result += [
            multistep("uniform", "uniform", 2, False, informed=False),
            multistep("log-snr", "log-snr", 2, False, informed=False),
            multistep("log-snr", "log-snr", 2, True, informed=False),
            multistep("default grid", None, 2, True, informed=False),
        ]
    return [
        *result,
        multistep("spectrum grid", "spectrum", 1, False),
        multistep("cosine", "cosine", 2, False),
        multistep("spectrum grid", "spectrum", 2, False),
        multistep("cosine", "cosine", 2, True),
        multistep("power", "power", 2, True),
        multistep("log-snr", "log-snr", 2, True),
        multistep("default grid", None, 2, True),
    ]


def sampler(process: Process, setting: Setting, model: Model, steps: int) -> sp.Sampler:
    """Return the sampler of a setting."""
    spectrum = process.told if setting.informed else None
    return sp.Sampler(model, process.corruption, prediction="data", steps=steps, spectrum=spectrum, **setting.options)


def solve(process: Process, setting: Setting, steps: int, white: Tensor) -> Tensor:
    """Sample from white noise, with the dtype of the noise.

    Grids begin at different times. The noise is scaled to the first time of each, to the same point in whitened
    coordinates.
    """
    chosen = sampler(process, setting, process.mixture.model(process.corruption), steps)
    x_1 = process.mixture.start(process.corruption, chosen.times[0], white)
    return chosen.sample(x_1.shape, x_1=x_1, dtype=white.dtype, progress=False)


def noise(count: int, shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return white noise, (count, *shape), from a random seed."""
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the root mean square difference of each pair of images."""
    return (x - y).square().flatten(1).mean(1).sqrt()


def error(process: str, setting: str, calls: int, found: Tensor, converged: Tensor) -> Error:
    """Return the error of images relative to the converged ones."""
    each = distance(found, converged).double()
    return Error(process, setting, calls, each.median().item(), each.quantile(0.9).item())


def diffusers_peers(process: Process, white: Tensor) -> dict[str, Callable[[int], Tensor]]:
    """Return diffusers' solvers by name, as functions of the number of calls, on the linear schedule."""
    model = process.mixture.model(process.corruption)

    def ddim(calls: int) -> Tensor:
        scheduler = DDIMScheduler(1000, clip_sample=False, prediction_type="sample", timestep_spacing="trailing")
        scheduler.set_timesteps(calls)
        return run(scheduler, [(int(index) + 1) / 1000 for index in scheduler.timesteps])

    def multistep(calls: int, **options: Any) -> Tensor:
        scheduler = DPMSolverMultistepScheduler(1000, prediction_type="sample", final_sigmas_type="zero", **options)
        scheduler.set_timesteps(calls)
        # The scheduler rounds its times to whole indices. The model receives the exact time of each noise level.
        return run(scheduler, [time_of(process.corruption, float(sigma)) for sigma in scheduler.sigmas[:-1]])

    def run(scheduler: Any, times: Iterable[float]) -> Tensor:
        times = list(times)
        x = process.mixture.start(process.corruption, times[0], white)
        for index, t in zip(scheduler.timesteps, times, strict=True):
            x_0 = model(x, torch.full((len(x),), t, dtype=torch.float64))
            x = scheduler.step(x_0, index, x).prev_sample
        return x

    return {
        "diffusers DDIM, trailing": ddim,
        "diffusers DPM-Solver++(2M), linspace": multistep,
        "diffusers DPM-Solver++(2M), equal log-snr": lambda calls: multistep(calls, use_lu_lambdas=True),
    }


def time_of(corruption: sp.Corruption, ratio: float) -> float:
    """Return the time at which noise / signal has a given value, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = torch.tensor([(low + high) / 2], dtype=torch.float64)
        below = bool(corruption.noise(middle) < ratio * corruption.signal(middle))
        low, high = (float(middle), high) if below else (low, float(middle))
    return high
