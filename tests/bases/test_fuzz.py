"""Bases under hypothesis: a right answer, checked by a law, or a documented exception. Never anything else."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

import shortest_path as sp
from tests import strategies
from tests.strategies import (
    DTYPES,
    FAST,
    attempt,
    close,
    fuzz,
    image_shapes,
    noise,
    odd_numbers,
    odd_objects,
    odd_tensors,
    rotation,
    seeds,
)

AXES = ["cosine", "fourier", "pixel"]


@st.composite
def bases(draw: st.DrawFn, shape: tuple[int, ...]) -> sp.bases.Basis:
    """A basis for images of this shape, of any kind."""
    dims = len(shape) - 1
    turn = rotation(shape[0], draw(seeds)) if draw(st.booleans()) else None
    kind = draw(st.sampled_from(["common", "common", "separable", "wavelet"]))
    if kind == "wavelet" and all(n % 2 == 0 for n in shape[1:]):
        wavelet = draw(st.sampled_from(["haar", "db2", "db7", "db10"]))
        return sp.bases.WaveletBasis(wavelet, draw(st.sampled_from([None, 1])), dims, turn)
    if kind == "separable" and dims:
        names = [draw(st.sampled_from(AXES if n % 2 else [*AXES, "haar"])) for n in shape[1:]]
        return sp.bases.SeparableBasis(names, turn)
    return draw(strategies.bases(shape))


def even_or(shape: tuple[int, ...], even: bool) -> tuple[int, ...]:
    """Double the spatial sizes, as wavelets need."""
    return (shape[0], *(2 * n for n in shape[1:])) if even else shape


@fuzz(120)
@given(st.data(), image_shapes(), st.integers(0, 3), st.sampled_from(DTYPES), st.sampled_from(["cpu", "cpu", "meta"]))
def test_a_basis_is_orthonormal(data: Any, shape: tuple[int, ...], batch: int, dtype: torch.dtype, device: str) -> None:
    shape = even_or(shape, data.draw(st.booleans()))
    basis = data.draw(bases(shape))
    x, y = (noise((batch, *shape), seed).to(device, dtype) for seed in (1, 2))
    if device == "meta":
        basis.to("meta")
    u, back = basis.analyze(x), basis.synthesize(y)
    assert all((z.shape, z.dtype, z.device) == (x.shape, dtype, x.device) for z in (u, back))
    if device == "cpu" and batch:
        tolerance = 64 * max(torch.finfo(dtype).eps, 1e-15)
        close(basis.synthesize(u), x, tolerance)
        size = x.numel()
        assert float(u.double().square().sum()) == pytest.approx(float(x.double().square().sum()), abs=tolerance * size)
        assert float((u.double() * y.double()).sum()) == pytest.approx(
            float((x.double() * back.double()).sum()), abs=tolerance * size
        )


@fuzz(60)
@given(st.sampled_from([600, 513, 1024]), st.sampled_from(FAST), seeds)
def test_a_long_axis_goes_by_fft(size: int, dtype: torch.dtype, seed: int) -> None:
    x = noise((1, 1, size), seed, dtype)
    basis = sp.CosineBasis(1)
    close(basis.synthesize(basis.analyze(x)), x, 200 * torch.finfo(dtype).eps)


@fuzz(150)
@given(st.data(), image_shapes(most=4), odd_tensors)
def test_a_basis_explains_what_it_refuses(data: Any, shape: tuple[int, ...], x: Tensor) -> None:
    basis = data.draw(bases(even_or(shape, data.draw(st.booleans()))))
    for call in (basis.analyze, basis.synthesize):
        answer = attempt(lambda call=call: call(x))
        assert answer is None or (answer.shape, answer.dtype) == (x.shape, x.dtype)
    other = data.draw(odd_tensors)
    one = torch.ones((), dtype=torch.float64)
    if x.device == other.device:
        answer = attempt(lambda: basis.mix(x, other, (one, one), even=True)[0])
        assert answer is None or (answer.shape, answer.dtype) == (x.shape, x.dtype)


@fuzz(120)
@given(
    st.sampled_from([sp.PixelBasis, sp.CosineBasis, sp.FourierBasis, sp.PrincipalBasis]),
    st.integers(-1, 3) | odd_numbers | odd_objects,
    odd_tensors | odd_objects | odd_numbers,
)
def test_a_basis_explains_wrong_arguments(kind: Any, dims: Any, matrix: Any) -> None:
    if kind is sp.PrincipalBasis:
        attempt(lambda: kind(matrix, dims))
    else:
        attempt(lambda: kind(dims, matrix))
        attempt(lambda: kind(2).frequencies(matrix))


@fuzz(120)
@given(
    st.sampled_from(["haar", "db2", "db10"]) | odd_objects,
    st.integers(0, 5) | odd_numbers | odd_objects,
    st.integers(-1, 3) | odd_numbers | odd_objects,
    odd_tensors | odd_objects,
    st.lists(st.integers(0, 12), max_size=4) | odd_objects,
)
def test_a_wavelet_basis_explains_wrong_arguments(wavelet: Any, levels: Any, dims: Any, turn: Any, sizes: Any) -> None:
    attempt(lambda: sp.bases.WaveletBasis(wavelet, levels, dims, turn))
    basis = attempt(lambda: sp.bases.WaveletBasis("db2", levels))
    if basis is not None:
        attempt(lambda: basis.frequencies(sizes))


@fuzz(120)
@given(
    st.lists(st.sampled_from([*AXES, "haar", sp.CosineBasis(1), sp.PixelBasis(2)]) | odd_objects, max_size=3)
    | odd_numbers
    | odd_objects,
    odd_tensors | odd_objects,
    st.lists(st.integers(0, 12), max_size=4) | odd_objects,
)
def test_a_separable_basis_explains_wrong_arguments(axes: Any, turn: Any, sizes: Any) -> None:
    attempt(lambda: sp.bases.SeparableBasis(axes, turn))
    basis = attempt(lambda: sp.bases.SeparableBasis(axes))
    if basis is not None:
        attempt(lambda: basis.frequencies(sizes))
