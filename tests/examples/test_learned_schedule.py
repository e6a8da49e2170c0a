"""The example of a schedule with parameters."""

from __future__ import annotations

import re

import pytest

from examples import learned_schedule


def test_only_the_learned_schedule_moves(capsys: pytest.CaptureFixture[str]) -> None:
    bounds = [learned_schedule.bound(4, learned=learned) for learned in (False, True)]
    fixed, learned = capsys.readouterr().out.splitlines()
    assert fixed.startswith("learned=False")
    assert fixed.endswith("bends 0.00 … 0.00")
    printed = [float(value) for line in (fixed, learned) for value in re.findall(r": ([\d.]+) nats", line)]
    assert printed == pytest.approx(bounds, abs=1e-4)
    low, high = map(float, re.findall(r"bends ([-\d.]+) … ([-\d.]+)", learned)[0])
    assert low < high
    assert (low, high) != (0.0, 0.0)
