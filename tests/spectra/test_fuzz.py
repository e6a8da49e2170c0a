"""Spectra under hypothesis: a right answer, checked by a law, or a documented exception. Never anything else."""

from __future__ import annotations

import io
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import Tensor

import shortest_path as sp
from tests.strategies import (
    DTYPES,
    attempt,
    fuzz,
    image_shapes,
    noise,
    odd_numbers,
    odd_objects,
    odd_tensors,
    spatial_shapes,
    spectra,
    unit,
)


def usable(spectrum: sp.PowerSpectrum) -> bool:
    return bool((spectrum.power.isfinite() & (spectrum.power >= 0)).all() and (spectrum.power > 0).any())


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
    assert loaded is None or usable(loaded)


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
    assert loaded is None or usable(loaded)


@pytest.mark.filterwarnings("ignore:the offset of the power law lies at a bound:RuntimeWarning")
@fuzz(200)
@given(st.data(), image_shapes(most=4), odd_tensors | odd_objects | odd_numbers)
def test_a_spectrum_explains_wrong_arguments(data: Any, shape: tuple[int, ...], odd: Any) -> None:
    spectrum = data.draw(spectra(shape))
    attempt(lambda: sp.PowerSpectrum(odd, spectrum.power))
    attempt(lambda: sp.PowerSpectrum(spectrum.basis, odd))
    attempt(lambda: sp.PowerSpectrum(spectrum.basis, spectrum.power, cross=odd))
    attempt(lambda: sp.PowerSpectrum(spectrum.basis, spectrum.power, mean=odd))
    for method in (spectrum.resized, spectrum.raised, spectrum.tempered):
        made = attempt(lambda method=method: method(odd))
        assert made is None or usable(made)
    power = spectrum.power.clone()
    power.view(-1)[data.draw(st.integers(0, power.numel() - 1))] = float(data.draw(odd_numbers))
    made = attempt(lambda: sp.PowerSpectrum(spectrum.basis, power))
    assert made is None or usable(made)
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an offset at its bound
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
    # Parseval, up to what the floor adds; only images in float64 are transformed in it.
    rounding = 1e-12 if dtype == torch.float64 else 5e-7
    assert float(spectrum.power.sum()) == pytest.approx(measured, rel=rounding + 1e-9 * spectrum.power.numel())


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
        lambda: sp.spectra.SpectrumEstimator().merge(basis),
    ):
        spectrum = attempt(call)
        assert spectrum is None or bool((spectrum.power > 0).all())
