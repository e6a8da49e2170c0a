"""The examples for those who train nothing: a pretrained pipeline in fewer calls, and which corruption for my data."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.recipe.dead_leaves import dead_leaves
from tests.examples.commands import refused, run

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images, and a pipeline of a network that predicts clean images."""
    folder = tmp_path_factory.mktemp("pretrained")
    np.save(folder / "images.npy", dead_leaves(60, size=8, seed=0))
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        8, 3, 3, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        norm_num_groups=4, layers_per_block=1,
    )  # fmt: skip
    scheduler = diffusers.DDPMScheduler(1000, prediction_type="sample")  # clips, by default
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(folder / "pipeline")
    return folder


def test_a_pipeline_is_sampled_in_fewer_calls(folder: Path, tmp_path: Path) -> None:
    words = [folder / "pipeline", "--data", folder / "images.npy", "--count", 2, "--shown", 2]
    result = run("sample_pretrained", *words, "--steps", 4, 20, "--converged", 80, "--out", tmp_path)
    rows = [line.split("|")[1:5] for line in result.out.splitlines() if line.startswith("| ")][1:]
    few, more = ([float(cell) for cell in row] for row in rows)
    assert more[0] == 20
    assert all(fine < coarse for fine, coarse in zip(more[1:], few[1:], strict=True))  # all go to one solution
    with np.load(tmp_path / "samples.npz") as archive:
        assert archive["arr_0"].shape == (2, 8, 8, 3)
    assert (tmp_path / "samples.png").stat().st_size > 0
    assert "nowhere" in refused("sample_pretrained", folder / "nowhere", *words[1:])


def test_ones_own_data_are_described_in_words(folder: Path, tmp_path: Path) -> None:
    options = ["--size", 8, "--steps", 5, "--out", tmp_path / "a.png"]
    printed = run("which_corruption", folder / "images.npy", *options).out
    assert "60 images of 3×8×8" in printed
    assert "Fewer than 1,000 images" in printed
    assert re.search(r"^shortest path +\d\.\d % +[\d.e+-]+ ", printed, re.MULTILINE)
    assert (tmp_path / "a.png").stat().st_size > 0
    assert "does not exist" in refused("which_corruption", tmp_path / "none.npy")
