"""Laws of the measures of trained networks, and of the tables of their study."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from studies.trained_networks import measures, report
from studies.trained_networks.images import rounded
from studies.trained_networks.statistics import interval, paired, seeds_to_tell
from tests.worlds import correlated_images


def images_of(count: int, *, seed: int = 0) -> Tensor:
    return rounded(0.5 * correlated_images(count, (3, 8, 8), seed=seed).float())


def features(x: Tensor) -> Tensor:
    return x.flatten(2).abs().mean(2)


def test_the_kernel_distance_of_noisy_samples_is_greater() -> None:
    real = features(images_of(400))
    clean, noisy = (
        measures.kernel(images_of(400, seed=1) + scale * torch.randn(400, 3, 8, 8), real, features)
        for scale in (0.0, 0.3)
    )
    assert abs(clean[0]) < noisy[0] / 50
    assert noisy[0] > 4 * noisy[1]


def test_the_area_under_the_curve_is_a_probability_of_order() -> None:
    positive, negative = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0])
    assert measures.area(positive, negative) == pytest.approx((1 + 1.5 + 2) / 6)
    assert measures.area(positive, positive) == 0.5


def test_a_classifier_tells_noise_and_does_not_tell_equals() -> None:
    real = images_of(400)
    assert measures.classifier_auc(images_of(400, seed=1) + 0.5 * torch.randn(400, 3, 8, 8), real) > 0.9
    assert measures.classifier_auc(images_of(400, seed=1), real) == pytest.approx(0.5, abs=0.1)


def test_power_by_band_is_the_logarithm_of_the_ratio() -> None:
    noise = torch.randn(300, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    real, basis = (0.2 * noise).clamp(-1, 1), sp.CosineBasis(2)
    assert measures.band_power(0.5 * real, real, basis) == pytest.approx([-2 * math.log(2)] * 3, abs=0.01)


@pytest.fixture(scope="module")
def world() -> tuple[sp.corruptions.Process, Tensor]:
    """Return the shortest path of a Gaussian world, and images of it."""
    spectrum = sp.PowerSpectrum.power_law((3, 8, 8), amplitude=0.3, offset=0.02, exponent=2.0)
    u = spectrum.power.sqrt() * torch.randn(800, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    process = sp.corruptions.Process(sp.ShortestPathCorruption(spectrum), spectrum)
    return process, spectrum.basis.synthesize(u).float()


def best_linear(process: sp.corruptions.Process, x_t: Tensor, t: Tensor) -> Tensor:
    a, s = process.scales(t, x_t)
    power = process.power.to(x_t)
    return a * power / (a**2 * power + s**2) * process.analyze(x_t)


def test_the_best_linear_prediction_has_a_relative_error_of_one(world) -> None:
    process, images = world
    found = measures.relative_errors(lambda x, t: best_linear(process, x, t), process, images)
    assert found == pytest.approx([1.0] * 5, rel=0.05)
    worse = measures.relative_errors(lambda x, t: 0 * x, process, images, angles=(0.5, 0.9))
    assert worse == pytest.approx([1 / math.sin(math.pi / 2 * angle) ** 2 for angle in (0.5, 0.9)], rel=0.05)


def test_the_chain_bound_is_the_entropy_of_gaussian_data(world) -> None:
    process, images = world
    nats = 0.5 * (2 * math.pi * math.e * process.power).log().sum().item()
    entropy = nats / (192 * math.log(2)) + math.log2(128)
    for steps in (1, 4, 40):
        found = measures.chain_bits(lambda x, t: best_linear(process, x, t), process, images, steps, strata=39)
        assert found == pytest.approx(entropy, abs=0.005), steps
    worse = measures.chain_bits(lambda x, t: 0.9 * best_linear(process, x, t), process, images, 40)
    assert worse > entropy + 0.02


def test_bits_of_each_image_do_not_depend_on_the_others(world) -> None:
    process, images = world
    spectrum = sp.PowerSpectrum(process.basis, process.power)
    sampler = sp.Sampler(
        lambda x, t: 0 * x, process.corruption, prediction="whitened-velocity", steps=2, spectrum=spectrum
    )
    bits = measures.held_out_bits(sampler, images[:600])
    torch.testing.assert_close(bits[:500], measures.held_out_bits(sampler, images[:500]))
    nats = -0.5 * ((process.analyze(images[:600].double()) ** 2 / process.power).flatten(1).sum(1))
    nats -= 0.5 * (2 * math.pi * process.power).log().sum()
    expected = -nats / (192 * math.log(2)) + 7
    torch.testing.assert_close(bits, expected, atol=1e-3, rtol=0)
    whitened = (process.analyze(images[:600].double()) / process.power.sqrt()).flatten(1)
    found = measures.normal_bits(whitened, process.power.log().sum() / 2, (3, 8, 8))
    assert found == pytest.approx(expected.mean().item())


# Intervals and tables -------------------------------------------------------------------------------------------------


def test_intervals_hold_as_often_as_they_say() -> None:
    values = torch.randn(2000, 4, generator=torch.Generator().manual_seed(1)).double().tolist()
    found = [interval(dict(enumerate(row))) for row in values]
    assert sum(each.told for each in found) / len(found) == pytest.approx(0.05, abs=0.015)
    wide = [interval(dict(enumerate(row)), contrasts=10) for row in values]
    assert sum(each.told for each in wide) / len(wide) == pytest.approx(0.005, abs=0.005)


def test_differences_are_paired_over_common_seeds() -> None:
    found = paired({0: 1.0, 1: 3.0, 5: 9.0}, {0: 0.5, 1: 2.5, 4: 0.0}, contrasts=3)
    assert found is not None
    assert (found.mean, found.half, found.count, found.told) == (0.5, 0.0, 2, True)
    assert paired({0: 1.0}, {1: 1.0}, contrasts=1) is None
    single = paired({0: 1.0}, {0: 0.0}, contrasts=1)
    assert single is not None
    assert (single.half, single.told) == (None, False)
    count = seeds_to_tell(1.0, 2.0, contrasts=1)
    assert count is not None
    assert 17 <= count <= 19
    assert seeds_to_tell(0.0, 1.0, contrasts=1) is None


def run(case: str, seed: int, bits: float | None, kernel: float | None) -> dict[str, Any]:
    sampled = {"samples": 100, "kernel": kernel, "error": 0.001, "auc": 0.6, "power": [0.1, 0.2, 0.3]}
    return {
        **{"case": case, "output": "noise", "seed": seed, "density": "uniform", "bits_50": {"mean": bits}},
        **{"multistep_50": sampled, "ancestral_250": sampled, "chain_50": 6.0, "relative_errors": [0.5] * 5},
    }


def make_report() -> dict[str, Any]:
    titles = {"gaussian-cosine": "Gaussian", "path-cosine": "path", "scale-0.8": "log S × 0.8"}
    runs = [run("gaussian-cosine", seed, 6.0 + seed / 10, 0.02) for seed in range(3)]
    runs += [run("path-cosine", seed, 5.5 + seed / 10, 0.01 + seed / 1000) for seed in range(3)]
    data = {"source": "s", "count": 3, "encoding": "PNG"}
    return {
        "runs": [*runs, run("scale-0.8", 0, None, None)],
        "cases": {name: {"title": title, "length": 1.0} for name, title in titles.items()},
        "floor": {"kernel": 0.0001},
        "gaussian_model": {"diagonal": 6.5, "full": 6.25, "kernel": 0.5},
        "tuning": {"steps": 2, "runs": []},
        "settings": {"size": 8},
        "machine": "m",
        "data": {"training": data},
        "classifier": {"test_accuracy": 0.7},
    }


def row(table: str, first: str) -> list[str]:
    """Return the cells of the first line that begins with a cell."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_tables_show_both_measures_with_intervals() -> None:
    text = report.tables(make_report())
    assert report.CONTRASTS == 34  # nine pairs and eight more, two outputs
    assert row(text, "path") == ["path", "1.000", "5.6000 ± 0.2484", "0.011 ± 0.002", "0.011 ± 0.002", "3"]
    assert row(text, "path − Gaussian")[1] == "**-0.5000 ± 0.0000**"
    assert report.tables({**make_report(), "runs": []}) == "Nothing has been measured yet.\n"
    assert row(report.deviation(make_report(), "noise"), "log S × 0.8")[1:] == ["–", "–", "0", "–", "–", "–"]


def test_differences_are_of_the_contrasts_that_were_fixed() -> None:
    known = make_report()
    runs = [run("scale-0.9", seed, 5.0 + seed / 10, 0.02) for seed in range(3)]
    known |= {"runs": [*known["runs"], *runs], "cases": known["cases"] | {"scale-0.9": {"title": "other", "length": 1}}}
    assert set(report.contrasts(known, report.BITS, "noise", "gaussian-cosine")) == {"path-cosine"}
    assert row(report.deviation(known, "noise"), "other")[1] == "**-0.5000 ± 0.0000**"
