"""The public API under hypothesis: a right answer, checked by a law, or a documented exception. Never anything else.

`FUZZ=10 pytest tests/test_fuzz.py` runs ten times the examples, from a random seed.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from torch import Tensor

import shortest_path as sp
from conftest import GaussianDenoiser
from shortest_path.prediction import denoise, target
from shortest_path.transition import forward_weights, step_weights

TIMES_MORE = int(os.environ.get("FUZZ", "1"))
PACKAGE = str(Path(sp.__file__).parent)
DOCUMENTED = (TypeError, ValueError, FileNotFoundError)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FAST = [torch.float32, torch.float64]


def fuzz(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples * TIMES_MORE,
        derandomize=TIMES_MORE == 1,
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


# --- strategies -------------------------------------------------------------------------------------------

sizes = st.integers(1, 7)
seeds = st.integers(0, 10_000)
edges = st.sampled_from([0.0, 1.0, 5e-324, 1e-45, 1e-30, 1e-8, 0.5, 1 - 2**-24, 1 - 2**-53])
unit = edges | st.floats(0, 1)
powers = st.sampled_from([1.0, 1e-30, 1e30, 1 - 1e-12, 1 + 1e-15]) | st.floats(-8, 8).map(lambda x: 10.0**x)
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
def bases(draw: st.DrawFn, shape: tuple[int, ...]) -> sp.Basis:
    kind = draw(st.sampled_from([sp.PixelBasis, sp.CosineBasis, sp.FourierBasis, sp.PrincipalBasis]))
    if kind is sp.PrincipalBasis:
        return kind(rotation(math.prod(shape), draw(seeds)), len(shape) - 1)
    turned = rotation(shape[0], draw(seeds)) if draw(st.booleans()) else None
    return kind(len(shape) - 1, turned)


def even(power: Tensor, basis: sp.Basis) -> Tensor:
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
    kind = draw(st.sampled_from(kinds))
    if kind == "shortest":
        return sp.ShortestPathCorruption(draw(spectra(shape)))
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
        return sp.BlurCorruption.heat_dissipation(high, low, draw(st.floats(1e-3, 10)), spatial=spatial)
    return sp.GaussianCorruption(wave if kind == "callable" else kind, dims=dims)


# --- bases ------------------------------------------------------------------------------------------------


@fuzz(120)
@given(st.data(), image_shapes(), st.integers(0, 3), st.sampled_from(DTYPES), st.sampled_from(["cpu", "cpu", "meta"]))
def test_a_basis_is_orthonormal(data: Any, shape: tuple[int, ...], batch: int, dtype: torch.dtype, device: str) -> None:
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
    basis = data.draw(bases(shape))
    for call in (basis.analyze, basis.synthesize):
        answer = attempt(lambda call=call: call(x))
        assert answer is None or (answer.shape, answer.dtype) == (x.shape, x.dtype)
    other = data.draw(odd_tensors)
    one = torch.ones((), dtype=torch.float64)
    if x.device == other.device:
        answer = attempt(lambda: basis.mix(x, other, one, one, even=True))
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


# --- corruptions ------------------------------------------------------------------------------------------


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
        total = signal.double() ** 2 + s.double() ** 2
        torch.testing.assert_close(total, torch.ones_like(total), atol=8 * eps, rtol=0)
        if dtype == torch.float64:  # the law of the path: a² S + s² = S^(1 − t)
            power = corruption.log_power.exp()
            variance = signal**2 * power + s**2
            expected = torch.exp((1 - t.reshape(-1, *(1,) * len(shape))) * corruption.log_power)
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
    u_t = corruption.signal(exact) * basis.analyze(x_0.double()) + corruption.noise(exact) * basis.analyze(eps.double())
    # A power of 1e±30 turns the rounding of t by log S.
    close(x_t, basis.synthesize(u_t), 400 * max(torch.finfo(dtype).eps, torch.finfo(of_time).eps))


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


# --- spectra ----------------------------------------------------------------------------------------------


@fuzz(80)
@given(st.data(), image_shapes())
def test_a_spectrum_survives_its_file(data: Any, shape: tuple[int, ...]) -> None:
    spectrum = data.draw(spectra(shape))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.npz"
        spectrum.save(path)
        loaded = sp.PowerSpectrum.load(path)
    assert torch.equal(loaded.power, spectrum.power)
    assert repr(loaded) == repr(spectrum)
    x = noise((2, *shape))
    assert torch.equal(loaded.basis.analyze(x), spectrum.basis.analyze(x))
    scale = data.draw(st.floats(-3, 3))
    torch.testing.assert_close(
        spectrum.tempered(scale).power.log(), scale * spectrum.power.log(), atol=1e-10, rtol=1e-10
    )


def _archive() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.npz"
        sp.PowerSpectrum.estimate([noise((9, 2, 3, 3))], "fourier").save(path)
        return path.read_bytes()


ARCHIVE = _archive()


@fuzz(200)
@given(
    st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(ARCHIVE)),
    st.booleans(),
)
def test_a_damaged_file_is_refused(changes: list[tuple[int, int]], length: int, cut: bool) -> None:
    content = bytearray(ARCHIVE)
    for place, value in changes:
        content[place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.npz"
        path.write_bytes(content[:length] if cut else content)
        loaded = attempt(lambda: sp.PowerSpectrum.load(path))
    assert loaded is None or bool((loaded.power > 0).all())


@fuzz(100)
@given(
    st.sampled_from(["power.npy", "cross.npy", "channel_rotation.npy", "header.npy"]),
    st.binary(max_size=200)
    | st.sampled_from([b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': "]),
)
def test_a_file_with_another_member_is_refused(name: str, content: bytes) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.namelist():
            new.writestr(member, content if member == name else old.read(member))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.npz"
        path.write_bytes(buffer.getvalue())
        assert attempt(lambda: sp.PowerSpectrum.load(path)) is None


LAW = sp.PowerSpectrum.power_law((1, 8), amplitude=1.0, offset=1.0, exponent=1.0)
STATE = sp.PowerSpectrum.estimate([noise((9, 2, 3, 3))]).state_dict()


@fuzz(200)
@given(st.sampled_from([*STATE, "matrix", None]), odd_tensors | odd_objects | odd_numbers, st.booleans())
def test_a_wrong_state_is_refused(name: str | None, odd: Any, drop: bool) -> None:
    state = dict(STATE)
    if drop and name in state:
        del state[name]
    elif name is not None:
        state[name] = odd
    loaded = attempt(lambda: sp.PowerSpectrum.from_state_dict(odd if name is None else state))
    assert loaded is None or bool((loaded.power.isfinite() & (loaded.power > 0)).all())


@fuzz(200)
@given(st.data(), image_shapes(most=4), odd_tensors | odd_objects | odd_numbers)
def test_a_spectrum_explains_wrong_arguments(data: Any, shape: tuple[int, ...], odd: Any) -> None:
    spectrum = data.draw(spectra(shape))
    attempt(lambda: sp.PowerSpectrum(odd, spectrum.power))
    attempt(lambda: sp.PowerSpectrum(spectrum.basis, odd))
    attempt(lambda: sp.PowerSpectrum(spectrum.basis, spectrum.power, cross=odd))
    power = spectrum.power.clone()
    power.view(-1)[data.draw(st.integers(0, power.numel() - 1))] = float(data.draw(odd_numbers))
    made = attempt(lambda: sp.PowerSpectrum(spectrum.basis, power))
    assert made is None or bool((made.power.isfinite() & (made.power > 0)).all())
    if not isinstance(odd, Tensor):
        attempt(lambda: sp.ShortestPathCorruption(odd))
        channel = odd if odd is not None else 9
        if not isinstance(spectrum.basis, (sp.PixelBasis, sp.PrincipalBasis)):
            attempt(lambda: spectrum.fit_power_law(channel))


@fuzz(150)
@given(
    st.lists(st.integers(0, 5) | odd_numbers, max_size=4) | odd_objects,
    odd_numbers,
    odd_numbers | unit,
    odd_numbers,
    st.sampled_from([None, sp.CosineBasis(1), sp.PixelBasis(2), sp.FourierBasis(2)]),
)
def test_a_power_law_is_positive_or_refused(shape: Any, amplitude: Any, offset: Any, exponent: Any, basis: Any) -> None:
    assume(not isinstance(shape, list) or not any(isinstance(n, int) and n > 1e6 for n in shape))
    made = attempt(
        lambda: sp.PowerSpectrum.power_law(shape, amplitude=amplitude, offset=offset, exponent=exponent, basis=basis),
    )
    assert made is None or (bool((made.power > 0).all()) and made.shape == tuple(shape))


@fuzz(60)
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1), st.floats(-3, 3), spatial_shapes(1), st.booleans())
def test_fitting_a_power_law_gives_it_back(
    amplitude: float, offset: float, exponent: float, spatial: tuple[int, ...], cosine: bool
) -> None:
    basis = (sp.CosineBasis if cosine else sp.FourierBasis)(len(spatial))
    spectrum = sp.PowerSpectrum.power_law(
        (1, *spatial), amplitude=amplitude, offset=offset, exponent=exponent, basis=basis
    )
    fit = attempt(spectrum.fit_power_law)
    if fit is not None:
        again = fit.amplitude / (fit.offset + basis.frequencies(spatial)) ** fit.exponent
        torch.testing.assert_close(again.log(), spectrum.power[0].log(), atol=0.05, rtol=0.05)
    frequencies, mean = spectrum.radial_average()
    assert len(frequencies) == mean.shape[1]
    assert float(mean.min()) >= float(spectrum.power.min()) * (1 - 1e-12)


@fuzz(120)
@given(
    image_shapes(most=4),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([None, "cosine", "fourier", "principal"]),
    st.sampled_from(["rotate", "independent", "shared"]),
    st.booleans(),
    st.sampled_from(DTYPES),
    st.sampled_from([1.0, 1e-20, 1e20]),
)
def test_an_estimate_keeps_the_power(
    shape: tuple[int, ...], batch: int, batches: int, basis: Any, channels: Any, center: bool, dtype: Any, scale: float
) -> None:
    scale = 1.0 if dtype == torch.float16 else scale
    data = [(scale * noise((batch, *shape), seed)).to(dtype) for seed in range(batches)]
    images = torch.cat(data).double()
    images = images - images.mean(0) if center else images
    spectrum = attempt(
        lambda: sp.PowerSpectrum.estimate(data, basis, channels, center=center, floor=1e-9, check_range=False)
    )
    if spectrum is None:
        assert center or scale == 1e-20
        assert batch * batches == 1 or scale == 1e-20
        return
    assert spectrum.count == batch * batches
    measured = float(images.square().sum()) / len(images)
    # Parseval, up to what the floor adds.
    assert float(spectrum.power.sum()) == pytest.approx(measured, rel=1e-7 + 1e-9 * spectrum.power.numel())


@fuzz(150)
@given(st.lists(odd_tensors | odd_objects, max_size=2), odd_objects | odd_numbers, odd_objects, odd_numbers)
def test_an_estimate_explains_wrong_arguments(batches: list[Any], basis: Any, channels: Any, floor: float) -> None:
    estimate = sp.PowerSpectrum.estimate
    good = [noise((4, 2, 3, 3))]
    for call in (
        lambda: estimate(batches),
        lambda: estimate([tuple(batches)]),
        lambda: estimate(basis),
        lambda: estimate(good, basis),
        lambda: estimate(good, channels=channels),
        lambda: estimate(good, floor=floor),
        lambda: sp.SpectrumEstimator().merge(basis),
    ):
        spectrum = attempt(call)
        assert spectrum is None or bool((spectrum.power > 0).all())


# --- geometry ---------------------------------------------------------------------------------------------


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


mild = st.floats(-3, 3).map(lambda x: 10.0**x)


@fuzz(25)
@given(st.data(), image_shapes(most=2))
def test_the_shortest_path_is_shortest(data: Any, shape: tuple[int, ...]) -> None:
    spectrum = data.draw(spectra(shape, mild))
    least = sp.fisher_distance(spectrum, 1.0)
    assert sp.path_length(sp.ShortestPathCorruption(spectrum), spectrum) == pytest.approx(least, rel=1e-4, abs=1e-6)
    for schedule in ("flow", "cosine"):
        isotropic = sp.GaussianCorruption(schedule, dims=len(shape) - 1)
        assert sp.path_length(isotropic, spectrum, rtol=1e-3) >= least - 1e-6
    steps = data.draw(st.integers(1, 6))
    for options in ({}, {"variance": "small"}, {"solver": "ddim"}, {"solver": "ddim", "eta": 1.0}):
        kl = sp.gaussian_kl(sp.ShortestPathCorruption(spectrum), spectrum, steps=steps, **options)
        assert kl >= -1e-8
        assert steps == 1 or math.isfinite(kl)  # one step from pure noise gives the mean image, without variance


@fuzz(60)
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
    attempt(lambda: sp.gaussian_kl(corruption, spectrum, eta=odd if number else 2.0, solver="ddim"))
    if not isinstance(odd, Tensor):
        attempt(lambda: sp.gaussian_kl(corruption, spectrum, solver=odd))
        attempt(lambda: sp.gaussian_kl(corruption, spectrum, variance=odd))


# --- grids ------------------------------------------------------------------------------------------------


@fuzz(200)
@given(st.data(), st.integers(1, 40), st.floats(1e-6, 1) | odd_numbers)
def test_grids_fall_strictly_from_start_to_zero(data: Any, steps: int, start: float) -> None:
    shape = data.draw(image_shapes(most=4))
    corruption = data.draw(corruptions(shape))
    kind = data.draw(st.sampled_from(["uniform", "cosine", "power", "log-snr", "spectrum", "fisher", "reference"]))
    if kind == "power":
        grid: Any = sp.PowerGrid(data.draw(st.floats(0.1, 10)), data.draw(st.floats(0.1, 10)))
    elif kind == "log-snr":
        grid = sp.LogSnrGrid(corruption, data.draw(st.floats(1e-5, 0.49)))
    elif kind == "spectrum":
        grid = attempt(lambda: sp.SpectrumGrid(corruption, data.draw(spectra(shape)).power))
    elif kind == "fisher":
        grid = attempt(lambda: sp.FisherGrid(corruption, data.draw(spectra(shape))))
    else:
        grid = {"uniform": sp.UniformGrid(), "cosine": sp.CosineGrid(), "reference": sp.ReferenceGrid()}[kind]
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
    for grid in (sp.UniformGrid(), sp.CosineGrid(), sp.PowerGrid(), sp.LogSnrGrid(Steady(1)), sp.reference_times):
        if not isinstance(odd, Tensor):
            attempt(lambda grid=grid: grid(odd))
    attempt(lambda: sp.LogSnrGrid(odd))
    attempt(lambda: sp.SpectrumGrid(odd))
    attempt(lambda: sp.FisherGrid(odd, LAW))
    attempt(lambda: sp.FisherGrid(Steady(1), odd))
    if odd is not None:
        attempt(lambda: sp.SpectrumGrid(Steady(1), odd)(3))
    if number:
        attempt(lambda: sp.PowerGrid(odd, 1.0)(8))
        attempt(lambda: sp.PowerGrid(1.0, odd)(8))
        attempt(lambda: sp.LogSnrGrid(Steady(1), odd)(8))


# --- sampling ---------------------------------------------------------------------------------------------


def nothing(x_t: Tensor, t: Tensor, **conditioning: Any) -> Tensor:
    return torch.zeros_like(x_t)


@fuzz(80)
@given(
    st.data(),
    image_shapes(most=4),
    st.sampled_from(["noise", "data", "velocity"]),
    st.integers(1, 5),
    st.integers(0, 2),
)
def test_gaussian_data_are_sampled_and_scored_exactly(
    data: Any, shape: tuple[int, ...], prediction: Any, steps: int, batch: int
) -> None:
    spectrum = data.draw(spectra(shape, mild))
    corruption = sp.ShortestPathCorruption(spectrum)
    model = GaussianDenoiser(corruption, spectrum.power, prediction)
    sampler = sp.Sampler(model, corruption, prediction=prediction, solver="multistep", steps=steps, corrector=False)
    first = sampler.times[:1]
    radius = (corruption.signal(first) ** 2 * spectrum.power + corruption.noise(first) ** 2).sqrt()
    x_1 = noise((batch, *shape))
    x_0 = sampler.sample(x_1.shape, x_1=x_1, dtype=torch.float64)
    u_0 = spectrum.power.sqrt() / radius * corruption.basis.analyze(x_1)
    close(x_0, corruption.basis.synthesize(u_0), 1e-7)
    close(sampler.invert(x_0), x_1, 1e-7)
    log_p = -0.5 * (u_0**2 / spectrum.power + (2 * math.pi * spectrum.power).log()).flatten(1).sum(1)
    close(sampler.log_likelihood(x_0), log_p, 1e-6)


@fuzz(80)
@given(
    st.data(),
    image_shapes(most=4),
    st.sampled_from(["ancestral", "ddim", "multistep"]),
    st.sampled_from(["noise", "data", "velocity"]),
    st.sampled_from([None, "uniform", "cosine", "power", "log-snr", "spectrum", "reference"]),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(DTYPES),
)
def test_any_sampler_is_finite_and_reproducible(
    data: Any, shape: tuple[int, ...], solver: Any, prediction: Any, grid: Any, steps: int, eta: float, dtype: Any
) -> None:
    corruption = data.draw(corruptions(shape))
    known = spectrum = None
    if isinstance(corruption, sp.ShortestPathCorruption):
        known = corruption.power
    elif isinstance(corruption, sp.GaussianCorruption) and data.draw(st.booleans()):
        spectrum = data.draw(spectra(shape, mild))
    power = spectrum.power if spectrum else known if known is not None else torch.ones(())
    seen = sp.GaussianCorruption(corruption.schedule, dims=len(shape) - 1) if spectrum else corruption
    if spectrum:
        seen.basis = spectrum.basis
    model = GaussianDenoiser(seen, power, prediction)
    sampler = attempt(
        lambda: sp.Sampler(
            model, corruption, prediction=prediction, solver=solver, grid=grid, steps=steps, eta=eta, spectrum=spectrum
        )
    )
    if sampler is None:
        return
    draw = lambda: sampler.sample((2, *shape), generator=torch.Generator().manual_seed(1), dtype=dtype)  # noqa: E731
    images = attempt(draw)
    if images is not None:
        assert images.shape == (2, *shape)
        assert bool(images.isfinite().all())
        assert torch.equal(images, draw())
        assert torch.equal(
            images,
            list(sampler.trajectory((2, *shape), generator=torch.Generator().manual_seed(1), dtype=dtype))[-1].x_t,
        )


@fuzz(250)
@given(st.data(), odd_tensors | odd_objects | odd_numbers)
def test_a_sampler_explains_wrong_options(data: Any, odd: Any) -> None:
    assume(not (isinstance(odd, int) and odd > 1e6))
    name = data.draw(
        st.sampled_from(
            [
                "model",
                "corruption",
                "prediction",
                "solver",
                "steps",
                "grid",
                "times",
                "variance",
                "eta",
                "order",
                "spectrum",
                "guidance_scale",
                "guidance_interval",
                "null_conditioning",
            ]
        )
    )
    assume(not (name == "null_conditioning" and odd == {"a": 1}) and odd is not len)
    options: dict[str, Any] = {"solver": "ddim", "steps": 2, "prediction": "data"}
    arguments = {"model": nothing, "corruption": sp.GaussianCorruption(), **options, name: odd}
    if name == "guidance_interval":
        arguments |= {"guidance_scale": 2.0, "null_conditioning": {"y": 0}}
    # An operator of Python explains a string among numbers well enough.
    ours = isinstance(odd, (int, float)) or name not in ("eta", "guidance_scale", "guidance_interval", "order")
    call = lambda: sp.Sampler(arguments.pop("model"), arguments.pop("corruption"), **arguments)  # noqa: E731
    if not (isinstance(odd, Tensor) and name in ("eta", "guidance_scale", "guidance_interval", "order")):
        attempt(call, ours=ours)


@fuzz(300)
@given(st.data(), odd_tensors | odd_objects | odd_numbers)
def test_sampling_explains_wrong_arguments(data: Any, odd: Any) -> None:
    sampler = sp.Sampler(nothing, sp.GaussianCorruption("flow"), solver="ddim", steps=2, prediction="data")
    shape, x = (2, 1, 3, 3), noise((2, 1, 3, 3))
    assume(not (isinstance(odd, int) and odd > 1e6))
    number = isinstance(odd, (int, float))
    answers = []
    if not isinstance(odd, Tensor):
        answers += [attempt(lambda: sampler.sample(odd)), attempt(lambda: sampler.sample(shape, generator=odd))]
        answers += [
            attempt(lambda: list(sampler.batches(odd, (1, 3, 3)))),
            attempt(lambda: sampler.sample(shape, dtype=odd)),
        ]
        answers += [attempt(lambda: list(sampler.batches(2, (1, 3, 3), seed=odd)))]
        answers += [attempt(lambda: list(sampler.batches(2, (1, 3, 3), batch_size=odd)))]
        answers += [attempt(lambda: sampler.sample(shape, device=odd)) if odd != "" else None]
        answers += [attempt(lambda: sampler.sample(shape, clip=odd), ours=odd != [1, "x"])]
    if number:
        answers += [
            attempt(lambda: sampler.sample(shape, start=odd, x_1=x)),
            attempt(lambda: sampler.sample((2, odd, 3, 3))),
        ]
        answers += [attempt(lambda: sampler.image_to_image(x, start=odd))]
        answers += [
            attempt(lambda: sampler.interpolate(x, x, [odd])),
            attempt(lambda: sampler.log_likelihood(x, probes=odd)),
        ]
    if not number and odd is not None:
        answers += [attempt(lambda: sampler.sample(shape, x_1=odd))]
    for call in (
        sampler.invert,
        sampler.log_likelihood,
        lambda y: sampler.image_to_image(y, start=0.5),
        lambda y: sampler.interpolate(y, x),
    ):
        answers.append(attempt(lambda call=call: call(odd)))
    for answer in answers:
        for tensor in answer if isinstance(answer, list) else [answer]:
            assert tensor is None or bool(tensor.isfinite().all())


@fuzz(100)
@given(st.data(), image_shapes(most=4), st.sampled_from(["noise", "data", "velocity"]), unit, unit, unit)
def test_predictions_and_steps_keep_their_laws(
    data: Any, shape: tuple[int, ...], prediction: Any, t: float, s: float, eta: float
) -> None:
    corruption = data.draw(corruptions(shape))
    s, t = sorted((s, t))
    assume(0.01 < s < t - 0.01 and t < 0.99)
    at_t, at_s = (
        (corruption.signal(time), corruption.noise(time)) for time in torch.tensor([[t], [s]], dtype=torch.float64)
    )
    if float(at_t[0].min()) > 1e-6 and float(at_s[1].min()) > 1e-6:
        u_0, eps = noise((1, *shape)), noise((1, *shape), 1)
        u_t = at_t[0] * u_0 + at_t[1] * eps
        found = denoise(prediction, target(prediction, u_0, eps, *at_t), u_t, *at_t)
        close(found.u_0, u_0, 1e-7)
        close(found.eps, eps, 1e-7)
        ratio, sigma = forward_weights(at_s, at_t)
        torch.testing.assert_close(
            ratio**2 * at_s[1] ** 2 + sigma**2, at_t[1].expand_as(ratio) ** 2, rtol=1e-9, atol=1e-12
        )
        step = step_weights(at_t, at_s, solver="ddim", eta=eta)  # the marginals of equation 1, whatever η
        full = torch.ones_like(step.w_t)
        close(step.w_t * at_t[0] + step.w_0, at_s[0] * full, 1e-9)
        close(step.w_t**2 * at_t[1] ** 2 + step.sigma**2, at_s[1] ** 2 * full, 1e-9)


# --- edits ------------------------------------------------------------------------------------------------


@fuzz(100)
@given(image_shapes(), st.integers(0, 3), st.floats(1e-3, 1), st.floats(1e-3, 1e3), seeds, st.sampled_from(FAST))
def test_edits_do_what_they_say(
    shape: tuple[int, ...], batch: int, quantile: float, limit: float, seed: int, dtype: torch.dtype
) -> None:
    x, known = noise((batch, *shape), seed, dtype) * 100, noise(shape, seed + 1, dtype)
    bounded = sp.dynamic_threshold(quantile, limit)(x, 0.5)
    assert bounded.shape == x.shape
    assert bool((bounded.abs() <= limit * (1 + 1e-5)).all())
    mask = noise(shape, seed + 2) > 0
    filled = sp.inpaint(known, mask)(x, 0.5)
    torch.testing.assert_close(filled, torch.where(mask, known, x), atol=0, rtol=1e-6)
    turn = rotation(math.prod(shape), seed)[: max(1, math.prod(shape) // 2)].to(dtype)
    measurement = noise((batch, len(turn)), seed + 3, dtype)
    through = sp.project(measurement, lambda z: z.flatten(1) @ turn.T, lambda y: (y @ turn).view(-1, *shape))(x, 0.5)
    close(through.flatten(1) @ turn.T, measurement, 1e-10 if dtype == torch.float64 else 1e-3)
    both = sp.compose(sp.inpaint(known, mask), sp.dynamic_threshold(quantile, limit))(x, 0.5)
    assert torch.equal(both, sp.dynamic_threshold(quantile, limit)(filled, 0.5))


@fuzz(150)
@given(odd_tensors | odd_objects | odd_numbers, odd_tensors | odd_objects, odd_numbers, odd_numbers)
def test_edits_and_bits_explain_wrong_arguments(first: Any, second: Any, a: float, b: float) -> None:
    x = noise((2, 1, 3, 3))
    edit = attempt(lambda: sp.inpaint(first, second))
    if edit is not None and not (first.is_meta or second.is_meta):
        attempt(lambda: edit(x, 0.5))
    edit = attempt(lambda: sp.dynamic_threshold(a, b))
    assert edit is None or bool(edit(x, 0.5).isfinite().all())
    attempt(lambda: sp.bits_per_dim(first, (3, 4)))
    attempt(lambda: sp.bits_per_dim(x[:, 0, 0, 0], first if not isinstance(first, Tensor) else (a,)))
    bits = attempt(lambda: sp.bits_per_dim(torch.tensor([-10.0]), (3, 4), scale=a))
    assert bits is None or bits.item() == pytest.approx(10 / (12 * math.log(2)) + math.log2(a), rel=1e-5)
