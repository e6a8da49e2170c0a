"""Laws of guidance, and of edits to the predicted clean image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.worlds import CORRUPTIONS, SHAPE, TO_NOISE, correlated_images

QUIET = {"dtype": torch.float64, "progress": False}
ALL_SOLVERS = [
    {"solver": "ancestral"},
    {"solver": "ddim"},
    {"solver": "multistep"},
    {"solver": sp.solvers.Multistep(eta=0.7)},
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Labelled:
    """Predicts a flat image of the label's value, and remembers how it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, list[float]]] = []

    def __call__(self, x_t: Tensor, t: Tensor, *, label: Tensor) -> Tensor:
        self.calls.append((t[0].item(), label.tolist()))
        return label.to(x_t).view(-1, 1, 1, 1).expand_as(x_t)


def flow(model: object, **options: object) -> sp.Sampler:
    options = {"prediction": "data", "solver": "ddim", "steps": 4, **options}
    return sp.Sampler(model, sp.GaussianCorruption("flow"), **options)  # type: ignore[arg-type]


# --- classifier-free guidance -----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_guidance_extrapolates_from_the_null_prediction(scale: float) -> None:
    sampler = flow(Labelled(), guidance_scale=scale, null_conditioning={"label": 0.25})
    x_0 = sampler.sample((2, *SHAPE), conditioning={"label": torch.tensor([1.0, -1.0])}, **QUIET)
    expected = 0.25 + scale * (torch.tensor([1.0, -1.0], dtype=torch.float64) - 0.25)
    torch.testing.assert_close(x_0, expected.view(2, 1, 1, 1).expand_as(x_0))


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity"])
def test_guidance_of_any_prediction_is_guidance_of_the_clean_image(prediction: str) -> None:
    # Two models that know an image each, in terms of any prediction.
    corruption, clean = CORRUPTIONS["shortest-cosine"](), correlated_images(2)

    def model(x_t: Tensor, t: Tensor, *, which: Tensor) -> Tensor:
        u_t, u_0 = corruption.basis.analyze(x_t), corruption.basis.analyze(clean[which])
        signal, noise = corruption.signal(t), corruption.noise(t)
        eps = (u_t - signal * u_0) / noise
        answer = {"noise": eps, "data": u_0, "velocity": signal * eps - noise * u_0}[prediction]
        return corruption.basis.synthesize(answer)

    sampler = sp.Sampler(
        model,
        corruption,
        prediction=prediction,
        solver="ancestral",  # its last step returns the guided clean image as it is
        steps=5,
        guidance_scale=3.0,
        null_conditioning={"which": 1},
    )
    x_0 = sampler.sample((1, *SHAPE), conditioning={"which": torch.tensor([0])}, **QUIET)
    torch.testing.assert_close(x_0[0], clean[1] + 3 * (clean[0] - clean[1]), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("interval", "guided"),
    [
        ((0.4, 0.8), [0.75, 0.5]),
        ((0.5, 0.75), [0.75, 0.5]),  # both ends belong to it
        ((0.5 + 1e-9, 0.75 - 1e-9), []),
        ((0.25, 0.25), [0.25]),
        (None, [1.0, 0.75, 0.5, 0.25]),
    ],
)
def test_guidance_acts_within_its_interval_alone(interval: tuple[float, float] | None, guided: list[float]) -> None:
    model = Labelled()
    sampler = flow(model, guidance_scale=2.0, guidance_interval=interval, null_conditioning={"label": 0.0})
    steps = list(sampler.trajectory((1, *SHAPE), conditioning={"label": torch.tensor([1.0])}))
    times = [1.0, 0.75, 0.5, 0.25]
    assert [t for t, _ in model.calls] == sorted(times + guided, reverse=True)
    assert [step.x_0_hat.mean().item() for step in steps] == pytest.approx([1 + (t in guided) for t in times])


def test_no_guidance_costs_no_second_call() -> None:
    model = Labelled()
    sampler = flow(model, guidance_scale=1.0, null_conditioning={"label": 0.0})
    sampler.sample((2, *SHAPE), conditioning={"label": torch.tensor([1.0, 2.0])})
    assert [label for _, label in model.calls] == [[1.0, 2.0]] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_scale": 2.0}, r"guidance_scale=2 requires null_conditioning.*e.g. null_conditioning="),
        (
            {"guidance_scale": 2.0, "guidance_interval": (0.8, 0.2), "null_conditioning": {"label": 0}},
            r"guidance_interval must be \(low, high\) with 0 <= low <= high <= 1, got \(0.8, 0.2\)",
        ),
    ],
)
def test_wrong_guidance_is_explained(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow(Labelled(), **options)


def test_guidance_without_the_conditioning_is_explained() -> None:
    sampler = flow(lambda x_t, t: x_t, guidance_scale=2.0, null_conditioning={"label": 0})
    with pytest.raises(ValueError, match=r"null values are given for \['label'\]"):
        sampler.sample((1, *SHAPE))


# --- edits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TO_NOISE)
@pytest.mark.parametrize("options", ALL_SOLVERS)
def test_inpainting_keeps_what_is_known_and_changes_the_rest(name: str, options: dict) -> None:
    corruption, image = CORRUPTIONS[name](), correlated_images(1)
    mask = torch.zeros(1, 1, *SHAPE[1:])
    mask[..., :4] = 1

    def model(x_t: Tensor, t: Tensor) -> Tensor:  # what it sees at the left decides what it says of the right
        return x_t.mean((1, 2, 3), keepdim=True).expand_as(x_t)

    sampler = sp.Sampler(model, corruption, prediction="data", steps=8, **options)
    free, kept = (
        sampler.sample((2, *SHAPE), generator=seeded(), denoised_callback=edit, **QUIET)
        for edit in (None, sp.edits.inpaint(image, mask))
    )
    torch.testing.assert_close(kept[..., :4], image[..., :4].expand(2, -1, -1, -1), rtol=0, atol=1e-9)
    assert (kept - free)[..., 4:].abs().max() > 1e-3


def test_a_mask_between_0_and_1_blends() -> None:
    known, found = correlated_images(2)
    mask = torch.linspace(0, 1, 8, dtype=torch.float64)
    blended = sp.edits.inpaint(known, mask)(found[None], 0.5)
    torch.testing.assert_close(blended[0], mask * known + (1 - mask) * found)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.tensor([0, 255], dtype=torch.uint8), ValueError, r"\[0, 1\].*divide 8-bit masks by 255"),
        (torch.tensor([-0.1, 1.0]), ValueError, r"mask must lie in \[0, 1\]"),
        (torch.tensor([0.5, torch.nan]), ValueError, r"mask must lie in \[0, 1\]"),
        (np.ones(8), TypeError, r"mask must be a tensor of bool or of numbers in \[0, 1\], got ndarray"),
    ],
)
def test_wrong_masks_are_explained(mask: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sp.edits.inpaint(correlated_images(1), mask)(correlated_images(2), 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", ALL_SOLVERS)
def test_a_linear_measurement_is_met_exactly(options: dict) -> None:
    # Super-resolution: A averages blocks of 2×2, and its pseudo-inverse repeats them.
    def coarse(x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, 2)

    def repeat(y: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(y, scale_factor=2)

    measurement = coarse(correlated_images(2))
    edit = sp.edits.project(measurement, coarse, repeat)
    sampler = sp.Sampler(
        lambda x_t, t: 0.5 * x_t, CORRUPTIONS["shortest-cosine"](), prediction="data", steps=6, **options
    )
    x_0 = sampler.sample((2, *SHAPE), generator=seeded(), denoised_callback=edit, **QUIET)
    torch.testing.assert_close(coarse(x_0), measurement, rtol=0, atol=1e-9)
    assert (x_0 - repeat(measurement)).abs().max() > 0.01  # the model adds the detail


@pytest.mark.parametrize("options", ALL_SOLVERS)
def test_clipping_holds_for_the_final_image(options: dict) -> None:
    sampler = sp.Sampler(
        lambda x_t, t: 3 * x_t, CORRUPTIONS["shortest-cosine"](), prediction="data", steps=5, **options
    )
    x_0 = sampler.sample((2, *SHAPE), generator=seeded(), clip=(-0.5, 0.25), **QUIET)
    assert x_0.min().item() == pytest.approx(-0.5)
    assert x_0.max().item() == pytest.approx(0.25)


def test_edits_see_pixels_and_times_and_come_before_the_clip() -> None:
    corruption, clean = CORRUPTIONS["shortest-fourier"](), correlated_images(2)
    seen: list[float] = []

    def edit(x_0_hat: Tensor, t: float) -> Tensor:
        torch.testing.assert_close(x_0_hat, clean, rtol=0, atol=1e-9)
        seen.append(t)
        return x_0_hat + 5

    sampler = sp.Sampler(lambda x_t, t: clean, corruption, prediction="data", solver="ddim", steps=3)
    x_0 = sampler.sample(clean.shape, denoised_callback=edit, clip=(-1, 4.5), **QUIET)
    torch.testing.assert_close(x_0, (clean + 5).clamp(max=4.5), rtol=0, atol=1e-9)
    assert seen == sampler.times[:-1].tolist()


def test_dynamic_thresholding_is_the_papers() -> None:
    x_0 = 3 * torch.randn(4, *SHAPE, generator=seeded(), dtype=torch.float64)
    x_0[3] *= 0.01  # of small values, nothing is changed
    found = sp.edits.dynamic_threshold(0.9)(x_0, 0.5)
    for image, ours in zip(x_0, found, strict=True):
        bound = max(1.0, np.quantile(np.abs(image.numpy()), 0.9, method="higher"))
        np.testing.assert_allclose(ours.numpy(), np.clip(image.numpy(), -bound, bound) / bound)
    assert torch.equal(found[3], x_0[3])
    assert sp.edits.dynamic_threshold(1.0)(x_0, 0.5).abs().max() == pytest.approx(1)


def test_edits_can_be_put_together() -> None:
    edit = sp.edits.compose(lambda x, t: x + 1, lambda x, t: x * t)
    assert edit(torch.tensor([1.0]), 3.0).item() == 6.0


@pytest.mark.parametrize("arguments", [(0.0, 1.0), (1.5, 1.0), (0.9, 0.0)])
def test_wrong_thresholds_are_explained(arguments: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"quantile must lie in \(0, 1\] and limit be positive"):
        sp.edits.dynamic_threshold(*arguments)


@pytest.mark.parametrize("wrong", [lambda x, t: None, lambda x, t: x[:1], lambda x, t: x.cfloat()])
def test_a_callback_that_returns_something_else_is_explained(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"denoised_callback must return the clean images it was given, changed"):
        flow(lambda x_t, t: x_t).sample((2, *SHAPE), denoised_callback=wrong)  # type: ignore[arg-type]
