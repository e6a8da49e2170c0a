"""The figures of the documentation: each script runs, and what it draws obeys the law that it illustrates."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import shortest_path as sp

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "figures"))

pytest.importorskip("matplotlib")

import bases
import few_steps
import kl
import lengths
import lost
import parts
import scales
import style
import variances

from mixture import Mixture

SCRIPTS = (
    *("bases", "corruptions", "deviation", "few_steps", "kl", "lengths", "lost", "parts", "scales", "trained"),
    "variances",
)
SIZE = 8


@pytest.fixture(scope="module")
def images() -> Tensor:
    return style.pictures(256, SIZE)


@pytest.fixture(scope="module")
def estimator(images: Tensor) -> sp.SpectrumEstimator:
    return style.measure(images)


@pytest.fixture(scope="module")
def spectrum(estimator: sp.SpectrumEstimator) -> sp.PowerSpectrum:
    return estimator.spectrum("rotate")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_draws_its_figure_and_no_other(script: str, tmp_path: Path) -> None:
    module = importlib.import_module(script)
    out = tmp_path / next(style.HERE.glob(f"{script}.[ps][nv]g")).name  # the figure that the pages show
    assert f"docs/figures/{out.name}" in module.__doc__
    assert f"python docs/figures/{script}.py" in module.__doc__
    module.main(["--quick", "--out", str(out)])
    assert out.read_bytes()[:5] == (b"<?xml" if out.suffix == ".svg" else b"\x89PNG\r")
    assert list(tmp_path.iterdir()) == [out]


def test_every_script_is_tested() -> None:
    assert sorted(path.stem for path in style.HERE.glob("*.py")) == sorted([*SCRIPTS, "style"])


def test_a_line_drawing_is_the_same_file_every_time(tmp_path: Path, spectrum: sp.PowerSpectrum) -> None:
    for name in ("a.svg", "b.svg"):
        variances.draw(*variances.compute(spectrum, points=5), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_on_the_geodesic_the_logarithm_of_variance_is_a_straight_line(spectrum: sp.PowerSpectrum) -> None:
    times, found = variances.compute(spectrum, points=11)
    straight = (1 - times).view(-1, 1, 1, 1) * spectrum.power.log()
    torch.testing.assert_close(found["shortest path"].log(), straight)
    assert (found["Gaussian noise, cosine"].log() - straight).abs().max() > 0.5


def test_the_shortest_path_sharpens_and_blur_blurs(spectrum: sp.PowerSpectrum) -> None:
    found = scales.compute(spectrum, torch.linspace(0.1, 0.9, 5, dtype=torch.float64))
    low, high = (0, 0, 0), (0, SIZE - 1, SIZE - 1)
    for name, sign in (("shortest path", 1), ("blur and noise", -1), ("Gaussian noise", 0)):
        signal, _ = found[name]
        assert ((signal[(slice(None), *high)] - signal[(slice(None), *low)]).sign() == sign).all()


def test_frequencies_are_lost_when_the_formula_says(spectrum: sp.PowerSpectrum) -> None:
    found = lost.compute(spectrum)
    for k, three in found["shortest path"].items():
        power = float(spectrum.power[0, k, 0])
        expected = [math.log((power + ratio) / (1 + ratio)) / math.log(power) for ratio in lost.RATIOS]
        assert three == pytest.approx(expected, abs=1e-4)
    for k, three in found["Gaussian noise"].items():  # cosine: a = cos(πt/2), s = sin(πt/2), but for its ends
        power = float(spectrum.power[0, k, 0])
        expected = [2 / math.pi * math.atan(math.sqrt(power / ratio)) for ratio in lost.RATIOS]
        assert three == pytest.approx(expected, abs=0.01)


def test_the_parts_add_up_to_the_corrupted_picture(images: Tensor, spectrum: sp.PowerSpectrum) -> None:
    corruption, times = sp.ShortestPathCorruption(spectrum), [0.2, 0.7]
    x_0, eps = images[:1].double(), torch.randn((1, 3, SIZE, SIZE), dtype=torch.float64)
    found = parts.compute(x_0[0], corruption, eps[0], times)
    for t, both in zip(times, found["both"], strict=True):
        torch.testing.assert_close(both[None], corruption.corrupt(x_0, t, eps))


def test_the_slope_of_a_power_law_is_its_exponent() -> None:
    law = sp.PowerSpectrum.power_law((3, 32, 32), amplitude=1.0, offset=1e-9, exponent=1.7, basis=sp.CosineBasis())
    picture = law.basis.synthesize(law.power.sqrt()[None])[0]
    assert parts.slope(picture, law) == pytest.approx(1.7, abs=1e-6)


def test_no_path_is_shorter_than_the_geodesic(estimator: sp.SpectrumEstimator) -> None:
    geodesic, found = lengths.compute(estimator, rtol=1e-3)
    assert geodesic == pytest.approx(sp.fisher_distance(estimator.spectrum("independent"), 1.0))
    assert min(found.values()) >= 1
    rotated, *others = found.values()
    assert rotated < 1.001
    assert min(others) > 1.01


def test_the_closed_form_of_the_kl_is_its_limit_for_many_steps(spectrum: sp.PowerSpectrum) -> None:
    diagonal = sp.PowerSpectrum(spectrum.basis, spectrum.power)
    corruption = sp.ShortestPathCorruption(diagonal)
    errors = [
        sp.gaussian_kl(corruption, diagonal, steps=steps) / float(kl.closed_form(diagonal.power, steps).sum()) - 1
        for steps in (50, 100, 200)
    ]
    assert 0 < errors[2] < 0.6 * errors[1] < 0.6**2 * errors[0] < 0.05


def test_rotated_channels_and_even_steps_lessen_the_kl(estimator: sp.SpectrumEstimator) -> None:
    found = kl.compute(estimator, (10, 50))
    best, rgb, cosine, even, flow = found.values()
    assert all(few > many for few, many in found.values())
    for place in range(2):
        assert 10 * best[place] < min(rgb[place], cosine[place], even[place], flow[place])
        assert even[place] < cosine[place]


def test_each_basis_leaves_out_what_its_covariances_say(images: Tensor) -> None:
    small = images[:, :, :4, :4]
    data = style.measure(small, "principal").spectrum()
    basis = style.measure(small).spectrum("independent").basis
    u = basis.analyze(torch.cat([small, small.flip(-1)]).double()).flatten(1)
    covariance = u.T @ u / len(u)
    expected = 0.5 * (covariance.diagonal().log().sum() - torch.linalg.slogdet(covariance).logabsdet)
    assert bases.off_diagonal(data, basis) == pytest.approx(float(expected), rel=1e-6)
    assert bases.off_diagonal(data, data.basis) == pytest.approx(0, abs=1e-9)
    found = bases.compute(small, steps=10)
    assert min(found, key=lambda name: found[name][1]) == "principal components"
    assert found["cosine, rotated channels"][0] < found["Fourier, rotated channels"][0] < found["cosine, RGB"][0]


def test_ddim_is_of_first_order_and_the_others_of_second(images: Tensor, spectrum: sp.PowerSpectrum) -> None:
    found = few_steps.compute(Mixture(images[:20], spectrum), samples=4, calls=(40, 80), reference=600)
    for solvers in found.values():
        order = {name: math.log2(few / many) for name, (few, many) in solvers.items()}
        assert order["DDIM"] == pytest.approx(1, abs=0.35)
        assert min(order["multistep, exponential"], order["multistep, rotation"]) > 1.4
        assert solvers["multistep, rotation"][1] < solvers["multistep, exponential"][1] < solvers["DDIM"][1]
