"""Laws of centred spectra: the mean image, and one rotation of the channels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.worlds import SHAPE, correlated_images

MATRIX = torch.linalg.qr(torch.randn(192, 192, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).Q
REQUESTS = {
    "cosine": "cosine",
    "fourier": "fourier",
    "principal": "principal",
    "pixel": sp.PixelBasis(),
    "given": sp.PrincipalBasis(MATRIX),
}


def tinted(count: int = 400, size: int = 16) -> Tensor:
    """Images of a strong mean colour, whose texture has channels along other axes."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    basis = sp.CosineBasis()
    white = torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)
    texture = basis.synthesize(white / (0.5 + basis.frequencies((size, size))))
    texture = texture / texture.std() * torch.tensor([0.15, 0.06, 0.03]).view(3, 1, 1)
    return torch.einsum("ij,bjhw->bihw", mixing, texture) + torch.tensor([0.6, 0.1, 0.5]).view(3, 1, 1)


def nats_lost(spectrum: sp.PowerSpectrum, rotation: Tensor) -> float:
    """Return ½ Σ_f [ Σ_c log (R C_f Rᵀ)_cc − log det C_f ]: what the diagonal in rotated channels leaves out."""
    assert spectrum.cross is not None
    blocks = spectrum.cross.flatten(2).permute(2, 0, 1)
    rotated = rotation.to(blocks.dtype) @ blocks @ rotation.T.to(blocks.dtype)
    return 0.5 * float(rotated.diagonal(dim1=1, dim2=2).real.log().sum() - torch.linalg.slogdet(blocks).logabsdet.sum())


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_mean_is_the_mean_image(request_: str) -> None:
    x = correlated_images(64) + 0.3
    x[:, 1] -= torch.linspace(0, 1, 8, dtype=torch.float64)
    spectrum = sp.PowerSpectrum.estimate(x.split(9), REQUESTS[request_])
    assert spectrum.mean is not None
    assert spectrum.mean.dtype == torch.float64
    torch.testing.assert_close(spectrum.mean, x.mean(0), rtol=0, atol=1e-14)
    u, m = spectrum.basis.analyze(x), spectrum.basis.analyze(spectrum.mean)
    power = (u - m).square().mean(0)
    if isinstance(spectrum.basis, sp.FourierBasis):  # the mean of the Hartley powers of k and −k is the Fourier power
        power = (power + spectrum.basis.mirror(power)) / 2
    torch.testing.assert_close(spectrum.power, power)


@pytest.mark.parametrize("request_", REQUESTS)
def test_without_centring_the_power_is_the_second_moment_and_there_is_no_mean(request_: str) -> None:
    x = correlated_images(64) + 0.3
    spectrum = sp.PowerSpectrum.estimate([x], REQUESTS[request_], center=False)
    assert spectrum.mean is None
    assert spectrum.power.sum().item() == pytest.approx(x.square().sum().item() / 64)


def test_centring_is_the_default_of_the_estimator_too() -> None:
    estimator = sp.spectra.SpectrumEstimator()
    estimator.update(correlated_images(16) + 0.3)
    torch.testing.assert_close(estimator.spectrum().mean, correlated_images(16).mean(0) + 0.3)


@pytest.mark.parametrize("request_", REQUESTS)
def test_one_image_has_no_power_about_its_own_mean(request_: str) -> None:
    with pytest.raises(ValueError, match="two or more images, got 1, .*; pass more images, or center=False"):
        sp.PowerSpectrum.estimate([correlated_images(1)], REQUESTS[request_])


def test_a_spectrum_holds_a_copy_of_its_mean() -> None:
    mean = torch.zeros(1, 4, dtype=torch.float64)
    spectrum = sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(1, 4), mean=mean)
    mean.fill_(7)
    assert spectrum.mean is not None
    half = sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(1, 4), mean=torch.ones(1, 4, dtype=torch.float16))
    assert half.mean is not None
    assert half.mean.dtype == torch.float64
    assert not spectrum.mean.any()
    assert "analytic with a mean" in repr(spectrum)
    assert "16 images and their mean," in repr(sp.PowerSpectrum.estimate([correlated_images(16)]))


@pytest.mark.parametrize(
    ("mean", "error", "message"),
    [
        ([[0.0] * 4], TypeError, "mean must be a torch.Tensor, got list"),
        (torch.zeros(1, 4, dtype=torch.int64), TypeError, "mean must be a floating-point tensor"),
        (torch.zeros(4), ValueError, r"mean must be an image of shape \(C, \*spatial\) = \(1, 4\), got \(4,\)"),
        (torch.zeros(1, 4, device="meta"), ValueError, "mean is on the meta device"),
        (torch.full((1, 4), torch.nan), ValueError, "mean holds NaN or infinite values"),
    ],
)
def test_wrong_means_are_explained(mean: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(1, 4), mean=mean)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("basis", ["cosine", "fourier"])
def test_one_rotation_suits_all_frequencies_of_tinted_images(basis: str, center: bool) -> None:
    spectrum = sp.PowerSpectrum.estimate(tinted().split(100), basis, center=center)  # type: ignore[arg-type]
    assert spectrum.cross is not None
    plain = torch.linalg.eigh(spectrum.cross.real.flatten(2).mean(-1)).eigenvectors.T
    lost = nats_lost(spectrum, spectrum.basis.channel_rotation)
    assert lost < 0.1 * nats_lost(spectrum, torch.eye(3, dtype=torch.float64))
    if not center:  # the mean colour is the strongest covariance by far
        assert lost < 0.1 * nats_lost(spectrum, plain)
    assert 0.5 * float(
        spectrum.power.log().sum() - torch.linalg.slogdet(spectrum.cross.movedim((0, 1), (-2, -1))).logabsdet.sum()
    ) == pytest.approx(lost, rel=1e-6)


def test_every_frequency_decides_the_rotation_alike() -> None:
    """A frequency of overwhelming power along another axis leaves the rotation to the 63 others."""
    x = correlated_images(400)
    basis = sp.CosineBasis()
    u = basis.analyze(x)
    u[:, :, 0, 1] = 1e3 * torch.einsum("b,c->bc", u[:, 0, 0, 1], torch.tensor([1.0, -1, 0], dtype=torch.float64))
    found, before = (
        sp.PowerSpectrum.estimate([y], check_range=False).basis.channel_rotation for y in (basis.synthesize(u), x)
    )
    assert (found[0] @ before[0]).abs().item() > 0.99
    assert found.shape == (SHAPE[0],) * 2
