"""The exact Gaussian table, as it is printed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import shortest_path as sp

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gaussian_table


def measured() -> sp.PowerSpectrum:
    estimator = sp.SpectrumEstimator("fourier", center=True)
    estimator.update(gaussian_table.generated_images(256, size=8).double())
    return estimator.spectrum("rotate")


def test_on_the_geodesic_even_steps_are_uniform() -> None:
    data = gaussian_table.eigenvalue_spectrum(measured())
    times = sp.FisherGrid(sp.ShortestPathCorruption(data), data)(7)
    torch.testing.assert_close(times, torch.linspace(1, 0, 8, dtype=torch.float64), rtol=0, atol=1e-9)


def test_even_steps_leave_the_path_and_take_away_the_clock() -> None:
    data = measured()
    fast, slow = (
        sp.GaussianCorruption(
            lambda t, power=power: (torch.cos(torch.pi / 2 * t**power), torch.sin(torch.pi / 2 * t**power))
        )
        for power in (1, 2)
    )
    found = [gaussian_table.evaluate("", corruption, data, 1.0, [20], even=[20]) for corruption in (fast, slow)]
    assert found[0].length == pytest.approx(found[1].length, rel=1e-4)
    assert found[0].kl[20] != pytest.approx(found[1].kl[20], rel=0.1)
    assert found[0].kl_even[20] == pytest.approx(found[1].kl_even[20], rel=1e-3)
    assert found[0].kl_even[20] < min(each.kl[20] for each in found)


def test_both_grids_are_named_in_the_header(capsys: pytest.CaptureFixture[str]) -> None:
    gaussian_table.print_header("corruption", [5, 10], even=[5])
    gaussian_table.print_result(gaussian_table.Result("cosine", 1.5, {5: 3.0, 10: 2.0}, {5: 1.0}))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "| corruption | length / geodesic | KL, T = 5, uniform t | KL, T = 10, uniform t | KL, T = 5, even length |",
        "|---|---|---|---|---|",
        "| cosine | 1.50000 | 3 | 2 | 1 |",
    ]
