"""The bench of few-step sampling: its exact denoiser, its peer from the literature, and that it runs."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from conftest import correlated_images

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import few_step
import few_step_cases
import few_step_network
from mixture import Mixture, edm_heun, random_directions, sliced_distance

SHAPE = (3, 4, 4)
IMAGES = correlated_images(64, SHAPE)


def spectrum(basis: str = "cosine", channels: str = "rotate") -> sp.PowerSpectrum:
    return sp.PowerSpectrum.estimate([IMAGES], basis, channels)


def white(count: int, seed: int = 0) -> Tensor:
    return torch.randn((count, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(basis: object, scale: Tensor) -> Tensor:
    """Return Bᵀ diag(scale) B as a matrix on flattened images."""
    size = math.prod(SHAPE)
    unit = torch.eye(size, dtype=torch.float64).view(size, *SHAPE)
    return basis.synthesize(scale * basis.analyze(unit)).view(size, size).T


CASES = {
    "isotropic": (sp.GaussianCorruption("cosine"), spectrum()),
    "blur": (sp.BlurCorruption(2.0, spatial=SHAPE[1:]), spectrum()),
    "shortest": (sp.ShortestPathCorruption(spectrum()), spectrum()),
    "shortest-fourier": (
        sp.ShortestPathCorruption(spectrum("fourier", "independent")),
        spectrum("fourier", "independent"),
    ),
}


# The denoiser ---------------------------------------------------------------------------------------------------------


def dense_posterior_mean(images: Tensor, cloud: Tensor, signal: Tensor, noise: Tensor, x_t: Tensor, r: float) -> Tensor:
    """Return E[x_0 | x_t] by Bayes' rule with full covariance matrices in pixels: no basis, no shortcut."""
    centres = math.sqrt(1 - r) * images.flatten(1)
    covariance = signal @ cloud @ signal.T + noise @ noise.T
    covariance = (covariance + covariance.T) / 2
    result = []
    for x in x_t.flatten(1):
        density = torch.stack(
            [torch.distributions.MultivariateNormal(signal @ c, covariance).log_prob(x) for c in centres]
        )
        gain = cloud @ signal.T @ torch.linalg.inv(covariance)
        guesses = torch.stack([c + gain @ (x - signal @ c) for c in centres])
        result.append((density.softmax(0)[:, None] * guesses).sum(0))
    return torch.stack(result).view_as(x_t)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_denoiser_is_bayes_rule_with_dense_matrices(name: str, t: float) -> None:
    corruption, measured = CASES[name]
    r = 0.3
    mixture = Mixture(IMAGES[:6], measured, residual=r)
    time = torch.tensor([t], dtype=torch.float64)
    full = torch.ones(SHAPE, dtype=torch.float64)
    signal = matrix(corruption.basis, corruption.signal(time)[0] * full)
    noise = matrix(corruption.basis, corruption.noise(time)[0] * full)
    cloud = matrix(measured.basis, r * measured.power)
    x_t = sp.corrupt(corruption, mixture.draw(5, seed=1), t, white(5))
    found = mixture.model(corruption)(x_t, time.expand(5))
    expected = dense_posterior_mean(IMAGES[:6], cloud, signal, noise, x_t, r)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_denoiser_of_the_variance_exploding_form() -> None:
    r, sigma, measured = 0.3, 0.4, spectrum()
    mixture = Mixture(IMAGES[:6], measured, residual=r)
    one = torch.eye(math.prod(SHAPE), dtype=torch.float64)
    x = mixture.draw(5, seed=1) + sigma * white(5)
    expected = dense_posterior_mean(IMAGES[:6], matrix(measured.basis, r * measured.power), one, sigma * one, x, r)
    torch.testing.assert_close(mixture.denoise(x, sigma), expected, rtol=1e-7, atol=1e-9)


def test_draws_have_the_moments_of_the_mixture() -> None:
    mixture = Mixture(IMAGES[:3], spectrum(), residual=0.3)
    draws = mixture.basis.analyze(mixture.draw(40000, seed=0)).square().mean(0)
    expected = mixture.centres.square().mean(0) + 0.3 * mixture.power
    torch.testing.assert_close(draws, expected, rtol=0.06, atol=0)


def test_no_part_in_centres_is_gaussian_data() -> None:
    mixture = Mixture(IMAGES[:1], spectrum(), residual=1.0)
    corruption = sp.GaussianCorruption("flow")
    x_1 = mixture.start(corruption, 1.0, white(3))
    sampler = sp.Sampler(mixture.model(corruption), corruption, prediction="data", solver="multistep", steps=3,
                         spectrum=mixture.spectrum)  # fmt: skip
    found = sampler.sample(x_1.shape, x_1=x_1, dtype=torch.float64, progress=False)
    exact = mixture.basis.synthesize(mixture.power.sqrt() * mixture.basis.analyze(white(3)))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-9)


def test_mixture_refuses_what_it_cannot_do_exactly() -> None:
    mixture = Mixture(IMAGES[:3], spectrum())
    with pytest.raises(ValueError, match=r"is not diagonal in .*; make the mixture with a spectrum in the corruption"):
        mixture.model(CASES["shortest-fourier"][0])
    with pytest.raises(ValueError, match="one time for the whole batch"):
        mixture.model(CASES["isotropic"][0])(white(2), torch.tensor([0.2, 0.3], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"residual must lie in \(0, 1\], got 0"):
        Mixture(IMAGES[:3], spectrum(), residual=0)
    with pytest.raises(ValueError, match="images must have the spectrum's shape"):
        Mixture(IMAGES[:3, :, :2], spectrum())


# The peer and the measures --------------------------------------------------------------------------------------------


def test_heun_is_of_second_order_on_gaussian_data() -> None:
    mixture, ends = Mixture(IMAGES[:1], spectrum(), residual=1.0), (80.0, 0.002)
    S = mixture.power
    # From σ_max to σ_min along the ODE, then the one Euler step to 0.
    factor = ends[0] * ((S + ends[1] ** 2) / (S + ends[0] ** 2)).sqrt() * S / (S + ends[1] ** 2)
    exact = mixture.basis.synthesize(factor * mixture.basis.analyze(white(3)))
    errors = [(edm_heun(mixture.denoise, white(3), n) - exact).square().mean().sqrt().item() for n in (50, 100, 200)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(1.8 < order < 2.4 for order in orders), orders


def test_heun_is_of_second_order_on_the_mixture() -> None:
    mixture = Mixture(IMAGES[:4], spectrum(), residual=0.5)
    exact = edm_heun(mixture.denoise, white(3), 2000)
    errors = [(edm_heun(mixture.denoise, white(3), n) - exact).square().mean().sqrt().item() for n in (64, 128, 256)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(1.7 < order < 2.6 for order in orders), orders


def test_heun_calls_twice_a_step_but_for_the_last() -> None:
    sigmas = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        sigmas.append(sigma)
        return torch.zeros_like(x)

    edm_heun(denoise, white(1), 5)
    assert len(sigmas) == 9
    assert sigmas[0] == pytest.approx(80)
    assert sigmas[-1] == pytest.approx(0.002)
    assert all(s > 0 for s in sigmas)


def test_sliced_distance_of_a_shift() -> None:
    directions = random_directions(SHAPE, 4096)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(4096))
    x = white(16)
    shift = torch.zeros(SHAPE)
    shift[0, 0, 0] = 2.0
    assert sliced_distance(x, x.flip(0), directions) == 0
    # A direction of D numbers has mean square 1 / D along the shift, and a shift moves every sorted value alike.
    assert sliced_distance(x, x + shift, directions) == pytest.approx(2 / math.sqrt(x[0].numel()), rel=0.05)


def test_time_of_a_noise_level() -> None:
    corruption = sp.GaussianCorruption("linear")
    t = torch.tensor([0.37], dtype=torch.float64)
    assert few_step_cases.time_of(corruption, float(corruption.noise(t) / corruption.signal(t))) == pytest.approx(0.37)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
def test_peers_are_driven_at_the_right_times() -> None:
    mixture = Mixture(IMAGES[:4], spectrum(), residual=0.5)
    process = few_step_cases.processes([mixture, Mixture(IMAGES[:4], spectrum("fourier", "independent"))])[1]
    assert process.name == "Gaussian, linear"
    best = {setting.name: setting for setting in few_step_cases.settings(process)}[few_step_cases.DEFAULT]
    converged = few_step_cases.solve(process, best, 400, white(2))
    for name, peer in few_step_cases.diffusers_peers(process, white(2)).items():
        near, far = (few_step_cases.distance(peer(calls), converged).median() for calls in (100, 10))
        assert near < 0.05, name
        assert near < far / 4, name


# The script -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
def test_quick_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, picture = tmp_path / "few.json", tmp_path / "few.png"
    few_step.main(["--quick", "--json", str(report), "--plot", str(picture)])
    printed = capsys.readouterr().out
    assert "## Summary" in printed
    assert "Left out: no --network was given." in printed
    assert picture.stat().st_size > 10000
    found = json.loads(report.read_text())
    assert {row["reached"] for row in found["rows"]} <= {True, False}
    assert found["rows"][0]["value"] < few_step_cases.EXACT_BOUND
    shown = {row["process"] for row in found["mixture"]}
    assert shown >= {few_step_cases.OURS, few_step_cases.EDM, "blur", "Gaussian, flow"}
    assert all(math.isfinite(row["median"]) and row["median"] <= row["upper"] for row in found["mixture"])


def test_a_folder_without_a_network_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"holds no checkpoint; make one with examples/quickstart.py"):
        few_step_network.load_network(tmp_path)
