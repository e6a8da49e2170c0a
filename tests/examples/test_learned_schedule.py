"""The example of a schedule with parameters."""

from __future__ import annotations

import re

from tests.examples.commands import run


def test_only_the_learned_schedule_moves() -> None:
    fixed, learned = run("learned_schedule", "4").out.splitlines()
    assert fixed.startswith("learned=False: ")
    assert fixed.endswith("bends 0.00 … 0.00")
    low, high = map(float, re.findall(r"bends ([-\d.]+) … ([-\d.]+)", learned)[0])
    assert low < high
    assert (low, high) != (0.0, 0.0)
