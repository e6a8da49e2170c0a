"""Laws of |f|, and spectra with empty coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.spectra import require_power
from tests.worlds import correlated_images

BAND = sp.PowerSpectrum.band((1, 8, 8), 1.0, 3.0)


def radius(*sizes: int) -> np.ndarray:
    """|f| of the Fourier basis in cycles per longest side."""
    axes = np.meshgrid(*(np.fft.fftfreq(n) * max(sizes) for n in sizes), indexing="ij")
    return np.sqrt(sum(axis**2 for axis in axes))


@pytest.mark.parametrize("spatial", [(9,), (8, 6), (3, 4, 5)])
def test_matern_has_its_formula(spatial: tuple[int, ...]) -> None:
    spectrum = sp.PowerSpectrum.matern((2, *spatial), length=0.3, smoothness=1.5)
    expected = (1 + (0.3 * radius(*spatial)) ** 2) ** (-1.5 - len(spatial) / 2)
    np.testing.assert_allclose(spectrum.power.numpy(), np.broadcast_to(expected, (2, *spatial)), rtol=1e-14)
    assert isinstance(spectrum.basis, sp.FourierBasis)
    assert (spectrum.count, spectrum.mean, spectrum.cross) == (0, None, None)


def test_matern_of_smoothness_one_half_is_an_exponential_covariance() -> None:
    """Σ_k cos(2πkr) / (1 + ℓ²k²) = (π/ℓ) cosh((π/ℓ)(1 − 2r)) / sinh(π/ℓ): exp(−2πr/ℓ) on a ring of length 1."""
    n, length = 8192, 0.8
    power = sp.PowerSpectrum.matern((1, n), length=length, smoothness=0.5).power[0].numpy()
    covariance = np.fft.ifft(power).real * n
    r = np.arange(n // 2) / n
    rate = math.pi / length
    expected = rate * np.cosh(rate * (1 - 2 * r)) / math.sinh(rate)
    np.testing.assert_allclose(covariance[: n // 2], expected, atol=4 / (length**2 * n))


def test_a_matern_law_in_the_cosine_basis_has_half_cycles() -> None:
    power = sp.PowerSpectrum.matern((1, 5), length=2.0, smoothness=1.0, basis=sp.CosineBasis(1)).power[0]
    np.testing.assert_allclose(power.numpy(), (1 + np.arange(5.0) ** 2) ** -1.5, rtol=1e-14)


def test_a_band_begins_at_low_and_ends_before_high() -> None:
    spectrum = sp.PowerSpectrum.band((2, 8, 6), 1.0, 3.0, power=0.1, outside=1e-9)
    r = radius(8, 6)
    assert spectrum.power.tolist() == np.where((r >= 1) & (r < 3), np.full((2, 8, 6), 0.1), 1e-9).tolist()
    assert spectrum.empty == 0
    above = sp.PowerSpectrum.band((1, 8), 2, math.inf)
    assert above.power.tolist() == [[0, 0, 1, 1, 1, 1, 1, 0]]
    stopped = sp.PowerSpectrum.band((1, 8), 2, 3, power=0.0, outside=1.0)
    assert stopped.power.tolist() == [[1, 1, 0, 1, 1, 1, 0, 1]]


def test_a_fitted_law_gives_a_spectrum_again() -> None:
    made = sp.PowerSpectrum.power_law((3, 8, 6), amplitude=2.0, offset=0.1, exponent=1.7, basis=sp.CosineBasis())
    again = sp.PowerSpectrum.power_law((3, 8, 6), made.fit_power_law(), basis=sp.CosineBasis())
    torch.testing.assert_close(again.power, made.power, rtol=1e-3, atol=0)
    law = sp.spectra.PowerLaw(2.0, 0.1, 1.7, 0.9)
    assert torch.equal(sp.PowerSpectrum.power_law((3, 8, 6), law, basis=sp.CosineBasis()).power, made.power)


def test_empty_coefficients_are_counted_and_raised() -> None:
    inside = int(((radius(8, 8) >= 1) & (radius(8, 8) < 3)).sum())
    assert BAND.empty == 64 - inside
    assert f"{64 - inside} empty" in repr(BAND)
    raised = BAND.raised(1e-3)
    assert (raised.empty, raised.floored) == (0, 64 - inside)
    floor = 1e-3 * inside / 64
    torch.testing.assert_close(raised.power, BAND.power.clamp(min=floor))
    require_power(raised, "nothing")
    assert BAND.tempered(2.0).empty == BAND.empty


def test_raising_keeps_the_covariances_and_the_mean() -> None:
    measured = sp.PowerSpectrum.estimate([correlated_images(64)])
    same = measured.raised(1e-9)
    assert torch.equal(same.power, measured.power)
    assert torch.equal(same.cross, measured.cross)
    assert torch.equal(same.mean, measured.mean)
    raised = measured.raised(0.1)
    least = 0.1 * measured.power.mean().item()
    assert float(raised.power.min()) > 0.999 * least
    values = torch.linalg.eigvalsh(measured.cross.movedim((0, 1), (-2, -1)))
    found = torch.linalg.eigvalsh(raised.cross.movedim((0, 1), (-2, -1)))
    torch.testing.assert_close(found, values.clamp(min=least))
    assert raised.count == 64
    assert raised.floored == int((measured.power < least).sum())
    assert raised.raised(1e-9).floored == raised.floored


def test_tempering_keeps_the_mean() -> None:
    measured = sp.PowerSpectrum.estimate([correlated_images(64)])
    tempered = measured.tempered(0.5)
    assert torch.equal(tempered.mean, measured.mean)
    assert (tempered.count, tempered.cross) == (64, None)


class Ring(sp.bases.Basis):
    def frequencies(self, spatial: Sequence[int]) -> Tensor:
        return torch.arange(12, dtype=torch.float64)


LAW = sp.spectra.PowerLaw(1.0, 0.1, 2.0, 1.0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: sp.PowerSpectrum.matern((1, 8), length=0.0, smoothness=1),
            ValueError,
            "length and smoothness must be",
        ),
        (lambda: sp.PowerSpectrum.matern((1, 8), length=1, smoothness=-1), ValueError, "length and smoothness must be"),
        (lambda: sp.PowerSpectrum.matern((1, 8), length="1", smoothness=1), TypeError, "length must be a number"),
        (
            lambda: sp.PowerSpectrum.matern((1, 8), length=1e200, smoothness=1),
            ValueError,
            r"positive and finite power, got 0 … 1 from length=1e\+200, smoothness=1.0; choose milder",
        ),
        (lambda: sp.PowerSpectrum.matern((8,), length=1, smoothness=1), ValueError, r"shape must be \(C, \*spatial\)"),
        (
            lambda: sp.PowerSpectrum.matern((1, 8), length=1, smoothness=1, basis="cosine"),
            TypeError,
            "basis must be a Basis, such as CosineBasis",
        ),
        (
            lambda: sp.PowerSpectrum.matern((1, 8), length=1, smoothness=1, basis=sp.PixelBasis(1)),
            ValueError,
            "PixelBasis has no frequencies",
        ),
        (
            lambda: sp.PowerSpectrum.power_law((1, 10), amplitude=1.0, offset=0.1, exponent=2.0, basis=Ring(1)),
            ValueError,
            r"Ring\(dims=1\) has frequencies of shape \(12,\), which do not broadcast to the spatial axes \(10,\)",
        ),
        (lambda: sp.PowerSpectrum.band((1, 8), 3, 3), ValueError, "requires 0 ≤ low < high, .* got 3.0 and 3.0"),
        (lambda: sp.PowerSpectrum.band((1, 8), -1, 3), ValueError, "requires 0 ≤ low < high"),
        (lambda: sp.PowerSpectrum.band((1, 8), math.nan, 3), ValueError, "requires 0 ≤ low < high"),
        (lambda: sp.PowerSpectrum.band((1, 8), "1", 3), TypeError, "low must be a number"),
        (
            lambda: sp.PowerSpectrum.band((1, 8), 5, 7),
            ValueError,
            r"more than 0 in some, got power=1.0 in 0 and outside=0.0 in 8 coefficients, whose \|f\| are 0 … 4",
        ),
        (lambda: sp.PowerSpectrum.band((1, 8), 1, 2, power=-1.0), ValueError, "a band requires finite power ≥ 0"),
        (lambda: sp.PowerSpectrum.band((1, 8), 1, 2, outside=math.inf), ValueError, "a band requires finite power ≥ 0"),
        (
            lambda: sp.PowerSpectrum.power_law((1, 8), amplitude=1.0, offset=0.1, exponent=1e4),
            ValueError,
            "a law must have positive and finite power",
        ),
        (lambda: sp.PowerSpectrum.power_law((1, 8)), TypeError, "amplitude, offset, exponent missing"),
        (lambda: sp.PowerSpectrum.power_law((1, 8), amplitude=1.0, offset=1.0), TypeError, "; exponent missing, pass"),
        (
            lambda: sp.PowerSpectrum.power_law((1, 8), LAW, offset=1.0, exponent=2.0),
            TypeError,
            "takes a law or numbers, got both; omit offset, exponent, or the law",
        ),
        (lambda: sp.PowerSpectrum.power_law((1, 8), (1.0, 0.1, 2.0)), TypeError, "law must be a PowerLaw, got tuple"),
        (lambda: sp.PowerSpectrum(sp.CosineBasis(1), torch.zeros(1, 8)), ValueError, "at least one .*, got 8 zeros"),
        (
            lambda: sp.PowerSpectrum(sp.CosineBasis(1), torch.eye(2), cross=torch.eye(2).expand(2, 2, 2).clone()),
            ValueError,
            "cross requires power in every coefficient, got 2 of 4 empty",
        ),
        (
            BAND.fit_power_law,
            ValueError,
            r"fit_power_law requires power in every coefficient, got 40 of 64 empty; pass outside=1e-6 to "
            r"PowerSpectrum.band, or use spectrum.raised\(1e-6\)",
        ),
        (BAND.smoothed, ValueError, "smoothed requires power in every coefficient"),
        (lambda: BAND.tempered(0), ValueError, r"tempered\(0\) requires power in every coefficient"),
        (lambda: BAND.tempered("1"), TypeError, "scale must be a number, got '1'"),
        (lambda: BAND.raised("1"), TypeError, "floor must be a number, got '1'"),
        (lambda: BAND.raised(0.0), ValueError, r"floor is a fraction of the mean power .* \(0, 1\), got 0.0"),
        (lambda: BAND.resized((9, 8)), ValueError, "resized to a larger size requires power in every coefficient"),
        (lambda: require_power(BAND, "this"), ValueError, "this requires power in every coefficient, got 40 of 64"),
    ],
)
def test_wrong_arguments_are_explained(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("scale", [1.0, 1e-6])
@pytest.mark.parametrize("channels", ["independent", "shared", "rotate"])
def test_raising_is_estimating_with_a_floor(channels: str, scale: float) -> None:
    images = torch.randn(200, 2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = scale * images * torch.tensor([1.0, 0.01], dtype=torch.float64).view(1, 2, 1, 1)
    one = sp.PowerSpectrum.estimate([images], "cosine", channels, check_range=False).raised(0.3)  # type: ignore[arg-type]
    other = sp.PowerSpectrum.estimate([images], "cosine", channels, floor=0.3, check_range=False)  # type: ignore[arg-type]
    torch.testing.assert_close(one.power / scale**2, other.power / scale**2)
    torch.testing.assert_close(one.cross / scale**2, other.cross / scale**2)


@pytest.mark.parametrize("channels", ["rotate", "independent", "shared"])
def test_raised_power_and_covariances_agree(channels: str) -> None:
    few = correlated_images(6)
    measured = sp.PowerSpectrum.estimate([few], "cosine", channels)  # type: ignore[arg-type]
    raised = measured.raised(0.3)
    assert raised.cross is not None
    rotation = raised.basis.channel_rotation
    rotation = torch.eye(3).double() if rotation is None else rotation
    diagonal = torch.einsum("ki,ij...,kj->k...", rotation, raised.cross, rotation)
    if channels == "shared":
        assert float(raised.power.min()) == pytest.approx(0.3 * float(measured.power.mean()))
    else:
        torch.testing.assert_close(raised.power, diagonal)
    assert float(torch.linalg.eigvalsh(raised.cross.movedim((0, 1), (-2, -1))).min()) > 0.29 * float(
        measured.power.mean()
    )


def test_vectors_have_no_rings() -> None:
    vectors = sp.PowerSpectrum.estimate([torch.randn(50, 6)])
    for call in (vectors.smoothed, vectors.radial_average):
        with pytest.raises(ValueError, match="requires spatial axes with frequencies, got a spectrum of vectors"):
            call()
