"""The study's measures of drawn pictures, and how its report is told."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from conftest import correlated_images

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import evidence_report
from evidence_measures import Measures, laplacian, log_power, patch_distances, quantised, ring_power
from images import to_uint8, to_unit


def pictures(count: int, *, size: int = 16, seed: int = 0) -> Tensor:
    """Return pictures of 8 bits, all from one distribution."""
    return quantised(0.6 * correlated_images(count, (3, size, size), seed=seed))


def noise(like: Tensor, scale: float, seed: int = 9) -> Tensor:
    return scale * torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)


def blur(x: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def features(x: Tensor) -> Tensor:
    """Mean colours of quarters, and how rough they are: (B, 24)."""
    means = torch.nn.functional.adaptive_avg_pool2d(x, 2)
    return torch.cat([means, torch.nn.functional.adaptive_avg_pool2d((x - blur(x)).abs(), 2)], 1).flatten(1)


@pytest.fixture(scope="module")
def real() -> Tensor:
    return pictures(400)


@pytest.fixture(scope="module")
def some(real: Tensor) -> Tensor:
    return real[:200]


@pytest.fixture(scope="module")
def measures(real: Tensor) -> Measures:
    return Measures(real, features)


# Pictures of 8 bits ---------------------------------------------------------------------------------------------------


def test_quantised_pictures_are_those_of_a_file() -> None:
    x = 2 * noise(torch.zeros(4, 3, 8, 8), 1.0)
    assert torch.equal(quantised(x), to_unit(to_uint8(x)))
    assert torch.equal(quantised(quantised(x)), quantised(x))
    assert quantised(x).abs().max() == 1
    assert len(quantised(torch.linspace(-1, 1, 5000).view(1, 1, 50, 100)).unique()) == 256


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_diverged_pictures_are_refused(measures: Measures, bad: float) -> None:
    x = pictures(30)
    x[3, 0, 0, 0] = bad
    with pytest.raises(ValueError, match="1 of 30 hold NaN or infinity, so their solver diverged"):
        measures(x)


def test_drawn_pictures_are_rounded_before_they_are_measured(measures: Measures) -> None:
    x = pictures(60, seed=1)
    assert measures(x + 0.3 / 127.5) == measures(x)  # less than half a level
    assert measures(x + 0.7 / 127.5) != measures(x)
    bright = (x > 0.5).float() * 3 - 1  # beyond white
    assert measures(bright) == measures(bright.clamp(-1, 1))


# Patches --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 32])
def test_details_are_orthogonal_and_sum_to_the_picture(size: int) -> None:
    x = correlated_images(4, (3, size, size))
    details = [torch.nn.functional.interpolate(d, scale_factor=2**k) for k, d in enumerate(laplacian(x))]
    torch.testing.assert_close(sum(details), x)
    for k in range(3):
        for other in details[:k]:
            assert (details[k] * other).sum((1, 2, 3)).abs().max() < 1e-9


def test_same_patches_in_any_order_have_no_distance(some: Tensor) -> None:
    order = torch.randperm(len(some), generator=torch.Generator().manual_seed(3))
    assert patch_distances(some, some) == [0, 0, 0]
    assert patch_distances(some[order], some) == pytest.approx([0, 0, 0], abs=1e-9)
    assert patch_distances(some[order[:100]], some[order[100:200]]) == pytest.approx(
        patch_distances(some[order[:100]].flip(0), some[order[100:200]]), rel=1e-9
    )


def test_patch_distances_are_functions_of_the_seed(some: Tensor) -> None:
    x = pictures(len(some), seed=1)
    assert patch_distances(x, some, seed=1) == patch_distances(x, some, seed=1)
    assert patch_distances(x, some, seed=1) != patch_distances(x, some, seed=2)


def test_patch_distances_grow_with_noise_and_blur(some: Tensor) -> None:
    noisy = [patch_distances(some + noise(some, scale), some) for scale in (0.02, 0.05, 0.2)]
    once, twice = (patch_distances(x, some) for x in (blur(some), blur(blur(some))))
    for scale in range(3):
        assert 0 < noisy[0][scale] < noisy[1][scale] < noisy[2][scale]
        assert 0 < once[scale] < twice[scale]


def test_fine_noise_is_seen_at_the_full_size_and_coarse_errors_at_a_quarter(some: Tensor) -> None:
    fine = patch_distances(some + noise(some, 0.1), some)
    assert fine[0] > 2 * fine[1] > 4 * fine[2]  # each mean over 2 × 2 halves white noise
    coarse = patch_distances(some + noise(some[..., :1, :1], 0.3), some)  # each channel brighter or darker as a whole
    assert coarse[:2] == pytest.approx([0, 0], abs=1e-6)
    assert coarse[2] > 0.02


def test_a_patch_distance_is_in_units_of_the_real_contrast(some: Tensor) -> None:
    x = pictures(len(some), seed=1)
    assert patch_distances(0.1 * x, 0.1 * some) == pytest.approx(patch_distances(x, some), rel=1e-4)
    # Half the contrast: every coefficient is half of its value off; a patch has 48, so an average one's deviation is 1.
    halved = patch_distances(0.5 * some, some)
    assert halved == pytest.approx([0.5, 0.5, 0.5], rel=0.15)


def test_patch_distances_say_what_they_cannot_measure(some: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"both sets must have one shape .*, got \(5, 3, 16, 16\) and \(6, 3, 16, 16\)"
    ):
        patch_distances(some[:5], some[:6])
    with pytest.raises(ValueError, match="sides must be multiples of 4 for 3 scales"):
        patch_distances(some[:5, :, :15], some[:5, :, :15])
    with pytest.raises(ValueError, match=r"patches of 5 × 5 do not fit into \(4, 4\), the size at scale 3"):
        patch_distances(some[:5], some[5:10], patch=5)
    with pytest.raises(ValueError, match="the second set is flat at scale 1"):
        patch_distances(some[:5], torch.zeros_like(some[:5]))


# Power ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.3])
def test_scaled_pictures_are_off_by_the_log_of_the_square(real: Tensor, factor: float) -> None:
    basis = sp.PowerSpectrum.estimate([real], "cosine").basis
    power = ring_power(real, basis)
    assert log_power(factor * real.double(), basis, power) == pytest.approx(abs(math.log(factor**2)), abs=1e-9)


def test_measured_log_power_sees_a_loss_of_contrast(real: Tensor, measures: Measures) -> None:
    basis = sp.PowerSpectrum.estimate([real], "cosine").basis
    found = measures(0.5 * real)["log_power"]
    assert found == pytest.approx(log_power(quantised(0.5 * real), basis, ring_power(real, basis)), rel=1e-6)
    assert 0.9 < found < math.log(4)  # rounding adds power where there is little
    assert measures(real)["log_power"] < 1e-9


# All measures ---------------------------------------------------------------------------------------------------------


NAMES = {"frechet", "kernel", "kernel_error", "patches_1", "patches_2", "patches_4", "log_power"}


def test_all_measures_have_their_names_and_none_needs_a_classifier(real: Tensor, measures: Measures) -> None:
    drawn = pictures(60, seed=1)
    found, without = measures(drawn), Measures(real)(drawn)
    assert set(found) == set(measures.floor(60)) == NAMES
    assert all(type(value) is float for value in found.values())
    assert set(without) == NAMES - {"frechet", "kernel", "kernel_error"}
    assert without == {name: found[name] for name in without}


def test_all_real_pictures_are_not_far_from_themselves(real: Tensor, measures: Measures) -> None:
    found = measures(real.flip(0))
    assert found["frechet"] == pytest.approx(0, abs=1e-6)
    assert abs(found["kernel"]) < 4 * found["kernel_error"]
    assert [found[f"patches_{n}"] for n in (1, 2, 4)] == pytest.approx([0, 0, 0], abs=1e-6)


def test_every_measure_grows_with_noise(real: Tensor, measures: Measures) -> None:
    drawn = pictures(300, seed=1)
    clean, some, much = (measures(drawn + noise(drawn, scale)) for scale in (0.0, 0.1, 0.3))
    for name in NAMES - {"kernel_error", "patches_4"}:  # a quarter of the size averages noise away
        assert clean[name] < some[name] < much[name], name


def test_the_floor_is_the_distance_of_fresh_pictures() -> None:
    """Both compare real pictures with real ones; half as many of them stand behind the floor."""
    measures = Measures(pictures(800), features)
    floor = measures.floor(200)
    fresh = [measures(pictures(200, seed=seed)) for seed in (1, 2, 3, 4)]
    for name in ("frechet", "patches_1", "patches_2", "patches_4", "log_power"):
        mean = sum(found[name] for found in fresh) / len(fresh)
        assert 0.7 * mean < floor[name] < 1.6 * mean, name
    assert abs(floor["kernel"]) < 4 * floor["kernel_error"]


def test_the_floor_is_lower_for_more_pictures(measures: Measures) -> None:
    few, many = measures.floor(50), measures.floor(200)
    assert all(many[name] < few[name] for name in NAMES - {"kernel"})
    assert measures.floor(50, seed=0) == few != measures.floor(50, seed=1)


def test_measures_do_not_depend_on_how_a_data_set_is_sorted(real: Tensor) -> None:
    """The kernel distance compares rows in their order, and a set that is sorted by brightness has subsets that are not
    like those of another set."""
    drawn = pictures(400, seed=1)
    by_brightness = drawn[drawn.mean((1, 2, 3)).argsort()]
    found = Measures(real[real.mean((1, 2, 3)).argsort()], features)(by_brightness)
    assert abs(found["kernel"]) < 4 * found["kernel_error"]


def test_small_pictures_have_no_third_scale() -> None:
    real = pictures(60, size=8)
    assert set(Measures(real)(pictures(30, size=8, seed=1))) == {"patches_1", "patches_2", "log_power"}


def test_features_may_come_in_batches(real: Tensor, measures: Measures) -> None:
    drawn = pictures(60, seed=1)
    assert Measures(real, features, batch_size=37)(drawn) == pytest.approx(measures(drawn), rel=1e-4, abs=1e-6)


def test_measures_say_what_they_need(real: Tensor, measures: Measures) -> None:
    with pytest.raises(ValueError, match=r"floats in \[-1, 1\], got torch.uint8"):
        Measures(torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"with values up to 255; to_unit"):
        Measures(torch.full((8, 3, 16, 16), 255.0))
    with pytest.raises(ValueError, match="hold out more"):
        measures(torch.cat([real, real]))
    with pytest.raises(ValueError, match=r"must have shape \(N, 3, 16, 16\)"):
        measures(real[:40, :, :8])
    with pytest.raises(ValueError, match="count must be 2 to 200, half of the real pictures, got 201"):
        measures.floor(201)
    with pytest.raises(ValueError, match=r"features must map \(B, C, H, W\) to \(B, D\), got \(400, 3, 16, 16\)"):
        Measures(real, lambda x: x)
    with pytest.raises(ValueError, match="needs 20 rows or more"):
        measures(real[:19])


# The report -----------------------------------------------------------------------------------------------------------


def entry(solver: str, calls: int, frechet: float | None, **more: float) -> dict[str, Any]:
    rest = {"kernel": -0.001, "kernel_error": 0.002, "patches_1": 0.1, "patches_2": 0.2, "log_power": 0.3}
    return {"solver": solver, "calls": calls, "samples": 512, "frechet": frechet, "seconds": 1.5, **rest, **more}


def make_report() -> dict[str, Any]:
    """One case of three seeds, of which one is not measured to its end; one of one seed; one that has not run."""
    path = [
        [entry("ddim", 10, 30.0), entry("multistep", 10, 4.0), entry("ddim", 50, 5.0), entry("multistep", 50, 2.0)],
        [entry("ddim", 10, 31.0), entry("multistep", 10, 5.0), entry("ddim", 50, 6.0), entry("multistep", 50, 2.5)],
        [entry("ddim", 10, 32.0), entry("multistep", 10, 6.0), entry("multistep", 50, None)],
    ]
    runs = [
        {"case": "path-cosine", "seed": seed, "images": 96000, "seconds": 60.0, "loss": 0.25, "quality": quality}
        for seed, quality in enumerate(path)
    ]
    blur = [entry("ddim", 10, 9.0), entry("multistep", 10, 11.0), entry("ddim", 100, 1.25)]
    scaled = [entry("ddim", 10, 40.0), entry("multistep", 10, 20.0)]
    return {
        "scale": "cpu",
        "settings": {"size": 16},
        "machine": {"processor": "a small one"},
        "data": {"training": {"source": "here"}, "held_out": {"source": "there"}},
        "classifier": None,
        "floor": {"frechet": 0.75, "kernel": 0.0001, "patches_1": 0.05, "patches_2": 0.05, "log_power": 0.02},
        "cases": {
            "path-cosine": {"title": "shortest path", "length": 1.0},
            "blur": {"title": "blur", "length": 1.21},
            "heat": {"title": "heat", "length": None},
            "scale-0.8": {"title": "log S × 0.8", "length": 1.05},
            "scale-1.25": {"title": "log S × 1.25", "length": 1.06},
        },
        "runs": [
            *runs,
            {"case": "blur", "seed": 7, "images": 96000, "seconds": 61.0, "loss": 0.5, "quality": blur},
            {"case": "scale-0.8", "seed": 0, "quality": scaled},
            {"case": "scale-1.25", "seed": 0},
        ],
    }


def row(table: str, first: str) -> list[str]:
    """Return the cells of the first line that begins with a cell."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_summary_has_mean_and_spread_of_the_best_solver() -> None:
    table = evidence_report.tables(make_report())
    assert row(table, "case") == ["case", "length / geodesic", "seeds", "10 calls", "50 calls", "100 calls"]
    best_in_50 = "**2.25 ± 0.35 (2 of 3 seeds)**, multistep"
    assert row(table, "shortest path") == ["shortest path", "1", "3", "**5.0 ± 1.0**, multistep", best_in_50, "–"]
    assert row(table, "blur") == ["blur", "1.21", "1", "9, ddim", "–", "**1.25**, ddim"]
    assert row(table, "heat") == ["heat", "–", "0", "–", "–", "–"]
    assert row(table, "real pictures (floor)") == ["real pictures (floor)", "", "", "0.75", "0.75", "0.75"]
    assert "one alone has none" in table


def test_the_second_summary_has_all_measures_in_the_middle() -> None:
    table = evidence_report.tables(make_report()).split("All measures in 50 calls")[1]
    assert row(table, "case")[3:] == [
        evidence_report.MEASURES[name] for name in evidence_report.measured(make_report())
    ]
    assert row(table, "shortest path")[3:5] == [
        "**2.25 ± 0.35 (2 of 3 seeds)**, multistep",
        "**-0.001 ± 0**, multistep",
    ]


def test_a_solver_that_fewer_seeds_have_measured_is_not_the_best() -> None:
    cells = {
        ("ddim", 10): (3.0, 3.0),
        ("multistep", 10): (1.0,),
        ("ancestral", 10): (2.0, 5.0),
        ("ddim", 5): (0.0,) * 3,
    }
    assert evidence_report.best(cells, 10) == ("ddim", 10)
    assert evidence_report.best(cells, 20) is None


def test_details_have_every_solver_and_say_what_is_missing() -> None:
    table = evidence_report.tables(make_report()).split("<summary>shortest path</summary>")[1].split("</details>")[0]
    ddim = [line for line in table.splitlines() if line.startswith("| ddim |")]
    assert [line.split("|")[2].strip() for line in ddim] == ["10", "50", "100"]
    assert ddim[0].split("|")[3].strip() == "31.0 ± 1.0"
    assert ddim[1].split("|")[3].strip() == "5.50 ± 0.71 (2 of 3 seeds)"
    assert ddim[2].split("|")[3].strip() == "–"
    assert "seed 1: 96000 images, 60 seconds, 0.25 loss" in table
    assert "No run has ended yet." in evidence_report.tables(make_report()).split("<summary>heat</summary>")[1]


def test_one_seed_is_said_to_have_no_spread() -> None:
    report = make_report()
    report["runs"] = [run for run in report["runs"] if run["seed"] == 0]
    table = evidence_report.tables(report)
    assert "one seed, so that no spread is known" in table
    assert "±" not in table.split("All measures")[0].replace("mean ±", "")


def test_a_report_without_results_is_told_as_well(tmp_path: Path) -> None:
    report = {**make_report(), "runs": []}
    assert evidence_report.tables(report) == "Nothing has been measured yet.\n"
    for draw in (evidence_report.draw_quality, evidence_report.draw_deviation):
        draw(tmp_path / f"{draw.__name__}.png", report)
        assert (tmp_path / f"{draw.__name__}.png").exists()


def test_a_report_without_a_classifier_is_told_by_patches() -> None:
    report = make_report()
    for run in report["runs"]:
        for one in run.get("quality", ()):
            del one["frechet"], one["kernel"]
    assert evidence_report.measured(report) == ["patches_1", "patches_2", "log_power"]
    assert evidence_report.tables(report).startswith("patches, full size of each case")


def test_a_report_that_contradicts_itself_is_refused() -> None:
    report = make_report()
    twice = {**report, "runs": [*report["runs"], report["runs"][0]]}
    with pytest.raises(ValueError, match=r"path-cosine, seed 0 was measured twice at \('ddim', 10\)"):
        evidence_report.tables(twice)
    with pytest.raises(ValueError, match="a run is of the case 'unheard'; the report's cases are path-cosine, blur"):
        evidence_report.collect({**report, "runs": [{"case": "unheard", "seed": 0}]}, "frechet")
    with pytest.raises(ValueError, match="measure must be one of frechet, .*, got 'fid'"):
        evidence_report.draw_quality(Path("never"), report, "fid")


@pytest.mark.parametrize("measure", ["frechet", "kernel", "patches_4"])  # of which one is negative, and one is missing
def test_plots_show_what_there_is(tmp_path: Path, measure: str) -> None:
    report = make_report()
    evidence_report.draw_quality(tmp_path / "quality.png", report, measure)
    evidence_report.draw_deviation(tmp_path / "deviation.png", report, measure)
    for name in ("quality", "deviation"):
        assert matplotlib.image.imread(tmp_path / f"{name}.png").std() > 0.01


def test_curves_are_the_means_of_their_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {}
    monkeypatch.setattr(evidence_report, "_finish", lambda figure, path: kept.update({path.name: figure}))
    evidence_report.draw_quality(Path("quality"), make_report())
    evidence_report.draw_deviation(Path("deviation"), make_report())
    panels = {axis.get_title(): axis for axis in kept["quality"].axes}
    assert list(panels) == ["ddim", "multistep"]
    drawn = {bars.get_label(): bars for bars in panels["multistep"].containers}
    assert list(drawn) == ["shortest path", "blur", "heat"]  # those named after a scale are apart
    assert list(drawn["shortest path"].lines[0].get_ydata()) == pytest.approx([5.0, 2.25])
    reach = drawn["shortest path"].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(reach[:, 1], [4.0, 6.0])  # the least and the greatest
    scaled = {axis.get_title(): axis for axis in kept["deviation"].axes}["multistep"].containers[0].lines[0]
    assert list(scaled.get_xdata()) == pytest.approx([0.8, 1.0])
    assert list(scaled.get_ydata()) == pytest.approx([20.0, 5.0])


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_drawn_side_by_side(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "samples.png"
    x = pictures(5)[:, :channels]
    evidence_report.draw_samples(path, {"white": torch.ones_like(x), "black": -torch.ones_like(x), "path": x})
    seen = matplotlib.image.imread(path)[..., :3]
    white, black, _ = (rows[20:-20, -200:-60] for rows in np.array_split(seen, 3))
    assert white.mean() > 0.99
    assert black.min() == 0
    assert black.mean() < 0.2  # but for a gap
    with pytest.raises(ValueError, match=r"rows must have one shape \(n, C, H, W\), got \[\(4, .*, \(5, "):
        evidence_report.draw_samples(path, {"a": x, "b": x[:4]})
