"""Laws of every solver, and of those without memory by their three numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

import shortest_path as sp
from tests.worlds import CORRUPTIONS, SHAPE, SOLVERS, correlated_images, point, step_numbers


@pytest.mark.parametrize("solver", [sp.solvers.Ancestral(variance="small"), sp.solvers.DDIM(eta=1.0)])
def test_the_posterior_keeps_the_marginals(solver: sp.solvers.Solver, corruption: sp.Corruption) -> None:
    # For a known u_0, a step of the posterior must take N(a_t u_0, s_t²) to N(a_s u_0, s_s²), exactly.
    here, there = point(corruption, 0.7), point(corruption, 0.4)
    weights = step_numbers(solver, here, there)
    variance = weights.w_t**2 * here.noise**2 + weights.sigma**2
    torch.testing.assert_close(weights.w_t * here.signal + weights.w_0, there.signal.expand_as(weights.w_0))
    torch.testing.assert_close(variance, (there.noise**2).expand_as(variance))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_any_eta_keeps_the_marginals(eta: float, corruption: sp.Corruption) -> None:
    here, there = point(corruption, 0.7), point(corruption, 0.4)
    weights = step_numbers(sp.solvers.DDIM(eta=eta), here, there)
    variance = weights.w_t**2 * here.noise**2 + weights.sigma**2
    torch.testing.assert_close(variance, (there.noise**2).expand_as(variance))


def test_the_posterior_is_bayes_rule() -> None:
    # One coefficient, by conditioning the joint Gaussian of (u_s, u_t) given u_0 numerically.
    a_t, s_t, a_s, s_s, u_0, u_t = 0.4, 0.8, 0.7, 0.5, 1.3, -0.2
    ratio = a_t / a_s
    cross = ratio * s_s**2
    mean = a_s * u_0 + cross / s_t**2 * (u_t - a_t * u_0)
    variance = s_s**2 - cross**2 / s_t**2
    here, there = (
        sp.solvers.Point(t, *(torch.tensor(v, dtype=torch.float64) for v in pair))
        for t, pair in ((0.7, (a_t, s_t)), (0.4, (a_s, s_s)))
    )
    weights = step_numbers(sp.solvers.Ancestral(variance="small"), here, there)
    torch.testing.assert_close(weights.w_t * u_t + weights.w_0 * u_0, torch.full_like(weights.w_t, mean))
    torch.testing.assert_close(weights.sigma**2, torch.full_like(weights.w_t, variance))
    large = step_numbers(sp.solvers.Ancestral(), here, there)
    torch.testing.assert_close(large.sigma**2, torch.full_like(weights.w_t, s_t**2 - ratio**2 * s_s**2))


def test_a_ratio_that_stays_adds_no_noise() -> None:
    factor = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    early = sp.solvers.Point(0.3, torch.full_like(factor, 0.7), torch.full_like(factor, 0.3))
    late = sp.solvers.Point(0.4, factor * 0.7, factor * 0.3)
    ratio, sigma = sp.solvers.forward_weights(early, late)
    torch.testing.assert_close(ratio, factor)
    torch.testing.assert_close(sigma, torch.zeros_like(sigma), rtol=0, atol=1e-8)


def test_a_step_is_the_references_formula() -> None:
    # The authors' chain in float64: mean (u − β ε / √(1−ᾱ)) / √α, variance β, from their ᾱ on their grid.
    corruption = CORRUPTIONS["shortest-reference"]()
    power = corruption.power.expand(SHAPE)
    times = sp.grids.Reference()(20)
    alpha_bar, previous = ((1 - power ** (1 - t)) / (1 - power) for t in (times[4], times[5]))
    alpha = alpha_bar / previous
    u_t, eps = torch.randn(2, *SHAPE, dtype=torch.float64).unbind()
    mean = (u_t - (1 - alpha) / (1 - alpha_bar).sqrt() * eps) / alpha.sqrt()
    here, there = (point(corruption, t.item()) for t in (times[4], times[5]))
    weights = step_numbers(sp.solvers.Ancestral(), here, there)
    u_0 = (u_t - here.noise[0] * eps) / here.signal[0]
    torch.testing.assert_close((weights.w_t * u_t + weights.w_0 * u_0)[0], mean)
    torch.testing.assert_close(weights.sigma.expand(1, *SHAPE)[0] ** 2, 1 - alpha)


@pytest.mark.parametrize("name", [name for name in SOLVERS if not name.startswith("multistep")])
def test_the_last_step_returns_the_image_that_the_model_knows(name: str, corruption: sp.Corruption) -> None:
    x_0 = correlated_images(2)
    sampler = sp.Sampler(lambda x_t, t: x_0, corruption, prediction="data", solver=SOLVERS[name], steps=7)
    found = sampler.sample(x_0.shape, x_1=torch.randn_like(x_0), dtype=torch.float64)
    torch.testing.assert_close(found, x_0, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_are_frozen_values(name: str) -> None:
    solver = SOLVERS[name]
    assert isinstance(solver, sp.solvers.Solver)
    assert solver == dataclasses.replace(solver)
    assert eval(repr(solver), vars(sp.solvers)) == solver
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.eta = 1.0  # type: ignore[attr-defined]
    noisy = name.endswith("noisy") or name.startswith("ancestral")
    assert sp.solvers.is_deterministic(solver) is not noisy


@pytest.mark.parametrize("name", SOLVERS)
def test_what_a_solver_is_given_is_not_changed(name: str) -> None:
    corruption = CORRUPTIONS["shortest-cosine"]()
    step = SOLVERS[name].start(corruption.power, lambda t: point(corruption, t))
    generator = torch.Generator().manual_seed(0)
    for here, there in ((0.9, 0.6), (0.6, 0.3)):
        u_t, u_0, z = torch.randn(3, 2, *SHAPE, generator=generator, dtype=torch.float64)
        kept = u_t.clone(), u_0.clone(), z.clone()
        step(u_t, u_0, point(corruption, here), point(corruption, there), lambda z=z: z)
        assert all(torch.equal(*pair) for pair in zip((u_t, u_0, z), kept, strict=True))


def test_names_are_shorthands_for_the_defaults() -> None:
    for name, value in (
        ("multistep", sp.solvers.Multistep()),
        ("ddim", sp.solvers.DDIM()),
        ("ancestral", sp.solvers.Ancestral()),
    ):
        assert sp.Sampler(lambda x_t, t: x_t, sp.GaussianCorruption("flow"), solver=name).solver == value


def test_wrong_options_are_explained() -> None:
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\] \(0 = deterministic, 1 = posterior\), got 2"):
        sp.solvers.DDIM(eta=2.0)
    with pytest.raises(ValueError, match="unknown variance 'learned'; choose one of 'large', 'small'"):
        sp.solvers.Ancestral(variance="learned")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda u_t: None, TypeError, "a step of solver Own must return a tensor like u_t, got NoneType"),
        (
            lambda u_t: u_t[:1],
            ValueError,
            r"must return the shape of u_t, \(2, 3, 8, 8\), got \(1, 3, 8, 8\)",
        ),
    ],
)
def test_what_a_users_solver_returns_is_checked(answer: Callable, error: type[Exception], message: str) -> None:
    class Own:
        def start(self, power: object, at: object) -> Callable:
            return lambda u_t, *_: answer(u_t)

    with pytest.raises(error, match=message):
        sp.Sampler(lambda x_t, t: x_t, sp.GaussianCorruption("flow"), solver=Own(), steps=2).sample((2, *SHAPE))


def test_options_of_another_type_are_refused() -> None:
    for make in (sp.solvers.DDIM, sp.solvers.Multistep):
        for eta in ("1", True, None):
            with pytest.raises(TypeError, match=r"eta must be a number in \[0, 1\], got"):
                make(eta=eta)
    with pytest.raises(TypeError, match="corrector must be True, False or None, got 'no'"):
        sp.solvers.Multistep(corrector="no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="order must be 1 or 2, got True"):
        sp.solvers.Multistep(order=True)  # type: ignore[arg-type]
