"""Laws of the time grids."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.grids._interpolation import times_at
from tests.worlds import CORRUPTIONS, SHAPE, spectrum

NAMES = ["uniform", "cosine", "power", "log-snr", "spectrum"]


def model(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x_t)


def angles(corruption: sp.Corruption, power: Tensor, times: Tensor) -> Tensor:
    """Return θ of every coefficient at every time, (T, C, *spatial)."""
    signal, noise = corruption.signal(times), corruption.noise(times)
    return torch.atan2(noise.expand(len(times), *SHAPE), signal * power.sqrt())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_every_grid_falls_from_its_start_to_zero(name: str, steps: int, corruption: sp.Corruption) -> None:
    known = spectrum() if type(corruption.basis) in (sp.CosineBasis, sp.PixelBasis) else None
    if name == "spectrum" and known is None and not hasattr(corruption, "power"):
        pytest.skip("no spectrum in this basis")
    own = hasattr(corruption, "power")
    sampler = sp.Sampler(model, corruption, prediction="data", steps=steps, grid=name, spectrum=None if own else known)
    times = sampler.times
    assert times.shape == (steps + 1,)
    assert times.dtype == torch.float64
    assert times[0].item() == pytest.approx(0.999 if name == "log-snr" else 1.0, abs=1e-12)
    assert times[-1] == 0
    assert bool((times.diff() < 0).all())


def test_the_named_grids_are_their_formulas() -> None:
    falling = torch.linspace(1, 0, 9, dtype=torch.float64)
    torch.testing.assert_close(sp.grids.Uniform()(8), falling)
    torch.testing.assert_close(sp.grids.Cosine()(8), torch.sin(math.pi / 2 * falling) ** 2)
    torch.testing.assert_close(sp.grids.Power(3.0, 2.0)(8, start=0.5), 0.5 * (1 - (1 - falling**2) ** 3))
    assert torch.equal(sp.grids.Reference()(5), sp.grids.Reference()(5))


def test_equal_steps_of_the_log_signal_to_noise_ratio() -> None:
    corruption = sp.GaussianCorruption("cosine")
    times = sp.grids.LogSnr(corruption, end=0.01)(10)[:-1]
    ratio = (corruption.signal(times) / corruption.noise(times)).log().flatten().diff()
    assert times[[0, -1]].tolist() == pytest.approx([0.99, 0.01])
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=2e-3, atol=0)


def test_steps_of_the_ratio_stay_equal_up_to_the_ends() -> None:
    times = sp.grids.LogSnr(sp.GaussianCorruption("flow"))(30)[:-1]
    expected = torch.linspace(1, -1, 30, dtype=torch.float64) * math.log(999)
    torch.testing.assert_close(torch.logit(times), expected, rtol=0, atol=2e-3)


def test_the_inverse_of_a_rising_function_rises_and_stays_between_its_values() -> None:
    generator = torch.Generator().manual_seed(0)
    steps = 10 ** torch.empty(256, dtype=torch.float64).uniform_(-5, 5, generator=generator)
    rising = torch.cat([torch.zeros(1, dtype=torch.float64), steps]).cumsum(0)
    times = torch.linspace(0, 1, 257, dtype=torch.float64)
    torch.testing.assert_close(times_at(rising, rising, times), times)
    between = torch.lerp(rising[:-1, None], rising[1:, None], torch.linspace(0, 1, 20, dtype=torch.float64)).flatten()
    assert times_at(between, rising, times).diff().min() > -1e-12


@pytest.mark.parametrize("name", ["gaussian-cosine", "gaussian-linear", "blur", "shortest-cosine"])
def test_the_spectrums_grid_shares_the_error_equally(name: str) -> None:
    corruption, power = CORRUPTIONS[name](), spectrum().power
    times = sp.grids.Spectrum(corruption, power)(20)
    # Its own definition, by another quadrature: ∫ (Σ S θ'⁶)^(1/6) dt over each step, on a fine uniform grid within.
    shares = []
    for start, stop in zip(times[1:], times[:-1], strict=True):
        fine = torch.linspace(float(start), float(stop), 400, dtype=torch.float64)
        turned = angles(corruption, power, fine).diff(dim=0)
        shares.append((power * turned**6).flatten(1).sum(1).pow(1 / 6).sum())
    torch.testing.assert_close(torch.stack(shares), torch.stack(shares).mean().expand(20), rtol=0.02, atol=0)


def test_the_spectrums_grid_does_not_depend_on_the_clock() -> None:
    power = spectrum().power
    cosine, flow = sp.GaussianCorruption("cosine"), sp.GaussianCorruption("flow")
    ours, theirs = (angles(c, power, sp.grids.Spectrum(c, power)(12)) for c in (cosine, flow))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)


def test_the_default_is_chosen_by_solver_and_by_what_is_known() -> None:
    gaussian, shortest = sp.GaussianCorruption("flow"), CORRUPTIONS["shortest-cosine"]()

    def times(corruption: sp.Corruption, **options: object) -> Tensor:
        return sp.Sampler(model, corruption, prediction="data", steps=6, **options).times

    assert torch.equal(times(shortest, solver="ancestral"), sp.grids.Uniform()(6))
    assert torch.equal(times(shortest, solver="ddim"), sp.grids.Uniform()(6))
    assert torch.equal(times(gaussian, solver="multistep"), sp.grids.Cosine()(6))
    assert torch.equal(times(shortest, solver="multistep"), sp.grids.Spectrum(shortest)(6))
    measured = spectrum()
    expected = sp.grids.Spectrum(gaussian, measured.power)(6)
    assert torch.equal(times(gaussian, solver="multistep", spectrum=measured), expected)


def test_a_grid_is_a_value_and_any_function_will_do() -> None:
    corruption = sp.GaussianCorruption("flow")
    grid = sp.grids.Power(2.0)
    assert grid == sp.grids.Power(2.0)
    with pytest.raises(FrozenInstanceError):
        grid.at_noise = 3.0  # type: ignore[misc]
    assert torch.equal(sp.Sampler(model, corruption, steps=3, grid=grid).times, grid(3, start=0.999))

    def own(steps: int, *, start: float = 1.0) -> Tensor:
        return start * torch.linspace(1, 0, steps + 1) ** 2

    sampler = sp.Sampler(model, corruption, prediction="data", steps=2, grid=own)
    assert sampler.times.tolist() == [1, 0.25, 0]
    assert sp.Sampler(model, corruption, times=[0.5, 0.1]).times.tolist() == pytest.approx([0.5, 0.1])


def made_by(grid: Any) -> sp.Sampler:
    return sp.Sampler(model, sp.GaussianCorruption(), grid=grid, steps=2, start=0.9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sp.grids.Power(0.0), "powers must be positive, got at_noise=0.0"),
        (lambda: sp.grids.LogSnr(sp.GaussianCorruption("flow"), end=0.5), r"end must lie in \(0, 0.5\), got 0.5"),
        (lambda: sp.grids.LogSnr(sp.GaussianCorruption("flow"))(0), "steps must be 1 or more, got 0"),
        (lambda: sp.grids.Cosine()(0), "steps must be 1 or more, got 0"),
        (lambda: sp.grids.Spectrum(sp.GaussianCorruption("flow")), "GaussianCorruption has no power of the data"),
        (lambda: sp.Sampler(model, sp.GaussianCorruption(), grid="spectrum"), "pass the spectrum, or grid='cosine'"),
        (lambda: sp.Sampler(model, sp.GaussianCorruption(), grid=lambda steps, start: [1.0]), "falls strictly"),
        (
            lambda: made_by(lambda steps, start: torch.linspace(start, 0, 5)),
            "steps=2 .* 5 times from 0.9 to 0",
        ),
        (lambda: made_by(lambda steps, start: torch.linspace(start, 0.1, steps + 1)), "3 times from 0.9 to 0.1; if"),
        (lambda: made_by(lambda steps, start: torch.linspace(1, 0, steps + 1)), "start=0.9 .* from 1 to 0; if they"),
        (lambda: made_by("reference"), "start=0.9 has no effect with grid='reference'"),
        (lambda: made_by(sp.grids.Reference()), "start=0.9 has no effect with grid='reference'"),
    ],
)
def test_wrong_grids_are_explained(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    "grid", [lambda n: torch.linspace(1, 0, n + 1), lambda: [1.0, 0.0], lambda n, first: [1.0, 0.0]]
)
def test_a_grid_of_another_form_is_explained(grid: object) -> None:
    mend = (
        r"called as grid\(steps, start=1.0\) .*; write e.g. grid=lambda steps, start: torch.linspace\(start, 0, steps"
    )
    with pytest.raises(TypeError, match=mend):
        sp.Sampler(model, sp.GaussianCorruption(), grid=grid)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=mend):
        sp.gaussian_kl(sp.GaussianCorruption(), spectrum(), grid=grid)  # type: ignore[arg-type]
