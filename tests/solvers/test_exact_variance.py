"""Laws of the ancestral solver with the exact variance."""

from __future__ import annotations

import pytest
import torch

import shortest_path as sp
from tests.worlds import CORRUPTIONS, SHAPE, TO_NOISE, GaussianDenoiser, gaussian_world, point

EXACT = sp.solvers.Ancestral(variance="exact")


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("name", TO_NOISE)
def test_it_loses_nothing_on_gaussian_data_at_any_number_of_steps(name: str, steps: int) -> None:
    corruption = CORRUPTIONS[name]()
    data = sp.PowerSpectrum(corruption.basis, gaussian_world(corruption).power)
    kl = sp.gaussian_kl(corruption, data, steps=steps, solver=EXACT, grid="uniform", sampler_spectrum=data)
    assert kl == pytest.approx(0, abs=1e-9)
    if steps == 7:
        others = [
            sp.gaussian_kl(corruption, data, steps=steps, solver=each, grid="uniform", sampler_spectrum=data)
            for each in (sp.solvers.Ancestral(), sp.solvers.Ancestral(variance="small"))
        ]
        assert min(others) > 1e-3


@pytest.mark.parametrize("name", [name for name in TO_NOISE if not name.startswith("staggered")])
def test_its_variance_is_the_optimal_one_of_analytic_dpm(name: str) -> None:
    """Bao et al. 2022, theorem 1, with Γ = E‖score‖²/d = 1 / Σ_t of Gaussian data, coefficient by coefficient."""
    corruption = CORRUPTIONS[name]()
    power = gaussian_world(corruption).power
    here, there = point(corruption, 0.7), point(corruption, 0.4)
    ratio = here.signal / there.signal
    large = here.noise**2 - ratio**2 * there.noise**2
    posterior = large * there.noise**2 / here.noise**2  # λ², that of DDPM
    kept = (there.noise**2 - posterior).sqrt()
    score = 1 / (here.signal**2 * power + here.noise**2)
    expected = posterior + (here.noise / ratio - kept) ** 2 * (1 - here.noise**2 * score)

    like = torch.ones((1, *SHAPE), dtype=torch.float64)
    step = EXACT.start(power, lambda t: there)
    found = step(torch.zeros_like(like), torch.zeros_like(like), here, there, lambda: like)
    torch.testing.assert_close(found**2, expected.expand_as(found), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["shortest-cosine", "gaussian-flow", "blur"])
def test_samples_have_the_variance_of_the_data_after_two_steps(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    power = gaussian_world(corruption).power
    data = sp.PowerSpectrum(corruption.basis, power)
    sampler = sp.Sampler(
        GaussianDenoiser(corruption, power, "data"),
        corruption,
        prediction="data",
        solver=EXACT,
        steps=2,
        spectrum=data,
    )
    images = sampler.sample((4000, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    measured = corruption.basis.analyze(images).square().mean(0)
    # A mean of 4000 squares errs by 2.2 %: of 192, the largest by about 7 %.
    assert float((measured / power - 1).abs().max()) < 0.1
    assert float((measured / power).mean()) == pytest.approx(1, abs=0.01)


def test_it_requires_the_datas_power() -> None:
    sampler = sp.Sampler(lambda x, t: x, sp.GaussianCorruption(), solver=EXACT, steps=2)
    with pytest.raises(ValueError, match="variance='exact' requires the data's power spectrum; pass spectrum="):
        sampler.sample((1, *SHAPE))
