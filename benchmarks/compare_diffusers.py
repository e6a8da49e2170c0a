"""`GaussianCorruption` and `Sampler` against diffusers' DDPM and DDIM schedulers: equality of numbers, and time.

    python -m benchmarks.compare_diffusers

Both use DDPM's linear β from 1e-4 to 0.02 over 1000 steps. Index k of diffusers is t = (k + 1) / 1000 here, and
its state before index 0 is t = 0, so a chain over the indices 980, 960, … 0 has our times 0.981, 0.961, … 0.001, 0.

Numbers: `add_noise` at every index, and single steps at matched times from the same state, model output and random
state, with `clip_sample=False`; DDPM's "fixed_small" and "fixed_large" are our `variance="small"` and "large".
Where the two differ, a float64 evaluation of DDPM's formulas shows the error of each.

Time: a whole chain of 50 steps from the same noise with a model that returns a fixed tensor, divided by 50; both loops
contain all parts of a sampling loop except the network. One thread, batch 128 of 3×32×32.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

import shortest_path as sp
from benchmarks.timing import (
    Row,
    Timings,
    interleaved,
    one_thread,
    parser,
    print_report,
    save_report,
    time_row,
    warm_heap,
)

COUNT, CHAIN, BATCH, SHAPE = 1000, 50, 128, (3, 32, 32)
NUMBERS_BOUND, TIME_BOUND = 1e-5, 1.0


class Case(NamedTuple):
    """One kind of reverse step in both libraries."""

    name: str
    scheduler: Any
    solver: sp.solvers.Ancestral | sp.solvers.DDIM
    step_options: dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the report."""
    arguments = parser("benchmarks.compare_diffusers", __doc__, repeats=30).parse_args(argv)
    one_thread()
    warm_heap()
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(BATCH, *SHAPE, generator=generator) * 2 - 1
    eps = torch.randn(x_0.shape, generator=generator)
    predicted = eps + 0.1 * torch.randn(x_0.shape, generator=generator)
    corruption = sp.GaussianCorruption("linear")
    add_noise = DDPMScheduler(COUNT).add_noise

    seconds = {}
    rows = [numbers_row("add_noise, every k", *corrupt_errors(corruption, add_noise, x_0, eps))]
    rows += [
        numbers_row(f"{case.name}, one step", *step_errors(case, corruption, x_0, eps, predicted)) for case in cases()
    ]

    index = torch.randint(0, COUNT, (BATCH,), generator=generator)
    times = (index + 1) / COUNT
    with torch.no_grad():
        timings = interleaved(
            {"diffusers": lambda: add_noise(x_0, eps, index), "ours": lambda: corruption.corrupt(x_0, times, eps)},
            repeats=arguments.repeats,
            shortest=2e-2,
            clock=arguments.clock,
        )
        rows.append(time_row("add_noise / corrupt, noise given", timings, "ours", "diffusers", TIME_BOUND))
        seconds["add_noise"] = timings.samples
        for case in cases():
            timings = time_chain(case, corruption, eps, predicted, arguments)
            rows.append(time_row(f"{case.name}, per step", timings, "ours", "diffusers", TIME_BOUND))
            seconds[case.name] = timings.samples
    notes = [
        "In rows of differences, the columns are the largest distance of diffusers and of us from float64; the bound "
        "is on the largest distance between the two."
    ]
    print_report("Against diffusers (reference = diffusers)", rows, notes)
    save_report(arguments.json, rows, seconds=seconds)


def cases() -> list[Case]:
    """Return the reverse steps to compare, with fresh schedulers for a chain of `CHAIN` steps."""
    result = []
    variances: tuple[sp.solvers.Variance, ...] = ("small", "large")
    for variance in variances:
        ddpm = DDPMScheduler(COUNT, variance_type=f"fixed_{variance}", clip_sample=False)
        result.append(Case(f"DDPM, {variance} variance", ddpm, sp.solvers.Ancestral(variance=variance), {}))
    for eta in (0.0, 1.0):
        ddim = DDIMScheduler(COUNT, clip_sample=False)
        result.append(Case(f"DDIM, η = {eta:g}", ddim, sp.solvers.DDIM(eta=eta), {"eta": eta}))
    for case in result:
        case.scheduler.set_timesteps(CHAIN)
    return result


def matched_times(scheduler: Any) -> Tensor:
    """Return our falling times for the scheduler's indices, 0 at the end."""
    return torch.cat([(scheduler.timesteps.double() + 1) / COUNT, torch.zeros(1, dtype=torch.float64)])


def exact_alpha_bar() -> Tensor:
    """Return DDPM's ᾱ at the indices −1, 0, … 999 in float64."""
    beta = torch.linspace(1e-4, 0.02, COUNT, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, 0)])


def corrupt_errors(
    corruption: sp.GaussianCorruption, add_noise: Callable[..., Tensor], x_0: Tensor, eps: Tensor
) -> tuple[float, float, float]:
    """Return the largest differences diffusers − exact, ours − exact and ours − diffusers over every index."""
    alpha_bar, x, noise = exact_alpha_bar(), x_0[:1], eps[:1]
    worst = [0.0, 0.0, 0.0]
    for part in torch.arange(COUNT).split(BATCH):
        images, noises = x.expand(len(part), *SHAPE), noise.expand(len(part), *SHAPE)
        theirs = add_noise(images, noises, part)
        ours = corruption.corrupt(images, (part + 1) / COUNT, noises)
        a2 = alpha_bar[part + 1][:, None, None, None]
        worst = widen(worst, theirs, ours, a2.sqrt() * images + (1 - a2).sqrt() * noises)
    return worst[0], worst[1], worst[2]


def step_errors(
    case: Case, corruption: sp.GaussianCorruption, x_0: Tensor, eps: Tensor, predicted: Tensor
) -> tuple[float, float, float]:
    """Return the largest differences of single steps over the chain: as `corrupt_errors`."""
    alpha_bar, times = exact_alpha_bar(), matched_times(case.scheduler)
    x_0, eps, predicted = x_0[:16], eps[:16], predicted[:16]
    worst = [0.0, 0.0, 0.0]
    indices = [*case.scheduler.timesteps.tolist(), -1]
    for position, (k, j) in enumerate(itertools.pairwise(indices)):
        x_t = corruption.corrupt(x_0, (k + 1) / COUNT, eps)
        theirs = case.scheduler.step(predicted, k, x_t, generator=seeded(k), return_dict=False, **case.step_options)[0]
        ours = sampler(case, corruption, predicted, times[position : position + 2]).sample(
            x_t.shape, x_1=x_t, generator=seeded(k)
        )
        white = torch.randn(x_t.shape, generator=seeded(k))
        a2_t, a2_s = alpha_bar[k + 1].item(), alpha_bar[j + 1].item()
        worst = widen(worst, theirs, ours, exact_step(case, x_t.double(), predicted, white, a2_t, a2_s))
    return worst[0], worst[1], worst[2]


def exact_step(case: Case, x_t: Tensor, predicted: Tensor, white: Tensor, a2_t: float, a2_s: float) -> Tensor:
    """Take one step in float64 by the formulas of DDPM (equation 7) and DDIM (equation 12)."""
    x_0 = (x_t - (1 - a2_t) ** 0.5 * predicted) / a2_t**0.5
    beta = 1 - a2_t / a2_s
    small = (1 - a2_s) / (1 - a2_t) * beta
    if isinstance(case.solver, sp.solvers.DDIM):
        sigma2 = case.solver.eta**2 * small
        return a2_s**0.5 * x_0 + (1 - a2_s - sigma2) ** 0.5 * predicted + sigma2**0.5 * white
    mean = a2_s**0.5 * beta / (1 - a2_t) * x_0 + (a2_t / a2_s) ** 0.5 * (1 - a2_s) / (1 - a2_t) * x_t
    variance = small if case.solver.variance == "small" else beta
    return mean if a2_s == 1 else mean + variance**0.5 * white


def widen(worst: list[float], theirs: Tensor, ours: Tensor, exact: Tensor) -> list[float]:
    differences = (theirs - exact, ours - exact, ours - theirs)
    return [max(old, each.abs().max().item()) for old, each in zip(worst, differences, strict=True)]


def sampler(case: Case, corruption: sp.GaussianCorruption, predicted: Tensor, times: Tensor) -> sp.Sampler:
    """Return our sampler for a case, with a model that returns a fixed tensor."""
    return sp.Sampler(lambda x_t, t: predicted, corruption, solver=case.solver, times=times)


def time_chain(
    case: Case, corruption: sp.GaussianCorruption, start: Tensor, predicted: Tensor, arguments: argparse.Namespace
) -> Timings:
    """Time a chain of steps in both libraries, per step."""
    scheduler, ours = case.scheduler, sampler(case, corruption, predicted, matched_times(case.scheduler))
    indices = scheduler.timesteps.tolist()

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        return predicted

    def their_chain() -> Tensor:
        x = start
        for k in indices:
            output = model(x, torch.full((BATCH,), k))
            x = scheduler.step(output, k, x, return_dict=False, **case.step_options)[0]
        return x

    chains = {"diffusers": their_chain, "ours": lambda: ours.sample(start.shape, x_1=start)}
    timings = interleaved(chains, repeats=arguments.repeats, warmup=1, clock=arguments.clock)
    return Timings({name: [each / CHAIN for each in seconds] for name, seconds in timings.samples.items()})


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers_row(what: str, theirs: float, ours: float, between: float) -> Row:
    return Row(
        f"{what}: largest difference {between:.1e}",
        f"{theirs:.1e}",
        f"{ours:.1e}",
        bound=NUMBERS_BOUND,
        bound_text=f"≤ {NUMBERS_BOUND:g}",
        value=between,
    )


if __name__ == "__main__":
    main()
