"""Geometry under hypothesis: a right answer, checked by a law, or a documented exception. Never anything else."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

import shortest_path as sp
from tests.strategies import (
    attempt,
    corruptions,
    fuzz,
    image_shapes,
    mild,
    odd_numbers,
    odd_objects,
    odd_tensors,
    powers,
    spectra,
)
from tests.worlds import SOLVERS


@fuzz(100)
@given(st.lists(st.tuples(powers, powers, powers), min_size=1, max_size=5))
def test_fisher_distance_is_a_metric(values: list[tuple[float, float, float]]) -> None:
    p, q, r = torch.tensor(values, dtype=torch.float64).T
    d = sp.fisher_distance
    assert d(p, p) == 0
    assert d(p, q) == pytest.approx(d(q, p), rel=1e-9, abs=1e-12)
    assert d(p, r) <= d(p, q) + d(q, r) + 1e-9
    assert d(p, q) == pytest.approx(d(1 / p, 1 / q), rel=1e-6, abs=1e-9)
    assert d(p, 1.0) == pytest.approx(math.sqrt(0.5 * float(p.log().square().sum())), rel=1e-9, abs=1e-14)


@fuzz(150)
@given(st.data(), odd_tensors | odd_objects | odd_numbers, odd_tensors | odd_objects | odd_numbers)
def test_fisher_distance_explains_wrong_arguments(data: Any, p: Any, q: Any) -> None:
    spectrum = data.draw(spectra((2, 2)))
    for pair in ((p, q), (p, spectrum), (spectrum, p)):
        found = attempt(lambda pair=pair: sp.fisher_distance(*pair))
        assert found is None or (math.isfinite(found) and found >= 0)


@fuzz(12)
@given(st.data(), image_shapes(most=2))
def test_the_shortest_path_is_shortest(data: Any, shape: tuple[int, ...]) -> None:
    spectrum = data.draw(spectra(shape, mild))
    least = sp.fisher_distance(spectrum, 1.0)
    assert sp.path_length(sp.ShortestPathCorruption(spectrum), spectrum) == pytest.approx(least, rel=1e-4, abs=1e-6)
    for schedule in ("flow", "cosine"):
        isotropic = sp.GaussianCorruption(schedule, dims=len(shape) - 1)
        assert sp.path_length(isotropic, spectrum, rtol=1e-3) >= least - 1e-6
    steps = data.draw(st.integers(1, 6))
    for name in ("ancestral-large", "ancestral-small", "ddim", "ddim-noisy"):
        kl = sp.gaussian_kl(sp.ShortestPathCorruption(spectrum), spectrum, steps=steps, solver=SOLVERS[name])
        assert kl >= -1e-8
        assert steps == 1 or math.isfinite(kl)  # one step from pure noise gives the mean image, without variance


@fuzz(8)
@given(st.data(), image_shapes(most=3))
def test_extreme_spectra_have_a_length_or_are_refused(data: Any, shape: tuple[int, ...]) -> None:
    spectrum, corruption = data.draw(spectra(shape)), data.draw(corruptions(shape))
    length = attempt(lambda: sp.path_length(corruption, spectrum, rtol=1e-2))
    assert length is None or (math.isfinite(length) and length >= 0)
    kl = attempt(lambda: sp.gaussian_kl(corruption, spectrum, steps=3))
    assert kl is None or (not math.isnan(kl) and kl >= -1e-6)


@fuzz(120)
@given(st.data(), odd_tensors | odd_objects | odd_numbers)
def test_geometry_explains_wrong_arguments(data: Any, odd: Any) -> None:
    shape = (1, 3)
    spectrum, corruption = data.draw(spectra(shape, mild)), sp.GaussianCorruption(dims=1)
    number = not isinstance(odd, Tensor) and odd is not None and isinstance(odd, (int, float))
    attempt(lambda: sp.path_length(odd, spectrum))
    attempt(lambda: sp.path_length(corruption, odd))
    attempt(lambda: sp.path_length(corruption, spectrum, rtol=odd if number else 2.0))
    if not (number and odd > 1e6):
        attempt(lambda: sp.gaussian_kl(corruption, spectrum, steps=odd if number else "x"))
    if odd is not None:
        attempt(lambda: sp.gaussian_kl(corruption, spectrum, times=odd))
    attempt(lambda: sp.solvers.DDIM(eta=odd if number else 2.0))
    if not isinstance(odd, Tensor):
        attempt(lambda: sp.gaussian_kl(corruption, spectrum, solver=odd))
        attempt(lambda: sp.solvers.Ancestral(variance=odd))
