"""Laws of the exact analysis of samplers: against the real sampler by brute force, and where the answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path._covariance import dense
from tests.worlds import CORRUPTIONS, GRIDS, INFORMED, SHAPE, SOLVERS, TO_NOISE, gaussian_world, spectrum

SIZE = math.prod(SHAPE)


def eye() -> Tensor:
    return torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *SHAPE)


class Optimal:
    """The optimal denoiser of N(0, Σ) as dense matrices in pixels; predicts data."""

    def __init__(self, corruption: sp.Corruption, covariance: Tensor) -> None:
        self.corruption, self.covariance = corruption, covariance
        self.basis = corruption.basis.analyze(eye()).flatten(1).T  # B: coefficients of unit pixels in its columns

    def corrupted(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return Bᵀ A B Σ and Σ_t = Bᵀ (A B Σ Bᵀ A + N²) B."""
        signal, noise = (
            scale(t[:1].double()).expand(1, *SHAPE).flatten()
            for scale in (self.corruption.signal, self.corruption.noise)
        )
        scaled = self.basis.T @ (signal[:, None] * (self.basis @ self.covariance))
        noisy = self.basis.T @ (noise.square()[:, None] * self.basis)
        kept = self.basis.T @ (signal[:, None] * self.basis)
        return scaled, scaled @ kept + noisy

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        scaled, total = self.corrupted(t)
        return (torch.linalg.solve(total, x_t.flatten(1).T).T @ scaled).reshape(x_t.shape)


def by_brute_force(sampler: sp.Sampler, covariance: Tensor, patch: pytest.MonkeyPatch) -> float:
    """KL of what a sampler does to unit impulses of its start, and of each noise that it draws, one after the other."""
    first = sampler._process.at(sampler.times[0].item(), (1, *SHAPE), torch.device("cpu"))
    deviation = sampler._process.prior(first).expand(1, *SHAPE).flatten()
    start = sampler._process.basis.synthesize(deviation.diag().reshape(SIZE, *SHAPE))
    draws: list[int] = []

    def answers(impulse: int) -> Tensor:
        def white(*_: object) -> Tensor:
            draws.append(1)
            return eye() if len(draws) == impulse else torch.zeros_like(start)

        draws.clear()
        patch.setattr("shortest_path.sampling._reverse.white", white)
        x_1 = start if impulse == 0 else torch.zeros_like(start)
        return sampler.sample(x_1.shape, x_1=x_1, dtype=torch.float64, progress=False).flatten(1)

    generated = answers(0).T @ answers(0)
    for impulse in range(1, len(draws) + 1):
        generated += answers(impulse).T @ answers(impulse)
    ratio = torch.linalg.solve(covariance, generated)
    return 0.5 * float(ratio.trace() - SIZE - torch.linalg.slogdet(ratio).logabsdet)


@pytest.mark.parametrize("solver", [*SOLVERS, *INFORMED])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shortest-cosine", False),
        ("shortest-fourier", False),
        ("gaussian-flow", False),
        ("gaussian-flow", True),
        ("blur", True),
        ("shortest-final", False),
        ("gaussian-coloured", True),
        ("staggered-scales", False),
    ],
)
def test_the_analysis_is_what_the_sampler_does(
    name: str, told: bool, solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if solver in INFORMED and (name, told) == ("gaussian-flow", False):
        pytest.skip("the corruption knows no power")
    corruption = CORRUPTIONS[name]()
    data = spectrum("fourier", "independent") if "fourier" in name else spectrum()  # channels are correlated
    covariance = dense(data)
    known = data if told else None
    arguments = {"solver": {**SOLVERS, **INFORMED}[solver], "times": [0.9, 0.6, 0.25, 0.0]}
    model = Optimal(corruption, covariance)
    sampler = sp.Sampler(model, corruption, prediction="data", spectrum=known, **arguments)
    monkeypatch.setattr("shortest_path.corruptions._process.prior_deviation", generous_prior)
    monkeypatch.setattr("shortest_path._covariance.prior_deviation", generous_prior)
    expected = by_brute_force(sampler, covariance, monkeypatch)
    found = sp.gaussian_kl(corruption, data, sampler_spectrum=known, **arguments)
    assert found == pytest.approx(expected, rel=1e-7)


def generous_prior(first: sp.solvers.Point, end: sp.solvers.Point, power: Tensor | None) -> Tensor:
    """Start from noise even where part of the image is left, as at t = 0.9: here only the steps are compared."""
    return first.noise if power is None else (first.signal**2 * power + first.noise**2).sqrt()


# Blur keeps noise at t = 0, which no solver removes exactly in the last step.
@pytest.mark.parametrize("name", [name for name in TO_NOISE if name != "blur"])
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_multistep_loses_nothing_where_the_spectrum_is_known(name: str, steps: int) -> None:
    corruption = CORRUPTIONS[name]()
    data = sp.PowerSpectrum(corruption.basis, gaussian_world(corruption).power)
    assert abs(sp.gaussian_kl(corruption, data, steps=steps, solver="multistep", sampler_spectrum=data)) < 1e-9


def test_more_steps_lose_less_and_the_second_order_less_than_the_first() -> None:
    corruption, data = sp.GaussianCorruption("flow"), spectrum()
    losses = {
        (name, steps): sp.gaussian_kl(corruption, data, solver=name, grid="uniform", steps=steps)
        for name in ("ddim", "multistep")
        for steps in (20, 40)
    }
    assert losses["ddim", 40] < losses["ddim", 20]
    assert losses["multistep", 40] < losses["multistep", 20] < losses["ddim", 20]


@pytest.mark.parametrize("solver", ["multistep", "ddim", "ancestral"])
@pytest.mark.parametrize("grid", [None, *GRIDS])
def test_times_are_those_of_the_sampler(solver: str, grid: str | None) -> None:
    corruption, data = CORRUPTIONS["shortest-cosine"](), spectrum()
    value = None if grid is None else GRIDS[grid](corruption, data)
    times = sp.Sampler(lambda x_t, t: x_t, corruption, prediction="data", solver=solver, grid=value, steps=8).times
    found = sp.gaussian_kl(corruption, data, solver=solver, grid=value, steps=8)
    assert found == sp.gaussian_kl(corruption, data, solver=solver, times=times)


@dataclass(frozen=True)
class Own:
    """A user's solver: DDIM, with something added to each step that `odd` computes."""

    odd: Callable[..., Tensor]

    def start(self, power: Tensor | None, at: object) -> object:
        before: list[Tensor] = []

        def step(
            u_t: Tensor, u_0: Tensor, here: sp.solvers.Point, there: sp.solvers.Point, noise: Callable[[], Tensor]
        ) -> Tensor:
            if there.time == 0:  # as the library's own do
                return u_0
            kept = there.noise / here.noise
            mean = self.odd(u_0, before, noise)
            before.append(u_0)
            return there.signal * mean + kept * (u_t - here.signal * mean)

        return step


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            lambda u_0, before, noise: u_0 + 0.1 * before[-1] if before else u_0,
            "remembers earlier steps; keep .* `memory`",
        ),
        (lambda u_0, before, noise: u_0 + noise() + noise(), r"calls noise\(\) more than once in a step"),
        (lambda u_0, before, noise: u_0.clamp(-0.1, 0.1), "requires steps that are linear in u_t"),
        (lambda u_0, before, noise: u_0 + 1e-4 * u_0**2, "requires steps that are linear in u_t"),
        (lambda u_0, before, noise: u_0 + 0.5, "requires steps that are linear in u_t"),
        (lambda u_0, before, noise: u_0 + torch.randn_like(u_0), r"linear in .*other random numbers than noise\(\)"),
        (lambda u_0, before, noise: u_0 / 0, "returns values that are not finite"),
    ],
)
def test_steps_whose_covariance_cannot_be_propagated_are_refused(odd: Callable[..., Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sp.gaussian_kl(CORRUPTIONS["shortest-cosine"](), spectrum(), solver=Own(odd), steps=4)
    fine = sp.gaussian_kl(CORRUPTIONS["shortest-cosine"](), spectrum(), solver=Own(lambda u_0, *_: u_0), steps=4)
    assert fine == pytest.approx(sp.gaussian_kl(CORRUPTIONS["shortest-cosine"](), spectrum(), solver="ddim", steps=4))
