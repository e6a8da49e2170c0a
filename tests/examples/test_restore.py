"""The restoring example: what it measures, and which folders and images it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import shortest_path as sp
from examples.recipe.images import to_unit
from shortest_path.training import load_checkpoint, write_checkpoint
from tests.examples.commands import refused, run
from tests.examples.conftest import LEAVES, STEPS, Finished, assert_drawn

FEW = ("--steps", 6, "--samples", 2, "--images", 4, "--likelihood-images", 12, "--likelihood-steps", 2)
UNSEEN = to_unit(LEAVES[64:])
NEWEST = f"checkpoints/shortest-path/checkpoint-{STEPS:08d}.pt"


@pytest.fixture(scope="module")
def report(quickstart: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = tmp_path_factory.mktemp("restore")
    run("restore", quickstart.folder, "--out", out, *FEW)
    for name in ("restored.png", "variations.png", "interpolations.png"):
        assert_drawn(out / name)
    return json.loads((out / "restore.json").read_text())


def test_restored_images_agree_with_the_measurement(report: dict) -> None:
    assert list(report["restored"]) == ["inpainting", "super-resolution 4×", "colourisation"]
    truth = UNSEEN[:4]
    known = {
        "inpainting": truth.clone(),
        "super-resolution 4×": truth.unflatten(-1, (2, 4)).unflatten(-3, (2, 4)).mean((-3, -1), keepdim=True),
        "colourisation": truth.mean(1, keepdim=True),
    }
    known["inpainting"][..., 2:6, 2:6] = 0
    known["super-resolution 4×"] = known["super-resolution 4×"].expand(-1, -1, 2, 4, 2, 4).reshape(truth.shape)
    for name, found in report["restored"].items():
        assert found["pseudo_inverse_error"] < 1e-5
        assert found["measurement_error"] < 1e-5
        error = (known[name] - truth).square().flatten(1).mean(1)
        assert found["psnr"]["known"] == pytest.approx((10 * torch.log10(4 / error)).mean().item(), abs=1e-3)


def test_images_change_more_the_earlier_they_are_sampled_again(report: dict) -> None:
    change = report["varied"]["image_to_image_rms"]
    assert 0.01 < change["0.3"] < change["0.5"] < change["0.7"]
    assert report["varied"]["round_trip_rms"] < 0.02
    assert report["varied"]["encoding_deviation"] == pytest.approx(1, abs=0.3)


def test_bits_per_dimension(quickstart: Finished, report: dict) -> None:
    found = report["likelihood"]
    assert found["images"] == 8  # the others were trained on
    assert 2 < found["network"]["mean"] < 10
    # Without the noise of one level the density is nearly the same, and known in closed form.
    state = load_checkpoint(quickstart.folder / NEWEST)
    basis, power = sp.CosineBasis(2, state["corruption"]["basis.channel_rotation"]), state["ema"]["power"].double()
    u = basis.analyze(UNSEEN.double())
    nats = (0.5 * (u**2 / power + (2 * torch.pi * power).log())).flatten(1).mean(1)
    bits = nats / np.log(2) + np.log2(127.5)
    assert found["spectrum_alone"]["mean"] == pytest.approx(bits.mean().item(), abs=0.1)
    assert found["spectrum_alone"]["standard_error"] == pytest.approx(bits.std().item() / 8**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("shape", "names", "left_out"),
    [
        ((7, 3), ["inpainting", "colourisation"], ["super-resolution 4× is left out: 4 does not divide the size, 7"]),
        (
            (2, 1),
            [],
            [
                "inpainting is left out: it requires images of 4 × 4 or more, got 2 × 2",
                "super-resolution 4× is left out: 4 does not divide the size, 2",
                "colourisation is left out: the images are grey",
            ],
        ),
    ],
)
def test_what_images_do_not_allow_is_left_out(
    tmp_path: Path, shape: tuple[int, int], names: list[str], left_out: list[str]
) -> None:
    size, channels = shape
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (40, size, size, channels), np.uint8))
    few = ("--size", size, "--batch-size", 8, "--samples", 4, "--sample-steps", 2, "--images", 32, "--held-out", 8)
    trained = tmp_path / "trained"
    run("quickstart", "--data", tmp_path / "images.npy", *few, "--likelihood-steps", 2, "--steps", 2, "--out", trained)
    told = run("restore", trained, "--out", tmp_path / "out", *FEW).out
    assert [line.strip() for line in told.splitlines() if "left out" in line] == left_out
    assert list(json.loads((tmp_path / "out" / "restore.json").read_text())["restored"]) == names


def test_wrong_folders_and_images_are_explained(quickstart: Finished, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("damaged", "other"):
        shutil.copytree(quickstart.folder, tmp_path / name)
    (tmp_path / "damaged" / NEWEST).write_bytes(b"no more")
    write_checkpoint(tmp_path / "other" / NEWEST, {"step": STEPS})
    np.save(tmp_path / "grey.npy", LEAVES[..., 0])
    np.save(tmp_path / "seen.npy", LEAVES[:64])  # another file, the same images
    empty = "empty is not the folder of a finished quickstart: it needs figures.json and checkpoints"
    for words, message in {
        (tmp_path / "nowhere",): "nowhere does not exist; run examples/quickstart.py first",
        (tmp_path / "empty",): empty,
        (tmp_path / "damaged",): f"checkpoint-{STEPS:08d}.pt is not a checkpoint: it does not begin as",
        (tmp_path / "other",): "does not hold the network of examples/quickstart.py (KeyError",
        (quickstart.folder, "--data", tmp_path / "grey.npy"): "shape (1, 8, 8) do not fit a network for (3, 8, 8)",
        (quickstart.folder, "--data", tmp_path / "seen.npy"): "trained on all but 0 images of",
        (quickstart.folder, "--images", 1): "expected a whole number, 2 or more, got '1'",
    }.items():
        assert message in refused("restore", words[0], "--out", tmp_path / "out", *FEW, *words[1:])
        assert not (tmp_path / "out").exists()
