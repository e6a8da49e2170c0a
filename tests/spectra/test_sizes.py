"""Spectra at other sizes, and smoothed, against sums that are written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.worlds import correlated_images

KINDS = {"cosine": sp.CosineBasis, "fourier": sp.FourierBasis}
OLD, NEW = (5, 6), (9, 10)


def waves(kind: str, orders: int, n: int) -> Tensor:
    """Continuous waves of the first orders at n points of [0, 1], (waves, n): no basis of the library is used."""
    if kind == "cosine":  # half cycles at the centres of the pixels
        r = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        return torch.stack([torch.cos(math.pi * k * r) for k in range(orders)])
    r = torch.arange(n, dtype=torch.float64) / n
    pairs = [(torch.cos(2 * math.pi * k * r), torch.sin(2 * math.pi * k * r)) for k in range(1, orders)]
    return torch.stack([torch.ones_like(r), *itertools.chain(*pairs)])


def sampled(kind: str, orders: tuple[int, int], *sizes: tuple[int, int]) -> list[Tensor]:
    """The same random band-limited images, of correlated channels and a mean, sampled at several sizes."""
    rows, columns = (len(waves(kind, n, 1)) for n in orders)
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(40, 3, rows, columns, generator=generator, dtype=torch.float64)
    weights = torch.einsum("ij,bjhw->bihw", torch.eye(3, dtype=torch.float64) + 0.5, weights) + 0.3
    return [
        torch.einsum("bcij,ih,jw->bchw", weights, waves(kind, orders[0], h), waves(kind, orders[1], w))
        for h, w in sizes
    ]


def order(kind: str, n: int) -> np.ndarray:
    return np.arange(n) if kind == "cosine" else np.abs(np.fft.fftfreq(n, 1 / n)).round().astype(int)


def within(kind: str, spatial: tuple[int, ...], orders: tuple[int, ...]) -> Tensor:
    axes = [torch.from_numpy(order(kind, n) < most) for n, most in zip(spatial, orders, strict=True)]
    return axes[0][:, None] & axes[1]


def expected_law(f: np.ndarray, power: np.ndarray, border: np.ndarray, known: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The rule of `resized`, by numpy's least squares."""
    outer = known & (f >= f[known].max() / 2)
    slope = np.polyfit(np.log(f[outer]), np.log(power[outer]), 1)[0]
    return np.exp(np.log(power[border]).mean() + slope * (np.log(at) - np.log(f[border]).mean()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("old", "new"), [(OLD, NEW), (NEW, OLD), (OLD, (9, 4))])
def test_a_spectrum_at_another_size_is_that_of_the_resampled_images(
    kind: str, old: tuple[int, int], new: tuple[int, int]
) -> None:
    orders = tuple(min(pair) if kind == "cosine" else (min(pair) + 1) // 2 for pair in zip(old, new, strict=True))
    before, after = sampled(kind, orders, old, new)
    basis = KINDS[kind]()
    found = sp.PowerSpectrum.estimate([before], basis, "independent", floor=1e-12, check_range=False).resized(new)
    right = sp.PowerSpectrum.estimate([after], basis, "independent", floor=1e-12, check_range=False)
    inside = within(kind, new, orders)
    assert found.shape == right.shape
    torch.testing.assert_close(found.power[:, inside], right.power[:, inside])
    torch.testing.assert_close(found.cross[..., inside], right.cross[..., inside])
    assert found.count == 40
    if kind == "cosine":
        torch.testing.assert_close(found.mean, after.mean(0))


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_is_the_same_spectrum(kind: str) -> None:
    spectrum = sp.PowerSpectrum.estimate([correlated_images(64, (3, 6, 5))], kind)  # type: ignore[arg-type]
    again = spectrum.resized((9, 8)).resized((6, 5))
    for name in ("power", "cross", "mean"):
        torch.testing.assert_close(getattr(again, name), getattr(spectrum, name))
    assert torch.equal(again.basis.channel_rotation, spectrum.basis.channel_rotation)
    same = spectrum.resized([6, 5])
    assert torch.equal(same.power, spectrum.power)


def frequencies_of(kind: str, spatial: tuple[int, ...], old: tuple[int, ...]) -> Tensor:
    """|f| of the coefficients at one size, as it is in images of the old size."""
    cycles = 0.5 if kind == "cosine" else 1.0
    axes = [order(kind, n) * cycles * max(old) / before for n, before in zip(spatial, old, strict=True)]
    return torch.from_numpy(np.sqrt(sum(np.square(each) for each in np.ix_(*axes))))


SHAPES = [((6, 6), (9, 9)), ((4, 6), (8, 12)), ((5, 5), (20, 20)), ((8,), (11,))]
SHAPES += [((8, 8), (8, 16)), ((6, 9), (10, 10)), ((8, 8), (4, 16)), ((5, 7), (12, 3))]  # another aspect ratio


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_a_power_law_is_continued_exactly(kind: str, old: tuple[int, ...], new: tuple[int, ...]) -> None:
    basis = KINDS[kind](len(old))

    def law(spatial: tuple[int, ...]) -> Tensor:
        f = frequencies_of(kind, spatial, old)
        channels = torch.tensor([1.0, 2.5], dtype=torch.float64).reshape(-1, *(1,) * len(old))
        return torch.where(f > 0, channels / f.clamp(min=0.1) ** (1 + channels), 40.0)

    resized = sp.PowerSpectrum(basis, law(old)).resized(new)
    torch.testing.assert_close(resized.power, law(new) * math.prod(new) / math.prod(old))
    assert resized.cross is None
    assert resized.mean is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_spectrum_that_bends_is_continued_from_its_border(kind: str) -> None:
    basis = KINDS[kind]()
    old, new = (6, 8), (12, 8)  # one axis grows: its last coefficients alone are the border
    f = frequencies_of(kind, new, old).numpy()
    known = within(kind, new, (6, 8) if kind == "cosine" else (4, 5)).numpy()
    last = 5 if kind == "cosine" else 3
    border = known & (order(kind, 12) == last)[:, None]
    spectrum = sp.PowerSpectrum(basis, torch.exp(-basis.frequencies(old))[None] + 0.01)
    found = spectrum.resized(new).power[0].numpy()
    rule = expected_law(f, found, border, known & (f > 0), np.where(f > 0, f, 1))
    np.testing.assert_allclose(found[~known], rule[~known], rtol=1e-10)
    if kind == "cosine":
        np.testing.assert_allclose(found[:6], 2 * spectrum.power[0].numpy(), rtol=1e-14)


def test_covariances_outside_the_old_band_are_the_rotated_power() -> None:
    for kind in KINDS:
        spectrum = sp.PowerSpectrum.estimate([correlated_images(64)], kind)  # type: ignore[arg-type]
        resized = spectrum.resized((12, 8))
        rotation = resized.basis.channel_rotation
        outside = ~within(kind, (12, 8), (8, 8) if kind == "cosine" else (5, 5))
        for place in outside.nonzero().tolist():
            block = resized.cross[(slice(None), slice(None), *place)]
            power = torch.diag(resized.power[(slice(None), *place)])
            torch.testing.assert_close(block.real, rotation.T @ power @ rotation)
        assert outside.any()
        whole = torch.einsum("ci,ijhw,cj->chw", rotation, resized.cross.real, rotation)
        torch.testing.assert_close(whole, resized.power)


def test_a_cut_at_an_even_size_is_the_mean_of_both_signs_of_its_nyquist_frequency() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = sp.FourierBasis()
    power = torch.rand(1, 8, 7, generator=generator, dtype=torch.float64)
    power = power + basis.mirror(power)
    found = sp.PowerSpectrum(basis, power).resized((4, 6)).power[0]
    for row, column in itertools.product((-2, -1, 0, 1), (-3, -2, -1, 0, 1, 2)):
        rows = (-2, 2) if row == -2 else (row,)
        columns = (-3, 3) if column == -3 else (column,)
        both = [power[0, r % 8, c % 7].item() for r in rows for c in columns]
        assert found[row % 4, column % 6].item() == pytest.approx(sum(both) / len(both) * 24 / 56)


def test_a_resized_mean_keeps_constants_and_drops_what_does_not_fit() -> None:
    wave = torch.cos(math.pi * 5 * (torch.arange(8, dtype=torch.float64) + 0.5) / 8)
    spectrum = sp.PowerSpectrum(sp.FourierBasis(1), torch.ones(2, 8), mean=torch.stack([0 * wave + 0.3, wave]))
    small, large = spectrum.resized((5,)).mean, spectrum.resized((13,)).mean
    torch.testing.assert_close(small, torch.tensor([0.3, 0.0], dtype=torch.float64)[:, None].expand(2, 5))
    finer = torch.cos(math.pi * 5 * (torch.arange(13, dtype=torch.float64) + 0.5) / 13)
    torch.testing.assert_close(large, torch.stack([0 * finer + 0.3, finer]))


def test_a_band_may_shrink() -> None:
    band = sp.PowerSpectrum.band((1, 16), 1, 3).resized((8,))
    assert band.power.tolist() == [[0, 0.5, 0.5, 0, 0, 0, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: sp.PowerSpectrum(sp.PixelBasis(1), torch.ones(1, 4)).resized((8,)),
            ValueError,
            "resized requires a CosineBasis or a FourierBasis, got PixelBasis; estimate the spectrum at the new size",
        ),
        (
            lambda: sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(1, 4)).resized((8, 8)),
            ValueError,
            r"spatial must be 1 sizes of 1 or more for CosineBasis\(dims=1\), got \(8, 8\)",
        ),
        (lambda: sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(1, 4)).resized((0,)), ValueError, r"got \(0,\)"),
        (lambda: sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(1, 4)).resized(8), TypeError, "one size per axis"),
        (
            lambda: sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(1, 2)).resized((8,)),
            ValueError,
            "at least two different frequencies above 0",
        ),
        (lambda: sp.PowerSpectrum.band((1, 16), 4, 6).resized((4,)), ValueError, "at least one coefficient"),
        (
            lambda: sp.PowerSpectrum(sp.PixelBasis(1), torch.ones(1, 4)).smoothed(),
            ValueError,
            "PixelBasis has no frequencies",
        ),
    ],
)
def test_wrong_sizes_are_explained(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("kind", KINDS)
def test_smoothing_is_a_line_between_rings_that_keeps_the_power_of_each(kind: str) -> None:
    spectrum = sp.PowerSpectrum.estimate([correlated_images(20, (2, 6, 7))], kind)  # type: ignore[arg-type]
    smooth = spectrum.smoothed()
    f = spectrum.basis.frequencies((6, 7)).numpy()
    ring = np.floor(f + 0.5)
    rings = np.unique(ring)
    centre = np.array([f[ring == r].mean() for r in rings])
    for channel in range(2):
        power = spectrum.power[channel].numpy()
        level = np.log([power[ring == r].mean() for r in rings])
        for r, place in itertools.product(rings, zip(*np.nonzero(ring >= 0), strict=True)):
            if ring[place] != r:
                continue
            line = {}
            for other in zip(*np.nonzero(ring == r), strict=True):
                high = min(max(int((centre < f[other]).sum()), 1), len(rings) - 1)
                slope = (level[high] - level[high - 1]) / (centre[high] - centre[high - 1])
                line[other] = math.exp(level[high] + slope * (f[other] - centre[high]))
            right = line[place] * power[ring == r].sum() / sum(line.values())
            assert smooth.power[channel][place].item() == pytest.approx(right, rel=1e-9)
    torch.testing.assert_close(smooth.radial_average()[1], spectrum.radial_average()[1])
    assert torch.equal(smooth.mean, spectrum.mean)
    assert torch.equal(smooth.basis.channel_rotation, spectrum.basis.channel_rotation)
    assert (smooth.cross, smooth.count) == (None, 20)


def test_a_law_of_one_axis_is_smooth_already() -> None:
    law = sp.PowerSpectrum.power_law((2, 16), amplitude=1.0, offset=0.5, exponent=1.5)
    torch.testing.assert_close(law.smoothed().power, law.power)
    one = sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(3, 1))
    assert torch.equal(one.smoothed().power, one.power)
