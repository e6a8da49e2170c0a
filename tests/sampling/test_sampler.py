"""Laws of the samplers: exactness, convergence order, agreement with diffusers and the reference."""

from __future__ import annotations

import functools
import itertools
import math
import re
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

import shortest_path as sp
from tests.worlds import CORRUPTIONS, SHAPE, GaussianDenoiser, correlated_images, gaussian_world
from tests.worlds import spectrum as spectrum_in

DOUBLE = {"dtype": torch.float64, "progress": False}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- deterministic sampling -------------------------------------------------------------------------------


def ddim_error(name: str, steps: int) -> float:
    """RMS distance of DDIM from the exact ODE, t = 0.9 to 0.1, for Gaussian data and the exact denoiser."""
    corruption = CORRUPTIONS[name]()
    world = gaussian_world(corruption)
    times = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)
    sampler = sp.Sampler(world.model, corruption, solver="ddim", times=times)
    x_1 = torch.randn(8, *SHAPE, generator=seeded(), dtype=torch.float64)
    u_t, u_s = (corruption.basis.analyze(x) for x in (x_1, sampler.sample(x_1.shape, x_1=x_1, **DOUBLE)))
    deviation = [
        (corruption.signal(t) ** 2 * world.power + corruption.noise(t) ** 2).sqrt() for t in (times[:1], times[-1:])
    ]
    exact = u_t * deviation[1] / deviation[0]  # the ODE keeps the whitened state
    return (u_s - exact).square().mean().sqrt().item()


@pytest.mark.parametrize("name", ["gaussian-flow", "blur", "shortest-cosine", "own"])
def test_ddim_is_of_first_order(name: str) -> None:
    errors = [ddim_error(name, steps) for steps in (100, 200)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders == pytest.approx([1.0], abs=0.1)


@pytest.mark.parametrize("prediction", ["data", "velocity", "noise", "whitened-velocity"])
@pytest.mark.parametrize("name", ["shortest-cosine", "gaussian-cosine"])
def test_prediction_types_give_the_same_images(name: str, prediction: str) -> None:
    corruption = CORRUPTIONS[name]()
    times = torch.linspace(0.95, 0, 11)
    spectrum = sp.PowerSpectrum(corruption.basis, gaussian_world(corruption).power)
    x_1 = torch.randn((2, *SHAPE), generator=seeded(), dtype=torch.float64)
    one, other = (
        sp.Sampler(
            gaussian_world(corruption, kind).model,
            corruption,
            prediction=kind,
            solver="ancestral",
            times=times,
            spectrum=spectrum,
        ).sample((2, *SHAPE), x_1=x_1, generator=seeded(), **DOUBLE)
        for kind in ("data", prediction)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_a_whitened_velocity_needs_the_power_of_the_data() -> None:
    with pytest.raises(ValueError, match="requires the data's power spectrum; pass spectrum="):
        sp.Sampler(lambda x_t, t: x_t, sp.GaussianCorruption(), prediction="whitened-velocity")


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_a_model_that_knows_the_image_returns_it(name: str) -> None:
    corruption, x_0 = CORRUPTIONS[name](), correlated_images(2)
    for solver in ("ancestral", "ddim"):
        sampler = sp.Sampler(lambda x_t, t: x_0, corruption, prediction="data", solver=solver, steps=7)
        torch.testing.assert_close(
            sampler.sample(x_0.shape, x_1=torch.randn_like(x_0), **DOUBLE), x_0, rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_ddim_with_the_true_noise_follows_the_corruption(name: str) -> None:
    corruption, x_0 = CORRUPTIONS[name](), correlated_images(2)
    eps = torch.randn_like(x_0)
    times = torch.tensor([0.8, 0.5, 0.2, 0.1])
    sampler = sp.Sampler(lambda x_t, t: x_0, corruption, prediction="data", solver="ddim", times=times)
    steps = sampler.trajectory(x_0.shape, x_1=sp.corrupt(corruption, x_0, 0.8, eps), dtype=torch.float64)
    for step, time in zip(steps, times[1:].double(), strict=True):
        assert step.t == time
        torch.testing.assert_close(step.x_t, sp.corrupt(corruption, x_0, time, eps), rtol=0, atol=1e-6)
        torch.testing.assert_close(step.x_0_hat, x_0, rtol=0, atol=1e-12)


# --- stochastic sampling ----------------------------------------------------------------------------------


def test_ancestral_samples_have_the_covariance_that_the_analysis_predicts() -> None:
    corruption = CORRUPTIONS["shortest-fourier"]()
    world = gaussian_world(corruption)
    sampler = sp.Sampler(world.model, corruption, solver="ancestral", steps=20)
    x = sampler.sample((2000, *SHAPE), generator=seeded(), **DOUBLE)
    measured = corruption.basis.analyze(x).square().mean(0)
    power, times = world.power, sampler.times[:-1]
    expected = corruption.signal(times[:1]) ** 2 * corruption.power + corruption.noise(times[:1]) ** 2
    for t, s in itertools.pairwise(times):
        (a_t, s_t), (a_s, s_s) = ((corruption.signal(r[None]), corruption.noise(r[None])) for r in (t, s))
        ratio = a_t / a_s
        large = s_t**2 - ratio**2 * s_s**2
        gain = ratio * s_s**2 / s_t**2 + a_s * large / s_t**2 * a_t * power / (a_t**2 * power + s_t**2)
        expected = gain**2 * expected + large
    expected = (a_s * power / (a_s**2 * power + s_s**2)) ** 2 * expected
    assert (measured / expected).log().abs().max() < 5 * math.sqrt(2 / 2000)


# --- against diffusers and the reference ------------------------------------------------------------------


class Wave(torch.nn.Module):
    """A cheap nonlinear 'model' that both sides can call; near the exact one for white data, so states stay small."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        noise = sp.GaussianCorruption("linear").noise(t)
        return noise * x_t + 0.1 * torch.sin(3 * x_t)


@pytest.mark.parametrize(("schedule", "beta_schedule"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_agrees_with_diffusers(schedule: str, beta_schedule: str, eta: float) -> None:
    scheduler = DDIMScheduler(1000, beta_schedule=beta_schedule, clip_sample=False)
    scheduler.set_timesteps(50)
    x = torch.randn(2, *SHAPE, generator=seeded(1))
    times = torch.cat([(scheduler.timesteps.double() + 1) / 1000, torch.zeros(1)])
    sampler = sp.Sampler(Wave(), sp.GaussianCorruption(schedule), solver=sp.solvers.DDIM(eta=eta), times=times)
    ours = sampler.sample(x.shape, x_1=x, generator=seeded(2), dtype=torch.float64, progress=False)
    generator, theirs = seeded(2), x.double()
    for index in scheduler.timesteps:
        t = torch.full((2,), (index.item() + 1) / 1000, dtype=torch.float64)
        theirs = scheduler.step(Wave()(theirs, t), index, theirs, eta=eta, generator=generator).prev_sample
    if eta == 0:  # the last step of ours adds no noise; theirs does for η > 0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        return
    last = list(sampler.trajectory(x.shape, x_1=x, generator=seeded(2), dtype=torch.float64))[-2]
    generator, theirs = seeded(2), x.double()
    for index in scheduler.timesteps[:-1]:
        t = torch.full((2,), (index.item() + 1) / 1000, dtype=torch.float64)
        theirs = scheduler.step(Wave()(theirs, t), index, theirs, eta=eta, generator=generator).prev_sample
    torch.testing.assert_close(last.x_t, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("clip", [None, (-1.0, 1.0)])
def test_ancestral_agrees_with_diffusers_ddpm(variance: str, clip: tuple[float, float] | None) -> None:
    scheduler = DDPMScheduler(1000, variance_type=f"fixed_{variance}", clip_sample=clip is not None)
    x = torch.randn(2, *SHAPE, generator=seeded(1), dtype=torch.float64)
    indices = range(400, 389, -1)
    times = [(index + 1) / 1000 for index in indices]
    sampler = sp.Sampler(
        Wave(), sp.GaussianCorruption("linear"), solver=sp.solvers.Ancestral(variance=variance), times=times
    )
    ours = sampler.sample(x.shape, x_1=x, generator=seeded(2), clip=clip, **DOUBLE)
    generator, theirs = seeded(2), x
    for index in list(indices)[:-1]:
        t = torch.full((2,), (index + 1) / 1000, dtype=torch.float64)
        theirs = scheduler.step(Wave()(theirs, t), index, theirs, generator=generator).prev_sample
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_corrupt_agrees_with_diffusers() -> None:
    scheduler = DDPMScheduler(1000)
    x, eps, index = torch.randn(9, *SHAPE), torch.randn(9, *SHAPE), torch.arange(0, 999, 111)
    ours = sp.corrupt(sp.GaussianCorruption("linear"), x, (index + 1) / 1000, eps)
    torch.testing.assert_close(ours, scheduler.add_noise(x, eps, index), rtol=0, atol=1e-5)


# --- grids, ends, handling --------------------------------------------------------------------------------


def test_grids() -> None:
    corruption, model = sp.GaussianCorruption("flow"), Wave()

    def sampler(corruption: sp.Corruption, **options: object) -> sp.Sampler:
        return sp.Sampler(model, corruption, solver="ancestral", **options)

    assert sampler(corruption, prediction="data", steps=4).times.tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert sampler(corruption, steps=2).times.tolist() == pytest.approx([0.999, 0.4995, 0])
    assert sampler(sp.GaussianCorruption("linear"), steps=2).times[0] == 1  # √ᾱ is not 0 there
    reference = sampler(corruption, steps=4, grid="reference")
    assert reference.times.tolist() == pytest.approx([3 / 4, 7 / 12, 5 / 12, 1 / 4, 0])
    assert reference.steps == 4


@pytest.mark.parametrize("prediction", ["noise", "data"])
@pytest.mark.parametrize("name", ["shortest-cosine", "gaussian-flow"])
def test_the_default_solver_is_multistep_on_its_own_grid(name: str, prediction: str) -> None:
    corruption, known = CORRUPTIONS[name](), name == "shortest-cosine"
    default = sp.Sampler(Wave(), corruption, prediction=prediction, steps=4)
    grid = sp.grids.Spectrum(corruption) if known else sp.grids.Cosine()
    assert torch.equal(default.times, grid(4, start=float(default.times[0])))
    named = sp.Sampler(
        Wave(),
        corruption,
        prediction=prediction,
        solver="multistep",
        steps=4,
        grid="spectrum" if known else "cosine",
    )
    one, other = (sampler.sample((2, *SHAPE), generator=seeded()) for sampler in (default, named))
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["gaussian-flow", "gaussian-linear", "shortest-cosine", "clock"])
def test_a_model_that_predicts_noise_starts_where_a_tenth_of_the_strongest_coefficient_is_left(name: str) -> None:
    corruption, spectrum = CORRUPTIONS[name](), spectrum_in()
    first = sp.Sampler(Wave(), corruption, spectrum=spectrum, steps=4).times[:1]
    left = corruption.signal(first) ** 2 * spectrum.power / corruption.noise(first) ** 2
    assert float(left.max()) == pytest.approx(0.1, rel=1e-3)
    assert sp.Sampler(Wave(), corruption, prediction="data", spectrum=spectrum, steps=4).times[0] == 1


def test_the_first_time_of_a_grid_can_be_chosen() -> None:
    corruption = CORRUPTIONS["shortest-cosine"]()
    sampler = sp.Sampler(Wave(), corruption, steps=4, start=0.7)
    assert torch.equal(sampler.times, sp.grids.Spectrum(corruption)(4, start=0.7))
    for wrong in (0.0, 1.1, -1, float("nan")):
        with pytest.raises(ValueError, match=r"start must|must be finite"):
            sp.Sampler(Wave(), corruption, start=wrong)
    with pytest.raises(TypeError, match="start must be a number"):
        sp.Sampler(Wave(), corruption, start="end")
    with pytest.raises(ValueError, match="start=1.0 has no effect with times, which begin where they begin"):
        sp.Sampler(Wave(), corruption, start=1.0, times=[1, 0.5, 0])


def test_the_start_is_found_among_the_coefficients_of_a_large_image() -> None:
    power = torch.full((1, 128, 128), 1e-3, dtype=torch.float64)
    power[0, 77, 41] = 50.0
    spectrum = sp.PowerSpectrum(sp.CosineBasis(2), power)
    first = sp.Sampler(Wave(), sp.GaussianCorruption("flow"), spectrum=spectrum, steps=4).times[0]
    assert float(first) == pytest.approx(1 / (1 + (0.1 / 50) ** 0.5), abs=1e-5)


def test_a_corruption_that_keeps_more_of_the_image_starts_at_its_end() -> None:
    spectrum = sp.PowerSpectrum(sp.CosineBasis(2), torch.full((1, 8, 8), 1e9, dtype=torch.float64))
    assert sp.Sampler(Wave(), sp.GaussianCorruption("flow"), spectrum=spectrum, steps=4).times[0] == 0.999
    assert sp.Sampler(Wave(), sp.GaussianCorruption("linear"), spectrum=spectrum, steps=4).times[0] == 1


@pytest.mark.parametrize("name", ["gaussian-flow", "shortest-final", "gaussian-coloured"])
def test_initial_noise_has_the_variance_from_which_sampling_begins(name: str) -> None:
    data = spectrum_in()
    mean = torch.full(SHAPE, 3.0, dtype=torch.float64)
    spectrum = sp.PowerSpectrum(data.basis, data.power, cross=data.cross, mean=mean)
    sampler = sp.Sampler(Wave(), CORRUPTIONS[name](), spectrum=spectrum, steps=4)
    noise = torch.randn(4000, *SHAPE, generator=seeded(), dtype=torch.float64)
    begun = sampler.initial_noise(noise)
    first = sampler.times[:1]
    signal, scale = sampler.corruption.signal(first), sampler.corruption.noise(first)
    basis = data.basis
    found = basis.analyze(begun - basis.synthesize(signal * basis.analyze(mean[None])))
    wanted = (signal**2 * data.power + scale**2).expand(1, *SHAPE)[0]
    torch.testing.assert_close(found.square().mean(0), wanted, rtol=0.15, atol=0)
    torch.testing.assert_close(
        sampler.sample(noise[:2].shape, x_1=sampler.initial_noise(noise[:2]), **DOUBLE),
        sampler.sample(noise[:2].shape, x_1=begun[:2], **DOUBLE),
    )
    with pytest.raises(TypeError, match="noise must be"):
        sampler.initial_noise(noise.long())


def test_times_reach_the_model_as_a_float_per_image() -> None:
    seen: list[Tensor] = []

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x_t

    sp.Sampler(model, sp.GaussianCorruption("flow"), times=[0.9, 0.5, 0.0]).sample((2, *SHAPE))
    assert [t.tolist() for t in seen] == [pytest.approx([0.9] * 2), pytest.approx([0.5] * 2)]
    assert all(t.dtype == torch.float32 for t in seen)


@pytest.mark.parametrize("name", ["shortest-fourier", "blur", "gaussian-cosine"])
def test_clipping_acts_on_the_predicted_image(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    sampler = sp.Sampler(lambda x_t, t: 3 * x_t, corruption, prediction="data", solver="ancestral", steps=5)
    steps = list(sampler.trajectory((2, *SHAPE), clip=(-0.5, 0.25), dtype=torch.float64))
    for step in steps:
        assert step.x_0_hat.min().item() == pytest.approx(-0.5)
        assert step.x_0_hat.max().item() == pytest.approx(0.25)
    torch.testing.assert_close(steps[-1].x_t, steps[-1].x_0_hat)


def test_the_same_generator_gives_the_same_images(corruption: sp.Corruption) -> None:
    sampler = sp.Sampler(Wave(), corruption, prediction="data", solver="ancestral", steps=3)
    x_1 = None if corruption.signal(torch.ones(1)).max() < 0.5 else torch.zeros(2, *SHAPE)
    draw = [sampler.sample((2, *SHAPE), x_1=x_1, generator=seeded(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


@pytest.mark.parametrize("enabled", [True, False])
def test_a_callback_and_a_trajectory_have_the_callers_gradient_mode(enabled: bool) -> None:
    sampler = sp.Sampler(lambda x_t, t: x_t, sp.GaussianCorruption(), prediction="data", steps=3)
    modes: list[bool] = []
    with torch.set_grad_enabled(enabled):
        sampler.sample((1, 3, 4, 4), callback=lambda step: modes.append(torch.is_grad_enabled()))
        modes += [torch.is_grad_enabled() for _ in sampler.trajectory((1, 3, 4, 4))]
    assert modes == [enabled] * 6


def test_trajectory_callback_and_sample_agree() -> None:
    sampler = sp.Sampler(Wave(), CORRUPTIONS["shortest-cosine"](), solver="ancestral", steps=4)
    seen: list[sp.sampling.SampleStep] = []
    x_0 = sampler.sample((2, *SHAPE), generator=seeded(), callback=seen.append)
    steps = list(sampler.trajectory((2, *SHAPE), generator=seeded()))
    assert [step.t for step in steps] == sampler.times[1:].tolist()
    assert torch.equal(steps[-1].x_t, x_0)
    for one, other in zip(steps, seen, strict=True):
        assert torch.equal(one.x_t, other.x_t)


def test_conditioning_is_passed_through() -> None:
    seen = []

    def model(x_t: Tensor, t: Tensor, *, labels: Tensor) -> Tensor:
        seen.append(labels)
        return x_t

    labels = torch.tensor([1, 2])
    sp.Sampler(model, sp.GaussianCorruption("flow"), steps=2).sample((2, *SHAPE), conditioning={"labels": labels})
    assert len(seen) == 2
    assert all(value is labels for value in seen)


def test_the_model_is_in_eval_mode_and_left_as_it_was() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 3, 1))
    model[1].eval()
    modes: list[list[bool]] = []

    class Watched(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            modes.append([module.training for module in self.modules()])
            return self.inner(x_t)

    watched = Watched()
    watched.inner[1].eval()
    before = [module.training for module in watched.modules()]
    image = sp.Sampler(watched, sp.GaussianCorruption("flow"), steps=2).sample((2, *SHAPE))
    assert not any(flag for mode in modes for flag in mode)
    assert [module.training for module in watched.modules()] == before
    assert not image.requires_grad


def test_what_is_left_at_the_first_time_is_told() -> None:
    power = torch.ones(3, 8, 8, dtype=torch.float64)
    power[0, 0, 0] = 30_000  # as the strongest of 512x512 images, under a schedule made for 32x32
    spectrum = sp.PowerSpectrum(sp.bases.CosineBasis(2), power)
    told = sp.Sampler(Wave(), sp.GaussianCorruption("linear"), spectrum=spectrum, prediction="data", steps=2)
    with pytest.raises(ValueError, match=r"is 1\.21 times that of the noise, and may be 1 at most; pass x_1=.*randn"):
        told.sample((1, 3, 8, 8))
    assert told.sample((1, 3, 8, 8), x_1=torch.randn(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    early = sp.Sampler(Wave(), sp.GaussianCorruption("flow"), prediction="data", steps=2)
    with pytest.raises(ValueError, match=r"keeps part of the image at t = 0.5,.* is 1 times .* 0\.0526 at most"):
        early.sample((1, 3, 8, 8), start=0.5)


def test_heat_dissipation_starts_from_blurred_images() -> None:
    corruption, x_0 = CORRUPTIONS["heat"](), correlated_images(2)
    sampler = sp.Sampler(Wave(), corruption, prediction="data", steps=3)
    with pytest.raises(ValueError, match=r"keeps part of the image at t = 1.*x_1=corruption.corrupt"):
        sampler.sample(x_0.shape)
    x_1 = sp.corrupt(corruption, x_0, 1.0, torch.randn_like(x_0))
    assert sampler.sample(x_0.shape, x_1=x_1).shape == x_0.shape


@pytest.mark.parametrize("solver", ["ancestral", "multistep"])
def test_memory_does_not_grow_with_the_steps(solver: str) -> None:
    # 100,000 steps as tables of coefficients would be 154 MB; the grid is all that is held.
    sampler = sp.Sampler(Wave(), CORRUPTIONS["shortest-cosine"](), solver=solver, steps=100_000)
    parts = [each for part in (sampler, sampler._process) for each in vars(part).values() if isinstance(each, Tensor)]
    held = sum({each.data_ptr(): each.nbytes for each in parts}.values())
    assert held == 8 * (100_001 + 3 * 8 * 8)  # the times, and one power spectrum


# --- wrong input ------------------------------------------------------------------------------------------

FLOW = sp.GaussianCorruption("flow")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "euler"}, "unknown solver 'euler'; choose one of 'multistep', 'ddim', 'ancestral'"),
        (
            {"prediction": "score"},
            "unknown prediction 'score'; choose one of 'noise', 'data', 'velocity', 'whitened-velocity'",
        ),
        (
            {"grid": "karras"},
            "unknown grid 'karras'; choose one of 'uniform', 'cosine', 'power', 'log-snr', 'spectrum'",
        ),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"steps": 2, "grid": "reference"}, "reference grid needs 3 steps or more"),
        ({"times": [0.9, 0.0], "steps": 1}, "times takes the place of steps and grid, got also steps=1; omit one side"),
        ({"times": [0.9, 0.0], "grid": "cosine", "steps": 1}, "got also steps=1 and grid='cosine'"),
        ({"null_conditioning": {"label": 3}}, "null_conditioning has no effect without guidance_scale"),
        ({"guidance_interval": (0.1, 0.9)}, "guidance_interval has no effect without guidance_scale"),
        ({"times": [0.0, 0.5, 1.0]}, "falls strictly"),
        ({"times": [0.5]}, "falls strictly, of two values or more"),
        ({"times": [1.5, 0.0]}, r"times must lie in \[0, 1\], got 1.5"),
        ({"times": [1.0, 0.5, 0.0]}, r"signal\(t\) = 0, here t = 1; train with .*, or start at t ≤ 0.9999"),
    ],
)
def test_wrong_options_are_explained(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sp.Sampler(Wave(), FLOW, **arguments)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (sp.solvers.DDIM, r"solver must be a value, got the class DDIM; pass DDIM\(\)"),
        (3, "solver must be one of 'multistep', 'ddim', 'ancestral' or implement `Solver`, got int"),
        (range(3), "or implement `Solver`, got range"),
    ],
)
def test_wrong_solvers_are_explained(solver: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        sp.Sampler(Wave(), FLOW, solver=solver)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["trajectory", "batches"])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"clip": (1.0, -1.0)}, ValueError, r"clip must be \(low, high\)"),
        ({"start": 2.0}, ValueError, r"start must lie in \(0, 1\]"),
        ({"device": "nowhere"}, ValueError, "device 'nowhere' cannot be used"),
        ({"stat": 0.5}, TypeError, "unexpected keyword argument 'stat'"),
    ],
)
def test_iterators_check_their_arguments_at_the_call(
    name: str, arguments: dict, error: type[Exception], message: str
) -> None:
    sampler = sp.Sampler(Wave(), FLOW, steps=2)
    shape = (2, SHAPE) if name == "batches" else ((2, *SHAPE),)
    with pytest.raises(error, match=message):
        getattr(sampler, name)(*shape, **arguments)


@pytest.mark.parametrize("solver", ["ddim", "ancestral"])
def test_single_steps_make_a_sample(solver: str) -> None:
    sampler = sp.Sampler(Wave(), CORRUPTIONS["shortest-cosine"](), solver=solver, steps=4)
    expected = list(sampler.trajectory((2, *SHAPE), generator=seeded(), dtype=torch.float64))
    generator, times = seeded(), sampler.times.tolist()
    x_t = sampler.trajectory((2, *SHAPE), generator=generator, dtype=torch.float64)
    first = next(x_t)
    found = [first]
    for t, s in itertools.pairwise(times[1:]):
        found.append(sampler.step(found[-1].x_t, t, s, generator=generator))
    for one, other in zip(found, expected, strict=True):
        assert one.t == other.t
        torch.testing.assert_close(one.x_t, other.x_t, rtol=0, atol=1e-12)
        torch.testing.assert_close(one.x_0_hat, other.x_0_hat, rtol=0, atol=1e-12)


def test_a_single_multistep_step_has_no_memory() -> None:
    corruption = CORRUPTIONS["shortest-cosine"]()
    x_t = torch.randn(2, *SHAPE, generator=seeded(), dtype=torch.float64)
    one, other = (
        sp.Sampler(Wave(), corruption, prediction="data", solver=sp.solvers.Multistep(order=order)).step(x_t, 0.7, 0.4)
        for order in (1, 2)
    )
    assert torch.equal(one.x_t, other.x_t)
    for s in (0.4, 0.7, math.nan, -0.1):
        with pytest.raises(
            ValueError, match=f"a step goes from t to an earlier time s, 0 ≤ s < t ≤ 1, got t=0.4, s={s}"
        ):
            sp.Sampler(Wave(), corruption).step(x_t, 0.4, s)
    with pytest.raises(TypeError, match="x_t must be a floating-point tensor"):
        sp.Sampler(Wave(), corruption).step(x_t.long(), 0.7, 0.4)


def test_repr_says_what_from_where_and_how_many_steps() -> None:
    sampler = sp.Sampler(Wave(), FLOW, prediction="data", solver=sp.solvers.DDIM(eta=0.5), steps=7)
    assert repr(sampler) == (
        "Sampler(Wave, GaussianCorruption(schedule='flow', basis=PixelBasis(dims=2)), prediction='data', "
        "solver=DDIM(eta=0.5), 7 steps from 1 to 0)"
    )


def on_image_alone(x: Tensor) -> Tensor:
    return x


@functools.wraps(on_image_alone)
def without_time(*args: Tensor) -> Tensor:
    return on_image_alone(args[0])


class Called(torch.nn.Module):
    """Its `__call__` takes the time, and its forward does not."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.forward(x)


def conv() -> torch.nn.Module:
    return torch.nn.Conv2d(3, 3, 1)


def hooked() -> torch.nn.Module:
    model = conv()
    model.register_forward_pre_hook(lambda module, inputs: inputs[:1])
    return model


@pytest.mark.parametrize(
    ("model", "form"),
    [
        (conv(), "Conv2d of (input)"),
        (on_image_alone, "function of (x)"),
        (lambda x, *, t: x, "function of (x, t)"),
        (functools.partial(lambda x, t: x, t=0), "partial of (x, t)"),
    ],
)
def test_a_model_that_takes_no_time_is_told_how_it_is_called(model: Any, form: str) -> None:
    called = (
        rf"is called with \(x_t, t\), got {re.escape(form)}; wrap it in a function or module that takes 2 arguments"
    )
    for make in (
        lambda: sp.Sampler(model, FLOW, prediction="data"),
        lambda: sp.DiffusionLoss(FLOW, "data")(model, torch.zeros(2, 3, 4, 4)),
        lambda: sp.models.WhitenedInput(model, FLOW, spectrum_in()),
    ):
        with pytest.raises(TypeError, match=called):
            make()


@pytest.mark.parametrize(
    "model",
    [
        Mock(),
        torch.zeros_like,
        torch.jit.script(conv()),
        torch.compile(conv()),
        torch.nn.DataParallel(conv()),
        torch.no_grad()(on_image_alone),
        without_time,
        hooked(),
        Called(),
        functools.partial(lambda x, t, y: x, y=1),
        lambda x, t, y, *, size: x,
        lambda *args, **kwargs: args[0],
    ],
)
def test_a_model_of_which_little_is_known_is_not_refused(model: Any) -> None:
    assert sp.Sampler(model, FLOW, prediction="data").model is model


@pytest.mark.parametrize(
    ("name", "here"),
    [("epsilon", "noise"), ("eps", "noise"), ("sample", "data"), ("x0", "data"), ("x_0", "data"), ("v", "velocity")],
)
def test_predictions_by_the_names_of_other_libraries(name: Any, here: str) -> None:
    known = rf"unknown \w+ '{name}'; choose one of .*; '{name}' of other libraries is '{here}' here$"
    for make in (
        lambda: sp.Sampler(Wave(), FLOW, prediction=name),
        lambda: sp.DiffusionLoss(FLOW, name),
        lambda: sp.DiffusionLoss(FLOW, "data", weighting=name),
    ):
        with pytest.raises(ValueError, match=known):
            make()
    with pytest.raises(ValueError, match="unknown solver 'v'; choose one of [^;]*$"):
        sp.Sampler(Wave(), FLOW, solver="v")  # type: ignore[arg-type]


def test_wrong_corruptions_are_explained() -> None:
    with pytest.raises(TypeError, match=r"model must be callable as model\(x_t, t\), got str"):
        sp.Sampler("weights.pt", FLOW)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="does not implement `Corruption`: Wave has no basis, signal, noise"):
        sp.Sampler(Wave(), Wave())  # type: ignore[arg-type]
    rising = sp.GaussianCorruption(lambda t: (1 - t * (1 - t), t * (1 - t) + 0.01))
    with pytest.raises(ValueError, match="signal-to-noise ratio of GaussianCorruption rises with t"):
        sp.Sampler(Wave(), rising)


@pytest.mark.parametrize("prediction", ["noise", "data"])
@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda t: (t - 1, t), r"signal\(t\) of GaussianCorruption is negative somewhere, down to -\d.*; scales are"),
        (lambda t: (1 - t, -t), r"noise\(t\) of GaussianCorruption is negative somewhere, down to -\d.*; scales are"),
        (lambda t: (t - 1, -t), r"signal\(t\) of GaussianCorruption is negative somewhere"),
    ],
)
def test_negative_scales_are_refused(schedule: object, prediction: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sp.Sampler(lambda x_t, t: x_t, sp.GaussianCorruption(schedule), prediction=prediction, steps=5)
    rounded = sp.GaussianCorruption(lambda t: (torch.cos(t * math.pi / 2) - 1e-15, torch.sin(t * math.pi / 2)))
    sp.Sampler(lambda x_t, t: x_t, rounded, prediction="data", steps=5)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (lambda x_t, t: (x_t,), TypeError, "must return a tensor like x_t, got tuple; wrap it"),
        (lambda x_t, t: torch.cat([x_t, x_t], 1), ValueError, r"shape of x_t, \(2, 3, 8, 8\), got \(2, 6, 8, 8\)"),
    ],
)
def test_wrong_models_are_explained(model: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sp.Sampler(model, FLOW, steps=2).sample((2, *SHAPE))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x_1": torch.zeros(1, *SHAPE)}, ValueError, r"x_1 must have the shape asked for, \(2, 3, 8, 8\), got"),
        ({"clip": (1.0, -1.0)}, ValueError, r"clip must be \(low, high\) with low < high"),
        ({"dtype": torch.int64}, TypeError, "dtype must be floating point, got torch.int64"),
    ],
)
def test_wrong_requests_are_explained(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sp.Sampler(Wave(), FLOW, steps=2).sample((2, *SHAPE), **arguments)


def test_a_shape_that_does_not_fit_the_spectrum() -> None:
    with pytest.raises(ValueError, match="estimate the spectrum on images of this shape"):
        sp.Sampler(Wave(), CORRUPTIONS["shortest-reference"](), steps=2).sample((2, 3, 16, 16))


def test_a_corruption_on_another_device() -> None:
    model = GaussianDenoiser(FLOW, torch.ones(SHAPE))
    model.register_parameter("weight", torch.nn.Parameter(torch.zeros(1, device="meta")))
    with pytest.raises(
        ValueError, match=r"the corruption is on cpu, the images are on meta; call corruption.to\('meta'\)"
    ):
        sp.Sampler(model, CORRUPTIONS["shortest-cosine"](), steps=2).sample((2, *SHAPE))
