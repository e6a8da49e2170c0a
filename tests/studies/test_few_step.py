"""The few-step study: its exact denoiser, its peers, and its command line."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from studies.few_step import cases
from studies.few_step.__main__ import main
from studies.few_step.mixture import Mixture, edm_heun
from tests.worlds import correlated_images

SHAPE = (3, 4, 4)
IMAGES = correlated_images(64, SHAPE)
COSINE = sp.PowerSpectrum.estimate([IMAGES])
FOURIER = sp.PowerSpectrum.estimate([IMAGES], "fourier", "independent")
CASES = {
    "isotropic": (sp.GaussianCorruption("cosine"), COSINE),
    "blur": (sp.BlurCorruption(2.0, spatial=SHAPE[1:]), COSINE),
    "shortest": (sp.ShortestPathCorruption(COSINE), COSINE),
    "shortest-fourier": (sp.ShortestPathCorruption(FOURIER), FOURIER),
}


def white(count: int) -> Tensor:
    return torch.randn((count, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def matrix(basis: sp.bases.Basis, scale: Tensor) -> Tensor:
    """Return Bᵀ diag(scale) B as a matrix on flattened images."""
    size = math.prod(SHAPE)
    unit = torch.eye(size, dtype=torch.float64).view(size, *SHAPE)
    return basis.synthesize(scale * basis.analyze(unit)).view(size, size).T


def dense_posterior_mean(images: Tensor, cloud: Tensor, signal: Tensor, noise: Tensor, x_t: Tensor, r: float) -> Tensor:
    """Return E[x_0 | x_t] by Bayes' rule with full covariance matrices in pixels, without a basis."""
    centres = math.sqrt(1 - r) * images.flatten(1)
    covariance = signal @ cloud @ signal.T + noise @ noise.T
    covariance = (covariance + covariance.T) / 2
    gain = cloud @ signal.T @ torch.linalg.inv(covariance)
    result = []
    for x in x_t.flatten(1):
        normal = (torch.distributions.MultivariateNormal(signal @ c, covariance) for c in centres)
        density = torch.stack([each.log_prob(x) for each in normal])
        guesses = torch.stack([c + gain @ (x - signal @ c) for c in centres])
        result.append((density.softmax(0)[:, None] * guesses).sum(0))
    return torch.stack(result).view_as(x_t)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("t", [0.05, 0.6])
def test_denoiser_is_bayes_rule_with_dense_matrices(name: str, t: float) -> None:
    (corruption, spectrum), r = CASES[name], 0.3
    mixture = Mixture(IMAGES[:6], spectrum, residual=r)
    time = torch.tensor([t], dtype=torch.float64)
    full = torch.ones(SHAPE, dtype=torch.float64)
    signal = matrix(corruption.basis, corruption.signal(time)[0] * full)
    noise = matrix(corruption.basis, corruption.noise(time)[0] * full)
    x_t = sp.corrupt(corruption, mixture.sample(5, seed=1), t, white(5))
    cloud = matrix(spectrum.basis, r * spectrum.power)
    expected = dense_posterior_mean(IMAGES[:6], cloud, signal, noise, x_t, r)
    torch.testing.assert_close(mixture.model(corruption)(x_t, time.expand(5)), expected, rtol=1e-7, atol=1e-9)


def test_denoiser_of_the_variance_exploding_form() -> None:
    r, sigma = 0.3, 0.4
    mixture, one = Mixture(IMAGES[:6], COSINE, residual=r), torch.eye(math.prod(SHAPE), dtype=torch.float64)
    x = mixture.sample(5, seed=1) + sigma * white(5)
    expected = dense_posterior_mean(IMAGES[:6], matrix(COSINE.basis, r * COSINE.power), one, sigma * one, x, r)
    torch.testing.assert_close(mixture.denoise(x, sigma), expected, rtol=1e-7, atol=1e-9)


def test_edm_heun_is_of_second_order() -> None:
    mixture, S, first, last = Mixture(IMAGES[:4], COSINE, residual=1.0), COSINE.power, 80.0, 0.002
    # From σ_max to σ_min along the ODE of Gaussian data, then an Euler step to 0.
    factor = first * ((S + last**2) / (S + first**2)).sqrt() * S / (S + last**2)
    exact = mixture.basis.synthesize(factor * mixture.basis.analyze(white(3)))
    errors = [(edm_heun(mixture.denoise, white(3), n) - exact).square().mean().sqrt().item() for n in (40, 80, 160)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(1.7 < order < 2.6 for order in orders), orders


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, plot = tmp_path / "few.json", tmp_path / "few.png"
    main(["--quick", "--json", str(report), "--plot", str(plot)])
    printed = capsys.readouterr().out
    assert "## Summary" in printed
    assert "Omitted: no --network was given." in printed
    assert plot.stat().st_size > 10000
    found = json.loads(report.read_text())
    assert found["rows"][0]["value"] < cases.EXACT_BOUND
    assert {row["process"] for row in found["mixture"]} >= {cases.OURS, cases.EDM, "blur", "Gaussian, flow"}
    assert all(math.isfinite(row["median"]) and row["median"] <= row["upper"] for row in found["mixture"])


def test_unfit_options_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--calls", "2"])
    assert "--calls requires numbers of at least 3" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"few_step: .* is not the folder of a finished quickstart"):
        main(["--quick", "--network", str(tmp_path)])
