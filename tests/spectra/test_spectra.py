"""Laws of spectra: estimation, power laws, files."""

from __future__ import annotations

import io
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import shortest_path as sp
from shortest_path.spectra._sums import completed, sums
from tests.strategies import fuzz
from tests.worlds import SHAPE, correlated_images, spectrum


@pytest.mark.parametrize("basis", ["cosine", "fourier"])
def test_power_is_the_second_moment_of_the_coefficients(basis: str) -> None:
    x = correlated_images(64)
    spectrum = sp.PowerSpectrum.estimate(x.split(10), basis, "independent", center=False)
    u = (sp.FourierBasis() if basis == "fourier" else sp.CosineBasis()).analyze(x)
    moment = u.square().mean(0)
    if basis == "fourier":  # Hartley power is that of k and −k mixed; their mean is the Fourier power
        moment = torch.fft.fftn(x, dim=(-2, -1), norm="ortho").abs().square().mean(0)
    torch.testing.assert_close(spectrum.power, moment)


@pytest.mark.parametrize("basis", ["cosine", "fourier"])
def test_rotated_power_is_measured_in_the_rotated_basis(basis: str) -> None:
    x = correlated_images(64)
    spectrum = sp.PowerSpectrum.estimate([x], basis)
    x = x - x.mean(0)
    total = spectrum.basis.analyze(x).square().mean(0)
    if basis == "fourier":
        total = (total + total.flip(-1, -2).roll((1, 1), (-1, -2))) / 2
        # Symmetrising over k and −k is exact in expectation; a sample leaves cross terms of k and −k out.
        rotated = torch.einsum("ij,bjhw->bihw", spectrum.basis.channel_rotation, x)
        total = torch.fft.fftn(rotated, dim=(-2, -1), norm="ortho").abs().square().mean(0)
    torch.testing.assert_close(spectrum.power, total)


def test_rotation_decorrelates_the_channels_strongest_first() -> None:
    x = correlated_images()
    spectrum = sp.PowerSpectrum.estimate([x])
    u = spectrum.basis.analyze(x - x.mean(0)).movedim(0, -1).flatten(1, 2)  # (C, F, B)
    blocks = torch.einsum("ifb,jfb->fij", u, u)  # at every frequency, all of equal weight
    covariance = (blocks / blocks.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]).mean(0)
    off_diagonal = covariance - torch.diag(covariance.diagonal())
    assert off_diagonal.abs().max() < 1e-12
    assert covariance.diagonal().tolist() == sorted(covariance.diagonal().tolist(), reverse=True)


def test_principal_components_diagonalise_the_whole_covariance() -> None:
    x = correlated_images(400)
    spectrum = sp.PowerSpectrum.estimate(x.split(100), "principal")
    u = spectrum.basis.analyze(x - x.mean(0)).flatten(1)
    torch.testing.assert_close(u.T @ u / len(x), torch.diag(spectrum.power.flatten()), atol=1e-12, rtol=1e-6)


def test_shared_power_is_the_mean_over_channels() -> None:
    x = correlated_images(64)
    shared = sp.PowerSpectrum.estimate([x], channels="shared")
    independent = sp.PowerSpectrum.estimate([x], channels="independent")
    torch.testing.assert_close(shared.power, independent.power.mean(0, keepdim=True).expand(SHAPE))


def test_a_principal_basis_can_be_given() -> None:
    x = correlated_images(64)
    basis = sp.PrincipalBasis(torch.linalg.qr(torch.randn(192, 192, dtype=torch.float64)).Q)
    spectrum = sp.PowerSpectrum.estimate([x], basis)
    torch.testing.assert_close(spectrum.power, basis.analyze(x - x.mean(0)).square().mean(0))
    torch.testing.assert_close(spectrum.mean, x.mean(0))


def test_center_subtracts_the_mean_image() -> None:
    x = correlated_images(64)
    for basis in ("cosine", "fourier", "principal"):
        centered = sp.PowerSpectrum.estimate([x - x.mean(0)], basis, center=False)
        torch.testing.assert_close(
            sp.PowerSpectrum.estimate((x + 0).split(9), basis, center=True).power, centered.power
        )


def test_batches_may_be_pairs_of_any_size_and_dtype() -> None:
    x = correlated_images(50).float()
    labels = torch.zeros(50)
    pairs = [(part, label) for part, label in zip(x.split(7), labels.split(7), strict=True)]
    spectrum = sp.PowerSpectrum.estimate(pairs)
    assert spectrum.count == 50
    torch.testing.assert_close(spectrum.power, sp.PowerSpectrum.estimate([x]).power)
    assert spectrum.power.dtype == torch.float64


@pytest.mark.parametrize("shape", [(2, 31), (4, 3, 4, 5), (5,), (1, 6, 9)])
def test_any_number_of_axes(shape: tuple[int, ...]) -> None:
    x = torch.randn(40, *shape, dtype=torch.float64)
    spectrum = sp.PowerSpectrum.estimate([x])
    assert spectrum.shape == shape
    assert spectrum.power.mean().item() == pytest.approx((x - x.mean(0)).square().mean().item())


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("basis", ["cosine", "fourier", "principal"])
def test_parts_of_any_mean_equal_the_whole(basis: str, center: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(*images: Tensor) -> sp.spectra.SpectrumEstimator:
        estimator = sp.spectra.SpectrumEstimator(basis, center=center)  # type: ignore[arg-type]
        for each in images:
            estimator.update(each)
        return estimator

    x = correlated_images(64)
    chunks = (x[:10] + 0.5, x[10:11] - 1, x[11:] * x[11:])
    begun, merged, *ranks = (seen(chunks[0]), seen(), *(seen(chunk) for chunk in chunks))
    for part in (seen(), *ranks):
        merged.merge(part)
    for part in ranks[1:]:
        begun.merge(part)
    sent: list[list[Tensor]] = []  # what each rank gives to the sums of all ranks
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    for rank in ranks:
        sent.append([])
        monkeypatch.setattr(dist, "all_reduce", lambda tensor, *largest: None if largest else sent[-1].append(tensor))
        rank.all_reduce()
    sums = iter([sum(tensors) for tensors in zip(*sent, strict=True)])
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, *largest: None if largest else tensor.copy_(next(sums)))
    ranks[2].all_reduce()
    whole = seen(*chunks).spectrum()
    for estimator in (begun, merged, ranks[2]):
        found = estimator.spectrum()
        torch.testing.assert_close(found.power, whole.power)
        torch.testing.assert_close(found.cross, whole.cross)
        assert found.count == 64
        if center:
            torch.testing.assert_close(found.mean, torch.cat(chunks).mean(0))
        else:
            assert found.mean is None


def test_values_without_power_are_floored_and_counted() -> None:
    x = correlated_images(64)
    x[:, 1] = x[:, 0]
    x[:, 2] = x[:, 0]  # grey images: two rotated channels are empty
    spectrum = sp.PowerSpectrum.estimate([x], floor=1e-5)
    power = (x - x.mean(0)).square().mean()
    assert spectrum.floored == 2 * 64
    torch.testing.assert_close(spectrum.power[1:], torch.full((2, 8, 8), 1e-5 * power.item(), dtype=torch.float64))
    assert "128 values floored" in repr(spectrum)


@pytest.mark.parametrize("basis", ["cosine", "fourier", "principal"])
def test_a_mean_too_large_for_the_deviations_is_told(basis: str) -> None:
    images = correlated_images(300)

    def estimate(offset: float) -> Tensor:
        options = {"channels": "independent", "check_range": False}
        return sp.PowerSpectrum.estimate([images + offset], basis, **options).power

    expected = estimate(0.0)
    torch.testing.assert_close(estimate(1e3), expected, rtol=1e-3, atol=0)
    with pytest.warns(RuntimeWarning, match=r"power may be wrong by \de[-+]0\d of itself; subtract a constant near"):
        estimate(2e5)
    with pytest.raises(ValueError, match="less a constant near their mean if that is large, or center=False"):
        estimate(1e7)


@pytest.mark.parametrize("basis", ["cosine", "fourier", "principal"])
@pytest.mark.parametrize("count", [3, 7, 11])
def test_rounding_is_no_power(basis: str, count: int) -> None:
    same = correlated_images(1, seed=2).expand(count, *SHAPE)
    with pytest.raises(
        ValueError, match=r"carry no power: every image is zero, or equal to the mean image to rounding"
    ):
        sp.PowerSpectrum.estimate([same], basis)


def test_small_deviations_from_a_large_mean_are_power() -> None:
    x = correlated_images(64)
    with pytest.warns(RuntimeWarning, match="power may be wrong by 4e-03 of itself"):
        small = sp.PowerSpectrum.estimate([1 + 1e-5 * x], channels="independent", center=True)
    expected = sp.PowerSpectrum.estimate([x], channels="independent", center=True).power
    torch.testing.assert_close(small.power * 1e10, expected, rtol=1e-2, atol=0)


def test_one_image_and_zero_padding_give_a_positive_spectrum() -> None:
    padded = torch.nn.functional.pad(correlated_images(1), (4, 4, 4, 4))
    spectrum = sp.PowerSpectrum.estimate([padded], center=False)
    assert bool((spectrum.power > 0).all())
    assert spectrum.floored > 0


def test_power_law_has_its_formula_and_reference_values() -> None:
    spectrum = sp.PowerSpectrum.power_law((3, 32, 32), amplitude=1.59, offset=0.0086, exponent=2.0)
    axis = np.fft.fftfreq(32, 1 / 32)
    radius = np.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    np.testing.assert_allclose(spectrum.power[1].numpy(), 1.59 / np.abs(0.0086 + radius) ** 2.0, rtol=1e-12)
    assert spectrum.power[0, 0, 0].item() == pytest.approx(21498, rel=1e-4)


@fuzz(50)
@given(
    amplitude=st.floats(1e-3, 1e3),
    offset=st.floats(1e-3, 0.9),
    exponent=st.floats(0.5, 4),
    basis=st.sampled_from([sp.FourierBasis(), sp.CosineBasis()]),
)
def test_fit_recovers_a_power_law(amplitude: float, offset: float, exponent: float, basis: sp.bases.Basis) -> None:
    law = sp.PowerSpectrum.power_law((2, 9, 12), amplitude=amplitude, offset=offset, exponent=exponent, basis=basis)
    fit = law.fit_power_law()
    assert fit.amplitude == pytest.approx(amplitude, rel=1e-3)
    assert fit.offset == pytest.approx(offset, rel=1e-3)
    assert fit.exponent == pytest.approx(exponent, rel=1e-3)
    assert fit.r_squared > 1 - 1e-8


def test_r_squared_tells_a_bad_fit() -> None:
    wild = torch.exp(torch.randn(1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    with pytest.warns(RuntimeWarning, match=r"offset of the power law lies at a bound .*look at r_squared"):
        assert sp.PowerSpectrum(sp.CosineBasis(), wild).fit_power_law().r_squared < 0.2


def test_radial_average_of_an_isotropic_spectrum_is_its_profile() -> None:
    spectrum = sp.PowerSpectrum.power_law((2, 64), amplitude=1.0, offset=0.5, exponent=1.5)
    frequency, power = spectrum.radial_average()
    assert frequency.tolist() == list(range(33))
    torch.testing.assert_close(power[0], 1 / (0.5 + frequency) ** 1.5)


def test_rings_are_a_cycle_wide_and_halves_belong_to_the_next() -> None:
    law = sp.PowerSpectrum.power_law((1, 4), amplitude=1.0, offset=0.5, exponent=1.0, basis=sp.CosineBasis(1))
    frequency, power = law.radial_average()  # of 0, ½, 1 and 1½ cycles
    assert frequency.tolist() == [0, 1, 2]
    assert power[0].tolist() == pytest.approx([2, (1 + 1 / 1.5) / 2, 1 / 2])


def test_tempered_scales_the_logarithm() -> None:
    spectrum = sp.PowerSpectrum.estimate([correlated_images(32)])
    torch.testing.assert_close(spectrum.tempered(0.9).power.log(), 0.9 * spectrum.power.log())


def test_channels_sign_is_fixed_by_the_data_alone() -> None:
    x = correlated_images(64)
    one, other = (sp.PowerSpectrum.estimate(parts).basis.channel_rotation for parts in ([x], x.flip(0).split(5)))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("basis", ["cosine", "fourier", "principal"])
def test_files_hold_everything(tmp_path: Path, basis: str) -> None:
    spectrum = sp.PowerSpectrum.estimate([correlated_images(32)], basis)
    spectrum.save(tmp_path / "spectrum.npz")
    loaded = sp.PowerSpectrum.load(tmp_path / "spectrum.npz")
    assert torch.equal(loaded.power, spectrum.power)
    assert repr(loaded) == repr(spectrum)
    assert (loaded.cross is None) == (spectrum.cross is None)
    if spectrum.cross is not None:
        assert torch.equal(loaded.cross, spectrum.cross)
    x = correlated_images(2)
    assert torch.equal(loaded.basis.analyze(x), spectrum.basis.analyze(x))
    assert [path.name for path in tmp_path.iterdir()] == ["spectrum.npz"]


def test_a_file_has_the_rights_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    spectrum().save(tmp_path / "spectrum.npz")
    assert (tmp_path / "spectrum.npz").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(ValueError, match="must be a file, got the folder .*taken"):
        spectrum().save(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    with pytest.raises(FileNotFoundError):
        sp.PowerSpectrum.load(path)
    sp.PowerSpectrum.power_law((1, 8), amplitude=1.0, offset=1.0, exponent=1.0).save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not an archive"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"s\.npz is not a readable power spectrum"):
            sp.PowerSpectrum.load(path)
    np.savez(path, power=np.ones((1, 8)))
    with pytest.raises(ValueError, match="not a readable power spectrum"):
        sp.PowerSpectrum.load(path)


def test_a_pickle_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, header=np.array([{"format": "shortest_path.PowerSpectrum"}], dtype=object))
    with pytest.raises(ValueError, match="not a readable power spectrum"):
        sp.PowerSpectrum.load(path)
    path.write_bytes(pickle.dumps({"header": 1}))
    with pytest.raises(ValueError, match="not a readable power spectrum"):
        sp.PowerSpectrum.load(path)


def _archive(**changes: object) -> bytes:
    header = {"format": "shortest_path.PowerSpectrum", "version": 1, "basis": "FourierBasis", "dims": 1}
    header |= {"count": 0, "floored": 0}
    arrays: dict[str, np.ndarray] = {"power": np.ones((1, 8))}
    for name, value in changes.items():
        if isinstance(value, np.ndarray):
            arrays[name] = value
        else:
            header[name] = value
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "format version 2, this library reads up to 1; update"),
        ({"basis": "os.system"}, "inconsistent power spectrum: the basis 'os.system' is not registered"),
        ({"power": -np.ones((1, 8))}, "inconsistent power spectrum: power must be finite and 0 or positive"),
        ({"power": np.ones((1, 8, 8))}, "inconsistent power spectrum: power must have shape"),
        (
            {"channel_rotation": np.ones((1, 1)) * 2},
            "inconsistent power spectrum: channel_rotation must be orthonormal",
        ),
    ],
)
def test_inconsistent_files_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "s.npz"
    path.write_bytes(_archive(**changes))
    with pytest.raises(ValueError, match=message):
        sp.PowerSpectrum.load(path)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_power_must_be_positive_or_zero_and_finite(bad: float) -> None:
    power = torch.ones(1, 4, 4)
    power[0, 1, 2] = bad
    with pytest.raises(ValueError, match=r"finite and 0 or positive, but 1 of 16 values are not \(first: "):
        sp.PowerSpectrum(sp.CosineBasis(), power)


def test_a_fourier_spectrum_must_be_symmetric() -> None:
    power = torch.ones(1, 4, 4)
    power[0, 1, 2] = 2.0
    with pytest.raises(ValueError, match=r"symmetric, S\(k\) = S\(-k\)"):
        sp.PowerSpectrum(sp.FourierBasis(), power)
    power[0, 3, 2] = 2.0
    assert sp.PowerSpectrum(sp.FourierBasis(), power).power[0, 3, 2] == 2.0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sp.PowerSpectrum.estimate([]), ValueError, "no images were seen"),
        (lambda: sp.PowerSpectrum.estimate([torch.zeros(0, 3, 4, 4)]), ValueError, "empty batch"),
        (lambda: sp.PowerSpectrum.estimate([torch.zeros(2, 3, 4, 4)]), ValueError, "carry no power"),
        (lambda: sp.PowerSpectrum.estimate(torch.rand(9, 3, 4, 4)), TypeError, "iterable of batches, got one tensor"),
        (
            lambda: sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(1, 4)).save("no such folder/s.npz"),
            FileNotFoundError,
            "its folder does not exist",
        ),
        (lambda: sp.PowerSpectrum.estimate(["cat.png"]), TypeError, "must yield tensors .* got str"),
        (lambda: sp.PowerSpectrum.estimate([torch.zeros(2, 3, 4, 4, dtype=torch.uint8)]), TypeError, "got torch.uint8"),
        (lambda: sp.PowerSpectrum.estimate([torch.rand(2, 3, 4, 4) * 255]), ValueError, r"expected about \[-1, 1\]"),
        (lambda: sp.PowerSpectrum.estimate([torch.full((2, 3, 4, 4), math.nan)]), ValueError, "NaN or infinite"),
        (lambda: sp.PowerSpectrum.estimate([torch.rand(5)]), ValueError, r"must have shape \(B, C, \*spatial\)"),
        (
            lambda: sp.PowerSpectrum.estimate([torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)]),
            ValueError,
            r"same shape; got \(3, 8, 8\) after \(3, 4, 4\)",
        ),
        (lambda: sp.PowerSpectrum.estimate([torch.rand(2, 3, 4)], sp.CosineBasis(2)), ValueError, "set dims=1"),
        (
            lambda: sp.PowerSpectrum.estimate([], "wavelet"),
            ValueError,
            "unknown basis 'wavelet'; choose one of 'cosine', 'fourier', 'principal'",
        ),
        (
            lambda: sp.PowerSpectrum.estimate([torch.rand(2, 3, 4, 4)], channels="mixed"),
            ValueError,
            "unknown channels 'mixed'; choose one of 'rotate', 'independent', 'shared'",
        ),
        (lambda: sp.PowerSpectrum.estimate([torch.rand(2, 3, 4, 4)], floor=2.0), ValueError, r"lie in \(0, 1\), got 2"),
        (
            lambda: sp.PowerSpectrum.estimate([torch.rand(2, 1, 4, 4)], sp.CosineBasis(2, torch.eye(3))),
            ValueError,
            "the basis rotates 3 channels, images have 1",
        ),
        (
            lambda: sp.PowerSpectrum.estimate([torch.rand(2, 3, 4, 4)], sp.CosineBasis(2, torch.eye(3)), "independent"),
            ValueError,
            "channels='independent' .* the basis has a channel_rotation; use channels='rotate' or a basis without",
        ),
        (
            lambda: sp.PowerSpectrum.power_law((3,), amplitude=1.0, offset=1.0, exponent=1.0),
            ValueError,
            r"shape must be \(C, \*spatial\)",
        ),
        (
            lambda: sp.PowerSpectrum.power_law((3, 4), amplitude=1.0, offset=0.0, exponent=1.0),
            ValueError,
            "amplitude and offset must be positive",
        ),
        (
            lambda: sp.PowerSpectrum.power_law((3, 2), amplitude=1.0, offset=1.0, exponent=1.0).fit_power_law(),
            ValueError,
            "at least three different frequencies",
        ),
        (lambda: sp.PowerSpectrum(sp.CosineBasis(), torch.ones(4, 4)), ValueError, "power must have shape"),
        (
            lambda: sp.PowerSpectrum(sp.CosineBasis(2, torch.eye(3)), torch.ones(2, 4, 4)),
            ValueError,
            "power has 2 channels, the basis rotates 3",
        ),
        (
            lambda: sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(2, 4), cross=torch.ones(2, 4)),
            ValueError,
            "cross must have shape",
        ),
        (
            lambda: sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(2, 4), cross=torch.full((2, 2, 4), math.nan)),
            ValueError,
            "cross holds NaN",
        ),
        (
            lambda: sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(2, 4), cross=torch.rand(2, 2, 4)),
            ValueError,
            "cross must be Hermitian",
        ),
    ],
)
def test_wrong_arguments_are_explained(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(("low", "high"), [(0, 2.1), (0, 255), (-9, 16.1)])
def test_large_values_are_allowed_on_request(low: float, high: float) -> None:
    x = torch.tensor([low, high], dtype=torch.float64).view(2, 1, 1, 1)
    with pytest.raises(ValueError, match=r"expected about \[-1, 1\]; .* or pass check_range=False"):
        sp.PowerSpectrum.estimate([x])
    assert sp.PowerSpectrum.estimate([x], check_range=False).count == 2


@pytest.mark.parametrize(("low", "high"), [(0, 2), (-0.1, 16), (-300, 1)])
def test_values_of_unusual_images_are_allowed(low: float, high: float) -> None:
    assert sp.PowerSpectrum.estimate([torch.tensor([low, high], dtype=torch.float64).view(2, 1, 1, 1)]).count == 2


@pytest.mark.parametrize("basis", ["cosine", "fourier"])
def test_the_rotation_of_a_basis_is_kept(basis: Any) -> None:
    one, other = correlated_images(64).split(32)
    other = other + 0.3 * other.roll(1, 1)
    first, own = (sp.PowerSpectrum.estimate([x], basis) for x in (one, other))
    assert not torch.allclose(own.basis.channel_rotation, first.basis.channel_rotation, atol=1e-3)
    second = sp.PowerSpectrum.estimate(other.split(5), first.basis)
    assert torch.equal(second.basis.channel_rotation, first.basis.channel_rotation)
    moment = second.basis.analyze(other - other.mean(0)).square().mean(0)
    if basis == "fourier":  # the mean of Hartley power at k and −k
        moment = (moment + second.basis.mirror(moment)) / 2
    torch.testing.assert_close(second.power, moment)
    torch.testing.assert_close(second.cross, own.cross)
    torch.testing.assert_close(second.mean, own.mean)
    again = sp.PowerSpectrum.estimate([one], first.basis)
    assert torch.equal(again.power, first.power)
    parts = [sp.spectra.SpectrumEstimator(first.basis) for _ in range(2)]
    for part, x in zip(parts, other.split(16), strict=True):
        part.update(x)
    parts[0].merge(parts[1])
    torch.testing.assert_close(parts[0].spectrum().power, second.power)


def test_estimates_of_different_kinds_are_not_merged() -> None:
    one, other = sp.spectra.SpectrumEstimator("cosine"), sp.spectra.SpectrumEstimator("fourier")
    one.update(correlated_images(2))
    with pytest.raises(ValueError, match="cannot merge an estimate in basis 'cosine' into one in 'fourier'"):
        other.merge(one)


def test_all_reduce_needs_a_process_group() -> None:
    with pytest.raises(RuntimeError, match="init_process_group"):
        sp.spectra.SpectrumEstimator().all_reduce()


@pytest.mark.parametrize("kind", ["cosine", "fourier", "principal"])
def test_a_state_in_a_checkpoint_gives_the_same_spectrum(tmp_path: Path, kind: str) -> None:
    measured = spectrum(kind)
    torch.save({"spectrum": measured.state_dict()}, tmp_path / "c.pt")
    again = sp.PowerSpectrum.from_state_dict(torch.load(tmp_path / "c.pt", weights_only=True)["spectrum"])
    assert torch.equal(again.power, measured.power)
    x = correlated_images(3)
    torch.testing.assert_close(again.basis.analyze(x), measured.basis.analyze(x), rtol=0, atol=0)
    assert repr(again) == repr(measured)
    with pytest.raises(ValueError, match="not the state of a power spectrum: format None"):
        sp.PowerSpectrum.from_state_dict({})


@pytest.mark.parametrize("basis", ["cosine", "fourier"])
@pytest.mark.parametrize("shape", [(3, 7), (3, 8, 9), (2, 64, 80), (9, 6, 5), (2, 3, 4, 5)])
def test_sums_are_of_the_products_of_coefficients(basis: Any, shape: tuple[int, ...]) -> None:
    images = correlated_images(30, shape)
    transform = (sp.CosineBasis if basis == "cosine" else sp.FourierBasis)(len(shape) - 1)
    u = transform.spatial_coefficients(images)
    moment, total = completed(*sums(images, transform), transform, shape[-1])
    torch.testing.assert_close(moment, torch.einsum("bi...,bj...->ij...", u, u.conj()), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(total, u.sum(0), rtol=1e-12, atol=1e-12)
    if isinstance(transform, sp.FourierBasis):
        half = sums(images.float(), transform)  # a batch costs no more than these
        assert {each.shape[-1] for each in half} == {shape[-1] // 2 + 1}
        moment = completed(*half, transform, shape[-1])[0]
        assert torch.equal(transform.mirror(moment).conj(), moment)


def test_cosine_coefficients_of_float32_images_are_in_float32_and_no_less() -> None:
    images = correlated_images(50).float()
    exact = sp.PowerSpectrum.estimate([images.double()]).power
    found = sp.PowerSpectrum.estimate([images]).power
    assert not torch.equal(found, exact)
    fourier = [sp.PowerSpectrum.estimate([each], "fourier").power for each in (images, images.double())]
    assert torch.equal(*fourier)  # where float32 is no faster
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-8 * float(exact.mean()))
    torch.set_float32_matmul_precision("medium")  # may take bfloat16
    try:
        assert torch.equal(sp.PowerSpectrum.estimate([images]).power, exact)
    finally:
        torch.set_float32_matmul_precision("highest")
    huge = images * 1e38 + 2e38  # the mean is beyond float32 in the transform
    power = sp.PowerSpectrum.estimate([huge], check_range=False).power
    torch.testing.assert_close(power, sp.PowerSpectrum.estimate([huge.double()], check_range=False).power)


def test_equal_images_have_equal_rotations_where_channels_tell_no_direction() -> None:
    grey = correlated_images(100).double()[:, :1].expand(-1, 3, -1, -1)
    expected = torch.tensor([[1.0, 1, 1], [2, -1, -1], [0, 1, -1]], dtype=torch.float64)
    expected /= expected.norm(dim=1, keepdim=True)
    for size in (50, 40, 7):  # summed in another order, and so rounded otherwise
        basis = sp.PowerSpectrum.estimate(grey.split(size), progress=False).basis
        torch.testing.assert_close(basis.channel_rotation, expected, atol=1e-8, rtol=0)
