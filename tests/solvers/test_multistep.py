"""Laws of the multistep solvers: exact on Gaussian data, of second order, agreeing with diffusers."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

import shortest_path as sp
from tests.worlds import (
    BLIND,
    CORRUPTIONS,
    SHAPE,
    TO_NOISE,
    Mixture,
    correlated_images,
    gaussian_world,
    point,
    spectrum,
    white,
)

DOUBLE = {"dtype": torch.float64, "progress": False}


def solve(name: str, steps: int, *, rotation: bool, first: float, last: float, **options: object) -> Tensor:
    """Run the multistep solver on the mixture between two times, from the same images."""
    corruption = CORRUPTIONS[name]()
    power = gaussian_world(corruption).power
    model = Mixture(corruption, power)
    times = last + (first - last) * sp.grids.Cosine()(steps)
    solver = sp.solvers.Multistep(**options)
    sampler = sp.Sampler(model, corruption, prediction="data", solver=solver, times=times)
    sampler._process._power = sampler._process.power = power if rotation else None
    return sampler.sample((4, *SHAPE), x_1=white(), **DOUBLE)


@pytest.mark.parametrize(
    ("name", "prediction"),
    [pair for pair in itertools.product(TO_NOISE, ["noise", "data", "velocity"]) if pair not in BLIND],
)
@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_equation_4_is_exact_on_gaussian_data_at_any_number_of_steps(name: str, steps: int, prediction: str) -> None:
    corruption = CORRUPTIONS[name]()
    world = gaussian_world(corruption, prediction)
    data = sp.PowerSpectrum(corruption.basis, world.power)
    sampler = sp.Sampler(world.model, corruption, prediction=prediction, solver="multistep", steps=steps, spectrum=data)
    t, x_1 = sampler.times[:1], white()
    found = corruption.basis.analyze(sampler.sample(x_1.shape, x_1=x_1, **DOUBLE))
    deviation = (corruption.signal(t) ** 2 * world.power + corruption.noise(t) ** 2).sqrt()
    exact = corruption.basis.analyze(x_1) * world.power.sqrt() / deviation
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-9)


def observed_orders(errors: list[float]) -> list[float]:
    """Return the orders that the errors at steps doubled each time show."""
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


@functools.lru_cache
def converged(name: str, rotation: bool) -> Tensor:
    return solve(name, 2000, rotation=rotation, first=0.95, last=0.05)


@pytest.mark.parametrize("name", ["shortest-fourier"])
@pytest.mark.parametrize(
    ("rotation", "order", "corrector"),
    [(True, 1, False), (True, 1, True), (True, 2, True), (False, 1, False), (False, 2, False), (False, 2, True)],
)
def test_order_on_data_that_are_not_gaussian(name: str, rotation: bool, order: int, corrector: bool) -> None:
    ends = {"rotation": rotation, "first": 0.95, "last": 0.05}
    exact = converged(name, rotation)
    # The errors of predictor and corrector have opposite signs and cancel in part at few steps: the order shows late.
    counts = (150, 300) if corrector else (50, 100)
    solutions = [solve(name, steps, order=order, corrector=corrector, **ends) for steps in counts]
    orders = observed_orders([(found - exact).square().mean().sqrt().item() for found in solutions])
    if order == 1 and not corrector:
        assert 0.8 < min(orders) <= max(orders) < 1.4, orders
    else:  # a trapezoid lifts a step of first order to second
        assert min(orders) > 1.8, orders


@pytest.mark.parametrize("name", ["blur", "own"])
def test_the_default_grid_and_solver_are_of_second_order(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    power = gaussian_world(corruption).power
    model, known = Mixture(corruption, power), sp.PowerSpectrum(corruption.basis, power)
    # Blur keeps a little noise at t = 0, which the last step takes away at once: not a matter of order.
    end = 0.02 if name == "blur" else 0.0

    def sample(steps: int) -> Tensor:
        times = end + (1 - end) * sp.grids.Spectrum(corruption, power)(steps)
        sampler = sp.Sampler(model, corruption, prediction="data", solver="multistep", times=times, spectrum=known)
        return sampler.sample((4, *SHAPE), x_1=white(), **DOUBLE)

    exact = sample(2000)
    orders = observed_orders([(sample(steps) - exact).square().mean().sqrt().item() for steps in (150, 300)])
    assert min(orders) > 1.8, orders


def nearest(images: Tensor, corruption: sp.Corruption) -> object:
    """The exact denoiser of data that are one of some images, with the same probability."""

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        a, s = corruption.signal(t[:1]), corruption.noise(t[:1]).clamp(min=1e-9)
        u_t, u_0 = (corruption.basis.analyze(x) for x in (x_t, images))
        distances = ((u_t[:, None] - a * u_0) / s).square().flatten(2).sum(-1)
        return torch.einsum("bn,n...->b...", torch.softmax(-0.5 * distances, 1), images)

    return model


@pytest.mark.parametrize("steps", [5, 10, 20])
@pytest.mark.parametrize("grid", ["log-snr", "spectrum", sp.grids.Power(at_data=7.0)])
@pytest.mark.parametrize(
    "corruption",
    [
        sp.GaussianCorruption("flow"),
        sp.ShortestPathCorruption(spectrum()),
        sp.StaggeredCorruption(
            sp.GaussianCorruption("flow"), torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)), spread=0.5
        ),
    ],
    ids=lambda corruption: type(corruption).__name__,
)
def test_a_correction_does_not_magnify_errors_where_steps_become_much_shorter(
    corruption: sp.Corruption, grid: str, steps: int
) -> None:
    images, data = correlated_images(6), spectrum()
    if isinstance(corruption, sp.StaggeredCorruption):
        data = sp.PowerSpectrum.estimate([correlated_images(400)], sp.PixelBasis(), "independent")
    model = nearest(images, corruption)
    sampler = sp.Sampler(model, corruption, prediction="data", steps=steps, grid=grid, spectrum=data)
    found = sampler.sample((12, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    away = (found[:, None] - images).abs().flatten(2).amax(2).amin(1)
    assert away.max() < 0.8


def test_corrections_are_whole_for_short_steps_and_for_steps_to_more_noise() -> None:
    corruption, form = CORRUPTIONS["shortest-cosine"](), sp.solvers.Rotation(spectrum().power)
    clean, near, middle, far = (point(corruption, t) for t in (0.0, 0.01, 0.5, 0.99))
    assert torch.all(form.correction_weight(near, far) == 1)
    weights = [form.correction_weight(before, middle) for before in (point(corruption, 0.5 + 1e-6), far)]
    assert torch.all(1 - weights[0] < 1e-5)
    assert torch.all((weights[1] > 0) & (weights[1] < weights[0]))
    assert torch.all(form.correction_weight(near, clean) == 0)


@pytest.mark.parametrize("name", ["gaussian-cosine"])
def test_both_forms_converge_to_the_same_images(name: str) -> None:
    ends = {"first": 0.95, "last": 0.05}
    rotation, exponential = (solve(name, 800, rotation=form, **ends) for form in (True, False))
    torch.testing.assert_close(rotation, exponential, rtol=0, atol=1e-4)
    assert (rotation - solve(name, 5, rotation=True, **ends)).abs().max() > 1e-3


def test_few_steps_of_the_rotation_form_beat_many_of_ddim() -> None:
    corruption = CORRUPTIONS["shortest-cosine"]()
    model = Mixture(corruption, corruption.power)

    def sample(solver: str, steps: int) -> Tensor:
        sampler = sp.Sampler(model, corruption, prediction="data", solver=solver, steps=steps)
        return sampler.sample((4, *SHAPE), x_1=white(), **DOUBLE)

    exact = sample("multistep", 500)
    error = {
        (solver, n): (sample(solver, n) - exact).square().mean() for solver, n in (("multistep", 20), ("ddim", 160))
    }
    assert error["multistep", 20] < error["ddim", 160]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
@pytest.mark.parametrize(("schedule", "beta_schedule"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_exponential_form_agrees_with_diffusers_dpm_solver(schedule: str, beta_schedule: str) -> None:
    scheduler = DPMSolverMultistepScheduler(
        1000, beta_schedule=beta_schedule, solver_order=2, final_sigmas_type="zero", lower_order_final=True
    )
    scheduler.set_timesteps(20)
    corruption = sp.GaussianCorruption(schedule)

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        return corruption.noise(t) * x_t + 0.1 * torch.sin(3 * x_t)

    x = white(2, seed=1)
    times = torch.cat([(scheduler.timesteps.double() + 1) / 1000, torch.zeros(1)])
    times[0] = min(times[0].item(), 0.999)  # where the cosine table is clipped, ours is not
    start = int(times[0] * 1000) - 1
    scheduler.timesteps[0] = start
    scheduler.sigmas[0] = ((1 - scheduler.alphas_cumprod[start]) / scheduler.alphas_cumprod[start]).sqrt()
    sampler = sp.Sampler(model, corruption, solver=sp.solvers.Multistep(corrector=False), times=times)
    ours = sampler.sample(x.shape, x_1=x, **DOUBLE)
    theirs = x
    for index in scheduler.timesteps:
        t = torch.full((2,), (index.item() + 1) / 1000, dtype=torch.float64)
        theirs = scheduler.step(model(theirs, t), index, theirs).prev_sample
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_isotropic_noise_is_sampled_in_the_spectrums_basis() -> None:
    measured = spectrum()
    corruption = sp.GaussianCorruption("cosine")
    basis, power = measured.basis, measured.power

    def model(x_t: Tensor, t: Tensor) -> Tensor:  # the exact denoiser of N(0, Bᵀ S B) under isotropic noise
        signal, noise = corruption.signal(t), corruption.noise(t)
        return basis.synthesize(signal * power / (signal**2 * power + noise**2) * basis.analyze(x_t))

    draw = [
        sp.Sampler(model, corruption, prediction="data", solver="multistep", steps=steps, spectrum=measured).sample(
            (4, *SHAPE), x_1=white(), **DOUBLE
        )
        for steps in (1, 7)
    ]
    torch.testing.assert_close(*draw, rtol=0, atol=1e-9)
    assert (draw[0] - basis.synthesize(power.sqrt() * basis.analyze(white()))).abs().max() < 1e-9


def test_blur_is_sampled_with_a_rotated_spectrum() -> None:
    measured = spectrum()
    sampler = sp.Sampler(
        lambda x_t, t: x_t, CORRUPTIONS["blur"](), prediction="data", solver="multistep", steps=3, spectrum=measured
    )
    assert sampler.sample((2, *SHAPE)).isfinite().all()


def test_heat_dissipation_and_clipping_work_with_it() -> None:
    x_0 = correlated_images(2)
    for clip in (None, (-0.5, 0.5)):
        sampler = sp.Sampler(lambda x_t, t: x_0, CORRUPTIONS["heat"](), prediction="data", solver="multistep", steps=6)
        expected = x_0 if clip is None else x_0.clamp(*clip)
        sample = sampler.sample(x_0.shape, x_1=torch.randn_like(x_0), clip=clip, **DOUBLE)
        torch.testing.assert_close(sample, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("steps", [2, 5])
def test_noise_on_the_way_keeps_gaussian_data_at_any_number_of_steps(eta: float, steps: int) -> None:
    corruption = CORRUPTIONS["shortest-cosine"]()
    world = gaussian_world(corruption, "data")
    known = sp.PowerSpectrum(corruption.basis, world.power)
    solver = sp.solvers.Multistep(eta=eta)
    sampler = sp.Sampler(world.model, corruption, prediction="data", solver=solver, steps=steps, spectrum=known)
    samples = sampler.sample((4096, *SHAPE), generator=torch.Generator().manual_seed(1), progress=False)
    whitened = corruption.basis.analyze(samples).double() / world.power.sqrt()
    # The mean of 786,432 squared normal numbers is 1 ± 0.0016.
    assert whitened.square().mean().item() == pytest.approx(1, abs=0.007)
    again = sampler.sample((4096, *SHAPE), x_1=samples, generator=torch.Generator().manual_seed(1), progress=False)
    assert (again - samples).abs().max() > 0.1  # it is stochastic: other images from the same noise


def test_eta_squared_of_a_step_is_taken_and_given_back_as_noise() -> None:
    corruption, power = CORRUPTIONS["shortest-cosine"](), spectrum().power
    here, there, beyond = (point(corruption, t) for t in (0.7, 0.5, 0.5 - 0.3**2 * 0.2))
    step = sp.solvers.Multistep(eta=0.3).start(power, lambda t: point(corruption, t))
    zero = torch.zeros(1, *SHAPE, dtype=torch.float64)
    found = step(zero, zero, here, there, lambda: torch.ones_like(zero))
    expected = there.noise**2 - (there.signal / beyond.signal * beyond.noise) ** 2
    torch.testing.assert_close(found**2, expected.expand_as(found))


@pytest.mark.parametrize("length", [-20.0, -0.7, -9e-4, 1e-9, 9e-4, 1.1e-3, 0.7, 20.0])
def test_the_later_fraction_is_a_mean_with_exponential_weights(length: float) -> None:
    # By Gauss–Legendre: the mean of x with weight exp(h x) over 0 < x < 1.
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(40))
    x = (nodes + 1) / 2
    weights = weights * torch.exp(length * x)
    found = sp.solvers.Exponential().later_fraction(torch.tensor(length, dtype=torch.float64))
    assert found.item() == pytest.approx(((weights * x).sum() / weights.sum()).item(), abs=1e-9)


@pytest.mark.parametrize(("ratio", "weight"), [(1.0, 0.5), (4.0, 2.0), (15.0, 7.5), (40.0, 8.0)])
def test_without_a_spectrum_slopes_are_extrapolated_as_by_dpm_solver_up_to_a_bound(ratio: float, weight: float) -> None:
    log_snr = torch.tensor([-1.0, -0.95, -0.95 + 0.05 * ratio], dtype=torch.float64)
    t = torch.sigmoid(-log_snr)  # of flow matching, a / s = (1 − t) / t
    guesses: list[Tensor] = []

    def model(x_t: Tensor, time: Tensor) -> Tensor:
        guesses.append(torch.tanh(x_t) + time.view(-1, 1, 1, 1))
        return guesses[-1]

    solver, x_1 = sp.solvers.Multistep(corrector=False), white()
    sampler = sp.Sampler(model, sp.GaussianCorruption("flow"), prediction="data", solver=solver, times=t)
    found = sampler.sample(x_1.shape, x_1=x_1, **DOUBLE)
    x_t = x_1
    for index, guess in enumerate(guesses):
        mixed = guess if index == 0 else guess + weight * (guess - guesses[0])
        kept = t[index + 1] / t[index]
        x_t = kept * x_t + (1 - t[index + 1] - (1 - t[index]) * kept) * mixed
    torch.testing.assert_close(found, x_t, rtol=1e-10, atol=1e-10)


def test_a_spectrum_in_another_basis_is_an_error() -> None:
    with pytest.raises(ValueError, match="estimate the spectrum in the corruption's basis"):
        sp.Sampler(lambda x_t, t: x_t, CORRUPTIONS["shortest-fourier"](), spectrum=spectrum("cosine"))
    with pytest.raises(ValueError, match="estimate the spectrum in the corruption's basis"):
        sp.Sampler(lambda x_t, t: x_t, CORRUPTIONS["shortest-cosine"](), spectrum=spectrum(channels="independent"))


def test_a_spectrum_in_another_rotation_is_told_how_to_be_estimated() -> None:
    one, other = correlated_images(64).split(32)
    other = other + 0.3 * other.roll(1, 1)
    corruption, measured = (
        sp.ShortestPathCorruption(sp.PowerSpectrum.estimate([one])),
        sp.PowerSpectrum.estimate([other]),
    )
    with pytest.raises(
        ValueError, match=r"whose channel rotation differs; .*PowerSpectrum.estimate\(batches, corruption.b"
    ):
        sp.Sampler(lambda x_t, t: x_t, corruption, prediction="data", spectrum=measured)
    spectrum = sp.PowerSpectrum.estimate([other], corruption.basis)
    sp.Sampler(lambda x_t, t: x_t, corruption, prediction="data", spectrum=spectrum)


def test_options_that_have_no_effect_are_refused() -> None:
    with pytest.raises(ValueError, match="corrector=True requires eta=0, got eta=0.5"):
        sp.solvers.Multistep(corrector=True, eta=0.5)
    with pytest.raises(ValueError, match="order must be 1 or 2, got 3"):
        sp.solvers.Multistep(order=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\].*got 2"):
        sp.solvers.Multistep(eta=2.0)
    assert sp.solvers.Multistep(eta=0.5).corrector is False
    assert sp.solvers.Multistep() == sp.solvers.Multistep(order=2, corrector=True, eta=0)
