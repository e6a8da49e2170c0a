"""The analysis of large images looks at a part of the blocks, whose weighted sums must be those of all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path import _blocks, _covariance, _strata
from tests.grids.test_large_images import LARGE, SIZE, law


def measured() -> sp.PowerSpectrum:
    """A spectrum of tinted images with its noise, and with the covariances of the channels."""
    generator = torch.Generator().manual_seed(0)
    power = sp.PowerSpectrum.power_law((3, 48, 48), amplitude=30.0, offset=0.01, exponent=2.2, basis=sp.CosineBasis())
    white = torch.randn(60, 3, 48, 48, generator=generator, dtype=torch.float64)
    images = power.basis.synthesize(power.power.sqrt() * white) / 10
    tint = torch.tensor([[1.0, 0.3, 0.1], [0.9, -0.1, 0.1], [0.8, -0.3, -0.2]], dtype=torch.float64)
    return sp.PowerSpectrum.estimate([torch.einsum("ij, bj... -> bi...", tint, images)])


def band() -> sp.PowerSpectrum:
    """A spectrum of which two thirds of the frequencies hold next to nothing."""
    frequencies = law().basis.frequencies(SIZE)
    return sp.PowerSpectrum(law().basis, torch.where(frequencies > frequencies.max() / 3, 1e-6, law().power))


def rows() -> sp.Corruption:
    """Delays by row, which power does not tell."""
    delay = torch.linspace(0, 1, SIZE[0]).view(1, -1, 1)
    return sp.StaggeredCorruption(sp.GaussianCorruption("flow", noise=law().tempered(0.5)), delay, spread=0.5)


def odd(kind: str) -> sp.PowerSpectrum:
    """Spectra in which a few coefficients decide, or that no smooth law describes."""
    generator = torch.Generator().manual_seed(0)
    place, smooth = torch.rand(1, *SIZE, generator=generator, dtype=torch.float64), law().power
    few = place < 5 / place.numel()
    powers = {
        "few weak": torch.where(few, 1e-30, smooth),
        "few weak, flat": torch.where(few, 1e-12, 0.9),
        "some weak": torch.where(place < 0.01, 1e-12, smooth),
        "many strong": torch.where(place < 0.1, 1e6, 0.9),
        "two values": torch.where(place < 0.5, 1e-6, 10.0),
        "floor": smooth.clamp(min=float(smooth.median())),
        "lognormal": torch.exp(8 * (place - 0.5) / (place * (1 - place)).sqrt().clamp(min=0.01)),
    }
    return sp.PowerSpectrum(law().basis, powers[kind])


KINDS = ("few weak", "few weak, flat", "some weak", "many strong", "two values", "floor", "lognormal")
CASES = {
    **{
        f"{kind}, path": (
            lambda kind=kind: sp.ShortestPathCorruption(odd(kind)),
            lambda kind=kind: odd(kind),
            1e-3,
            5e-3,
        )
        for kind in KINDS
    },
    **{
        f"{kind}, white": (lambda: sp.GaussianCorruption("cosine"), lambda kind=kind: odd(kind), 1e-3, 5e-3)
        for kind in KINDS
    },
    **{name: (LARGE[name], law, 1e-3, 5e-3) for name in ("shortest", "blur", "coloured", "clock", "own")},
    "band": (lambda: sp.GaussianCorruption("cosine"), band, 1e-3, 5e-3),
    "rows": (rows, law, 5e-3, 2e-2),
    "measured, shortest": (lambda: sp.ShortestPathCorruption(measured()), measured, 2e-2, 3e-2),
    "measured, blur": (lambda: sp.BlurCorruption(spatial=(48, 48)), measured, 2e-2, 3e-2),
    "measured, equal": (lambda: sp.GaussianCorruption("cosine", noise=measured()), measured, 4e-2, 3e-2),
}


@pytest.mark.parametrize("name", CASES)
def test_a_part_of_the_blocks_gives_the_sums_of_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, data, of_length, of_kl = CASES[name]
    corruption, spectrum = make(), data()

    def found() -> tuple[float, float, Tensor]:
        length = sp.path_length(corruption, spectrum, rtol=1e-3)
        kl = sp.gaussian_kl(corruption, spectrum, steps=5)
        path = _covariance.covariance_path(corruption, spectrum)
        assert (path.weight is None) == (_covariance._MOST > 10**6)
        assert path.over_all(torch.ones(len(path.data), dtype=torch.float64)) * path.data.shape[-1] == pytest.approx(
            spectrum.power.numel()
        )
        return length, kl, path.length(path.at(0.0), path.at(1.0))

    by_part = found()
    monkeypatch.setattr(_covariance, "_MOST", 10**9)
    for ours, all_of_them, far in zip(by_part, found(), (of_length, of_kl, of_length), strict=True):
        assert ours == pytest.approx(all_of_them, rel=far)


def test_the_fisher_grid_and_the_comparison_of_a_part_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    corruption, spectrum = sp.BlurCorruption(spatial=SIZE), law()

    def found() -> tuple[Tensor, sp.geometry.Compared]:
        (row,) = sp.geometry.compare(spectrum, {"blur": corruption}, steps=[5]).rows
        return sp.grids.Fisher(corruption, spectrum)(20), row

    times, part = found()
    monkeypatch.setattr(_covariance, "_MOST", 10**9)
    expected, whole = found()
    assert float(((times - expected)[1:].abs() / -expected.diff()).max()) < 1e-2
    assert part.stiffness == pytest.approx(whole.stiffness, rel=0.1)
    assert part.input_power == pytest.approx(whole.input_power, rel=1e-2)
    assert part.kl[5] == pytest.approx(whole.kl[5], rel=5e-3)
    assert part.kl_even[5] == pytest.approx(whole.kl_even[5], rel=5e-3)


def test_distances_of_a_part_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_covariance, "_ONCE", _strata.Size(ends=128, strata=1024))
    spectrum = measured()
    other = spectrum.raised(2 * float(spectrum.power.min()))
    pairs = [(spectrum, 1.0), (spectrum, spectrum.power), (spectrum, other)]
    by_part = [sp.fisher_distance(*pair) for pair in pairs]
    monkeypatch.setattr(_covariance, "_MOST", 10**9)
    for ours, pair in zip(by_part, pairs, strict=True):
        assert ours == pytest.approx(sp.fisher_distance(*pair), rel=2e-2)  # with a seventh of the places


def test_weak_directions_of_few_blocks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    power = sp.PowerSpectrum.power_law((3, 48, 48), amplitude=30.0, offset=0.5, exponent=2.2, basis=sp.CosineBasis())
    weak = torch.where(torch.rand(3, 48, 48, generator=generator, dtype=torch.float64) < 5e-4, 1e-12, power.power)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    spectrum = sp.PowerSpectrum(sp.CosineBasis(2, turn), weak)
    corruption = sp.GaussianCorruption("cosine", noise=sp.PowerSpectrum(sp.CosineBasis(), 1 + power.power))
    by_part = sp.path_length(corruption, spectrum, rtol=1e-3)
    monkeypatch.setattr(_covariance, "_MOST", 10**9)
    assert by_part == pytest.approx(sp.path_length(corruption, spectrum, rtol=1e-3), rel=1e-3)


def test_many_channels_at_few_places_are_all_looked_at() -> None:
    channels = sp.PowerSpectrum(
        sp.CosineBasis(2, torch.eye(64, dtype=torch.float64).flip(0)), torch.full((64, 9, 9), 2.0)
    )
    white = sp.GaussianCorruption("flow", noise=sp.PowerSpectrum(sp.CosineBasis(), torch.ones(64, 9, 9)))
    assert sp.path_length(white, channels, rtol=0.1) > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("far", [0.0, 1e-9, 1e-3, 1.0, 5.0])
def test_eigenvalues_of_three_channels_are_lapacks(dtype: torch.dtype, far: float) -> None:
    generator = torch.Generator().manual_seed(0)
    p, change = torch.randn(2, 50, 3, 3, generator=generator, dtype=dtype)
    p = p @ p.mH + 0.1 * torch.eye(3, dtype=dtype)
    change = torch.linalg.matrix_exp(far * (change + change.mH) / 4)
    root = torch.linalg.cholesky(p)
    q = root @ change @ root.mH
    q = (q + q.mH) / 2
    found = _blocks._squared_logs(p, q).sum().sqrt()
    assert found.item() == pytest.approx(
        _blocks._eigenvalues(p, q).log().square().sum().sqrt().item(), rel=1e-9, abs=1e-13
    )


def test_images_of_other_sizes_than_the_corruptions_are_refused() -> None:
    with pytest.raises(ValueError, match="does not broadcast against images of shape"):
        sp.path_length(sp.BlurCorruption(spatial=(8, 8)), law())


@pytest.mark.parametrize("size", [3, 300, 1000, 100_003])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_the_largest_are_those_that_sorting_finds(size: int, count: int) -> None:
    count = min(count, size)
    values = torch.rand(size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    values[-1] = 2.0
    found = _strata.largest(values, count)
    assert sorted(found.tolist()) == sorted(values.argsort(descending=True)[:count].tolist())
    assert len(_strata.largest(torch.ones(size), count).unique()) == count  # where many are equal
