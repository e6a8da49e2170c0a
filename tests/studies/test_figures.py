"""The documentation's figures: each program runs, and one is compared with the closed form."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest

from docs.figures import lost, style

FIGURES = sorted({path.stem for path in style.HERE.glob("*.py")} - {"__init__", "style"})


@pytest.mark.parametrize("name", FIGURES)
def test_a_program_plots_its_figure_and_no_other(name: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"docs.figures.{name}")
    out = tmp_path / next(style.HERE.glob(f"{name}.[ps][nv]g")).name  # the figure that the pages show
    assert f"docs/figures/{out.name}" in module.__doc__
    module.main(["--quick", "--out", str(out)])
    assert out.read_bytes()[:5] == (b"<?xml" if out.suffix == ".svg" else b"\x89PNG\r")
    assert list(tmp_path.iterdir()) == [out]


def test_frequencies_are_lost_when_the_formula_says() -> None:
    spectrum = style.measure(style.make_images(256, 8)).spectrum("rotate")
    found = lost.compute(spectrum)
    for k, three in found["shortest path"].items():
        power = float(spectrum.power[0, k, 0])
        assert three == pytest.approx(
            [math.log((power + ratio) / (1 + ratio)) / math.log(power) for ratio in lost.RATIOS], abs=1e-4
        )
    for k, three in found["Gaussian noise"].items():  # cosine: a = cos(πt/2), s = sin(πt/2), except for its ends
        power = float(spectrum.power[0, k, 0])
        expected = [2 / math.pi * math.atan(math.sqrt(power / ratio)) for ratio in lost.RATIOS]
        assert three == pytest.approx(expected, abs=0.01)
