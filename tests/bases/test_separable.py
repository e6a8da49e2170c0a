"""A transform per axis, against torch.fft and scipy axis by axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor
from typing_extensions import override

import shortest_path as sp
from shortest_path.bases import SeparableBasis, WaveletBasis


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def hartley(x: np.ndarray, axis: int) -> np.ndarray:
    u = torch.fft.fft(torch.from_numpy(x), dim=axis, norm="ortho").numpy()
    return u.real - u.imag


def dct(x: np.ndarray, axis: int) -> np.ndarray:
    return scipy.fft.dct(x, axis=axis, norm="ortho")


def same(x: np.ndarray, axis: int) -> np.ndarray:
    return x


def haar(x: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(WaveletBasis(dims=1).analyze(torch.from_numpy(np.moveaxis(x, axis, -1))).numpy(), -1, axis)


ALONG: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "cosine": dct, "fourier": hartley, "haar": haar, "pixel": same,
}  # fmt: skip


class Turned(sp.bases.Basis):
    """A user's own orthonormal matrix along one axis."""

    argument_names = ("matrix",)

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(1)
        self.register_buffer("matrix", matrix)

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        return x @ self.matrix.to(x).T

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        return u @ self.matrix.to(u)


def turned(n: int) -> Turned:
    return Turned(torch.linalg.qr(images(n, n)).Q)


@pytest.mark.parametrize(
    "axes",
    [
        ("fourier", "cosine"),
        ("cosine", "fourier"),
        ("pixel", "cosine"),
        ("fourier", "fourier"),
        ("haar", "cosine"),
        ("cosine", "pixel", "pixel"),
        ("fourier", "haar", "cosine"),
        ("cosine",),
    ],
)
def test_every_axis_has_its_own_transform(axes: tuple[str, ...]) -> None:
    x = images(2, 3, *(4, 7, 5)[: len(axes)]) if "haar" not in axes else images(2, 3, *(6, 4, 5)[: len(axes)])
    expected = x.numpy()
    for axis, name in enumerate(axes):
        expected = ALONG[name](expected, 2 + axis)
    basis = SeparableBasis(axes)  # type: ignore[arg-type]
    np.testing.assert_allclose(basis.analyze(x), expected, atol=1e-12)
    np.testing.assert_allclose(basis.synthesize(torch.from_numpy(expected)), x, atol=1e-12)
    assert not basis.spatial_coefficients(x).is_complex()  # covariances between channels are measured on these


def test_a_basis_of_ones_own_serves_an_axis() -> None:
    x, own = images(2, 3, 6, 5), turned(5)
    u = SeparableBasis(("cosine", own)).analyze(x)
    np.testing.assert_allclose(u, dct((x @ own.matrix.T).numpy(), 2), atol=1e-12)
    first = SeparableBasis((turned(6), "pixel")).analyze(x)
    np.testing.assert_allclose(first, torch.einsum("ij,bcjk->bcik", turned(6).matrix, x), atol=1e-12)


def test_a_shift_along_the_periodic_axis_keeps_the_power() -> None:
    x = images(2, 1, 5, 8)  # mirrored rows, periodic columns
    basis = SeparableBasis(("cosine", "fourier"))

    def power(x: Tensor) -> Tensor:
        squares = basis.analyze(x) ** 2
        return squares + squares.flip(-1).roll(1, -1)  # |c(k)|² + |c(−k)|²

    assert not torch.allclose(basis.analyze(x) ** 2, basis.analyze(x.roll(3, -1)) ** 2)
    torch.testing.assert_close(power(x.roll(3, -1)), power(x))
    assert not torch.allclose(power(x.roll(2, -2)), power(x))


def test_frequencies_combine_in_cycles_per_longest_side() -> None:
    found = SeparableBasis(("cosine", "fourier")).frequencies((4, 8))
    assert float(found[3, 7]) == pytest.approx((3.0**2 + 1) ** 0.5)  # 1.5 cycles in 4 pixels, −1 in 8
    cosine, fourier = SeparableBasis(("cosine",) * 3), SeparableBasis(("fourier",) * 2)
    torch.testing.assert_close(cosine.frequencies((3, 4, 5)), sp.CosineBasis(3).frequencies((3, 4, 5)))
    torch.testing.assert_close(fourier.frequencies((3, 4)), sp.FourierBasis().frequencies((3, 4)))


def test_it_moves_with_its_bases_and_copies_the_callers() -> None:
    own = turned(4)
    basis = SeparableBasis((own, "cosine"), torch.eye(2, dtype=torch.float64))
    x = images(1, 2, 4, 3)
    expected = basis.analyze(x)
    own.matrix.zero_()
    assert torch.equal(basis.half().analyze(x), expected)  # tables keep their precision
    basis.to("meta")
    assert own.matrix.device.type == "cpu"
    assert {buffer.device.type for buffer in basis.buffers()} == {"meta"}
    assert basis.analyze(x.to("meta")).shape == x.shape


def test_spectra_and_corruptions_take_it() -> None:
    x = images(64, 2, 4, 6).cumsum(-2) / 4
    spectrum = sp.PowerSpectrum.estimate([x], SeparableBasis(("cosine", "fourier")))
    x_t = sp.ShortestPathCorruption(spectrum).corrupt(x, torch.full((64,), 0.5), torch.randn_like(x))
    assert spectrum.basis.channel_rotation is not None
    power = spectrum.basis.analyze(x_t).square().mean(0)
    torch.testing.assert_close(power, spectrum.power.sqrt(), rtol=0.9, atol=0)  # Σ_t = S^(1−t)


def test_transforms_are_shared_axis_by_axis() -> None:
    basis = SeparableBasis(("cosine", turned(4)))
    assert basis.shares_transform(SeparableBasis((sp.CosineBasis(1), turned(4)), torch.eye(3)))
    different = Turned(torch.eye(4, dtype=torch.float64))
    for other in (("fourier", turned(4)), (turned(4), "cosine"), ("cosine", different), ("cosine", turned(5))):
        assert not basis.shares_transform(SeparableBasis(other))  # type: ignore[arg-type]
    assert not basis.shares_transform(SeparableBasis(("cosine",)))
    assert not SeparableBasis(("cosine", "cosine")).shares_transform(sp.CosineBasis())


def test_it_says_what_it_is() -> None:
    basis = SeparableBasis(("fourier", "haar"), torch.eye(3))
    assert repr(basis) == (
        "SeparableBasis((FourierBasis(dims=1), WaveletBasis(wavelet='haar', levels=None, dims=1)), "
        "channel_rotation=(3, 3))"
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SeparableBasis("cosine"), TypeError, "sequence of one transform per spatial axis, got 'cosine'"),
        (lambda: SeparableBasis(sp.CosineBasis(1)), TypeError, r"sequence .* got CosineBasis\(dims=1\)"),
        (lambda: SeparableBasis(2), TypeError, "must be a sequence of one transform per spatial axis, got 2"),
        (lambda: SeparableBasis((1,)), TypeError, "axis 0 must be the name of a transform or a Basis .* got int"),
        (lambda: SeparableBasis((sp.CosineBasis,)), TypeError, "got the class CosineBasis"),
        (lambda: SeparableBasis(()), ValueError, r"got none; use PixelBasis\(0\)"),
        (lambda: SeparableBasis(("cosine", "sine")), ValueError, "unknown transform of axis 1 'sine'"),
        (
            lambda: SeparableBasis((sp.CosineBasis(),)),
            ValueError,
            r"axis 0 must have dims=1, got CosineBasis\(dims=2\)",
        ),
        (
            lambda: SeparableBasis(("pixel", sp.CosineBasis(1, torch.eye(3)))),
            ValueError,
            "axis 1 must have no channel rotation; pass it to SeparableBasis",
        ),
        (
            lambda: SeparableBasis((sp.PrincipalBasis(torch.eye(4), 1),)),
            ValueError,
            "axis 0 must leave the channels alone, but PrincipalBasis transforms them too",
        ),
        (
            lambda: SeparableBasis(("cosine", "pixel")).frequencies((2, 3)),
            ValueError,
            "axis 1 of SeparableBasis.*: PixelBasis has no frequencies",
        ),
        (
            lambda: SeparableBasis(("cosine", "haar")).frequencies((2, 3)),
            ValueError,
            "axis 1 of SeparableBasis.*: .* requires even axes",
        ),
        (
            lambda: SeparableBasis(("cosine", "fourier")).frequencies((2,)),
            ValueError,
            r"requires 2 spatial sizes, got \(2,\); pass one size per axis",
        ),
    ],
)
def test_wrong_arguments_are_explained(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
