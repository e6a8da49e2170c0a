"""Slips in a corruption of one's own, and in the shape of images, are named wherever they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.worlds import CORRUPTIONS

IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)


class Own:
    basis: Any = sp.PixelBasis(2)

    def signal(self, t: Tensor) -> Any:
        return (1 - t).view(-1, 1, 1, 1)

    def noise(self, t: Tensor) -> Any:
        return t.view(-1, 1, 1, 1)


class OfNumpy(Own):
    def noise(self, t: Tensor) -> Any:
        return np.asarray(t).reshape(-1, 1, 1, 1)


class NameOfBasis(Own):
    basis = "cosine"


class ClassOfBasis(Own):
    basis = sp.CosineBasis


class NoBasis(Own):
    basis = None


class WithoutAxes(Own):
    def signal(self, t: Tensor) -> Any:
        return 1 - t


class WithoutChannels(Own):
    def signal(self, t: Tensor) -> Any:
        return (1 - t).view(-1, 1, 1) * torch.ones(8, 8)


class WithoutTheAxisOfChannels(Own):
    def noise(self, t: Tensor) -> Any:
        return t.view(-1, 1, 1)


class OfVideo(Own):
    def signal(self, t: Tensor) -> Any:
        return (1 - t).view(-1, 1, 1, 1, 1)


class OneTimeTooMany(Own):
    def noise(self, t: Tensor) -> Any:
        return torch.cat([t, t[:1]]).view(-1, 1, 1, 1)


class Complex(Own):
    def signal(self, t: Tensor) -> Any:
        return super().signal(t) + 0j


class Whole(Own):
    def noise(self, t: Tensor) -> Any:
        return t.ceil().long().view(-1, 1, 1, 1)


class OfTheSignalAlone(Own):
    def scales(self, t: Tensor) -> Any:
        return self.signal(t)


class Elementwise(sp.corruptions.ElementwiseCorruption):
    """Of the library's base class, with scales that are not what it asks for."""

    def __init__(self) -> None:
        super().__init__(sp.PixelBasis(2))

    def _scales(self, time: Tensor, pick: Any) -> Any:
        return 1 - time.flatten(), time


class NotANumber(Own):
    def signal(self, t: Tensor) -> Any:
        return torch.where(t > 0.5, torch.nan, 1 - t).view(-1, 1, 1, 1)


class Infinite(Own):
    def noise(self, t: Tensor) -> Any:
        return (t / (1 - t)).view(-1, 1, 1, 1)


class NothingAtTheEnd(Own):
    def noise(self, t: Tensor) -> Any:
        return (t * (1 - t)).view(-1, 1, 1, 1)


class UnusedAtZero(Own):
    """Its scales at t = 0 are not finite, and never used."""

    def signal(self, t: Tensor) -> Any:
        return (1 / t - 1).view(-1, 1, 1, 1)

    def noise(self, t: Tensor) -> Any:
        return (t - t * t.log()).view(-1, 1, 1, 1)


def model(x_t: Tensor, t: Tensor) -> Tensor:
    return 0 * x_t


USES: dict[str, Callable[[Any], object]] = {
    "sampler": lambda corruption: sp.Sampler(model, corruption, prediction="data", steps=3),
    "loss": lambda corruption: sp.DiffusionLoss(corruption, "data")(model, IMAGES),
    "trainer": lambda corruption: sp.DiffusionTrainer(torch.nn.Conv2d(3, 3, 1), corruption),
    "corrupt": lambda corruption: sp.corrupt(corruption, IMAGES, torch.full((2,), 0.5), IMAGES),
    "staggered": lambda corruption: sp.StaggeredCorruption(corruption, torch.zeros(3, 8, 8), spread=0.3),
}
SPECTRUM = sp.PowerSpectrum(sp.PixelBasis(2), torch.ones(3, 8, 8))
USES_OF_SCALES: dict[str, Callable[[Any], object]] = {
    **{use: USES[use] for use in ("sampler", "loss", "corrupt", "staggered")},
    "sampler of noise": lambda corruption: sp.Sampler(model, corruption, steps=3),
    "sampler with a spectrum": lambda corruption: sp.Sampler(model, corruption, spectrum=SPECTRUM),
    "grids.LogSnr": lambda corruption: sp.grids.LogSnr(corruption)(4),
    "grids.Spectrum": lambda corruption: sp.grids.Spectrum(corruption, torch.ones(3, 1, 1))(4),
    "path_length": lambda corruption: sp.path_length(corruption, SPECTRUM),
    "gaussian_kl": lambda corruption: sp.gaussian_kl(corruption, SPECTRUM, steps=3),
    "WhitenedInput": lambda corruption: sp.models.WhitenedInput(model, corruption, SPECTRUM),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("corruption", "got"),
    [(NameOfBasis(), "str"), (ClassOfBasis(), "the class CosineBasis"), (NoBasis(), "NoneType")],
)
def test_what_is_no_basis_is_named(use: str, corruption: object, got: str) -> None:
    name = type(corruption).__name__
    with pytest.raises(TypeError, match=f"the basis of {name} must be a Basis, .*, got {got}"):
        USES[use](corruption)


@pytest.mark.parametrize("use", USES_OF_SCALES)
@pytest.mark.parametrize(
    ("corruption", "message"),
    [
        (OfNumpy(), r"OfNumpy.noise\(t\) must return a real floating-point tensor, got ndarray"),
        (Complex(), r"Complex.signal\(t\) must return a real floating-point tensor, got torch.complex"),
        (Whole(), r"Whole.noise\(t\) must return a real floating-point tensor, got torch.int64"),
        (OfTheSignalAlone(), r"OfTheSignalAlone.scales\(t\) must return \(signal\(t\), noise\(t\)\), got Tensor"),
    ],
)
def test_scales_of_another_type_are_named(use: str, corruption: Own, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        USES_OF_SCALES[use](corruption)


@pytest.mark.parametrize("use", USES_OF_SCALES)
@pytest.mark.parametrize(
    ("corruption", "message"),
    [
        (WithoutAxes(), r"WithoutAxes.signal\(t\) .*, got \(\d+,\) .*; write .*per_sample\(scale, 2\)"),
        (WithoutTheAxisOfChannels(), r"Channels.noise\(t\) .*, got \(\d+, 1, 1\) .*; write .*per_sample\(scale, 2\)"),
        (
            WithoutChannels(),
            r"Channels.signal\(t\) .*, got \(\d+, 8, 8\) .*; add the axis of channels with scale\[",
        ),
        (OfVideo(), r"OfVideo.signal\(t\) .*, got \(\d+, 1, 1, 1, 1\) .*; give it a basis with dims=3, or .* 2 "),
        (Elementwise(), r"Elementwise.signal\(t\) .*, got \(\d+,\) .*; write .*per_sample\(scale, 2\)"),
    ],
)
def test_scales_with_another_number_of_axes_are_named(use: str, corruption: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        USES_OF_SCALES[use](corruption)


@pytest.mark.parametrize("use", [use for use in USES_OF_SCALES if use != "WhitenedInput"])
def test_scales_of_other_times_are_named(use: str) -> None:
    message = r"OneTimeTooMany.noise\(t\) .*, got \(\d+, 1, 1, 1\) for \d times?; return one scale for every time"
    with pytest.raises(ValueError, match=message):
        USES_OF_SCALES[use](OneTimeTooMany())


@pytest.mark.parametrize("use", [*USES_OF_SCALES, "trainer"])
def test_a_class_in_place_of_a_corruption_is_named(use: str) -> None:
    for kind in (Own, sp.GaussianCorruption):
        with pytest.raises(TypeError, match=rf"got the class {kind.__name__}; pass an instance, {kind.__name__}\("):
            {**USES, **USES_OF_SCALES}[use](kind)


@pytest.mark.parametrize("solver", ["multistep", "ddim", "ancestral"])
@pytest.mark.parametrize("corruption", [NotANumber(), Infinite(), NothingAtTheEnd()])
def test_a_sampler_needs_scales_that_are_finite_and_not_both_zero(solver: Any, corruption: Own) -> None:
    name = type(corruption).__name__
    with pytest.raises(ValueError, match=rf"of {name} must be finite and not both 0, .* not at t = 1; corr"):
        sp.Sampler(model, corruption, prediction="data", solver=solver, steps=4, grid="uniform")
    times = [0.4, 0.2, 0.0]
    sampler = sp.Sampler(model, corruption, prediction="data", solver=solver, times=times)
    assert sampler.sample(IMAGES.shape, x_1=IMAGES).isfinite().all()


def test_the_scales_of_clean_images_are_not_looked_at() -> None:
    sampler = sp.Sampler(model, UnusedAtZero(), prediction="data", steps=4, grid="uniform")
    assert sampler.sample(IMAGES.shape).isfinite().all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_one_image_without_a_batch_axis_is_named(name: str) -> None:
    corruption, image = CORRUPTIONS[name](), IMAGES[0]
    sampler = sp.Sampler(model, corruption, prediction="data", steps=3)
    calls: list[Callable[[], object]] = [
        lambda: sp.corrupt(corruption, image, 0.5, image),
        lambda: sp.DiffusionLoss(corruption, "data")(model, image),
        lambda: sampler.sample(image.shape),
        lambda: sampler.invert(image),
        lambda: sampler.image_to_image(image, start=0.5),
        lambda: sampler.log_likelihood(image),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"got \(3, 8, 8\).*x\[None\]|shape \(3, 8, 8\).*x\[None\]"):
            call()
