"""Laws of the comparison of corruptions."""

from __future__ import annotations

import pytest
import torch

import shortest_path as sp
from shortest_path.geometry import compare
from tests.worlds import CORRUPTIONS, spectrum


def test_a_comparison_is_made_of_the_exact_analysis() -> None:
    data = spectrum()
    corruptions = {name: CORRUPTIONS[name]() for name in ("gaussian-cosine", "shortest-cosine", "blur")}
    comparison = compare(data, corruptions, steps=[3, 9], solver="ddim")
    assert [row.name for row in comparison.rows] == list(corruptions)
    for row in comparison.rows:
        corruption = corruptions[row.name]
        grid = sp.grids.Fisher(corruption, data)
        assert row.length == pytest.approx(sp.path_length(corruption, data), rel=1e-6)
        for steps in (3, 9):
            even = sp.gaussian_kl(corruption, data, steps=steps, solver="ddim", grid=grid)
            assert row.kl[steps] == sp.gaussian_kl(corruption, data, steps=steps, solver="ddim", grid="uniform")
            assert row.kl_even[steps] == even
    assert comparison.rows[1].length == pytest.approx(comparison.rows[1].distance, rel=1e-2)
    assert comparison.rows[0].distance == pytest.approx(sp.fisher_distance(data, 1.0), rel=1e-6)


def test_stiffness_is_the_range_of_the_clocks() -> None:
    data = sp.PowerSpectrum(spectrum().basis, spectrum().power)
    spread = float(data.power.max() / data.power.min())
    gaussian, equal, shortest = compare(
        data,
        {
            "white noise: tan θ goes as S^−½": sp.GaussianCorruption("flow"),
            "equal SNR: all alike": sp.GaussianCorruption("flow", noise=data),
            "the path: tan θ = S^−¼ at t = ½": sp.ShortestPathCorruption(data),
        },
        steps=[2],
    ).rows
    assert gaussian.stiffness == pytest.approx(spread**0.5)
    assert equal.stiffness == pytest.approx(1)
    assert shortest.stiffness == pytest.approx(spread**0.25)


def test_input_power_is_that_of_the_middle_of_the_path() -> None:
    power = torch.tensor([9.0, 4.0, 1.0, 0.25, 0.04, 0.01], dtype=torch.float64).view(6, 1, 1)
    data = sp.PowerSpectrum(sp.PixelBasis(), power)
    (row,) = compare(data, {"path": sp.ShortestPathCorruption(data)}, steps=[2]).rows
    assert row.input_power == pytest.approx((2.5, 0.75, 0.15))  # √S, in pairs


def test_one_coefficient_and_one_that_has_not_started_have_numbers() -> None:
    one = sp.PowerSpectrum(sp.PixelBasis(0), torch.tensor([4.0]))
    late = sp.StaggeredCorruption(sp.GaussianCorruption("cosine", dims=0), torch.ones(1), spread=3.0)
    path, waiting = compare(one, {"path": sp.ShortestPathCorruption(one), "late": late}, steps=[2]).rows
    assert path.input_power == pytest.approx((2.0, 2.0, 2.0))
    assert waiting.stiffness == 1


def test_a_comparison_prints_a_table() -> None:
    data = spectrum()
    text = str(
        compare(data, {"Gaussian": sp.GaussianCorruption(), "S": sp.GaussianCorruption(noise=data)}, steps=[3, 9])
    )
    header, rule, gaussian, equal, *limits = text.splitlines()
    assert len({len(line) for line in (header, rule, gaussian, equal)}) == 1
    assert header.count("|") == gaussian.count("|") == rule.count("|") == 7
    assert "KL, even time, 3 / 9" in header
    assert gaussian.startswith("| Gaussian ")
    assert equal.split("|")[2].strip().startswith("0") or "/ 0" in equal
    assert limits[-1] == "No number here tells how well a network learns a process: that needs training."


def test_arguments_of_a_comparison_are_checked() -> None:
    with pytest.raises(TypeError, match="corruptions must be a mapping, got list; pass e.g. corruptions="):
        compare(spectrum(), [sp.GaussianCorruption()])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="corruptions must be a mapping, got None"):
        compare(spectrum(), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="every number of steps must be 1 or more, got 0"):
        compare(spectrum(), {"Gaussian": sp.GaussianCorruption()}, steps=[0])
    with pytest.raises(TypeError, match=r"steps must be a sequence of numbers of steps, got 5; pass e.g. \[10, 50\]"):
        compare(spectrum(), {"Gaussian": sp.GaussianCorruption()}, steps=5)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"steps must hold one number of steps or more, got none; pass e.g. \[10, 50\]"
    ):
        compare(spectrum(), {"Gaussian": sp.GaussianCorruption()}, steps=[])
    with pytest.raises(TypeError, match="does not implement `Corruption`"):
        compare(spectrum(), {"basis": sp.CosineBasis()})  # type: ignore[dict-item]
    assert str(compare(spectrum(), {})).startswith("| corruption ")
