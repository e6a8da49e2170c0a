"""Corruptions under hypothesis: a right answer, checked by a law, or a documented exception. Never anything else."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch import Tensor

import shortest_path as sp
from tests.strategies import (
    DTYPES,
    FAST,
    Steady,
    attempt,
    close,
    corruptions,
    fuzz,
    image_shapes,
    noise,
    odd_numbers,
    odd_objects,
    odd_tensors,
    unit,
)


@fuzz(200)
@given(st.data(), image_shapes(), st.lists(unit, min_size=2, max_size=6), st.sampled_from(DTYPES))
def test_scales_are_finite_and_the_ratio_falls(
    data: Any, shape: tuple[int, ...], times: list[float], dtype: torch.dtype
) -> None:
    corruption = data.draw(corruptions(shape))
    t = torch.tensor(sorted(times), dtype=torch.float64).to(dtype)
    signal, s = corruption.signal(t), corruption.noise(t)
    for scale in (signal, s):
        assert torch.broadcast_shapes(scale.shape, (len(t), *shape)) == (len(t), *shape)
        assert scale.dtype == dtype
        assert bool((scale.isfinite() & (scale >= 0)).all())
    eps = torch.finfo(dtype).eps
    if isinstance(corruption, sp.ShortestPathCorruption):
        final = torch.ones(()) if corruption.final_power is None else corruption.final_power
        total = signal.double() ** 2 + s.double() ** 2 / final
        rounding = 8 + 3 / 4 * float(corruption.log_ratio.abs().max())  # see test_corruptions.py
        torch.testing.assert_close(total, torch.ones_like(total), atol=rounding * eps, rtol=0)
        if dtype == torch.float64:  # the law of the path: a² S + s² = S^(1 − t)
            power = corruption.power
            variance = signal**2 * power + s**2
            time = t.reshape(-1, *(1,) * len(shape))
            expected = torch.exp((1 - time) * corruption.power.log() + time * final.log())
            inside = signal**2 * power > 1e-280
            torch.testing.assert_close(
                (variance / expected)[inside], torch.ones_like(variance)[inside], atol=1e-9, rtol=0
            )
    signal, s = (scale.double().expand(len(t), *shape) for scale in (signal, s))
    assert bool((signal[1:] * s[:-1] <= signal[:-1] * s[1:] + 32 * eps * (1 + s[1:])).all())


@fuzz(150)
@given(
    st.data(),
    image_shapes(),
    st.integers(0, 3),
    st.sampled_from(DTYPES),
    unit | st.lists(unit, min_size=3, max_size=3),
    st.sampled_from(FAST),
)
def test_corrupt_is_equation_1(
    data: Any, shape: tuple[int, ...], batch: int, dtype: torch.dtype, t: Any, of_time: torch.dtype
) -> None:
    corruption = data.draw(corruptions(shape))
    x_0, eps = (noise((batch, *shape), seed).to(dtype) for seed in (3, 4))
    time = t if isinstance(t, float) else torch.tensor(t[:batch], dtype=of_time)
    x_t = sp.corrupt(corruption, x_0, time, eps)
    assert (x_t.shape, x_t.dtype) == (x_0.shape, dtype)
    work = torch.promote_types(dtype, torch.float32)
    exact = torch.as_tensor(time, dtype=of_time if isinstance(time, Tensor) else work).reshape(-1).double()
    basis = corruption.basis
    mean = getattr(corruption, "mean", None)
    away = x_0.double() if mean is None else x_0.double() - mean
    u_t = corruption.signal(exact) * basis.analyze(away) + corruption.noise(exact) * basis.analyze(eps.double())
    expected = basis.synthesize(u_t) if mean is None else basis.synthesize(u_t) + mean
    # A power of 1e±30 turns the rounding of t by log S; a delay multiplies it.
    steep = 1 + corruption.spread if isinstance(corruption, sp.StaggeredCorruption) else 1
    close(x_t, expected, 400 * steep * max(torch.finfo(dtype).eps, torch.finfo(of_time).eps))


@fuzz(300)
@given(st.data(), image_shapes(least_dims=1, most=4), st.integers(0, 3))
def test_corrupt_explains_wrong_arguments(data: Any, shape: tuple[int, ...], batch: int) -> None:
    good = [data.draw(corruptions(shape)), noise((batch, *shape)), 0.5, noise((batch, *shape), 1)]
    wrong = data.draw(st.sampled_from([0, 1, 2, 3, "both"]))
    odd = data.draw(odd_tensors | odd_objects | odd_numbers)
    if wrong == "both":
        good[1], good[3] = odd, odd
    else:
        good[wrong] = odd
    if good[0] is odd or not (isinstance(good[0], Steady) and isinstance(odd, Tensor)):
        answer = attempt(lambda: sp.corrupt(*good))
        assert answer is None or answer.is_meta or bool(answer.isfinite().all())


@fuzz(200)
@given(odd_numbers, odd_numbers | unit, odd_numbers, st.lists(st.integers(-1, 4) | odd_numbers, max_size=3), unit)
def test_blurs_are_finite_or_refused(a: float, b: float, c: float, spatial: list[Any], t: float) -> None:
    for make in (
        lambda: sp.BlurCorruption(a, b, spatial=spatial, log_snr_max=c),
        lambda: sp.HeatDissipationCorruption(a, b, c, spatial=spatial),
    ):
        corruption = attempt(make)
        if corruption is not None:
            for dtype in DTYPES:
                time = torch.tensor([t], dtype=torch.float64).to(dtype)
                assert bool(corruption.signal(time).isfinite().all())
                assert dtype == torch.float16 or bool(corruption.noise(time).isfinite().all())


@fuzz(100)
@given(odd_tensors | odd_objects | odd_numbers, odd_tensors | odd_objects, st.integers(1, 3))
def test_schedules_are_checked(first: Any, second: Any, batch: int) -> None:
    x = noise((batch, 1, 2, 2))
    for answer in ((first, second), first, [first], (first, second, first)):
        corruption = sp.GaussianCorruption(lambda t, answer=answer: answer)
        if not any(isinstance(part, Tensor) and (part.is_meta or part.is_complex()) for part in (first, second)):
            attempt(lambda c=corruption: sp.corrupt(c, x, 0.5, x))
    attempt(lambda: sp.GaussianCorruption(first if not callable(first) else "x"))
