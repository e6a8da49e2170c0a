"""Wavelets against closed forms, direct sums, and the properties that define them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.bases import WaveletBasis, _wavelet
from shortest_path.bases._daubechies import highpass, lowpass

MOMENTS = list(range(1, 11))
WAVELETS = ["haar", *(f"db{n}" for n in range(2, 11))]


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_sums(x: np.ndarray, low: tuple[float, ...], levels: int) -> np.ndarray:
    """Mallat's pyramid over all axes but the first, with the sums of its definition."""
    x = x.copy()
    for level in range(levels):
        corner = (slice(None), *(slice(n >> level) for n in x.shape[1:]))
        part = x[corner]
        for axis in range(1, x.ndim):
            sums = [
                sum(value * np.roll(part, -j, axis) for j, value in enumerate(taps)) for taps in (low, highpass(low))
            ]
            even = np.arange(0, part.shape[axis], 2)
            part = np.concatenate([np.take(each, even, axis) for each in sums], axis)
        x[corner] = part
    return x


@pytest.mark.parametrize("moments", MOMENTS)
def test_filters_are_orthonormal_to_their_even_shifts(moments: int) -> None:
    low, high = np.array(lowpass(moments)), np.array(highpass(lowpass(moments)))
    assert len(low) == 2 * moments
    for shift in range(moments):
        products = [a[2 * shift :] @ b[: len(b) - 2 * shift] for a, b in ((low, low), (high, high), (low, high))]
        np.testing.assert_allclose(products, [shift == 0, shift == 0, 0], atol=1e-14)


@pytest.mark.parametrize("moments", MOMENTS)
def test_details_have_vanishing_moments_and_no_more(moments: int) -> None:
    high = np.array(highpass(lowpass(moments)))
    places = np.linspace(0, 1, len(high))
    sums = [(high * places**power).sum() for power in range(moments + 1)]
    np.testing.assert_allclose(sums[:-1], 0, atol=1e-14)
    assert abs(sums[-1]) > 1e-7


@pytest.mark.parametrize("moments", MOMENTS[1:])
def test_filters_have_minimal_phase(moments: int) -> None:
    energy = np.square(lowpass(moments))
    # Of all filters with this magnitude, the one of minimal phase has its energy first.
    assert (np.cumsum(energy)[:-1] > np.cumsum(energy[::-1])[:-1]).all()


def test_db2_has_its_closed_form() -> None:
    root = 3**0.5
    expected = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * 2**0.5)
    np.testing.assert_allclose(lowpass(2), expected, atol=1e-15)
    n = 8
    basis = WaveletBasis("db2", 1, dims=1)
    u = basis.analyze(torch.eye(n, dtype=torch.float64)[:, None])[:, 0].T.numpy()  # columns are the answers to pixels
    np.testing.assert_allclose(u[1, 2:6], expected, atol=1e-15)
    np.testing.assert_allclose(u[3, [6, 7, 0, 1]], expected, atol=1e-15)  # around the border
    np.testing.assert_allclose(u[5, 2:6], expected[::-1] * [1, -1, 1, -1], atol=1e-15)


def test_haar_is_sums_and_differences() -> None:
    x = images(2, 3, 4, 6)
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    expected = torch.cat(
        [torch.cat([a + b + c + d, a - b + c - d], -1), torch.cat([a + b - c - d, a - b - c + d], -1)], -2
    )
    torch.testing.assert_close(WaveletBasis().analyze(x), expected / 2)


def test_all_levels_of_haar_are_haars_functions() -> None:
    n = 16
    functions = torch.zeros(n, n, dtype=torch.float64)
    functions[0] = n**-0.5
    for count in (1, 2, 4, 8):
        width = n // count
        for place in range(count):
            start = place * width
            functions[count + place, start : start + width // 2] = width**-0.5
            functions[count + place, start + width // 2 : start + width] = -(width**-0.5)
    x = images(3, 1, n)
    torch.testing.assert_close(WaveletBasis(dims=1).analyze(x), x @ functions.T)


@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize(
    ("shape", "levels"), [((8,), 3), ((24,), 3), ((320,), 6), ((134,), 1), ((4, 80), 2), ((96, 8), 3), ((2, 4, 6), 1)]
)
def test_coefficients_are_the_sums_of_the_definition(wavelet: str, shape: tuple[int, ...], levels: int) -> None:
    x = images(2, *shape)
    for given in (1, levels, None):  # None: as many as all axes allow
        expected = by_sums(x.numpy(), lowpass(WAVELETS.index(wavelet) + 1), given or levels)
        basis = WaveletBasis(wavelet, given, dims=len(shape))  # type: ignore[arg-type]
        np.testing.assert_allclose(basis.analyze(x).numpy(), expected, atol=1e-12)
        torch.testing.assert_close(basis.synthesize(torch.from_numpy(expected)), x, atol=1e-12, rtol=0)


@pytest.mark.parametrize("wavelet", ["haar", "db3", "db10"])
def test_blocks_of_long_axes_change_nothing(wavelet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(2, 128, 240).float()
    in_blocks = WaveletBasis(wavelet)  # type: ignore[arg-type]
    u, back = in_blocks.analyze(x), in_blocks.synthesize(x)
    assert max(len(matrix) for matrix in in_blocks._cache.values()) < 128
    monkeypatch.setattr(_wavelet, "_LONGEST_BLOCK", 1000)
    monkeypatch.setattr(_wavelet, "_SHORTEST_BLOCK", 1000)
    whole = WaveletBasis(wavelet)  # type: ignore[arg-type]
    torch.testing.assert_close(u, whole.analyze(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(back, whole.synthesize(x), atol=1e-5, rtol=0)
    assert max(len(matrix) for matrix in whole._cache.values()) == 240


@pytest.mark.parametrize("moments", MOMENTS)
def test_polynomials_have_no_details_away_from_the_border(moments: int) -> None:
    n = 64
    basis = WaveletBasis(WAVELETS[moments - 1], 1, dims=1)  # type: ignore[arg-type]
    places = torch.linspace(-1, 1, n, dtype=torch.float64)
    inside = slice(n // 2, n - moments + 1)  # details whose filter does not wrap
    for power in range(moments + 1):
        details = basis.analyze(places[None] ** power)[0]
        assert details[n // 2 :].abs().max() > 1e-3 or power == 0  # the border
        assert (float(details[inside].abs().max()) < 1e-13) == (power < moments)


def test_frequencies_are_the_centres_of_octaves() -> None:
    root = 0.5**0.5
    assert WaveletBasis(dims=1).frequencies((8,)).tolist() == pytest.approx([0, root, *[2 * root] * 2, *[4 * root] * 4])
    assert WaveletBasis("db2", 1, dims=1).frequencies((8,)).tolist() == pytest.approx([1] * 4 + [4 * root] * 4)
    # Two axes, in cycles per longest side; 4 × 8 allows two levels.
    found = WaveletBasis().frequencies((4, 8))
    assert float(found[0, 1]) == pytest.approx(0.5)  # the mean of the rows, a quarter of two approximations
    assert float(found[1, 3]) == pytest.approx(((2 * root) ** 2 + (2 * root) ** 2) ** 0.5)
    assert float(found[0, 7]) == pytest.approx((1 + (4 * root) ** 2) ** 0.5)  # approximations of 4 rows, per 8 pixels
    assert WaveletBasis(dims=0).frequencies(()).tolist() == 0


@pytest.mark.parametrize("wavelet", ["db4", "db10"])
def test_waves_have_their_power_in_their_octave(wavelet: str) -> None:
    basis = WaveletBasis(wavelet, dims=1)  # type: ignore[arg-type]
    frequency = basis.frequencies((64,))
    for cycles in (3, 6, 11, 23):
        wave = torch.cos(2 * torch.pi * cycles * torch.arange(64, dtype=torch.float64) / 64)
        power = basis.analyze(wave[None])[0] ** 2
        octave = (frequency / cycles).log2().abs() < 0.5
        assert float(power[octave].sum() / power.sum()) > 0.8


def test_power_laws_and_radial_averages_take_wavelets() -> None:
    spectrum = sp.PowerSpectrum.power_law((1, 16, 16), amplitude=2.0, offset=0.1, exponent=2.0, basis=WaveletBasis())
    law = spectrum.fit_power_law()
    assert (law.amplitude, law.exponent) == pytest.approx((2.0, 2.0), rel=0.05)
    frequency, power = spectrum.radial_average()
    assert (power.diff() < 0).all()
    assert float(frequency[0]) == 0


def test_transforms_are_shared_by_the_same_wavelet_and_levels_only() -> None:
    basis = WaveletBasis("db2", 2)
    assert basis.shares_transform(WaveletBasis("db2", 2, channel_rotation=torch.eye(3)))
    for other in (WaveletBasis("db3", 2), WaveletBasis("db2", 1), WaveletBasis("db2"), WaveletBasis("db2", 2, 1)):
        assert not basis.shares_transform(other)
    assert not basis.shares_transform(sp.CosineBasis())


def test_a_number_in_place_of_the_wavelet_is_taken_for_the_number_of_axes() -> None:
    with pytest.raises(
        TypeError, match=r"wavelet must be a name, e.g. 'haar', got 2; the number of spatial axes is dims=2"
    ):
        WaveletBasis(2, torch.eye(3))  # type: ignore[arg-type]


def test_it_says_what_it_is() -> None:
    assert repr(WaveletBasis("db2", 3, 1)) == "WaveletBasis(wavelet='db2', levels=3, dims=1)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WaveletBasis("db1"), "unknown wavelet 'db1'; choose one of 'haar', 'db2'"),  # type: ignore[arg-type]
        (lambda: WaveletBasis(levels=0), "levels must be 1 or more, got 0"),
        (lambda: WaveletBasis().analyze(torch.zeros(1, 6, 5)), r"requires even axes, got .* \(6, 5\); .*CosineBasis"),
        (lambda: WaveletBasis().synthesize(torch.zeros(1, 1, 4)), r"requires even axes, got spatial sizes \(1, 4\)"),
        (lambda: WaveletBasis(levels=3).analyze(torch.zeros(8, 12)), r"divisible by 2\^3, .* use levels=2 or fewer"),
        (lambda: WaveletBasis(levels=2).frequencies((6, 4)), r"divisible by 2\^2, .* use levels=1 or fewer"),
    ],
)
def test_wrong_arguments_are_explained(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
