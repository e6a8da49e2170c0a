"""Hypothesis strategies and helpers of the fuzz tests: a right answer, checked by a law, or a documented exception.

`FUZZ=20 pytest` runs twenty times the examples, from a random seed; `-k fuzz` chooses the files `test_fuzz.py`.
"""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

import shortest_path as sp

TIMES = float(os.environ.get("FUZZ", "1"))
PACKAGE = str(Path(sp.__file__).parent)
DOCUMENTED = (TypeError, ValueError, FileNotFoundError)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FAST = [torch.float32, torch.float64]


def fuzz(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=max(5, int(examples * TIMES / 2)),
        derandomize=TIMES == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def attempt(call: Callable[[], Any], *, ours: bool = True) -> Any:
    """Return the answer, or None after an exception that says something; any other exception passes through.

    With `ours` it must come from a `raise` of the library, not from inside torch or an operator of Python.
    """
    try:
        return call()
    except DOCUMENTED as error:
        assert len(str(error).split()) >= 5, f"says too little: {error!r}"  # noqa: PT017
        if ours:
            last = traceback.extract_tb(error.__traceback__)[-1]
            assert last.filename.startswith(PACKAGE), f"not raised by the library: {last}"
            assert str(last.line).startswith("raise"), f"not raised on purpose: {last}"
        return None


def noise(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def rotation(size: int, seed: int) -> Tensor:
    return torch.linalg.qr(noise((size, size), seed)).Q


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = max(float(expected.abs().max()), 1.0) if expected.numel() else 1.0
    torch.testing.assert_close(found.double(), expected.double(), atol=tolerance * scale, rtol=0)


sizes = st.integers(1, 7)
seeds = st.integers(0, 10_000)
edges = st.sampled_from([0.0, 1.0, 5e-324, 1e-45, 1e-30, 1e-8, 0.5, 1 - 2**-24, 1 - 2**-53])
unit = edges | st.floats(0, 1)
powers = st.sampled_from([1.0, 1e-30, 1e30, 1 - 1e-12, 1 + 1e-15]) | st.floats(-8, 8).map(lambda x: 10.0**x)
mild = st.floats(-3, 3).map(lambda x: 10.0**x)
odd_numbers = st.sampled_from([math.nan, math.inf, -math.inf, -1, 0, 1, 2, 2.5, -0.5, 1e300, -1e-300, 5e-324, 10**30])
odd_tensors = st.builds(
    lambda shape, dtype, device, value: torch.full(shape, value, dtype=torch.float64, device=device).to(dtype),
    st.lists(st.integers(0, 4), max_size=5).map(tuple),
    st.sampled_from([*DTYPES, torch.uint8, torch.int64, torch.bool, torch.complex64]),
    st.sampled_from(["cpu", "cpu", "meta"]),
    st.sampled_from([0.0, 1.0, 0.3, -2.0]),
)
odd_objects = st.sampled_from([None, "x", "", b"x", [], (), {}, {"a": 1}, object(), [1, "x"], (2.5, 3), len, range(3)])


@st.composite
def spatial_shapes(draw: st.DrawFn, least_dims: int = 0, most: int = 7) -> tuple[int, ...]:
    dims = draw(st.integers(least_dims, 3))
    return tuple(draw(st.lists(st.integers(1, most if dims < 3 else min(most, 4)), min_size=dims, max_size=dims)))


@st.composite
def image_shapes(draw: st.DrawFn, least_dims: int = 0, most: int = 7) -> tuple[int, ...]:
    return draw(st.integers(1, 3)), *draw(spatial_shapes(least_dims, most))


@st.composite
def bases(draw: st.DrawFn, shape: tuple[int, ...]) -> sp.bases.Basis:
    kind = draw(st.sampled_from([sp.PixelBasis, sp.CosineBasis, sp.FourierBasis, sp.PrincipalBasis]))
    if kind is sp.PrincipalBasis:
        return kind(rotation(math.prod(shape), draw(seeds)), len(shape) - 1)
    turned = rotation(shape[0], draw(seeds)) if draw(st.booleans()) else None
    return kind(len(shape) - 1, turned)


def even(power: Tensor, basis: sp.bases.Basis) -> Tensor:
    """Return power that the basis may have: in the Fourier basis, the same at k and −k."""
    axes = list(range(1, power.ndim))
    if isinstance(basis, sp.FourierBasis) and axes:
        power = torch.maximum(power, power.flip(axes).roll([1] * len(axes), axes))
    return power


@st.composite
def spectra(draw: st.DrawFn, shape: tuple[int, ...], values: st.SearchStrategy[float] = powers) -> sp.PowerSpectrum:
    basis = draw(bases(shape))
    few = draw(st.lists(values, min_size=1, max_size=6))
    power = torch.tensor([few[i % len(few)] for i in range(math.prod(shape))], dtype=torch.float64).reshape(shape)
    return sp.PowerSpectrum(basis, even(power, basis))


def wave(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cos(torch.pi / 2 * t).clamp(min=0), torch.sin(torch.pi / 2 * t)


class Steady:
    """A user's own corruption, whose noise comes once for all times."""

    def __init__(self, dims: int) -> None:
        self.basis = sp.PixelBasis(dims)

    def signal(self, t: Tensor) -> Tensor:
        return (1 - 0.99 * t).reshape(-1, *(1,) * (self.basis.dims + 1))

    def noise(self, t: Tensor) -> Tensor:
        return torch.ones((1,) * (self.basis.dims + 2), dtype=t.dtype, device=t.device)


@st.composite
def corruptions(draw: st.DrawFn, shape: tuple[int, ...]) -> sp.Corruption:
    dims, spatial = len(shape) - 1, shape[1:]
    kinds = ["cosine", "linear", "flow", "callable", "shortest", "steady"] + ["blur", "heat"] * bool(dims)
    kinds += ["final", "coloured", "staggered", "clock"]
    kind = draw(st.sampled_from(kinds))
    if kind == "shortest":
        return sp.ShortestPathCorruption(draw(spectra(shape)))
    if kind in ("final", "coloured", "clock"):
        data = draw(spectra(shape, mild))  # their scales are powers of it, which float16 must hold
        mean = noise(shape, draw(seeds)) if draw(st.booleans()) else None
        data = sp.PowerSpectrum(data.basis, data.power, mean=mean)
        if kind == "clock":
            pace = draw(st.floats(0.2, 5))
            return sp.ClockCorruption(
                data, lambda t: math.pi / 2 * t**pace, draw(st.sampled_from([None, lambda t: 1 + t]))
            )
        tempered = data.tempered(draw(st.floats(-1, 1)))
        if kind == "coloured":
            return sp.GaussianCorruption(draw(st.sampled_from(["cosine", "linear", "flow"])), noise=tempered)
        return sp.ShortestPathCorruption(data, final=tempered)
    if kind == "staggered":
        base = draw(st.sampled_from(["flow", "shortest", "steady"]))
        made = {"flow": sp.GaussianCorruption("flow", dims=dims), "steady": Steady(dims)}.get(base)
        delay = draw(st.lists(unit, min_size=1, max_size=4))
        delay = torch.tensor([delay[i % len(delay)] for i in range(math.prod(shape))], dtype=torch.float64).reshape(
            shape
        )
        spread = draw(st.sampled_from([0.0, 0.3, 8.0, 1e6]))
        return sp.StaggeredCorruption(made or sp.ShortestPathCorruption(draw(spectra(shape))), delay, spread=spread)
    if kind == "steady":
        return Steady(dims)
    if kind == "blur":
        return sp.BlurCorruption(
            draw(st.floats(1e-3, 1e12)),
            draw(unit),
            spatial=spatial,
            log_snr_max=draw(st.floats(0.1, 1e4)),
            channel_rotation=rotation(shape[0], draw(seeds)) if draw(st.booleans()) else None,
        )
    if kind == "heat":
        low, high = sorted(draw(st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))))
        return sp.HeatDissipationCorruption(high, low, draw(st.floats(1e-3, 10)), spatial=spatial)
    return sp.GaussianCorruption(wave if kind == "callable" else kind, dims=dims)


LAW = sp.PowerSpectrum.power_law((1, 8), amplitude=1.0, offset=1.0, exponent=1.0)
