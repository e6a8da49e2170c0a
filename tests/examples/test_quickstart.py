"""The quickstart: what it reads, trains and writes; and the parts that it is made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import shortest_path as sp
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.images import to_unit
from shortest_path.models import WhitenedInput
from tests.examples.commands import call, refused
from tests.examples.conftest import QUICKSTART, STEPS, Finished, assert_drawn


def test_it_continues_after_an_interruption(quickstart: Finished) -> None:
    assert quickstart.stopped.status == 1
    assert "Run the same command again, and training continues" in quickstart.stopped.err
    assert "checkpoint-00000006.pt; delete" in quickstart.continued.out
    losses = np.loadtxt(quickstart.folder / "checkpoints" / "losses.csv", delimiter=",")
    assert losses[:, 0].tolist() == list(range(1, STEPS + 1))
    other = refused("quickstart", *quickstart.words, "--images", 56)
    assert "another configuration" in other
    assert f"delete {quickstart.folder / 'checkpoints'} to begin anew" in other


def test_its_numbers_obey_the_laws(quickstart: Finished) -> None:
    for name in ("corruptions.png", "spectrum.png", "loss.png", "samples.png", "sample_spectrum.png"):
        assert_drawn(quickstart.folder / name)
    report = json.loads((quickstart.folder / "figures.json").read_text())
    length, divergence = report["path_length"], report["gaussian_kl_50_steps"]
    assert set(length) == set(divergence) == {"Gaussian, cosine", "blur", "shortest path"}
    assert report["geodesic_distance"] <= length["shortest path"] < min(length["blur"], length["Gaussian, cosine"])
    assert 0 < divergence["shortest path"] < min(divergence["blur"], divergence["Gaussian, cosine"])
    assert (report["images"], report["settings"]["steps"], report["torch"]) == (64, STEPS, torch.__version__)


def test_unfit_settings_are_explained(tmp_path: Path) -> None:
    for words, message in {
        ("--data", tmp_path / "nowhere"): "nowhere does not exist",
        ("--images", 4): "got 4; use more images or a smaller --batch-size",
        ("--images", 8, "--size", 10): "size must be a multiple of 4 for 3 widths, got 10",
        ("--steps", 0): "expected a whole number, 1 or more, got '0'",
    }.items():
        assert message in refused("quickstart", "--out", tmp_path, *QUICKSTART, *words)


def test_dead_leaves_repeat_and_have_the_statistics_of_photographs() -> None:
    many = dead_leaves(384)
    assert (many.shape, many.dtype) == ((384, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(dead_leaves(5), many[:5])
    assert (dead_leaves(5, seed=8) != many[:5]).any()
    frequency, power = sp.PowerSpectrum.estimate([to_unit(many)]).radial_average()
    coarse = slice(1, 13)  # beyond, the softness of the edges takes over
    exponent = -np.polyfit(frequency[coarse].log().numpy(), power.mean(0)[coarse].log().numpy(), 1)[0]
    assert exponent == pytest.approx(2, abs=0.15)  # as in photographs; single edges have 3
    with pytest.raises(ValueError, match="count and size must be 1 or more, got 0 and 32"):
        dead_leaves(0)


def networks_listen_to_time_and_see_the_whitened_image() -> None:
    from examples.recipe.unet import small_unet  # imports diffusers, which takes long

    torch.manual_seed(0)
    model, noise = small_unet(size=16), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        early, late = model(noise, torch.zeros(2)), model(noise, torch.full((2,), 0.9))
        assert (early - late).abs().max() > 1e-3
        assert (early - model(noise, torch.full((2,), 0.0004))).abs().max() > 0  # no rounding to whole steps
    x = to_unit(dead_leaves(64, size=8))
    spectrum = sp.PowerSpectrum.estimate([x])
    corruption = sp.ShortestPathCorruption(spectrum)

    class Input(torch.nn.Module):
        def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return x_t

    for t in (0.0, 0.3, 0.999, 1.0):
        x_t = corruption.corrupt(x, t, torch.randn(x.shape))
        image, whitened = WhitenedInput(Input(), corruption, spectrum)(x_t, torch.full((64,), t)).split(3, 1)
        assert torch.equal(image, x_t)
        # V = S^(1−t) on the shortest path.
        scaled = corruption.basis.analyze(whitened) * spectrum.power.float() ** ((1 - t) / 2)
        torch.testing.assert_close(
            scaled, corruption.basis.analyze(x_t - corruption.mean.float()), rtol=1e-3, atol=1e-3
        )


def test_networks_listen_to_time_and_see_the_whitened_image() -> None:
    result = call(networks_listen_to_time_and_see_the_whitened_image)
    assert result.status == 0, result.err
