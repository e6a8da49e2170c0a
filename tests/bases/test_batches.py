"""An image of a batch is corrupted, sampled and measured as if the others were not there, whatever they hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.bases import _cosine
from tests.worlds import CORRUPTIONS, SHAPE, SOLVERS, correlated_images, gaussian_world, spectrum, white

OTHERS, SPOILT = [0, 2, 3], 1
FACTORS = [float("nan"), 1e6]


def check(work: Callable[[Tensor], Tensor], factor: float) -> None:
    x = correlated_images(4)
    spoilt = x.clone()
    spoilt[SPOILT] *= factor
    expected, found = work(x), work(spoilt)
    assert torch.equal(found[OTHERS], expected[OTHERS])


@pytest.fixture(autouse=True)
def by_fft(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transform these small images as large ones are."""
    monkeypatch.setitem(_cosine._MATRIX_LIMIT, "cpu", 4)


@pytest.mark.filterwarnings("ignore:no sampler will start from noise")
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_and_training_task(name: str, factor: float) -> None:
    corruption, eps, t = CORRUPTIONS[name](), white(), torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    check(lambda x: sp.corrupt(corruption, x, t, eps), factor)
    for prediction in ("noise", "data", "velocity"):
        loss = sp.DiffusionLoss(corruption, prediction)
        for analyzed in {False, loss.draws_coefficients}:
            check(lambda x, loss=loss, a=analyzed: loss.task(x, t, eps, analyzed=a).x_t, factor)
            check(lambda x, loss=loss, a=analyzed: loss.task(x, t, eps, analyzed=a).losses(eps), factor)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_sampling(solver: str, factor: float) -> None:
    corruption = sp.ShortestPathCorruption(spectrum())
    model, keep = gaussian_world(corruption).model, torch.zeros(4, *SHAPE, dtype=torch.float64)
    keep[..., :4, :] = 1
    edit = sp.edits.compose(sp.edits.inpaint(correlated_images(4, seed=1), keep), sp.edits.dynamic_threshold())
    sampler = sp.Sampler(model, corruption, steps=3, solver=SOLVERS[solver])
    for callback in (None, edit):

        def sample(x: Tensor, callback: sp.edits.DenoisedCallback | None = callback) -> Tensor:
            generator = torch.Generator().manual_seed(0)
            return sampler.sample(x.shape, x_1=x, generator=generator, denoised_callback=callback, dtype=torch.float64)

        check(sample, factor)


@pytest.mark.parametrize("factor", FACTORS)
def test_encoding(factor: float) -> None:
    corruption = sp.ShortestPathCorruption(spectrum())
    sampler = sp.Sampler(gaussian_world(corruption).model, corruption, steps=3)
    check(sampler.invert, factor)
    check(lambda x: sampler.log_likelihood(x, generator=torch.Generator().manual_seed(0)), factor)
    check(lambda x: sampler.interpolate(x, correlated_images(4, seed=1), [0.5])[0], factor)
    check(lambda x: sampler.image_to_image(x, start=0.5, generator=torch.Generator().manual_seed(0)), factor)
