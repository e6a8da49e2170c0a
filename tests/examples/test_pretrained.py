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
    assert rows[0][:2] == [" 80 ", " "]
    assert rows[0][2].startswith(" 0.0000, ")
    few, more = ([float(cell.split(",")[0]) for cell in row] for row in rows[1:])
    assert more[0] == 20
    assert all(fine < coarse for fine, coarse in zip(more[1:], few[1:], strict=True))  # all go to one solution
    assert all(0 < float(cell.split(",")[1]) < 20 for row in rows[1:] for cell in row[1:])
    with np.load(tmp_path / "samples.npz") as archive:
        assert archive["arr_0"].shape == (2, 8, 8, 3)
    assert (tmp_path / "samples.png").stat().st_size > 0
    assert "nowhere" in refused("sample_pretrained", folder / "nowhere", *words[1:])


def test_what_cannot_be_done_is_told_before_any_work(folder: Path, tmp_path: Path) -> None:
    """The first of two faults is that of the command line, and ends before the second is seen."""
    np.save(tmp_path / "small.npy", dead_leaves(60, size=8, seed=0)[:, :4, :5])
    for words, message in (
        (
            ["--steps", 5, 2000],
            "sample_pretrained: --steps 2000 is more than the 1000 steps of the pipeline's",
        ),
        (["--converged", 2000], "sample_pretrained: --converged 2000 is more than the 1000 steps of the pipeline's"),
    ):
        assert message in refused("sample_pretrained", folder / "pipeline", "--data", tmp_path / "none.npy", *words)
    said = refused("which_corruption", tmp_path / "none.npy", "--out", tmp_path)
    assert f"argument --out: {tmp_path} is a folder; name a file in it, e.g. {tmp_path / 'figure.png'}" in said
    said = refused("which_corruption", tmp_path / "small.npy", "--size", 8, "--out", tmp_path / "a.png")
    assert "small.npy has images of 5×4, less than 8×8, and images are not enlarged: " in said
    assert said.rstrip().endswith("choose --size 4 or less")
    assert not (tmp_path / "a.png").exists()
    np.save(tmp_path / "one.npy", dead_leaves(1, size=8, seed=0))
    for name, command in (
        ("which_corruption", [tmp_path / "one.npy", "--size", 8]),
        ("sample_pretrained", [folder / "pipeline", "--data", tmp_path / "one.npy"]),
    ):
        said = refused(name, *command)
        assert f"{name}: {tmp_path / 'one.npy'} has one image; a spectrum requires two or more" in said
    (tmp_path / "images").mkdir()
    for number in range(2):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"no image")
    assert "mend or remove it, or skip such with --on_error skip" in refused("which_corruption", tmp_path / "images")
    assert "the path of the images is empty; pass . for the present folder" in refused("which_corruption", "")


def test_images_are_enlarged_to_a_network_with_a_warning(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", dead_leaves(60, size=8, seed=0)[:, :6, :6])
    words = ["--data", tmp_path / "small.npy", "--count", 1, "--shown", 1, "--steps", 1, "--converged", 2]
    result = run("sample_pretrained", folder / "pipeline", *words, "--out", tmp_path / "new" / "out")
    assert "small.npy has images of 6×6, enlarged to 8×8: the finest detail is that of the interpolation" in result.err
    assert (tmp_path / "new" / "out" / "samples.png").stat().st_size > 0


def test_ones_own_data_are_described_in_words(folder: Path, tmp_path: Path) -> None:
    options = ["--size", 8, "--steps", 5, "--out", tmp_path / "a.png"]
    printed = run("which_corruption", folder / "images.npy", *options).out
    assert "60 images of 3×8×8" in printed
    assert "Fewer than 1,000 images" in printed
    assert re.search(r"^shortest path +\d\.\d % +[\d.e+-]+ ", printed, re.MULTILINE)
    assert (tmp_path / "a.png").stat().st_size > 0
    assert "does not exist" in refused("which_corruption", tmp_path / "none.npy")
