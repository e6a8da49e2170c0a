"""The exact Gaussian table, as it is printed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gaussian_table


def test_both_grids_are_named_in_the_header(capsys: pytest.CaptureFixture[str]) -> None:
    gaussian_table.print_header("corruption", [5, 10], even=[5])
    gaussian_table.print_result(gaussian_table.Result("cosine", 1.5, {5: 3.0, 10: 2.0}, {5: 1.0}))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "| corruption | length / geodesic | KL, T = 5, uniform t | KL, T = 10, uniform t | KL, T = 5, even length |",
        "|---|---|---|---|---|",
        "| cosine | 1.50000 | 3 | 2 | 1 |",
    ]
