"""Laws of the measures of samples, and of the tables and plots of the study of trained networks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from examples.recipe.images import to_uint8, to_unit
from studies.trained_networks import report
from studies.trained_networks.measures import Measures, quantised
from tests.worlds import correlated_images

NAMES = {"frechet", "kernel", "kernel_error", "patches_1", "patches_2", "patches_4", "log_power"}


def images_of(count: int, *, size: int = 16, seed: int = 0) -> Tensor:
    return quantised(0.6 * correlated_images(count, (3, size, size), seed=seed))


def noise(like: Tensor, scale: float) -> Tensor:
    return scale * torch.randn(like.shape, generator=torch.Generator().manual_seed(9), dtype=like.dtype)


def blur(x: Tensor) -> Tensor:
    return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def features(x: Tensor) -> Tensor:
    """Mean colours of quarters, and their roughness: (B, 24)."""
    return torch.cat([adaptive_avg_pool2d(x, 2), adaptive_avg_pool2d((x - blur(x)).abs(), 2)], 1).flatten(1)


@pytest.fixture(scope="module")
def real() -> Tensor:
    return images_of(400)


@pytest.fixture(scope="module")
def measures(real: Tensor) -> Measures:
    return Measures(real, features)


def test_samples_are_measured_as_8_bits_hold_them(measures: Measures) -> None:
    x = 2 * noise(torch.zeros(4, 3, 8, 8), 1.0)
    assert torch.equal(quantised(x), to_unit(to_uint8(x)))
    x = images_of(60, seed=1)
    assert measures(x + 0.3 / 127.5) == measures(x) != measures(x + 0.7 / 127.5)
    for bad in (math.nan, math.inf):
        x[3, 0, 0, 0] = bad
        with pytest.raises(ValueError, match="got NaN or infinity in 1 of 60: the solver diverged"):
            measures(x)


def test_measures_grow_with_noise_from_none_for_the_real_images(real: Tensor, measures: Measures) -> None:
    same = measures(real.flip(0))
    assert same["frechet"] == pytest.approx(0, abs=1e-6)
    samples = images_of(300, seed=1)
    clean, some, much = (measures(samples + noise(samples, scale)) for scale in (0.0, 0.1, 0.3))
    for name in NAMES - {"kernel_error", "patches_4"}:  # a quarter of the size averages noise away
        assert clean[name] < some[name] < much[name], name


def test_the_kernel_distance_is_unbiased_however_a_set_is_sorted(real: Tensor) -> None:
    samples = images_of(400, seed=1)
    sorted_real, by_brightness = (x[x.mean((1, 2, 3)).argsort()] for x in (real, samples))
    found = Measures(sorted_real, features)(by_brightness)
    assert abs(found["kernel"]) < 4 * found["kernel_error"]


# The report -----------------------------------------------------------------------------------------------------------


def entry(solver: str, calls: int, frechet: float | None) -> dict[str, Any]:
    rest = {"kernel": -0.001, "kernel_error": 0.002, "patches_1": 0.1, "patches_2": 0.2, "log_power": 0.3}
    return {"solver": solver, "calls": calls, "samples": 512, "frechet": frechet, "seconds": 1.5, **rest}


def make_report() -> dict[str, Any]:
    """One case of three seeds, one of them incomplete; cases of one seed; one that has not run."""
    path = [
        [entry("ddim", 10, 30.0), entry("multistep", 10, 4.0), entry("multistep", 50, 2.0)],
        [entry("ddim", 10, 31.0), entry("multistep", 10, 5.0), entry("multistep", 50, 2.5)],
        [entry("ddim", 10, 32.0), entry("multistep", 10, 6.0), entry("multistep", 50, None)],
    ]
    trained = {"images": 96000, "seconds": 60.0, "loss": 0.25}
    runs = [{"case": "path-cosine", "seed": seed, **trained, "quality": each} for seed, each in enumerate(path)]
    blur = [entry("ddim", 10, 9.0), entry("multistep", 10, 11.0), entry("ddim", 100, 1.25)]
    scaled = [entry("ddim", 10, 40.0), entry("multistep", 10, 20.0)]
    titles = {"path-cosine": ("shortest path", 1.0), "blur": ("blur", 1.21), "heat": ("heat", None)}
    return {
        "scale": "cpu",
        "floor": {"frechet": 0.75, "kernel": 0.0001, "patches_1": 0.05, "patches_2": 0.05, "log_power": 0.02},
        "cases": {
            **{name: {"title": title, "length": length} for name, (title, length) in titles.items()},
            "scale-0.8": {"title": "log S × 0.8", "length": 1.05},
        },
        "runs": [
            *runs,
            {"case": "blur", "seed": 7, **trained, "quality": blur},
            {"case": "scale-0.8", "seed": 0, "quality": scaled},
        ],
    }


def row(table: str, first: str) -> list[str]:
    """Return the cells of the first line that begins with a cell."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_tables_have_mean_and_deviation_of_the_best_solver() -> None:
    table = report.tables(make_report())
    assert row(table, "case") == ["case", "length / geodesic", "seeds", "10 calls", "50 calls", "100 calls"]
    best_in_50 = "**2.25 ± 0.35 (2 of 3 seeds)**, multistep"
    assert row(table, "shortest path") == ["shortest path", "1", "3", "**5.0 ± 1.0**, multistep", best_in_50, "–"]
    assert row(table, "blur") == ["blur", "1.21", "1", "9, ddim", "–", "**1.25**, ddim"]
    assert row(table, "heat") == ["heat", "–", "0", "–", "–", "–"]
    details = table.split("<summary>shortest path</summary>")[1].split("</details>")[0]
    assert row(details, "ddim")[:3] == ["ddim", "10", "31.0 ± 1.0"]
    assert "seed 1: 96000 images, 60 seconds, 0.25 loss" in details
    assert report.tables({**make_report(), "runs": []}) == "Nothing has been measured yet.\n"
