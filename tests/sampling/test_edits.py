"""Arguments of edits: unknown pixels are not used, and what is wrong is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.worlds import SHAPE, correlated_images

NAN = float("nan")
IMAGE = correlated_images(1)


def grey(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True)


def spread(y: Tensor) -> Tensor:
    return y.expand(-1, 3, *y.shape[2:])


def sample(**options: Any) -> Tensor:
    sampler = sp.Sampler(lambda x_t, t: x_t, sp.GaussianCorruption("flow"), prediction="data", steps=2)
    return sampler.sample((2, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.float64, **options)


@pytest.mark.parametrize("nothing", [NAN, float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.float64])
def test_unknown_pixels_are_not_used(nothing: float, kind: torch.dtype) -> None:
    mask = torch.ones(SHAPE[1:], dtype=torch.float64)
    mask[2:5, 3:7] = 0
    known = IMAGE.masked_fill(mask == 0, nothing)
    marked = sample(denoised_callback=sp.edits.inpaint(known, mask.to(kind)))
    assert torch.equal(marked, sample(denoised_callback=sp.edits.inpaint(IMAGE, mask.to(kind))))
    predicted = correlated_images(2).requires_grad_()
    sp.edits.inpaint(known, 0.5 * mask)(predicted, 0.5).sum().backward()
    assert torch.equal(predicted.grad, (1 - 0.5 * mask).expand_as(predicted))


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_a_known_pixel_has_a_value(weight: float) -> None:
    unknown = IMAGE.clone()
    unknown[..., 0, :2] = NAN
    mask = torch.full(SHAPE[1:], weight)
    with pytest.raises(ValueError, match=r"x_0 has 6 values that are NaN or infinite where mask is above 0; set mask"):
        sp.edits.inpaint(unknown, mask)


def project(y: Any = None, forward: Any = grey, pseudo_inverse: Any = spread) -> Tensor:
    return sp.edits.project(grey(IMAGE) if y is None else y, forward, pseudo_inverse)(correlated_images(2), 0.5)


def test_a_measurement_may_be_complex() -> None:
    def half(x: Tensor) -> Tensor:
        return torch.fft.fft2(x, norm="ortho")

    def back(y: Tensor) -> Tensor:
        return torch.fft.ifft2(y, norm="ortho").real

    torch.testing.assert_close(project(half(IMAGE), half, back), IMAGE.expand(2, -1, -1, -1))


def test_one_measurement_is_that_of_every_image() -> None:
    torch.testing.assert_close(grey(project()), grey(IMAGE).expand(2, -1, -1, -1))


WRONG: dict[str, Callable[[], object]] = {
    "measurement must be a torch.Tensor, got NoneType": lambda: sp.edits.project(None, grey, spread),
    "measurement must be a torch.Tensor, got ndarray": lambda: project(np.ones((1, 1, 8, 8))),
    "measurement must be a floating-point tensor, got torch.uint8": lambda: project(IMAGE.byte()),
    "measurement must be a floating-point tensor, got torch.int64; convert it": lambda: project(IMAGE.long()),
    "measurement is sparse; pass measurement.to_dense()": lambda: project(IMAGE.to_sparse()),
    "measurement is on the meta device": lambda: project(IMAGE.to("meta")),
    "measurement holds NaN or infinite values": lambda: project(grey(IMAGE) * NAN),
    "measurement is complex, but forward returned torch.float64": lambda: project(grey(IMAGE).cfloat()),
    "forward must be a function of x, got int": lambda: sp.edits.project(IMAGE, 3, spread),
    "forward must be a function of x, got NoneType": lambda: sp.edits.project(IMAGE, None, spread),
    "pseudo_inverse must be a function of y, got NoneType": lambda: sp.edits.project(IMAGE, grey, None),
    "forward must be a function of x, got the class Upsample": lambda: project(forward=torch.nn.Upsample),
    "forward must return a tensor, got ndarray": lambda: project(forward=lambda x: grey(x).numpy()),
    "pseudo_inverse must return a tensor, got NoneType": lambda: project(pseudo_inverse=lambda y: None),
    "measurement must broadcast to what forward returned, (2, 1, 8, 8), got (1, 1, 4, 4)": lambda: project(
        torch.zeros(1, 1, 4, 4)
    ),
    "measurement must broadcast to what forward returned, (2, 1, 8, 8), got (1, 3, 8, 8)": lambda: project(IMAGE),
    "what pseudo_inverse returned must broadcast to the images, (2, 3, 8, 8), got (2, 1, 4, 4)": lambda: project(
        pseudo_inverse=lambda y: y[..., ::2, ::2]
    ),
    "x_0 is sparse; pass x_0.to_dense()": lambda: sp.edits.inpaint(IMAGE.to_sparse(), torch.ones(8)),
    "mask is sparse; pass mask.to_dense()": lambda: sp.edits.inpaint(IMAGE, torch.ones(8).to_sparse()),
    "mask is on the meta device": lambda: sp.edits.inpaint(IMAGE, torch.ones(8, device="meta")),
    "x_0 and mask must broadcast to one shape, got (1, 3, 8, 8) and (5,)": lambda: sp.edits.inpaint(
        IMAGE, torch.ones(5)
    ),
    "x_0 must broadcast to the images, (2, 3, 8, 8), got (4, 3, 8, 8)": lambda: sp.edits.inpaint(
        correlated_images(4), torch.ones(8)
    )(correlated_images(2), 0.5),
    "mask must broadcast to the images, (1, 3, 8, 8), got (2, 1, 8, 8)": lambda: sp.edits.inpaint(
        IMAGE, torch.ones(2, 1, 8, 8)
    )(correlated_images(1), 0.5),
    "every callback must be a function of (x_0_hat, t), got NoneType": lambda: sp.edits.compose(None),
    "clip[0] must be a number, got None": lambda: sample(clip=(None, 1)),
    "clip[0] must be a number, got 'a'": lambda: sample(clip=("a", "b")),
    "clip[1] must be a number, got True": lambda: sample(clip=(0, True)),
    "clip must be a pair of numbers (low, high), e.g. (-1, 1), got Tensor; pass tuple(clip.tolist())": lambda: sample(
        clip=torch.tensor([-1.0, 1.0])
    ),
    "clip must be a pair of numbers (low, high), e.g. (-1, 1), got ndarray; pass tuple(clip.tolist())": lambda: sample(
        clip=np.array([-1.0, 1.0])
    ),
    "clip must be a pair of numbers (low, high), e.g. (-1, 1), got 1.0": lambda: sample(clip=1.0),
    "clip must be a pair of numbers (low, high), e.g. (-1, 1), got 'ab'": lambda: sample(clip="ab"),
    "clip must be a pair of numbers (low, high), e.g. (-1, 1), got (1,)": lambda: sample(clip=(1,)),
    "clip must be (low, high) with low < high, got (1, -1)": lambda: sample(clip=(1, -1)),
    "clip must be (low, high) with low < high, got (-1, nan)": lambda: sample(clip=(-1, NAN)),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_refused_with_the_reason(message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        WRONG[message]()
    assert message in str(caught.value)


@pytest.mark.parametrize("wrong", [lambda x, t: None, lambda x, t: x.cfloat()])
def test_the_final_edit_is_checked_as_those_before(wrong: Any) -> None:
    def edit(x_0: Tensor, t: float) -> Any:
        return wrong(x_0, t) if t == 0 else x_0

    with pytest.raises(ValueError, match="denoised_callback must return the clean images it was given, changed, real"):
        sample(denoised_callback=edit)


@pytest.mark.parametrize("call", [0, 1])
def test_a_complex_output_is_not_cut(call: int) -> None:
    flow, x = sp.GaussianCorruption("flow"), torch.zeros(2, *SHAPE)
    calls: list[Callable[[], object]] = [
        lambda: sp.Sampler(lambda x_t, t: x_t.cfloat(), flow, steps=2).sample(x.shape),
        lambda: sp.DiffusionLoss(flow)(lambda x_t, t: x_t.cfloat(), x),
    ]
    with pytest.raises(TypeError, match=r"must return real numbers, got torch.complex64; return its real part"):
        calls[call]()
