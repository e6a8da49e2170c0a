"""Grids under hypothesis: a right answer, checked by a law, or a documented exception. Never anything else."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import Tensor

import shortest_path as sp
from tests.strategies import (
    LAW,
    Steady,
    attempt,
    corruptions,
    fuzz,
    image_shapes,
    odd_numbers,
    odd_objects,
    odd_tensors,
    spectra,
)


@fuzz(200)
@given(st.data(), st.integers(1, 40), st.floats(1e-6, 1) | odd_numbers)
def test_grids_fall_strictly_from_start_to_zero(data: Any, steps: int, start: float) -> None:
    shape = data.draw(image_shapes(most=4))
    corruption = data.draw(corruptions(shape))
    kind = data.draw(st.sampled_from(["uniform", "cosine", "power", "log-snr", "spectrum", "fisher", "reference"]))
    if kind == "power":
        grid: Any = sp.grids.Power(data.draw(st.floats(0.1, 10)), data.draw(st.floats(0.1, 10)))
    elif kind == "log-snr":
        grid = sp.grids.LogSnr(corruption, data.draw(st.floats(1e-5, 0.49)))
    elif kind == "spectrum":
        grid = attempt(lambda: sp.grids.Spectrum(corruption, data.draw(spectra(shape)).power))
    elif kind == "fisher":
        grid = attempt(lambda: sp.grids.Fisher(corruption, data.draw(spectra(shape))))
    else:
        grid = {"uniform": sp.grids.Uniform(), "cosine": sp.grids.Cosine(), "reference": sp.grids.Reference()}[kind]
    times = None if grid is None else attempt(lambda: grid(steps, start=start))
    if times is None:
        assert kind not in ("uniform", "cosine") or not 0 < start <= 1 or start < 1e-300
        return
    assert times.dtype == torch.float64
    assert len(times) == steps + 1
    assert float(times[-1]) == 0
    assert bool((times[1:] < times[:-1]).all())
    first = {"reference": (steps - 1) / steps, "log-snr": min(start, 1 - getattr(grid, "end", 0))}.get(kind, start)
    assert float(times[0]) == pytest.approx(first, rel=1e-12)


@fuzz(120)
@given(odd_tensors | odd_objects | odd_numbers)
def test_grids_explain_wrong_arguments(odd: Any) -> None:
    assume(not (isinstance(odd, int) and odd > 1e6))
    number = isinstance(odd, (int, float))
    for grid in (
        sp.grids.Uniform(),
        sp.grids.Cosine(),
        sp.grids.Power(),
        sp.grids.LogSnr(Steady(1)),
        sp.grids.Reference(),
    ):
        if not isinstance(odd, Tensor):
            attempt(lambda grid=grid: grid(odd))
    attempt(lambda: sp.grids.LogSnr(odd))
    attempt(lambda: sp.grids.Spectrum(odd))
    attempt(lambda: sp.grids.Fisher(odd, LAW))
    attempt(lambda: sp.grids.Fisher(Steady(1), odd))
    if odd is not None:
        attempt(lambda: sp.grids.Spectrum(Steady(1), odd)(3))
    if number:
        attempt(lambda: sp.grids.Power(odd, 1.0)(8))
        attempt(lambda: sp.grids.Power(1.0, odd)(8))
        attempt(lambda: sp.grids.LogSnr(Steady(1), odd)(8))
