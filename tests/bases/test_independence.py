"""What an image of a batch holds reaches no other: not a NaN, an infinity, nor the rounding of large numbers."""

from __future__ import annotations

import pytest
import torch

import shortest_path as sp
from tests.bases.test_bases import bases, rotation

OTHERS = [0, 1, 2, 4]
SPOILT = 3
LARGE = {
    "cosine": sp.CosineBasis(),
    "cosine-rotated": sp.CosineBasis(2, rotation(3)),
    "fourier": sp.FourierBasis(),
    "separable": sp.bases.SeparableBasis(("cosine", "fourier"), rotation(3)),
    "haar": sp.bases.WaveletBasis(),
}


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e6])
@pytest.mark.parametrize("size", [(8, 8), (200, 100), (200, 256)], ids=str)
def test_images_of_a_batch_are_transformed_apart(size: tuple[int, int], factor: float) -> None:
    x, eps = torch.randn(2, 5, 3, *size, generator=torch.Generator().manual_seed(0))
    spoilt = x.clone()
    spoilt[SPOILT] *= factor
    half = torch.tensor(0.5)
    for name, basis in (bases((3, 8, 8)) if size == (8, 8) else LARGE).items():
        for work in (basis.analyze, basis.synthesize, lambda x, b=basis: b.mix(x, eps, (half, half), even=True)[0]):
            assert torch.equal(work(spoilt)[OTHERS], work(x)[OTHERS]), name


@pytest.mark.parametrize("size", [(193, 193), (200, 256)], ids=str)
def test_a_channel_of_a_large_image_is_what_it_is_alone(size: tuple[int, int]) -> None:
    x, basis = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(0)), sp.CosineBasis()
    spoilt = x.clone()
    spoilt[1, 0] = float("nan")
    for work in (basis.analyze, basis.synthesize):
        whole, alone = work(x)[1, 1:], work(x[1:2, 1:])[0]
        assert torch.equal(work(spoilt)[1, 1:], whole)
        # Of two images at once MKL's inverse FFT rounds otherwise than of one, on some processors.
        torch.testing.assert_close(whole, alone, rtol=0, atol=4 * torch.finfo(x.dtype).eps * whole.abs().max().item())


def test_gradients_of_a_batch_are_apart() -> None:
    basis, x = sp.CosineBasis(), torch.randn(2, 1, 200, 200, generator=torch.Generator().manual_seed(0))

    def slope(factor: float) -> torch.Tensor:
        scaled = (x * torch.tensor([1, factor]).view(2, 1, 1, 1)).requires_grad_()
        return torch.autograd.grad((basis.synthesize(basis.analyze(scaled) ** 2) ** 2).sum(), scaled)[0][0]

    assert torch.equal(slope(float("nan")), slope(1.0))
