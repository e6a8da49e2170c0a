"""The quickstart: what it reads, trains and writes; and the parts that it is made of."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import shortest_path as sp
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.images import Batches, to_unit
from examples.recipe.judge import told_apart
from examples.recipe.landscapes import landscapes
from examples.recipe.mlp import ResidualMLP
from shortest_path.models import WhitenedInput
from tests.examples.commands import EXAMPLES, call, refused, run
from tests.examples.conftest import QUICKSTART, STEPS, Finished, assert_drawn

CHECKPOINTS = {"Gaussian, cosine": "gaussian", "shortest path": "shortest-path"}


def test_it_continues_after_an_interruption(quickstart: Finished) -> None:
    assert quickstart.stopped.status == 1
    assert "Stopped. The same command continues a training that has begun" in quickstart.stopped.err
    folders = [quickstart.folder / "checkpoints" / name for name in CHECKPOINTS.values()]
    for folder, step in zip(folders, (STEPS, 6), strict=True):
        assert f"continuing from {folder / f'checkpoint-{step:08d}.pt'}; delete {folder}" in quickstart.continued.out
        losses = np.loadtxt(folder / "losses.csv", delimiter=",")
        assert losses[:, 0].tolist() == list(range(1, STEPS + 1))
    other = refused("quickstart", *quickstart.words, "--images", 56)
    assert "another configuration" in other
    assert f"delete {folders[0]} to begin anew" in other


def test_its_numbers_obey_the_laws(quickstart: Finished) -> None:
    for name in ("corruptions.png", "spectrum.png", "loss.png", "samples.png", "sample_spectrum.png"):
        assert_drawn(quickstart.folder / name)
    report = json.loads((quickstart.folder / "figures.json").read_text())
    length, divergence = report["path_length"], report["gaussian_kl_50_steps"]
    assert set(length) == set(divergence) == {"Gaussian, cosine", "blur", "shortest path"}
    assert report["geodesic_distance"] <= length["shortest path"] < min(length["blur"], length["Gaussian, cosine"])
    assert 0 < divergence["shortest path"] < min(divergence["blur"], divergence["Gaussian, cosine"])
    assert (report["images"], report["held_out"], report["torch"]) == (64, 8, torch.__version__)
    assert report["settings"]["steps"] == STEPS


def test_it_ends_with_the_bits_of_both_and_says_which_is_ahead(quickstart: Finished) -> None:
    report = json.loads((quickstart.folder / "figures.json").read_text())
    bits, difference = report["bits_per_dim"], report["bits_per_dim_difference"]
    gaussian, path = (bits[name]["mean"] for name in CHECKPOINTS)
    assert difference["mean"] == pytest.approx(gaussian - path, abs=1e-6)
    # Paired: the images differ more from one another than the networks do.
    assert 0 < difference["standard_error"] < min(each["standard_error"] for each in bits.values())
    *_, first, second, last = quickstart.continued.out.strip().splitlines()
    assert (first.split()[-1], second.split()[-1]) == (f"{gaussian:.3f}", f"{path:.3f}")
    assert f"{abs(difference['mean']):.3f} ± {difference['standard_error']:.3f}" in last


def the_verdict_is_computed() -> None:
    sys.path[0] = str(EXAMPLES)  # as for a script
    from quickstart import verdict

    assert verdict(0.05, 0.01).startswith("shortest path is ahead by 0.050 ± 0.010")
    assert verdict(-0.05, 0.01).startswith("Gaussian, cosine is ahead by 0.050 ± 0.010")
    assert verdict(-0.015, 0.01).startswith("no certain difference: 0.015 ± 0.010")
    assert verdict(math.nan, math.nan).startswith("no certain difference")


def test_the_verdict_is_computed() -> None:
    result = call(the_verdict_is_computed)
    assert result.status == 0, result.err


def test_its_likelihood_is_that_of_the_spectrum_for_untrained_networks(tmp_path: Path) -> None:
    # A network that returns zero says that the data are normal with the measured spectrum; and images may be grey.
    grey = landscapes(72, size=8)[..., :1]
    np.save(tmp_path / "grey.npy", grey)
    run("quickstart", "--data", tmp_path / "grey.npy", "--out", tmp_path, *QUICKSTART, "--steps", 1, "--judge")
    for name in ("corruptions.png", "samples.png"):
        assert_drawn(tmp_path / name)
    report = json.loads((tmp_path / "figures.json").read_text())
    spectrum = sp.PowerSpectrum.estimate(Batches(grey[:64], 8))
    assert spectrum.mean is not None
    u = spectrum.basis.analyze(to_unit(grey[64:]).double() - spectrum.mean)
    nats = (0.5 * (u**2 / spectrum.power + (2 * torch.pi * spectrum.power).log())).flatten(1).mean(1)
    expected = (nats / np.log(2) + np.log2(127.5)).mean().item()
    for name in CHECKPOINTS:
        assert report["bits_per_dim"][name]["mean"] == pytest.approx(expected, abs=0.15)
    assert set(report["told_apart"]) == set(CHECKPOINTS)


def test_unfit_settings_are_explained(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", dead_leaves(9, size=8))
    np.save(tmp_path / "same.npy", np.full((40, 8, 8, 3), 7, np.uint8))
    for words, message in {
        ("--data", tmp_path / "nowhere"): "nowhere does not exist",
        (
            "--images",
            4,
        ): "4 images to train with are fewer than the 8 of a batch; use more images, or --batch-size 4 or less",
        ("--data", tmp_path / "few.npy"): "two images or more must be held out, of 10 or more in all, got 9 images",
        ("--data", tmp_path / "same.npy"): "same.npy has 32 images that are all the same",
        ("--steps", 0): "expected a whole number, 1 or more, got '0'",
    }.items():
        assert message in refused("quickstart", "--out", tmp_path, *QUICKSTART, *words)


def test_landscapes_repeat_and_are_as_likely_mirrored() -> None:
    many = landscapes(1200)
    assert (many.shape, many.dtype) == ((1200, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(landscapes(5), many[:5])
    assert (landscapes(5, seed=8) != many[:5]).any()
    # Training mirrors images.
    difference = many.astype(float) - many[:, :, ::-1]
    assert np.abs(difference.mean(0) / difference.std(0) * 1200**0.5)[:, :8].max() < 5
    # Power falls to that of the noise, and of rounding to whole levels.
    _, power = sp.PowerSpectrum.estimate([to_unit(many)]).radial_average()
    assert power[0, 1] > 100 * power[0, -1]
    assert power[1:, -1].mean().item() == pytest.approx((2 * 0.02) ** 2 + 127.5**-2 / 12, rel=0.1)
    with pytest.raises(ValueError, match="count and size must be 1 or more, got 0 and 16"):
        landscapes(0)


def test_the_judge_tells_noisy_images_from_others_and_equal_ones_by_chance() -> None:
    images = to_unit(landscapes(400, size=8))
    assert told_apart(images[:200], images[200:]) == pytest.approx(0.5, abs=4 * 0.5 / 200**0.5)
    noisy = images[200:] + 0.2 * torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert told_apart(images[:200], noisy) > 0.95
    with pytest.raises(ValueError, match="as many samples as images are required, 4 or more, got 3 and 4"):
        told_apart(images[:4], images[:3])


def test_the_network_listens_to_time() -> None:
    torch.manual_seed(0)
    network, x = ResidualMLP((2, 4, 4), width=32, blocks=2), torch.randn(3, 2, 4, 4)
    assert torch.equal(network(x, torch.rand(3)), torch.zeros(3, 2, 4, 4))  # until it is trained
    torch.nn.init.normal_(network.last.weight)
    with torch.no_grad():
        found = [network(x, torch.full((3,), t)) for t in (0.0, 0.001, 0.5, 1.0)]
    for one, other in itertools.combinations(found, 2):
        assert (one - other).abs().max() > 1e-4


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
