"""The examples for those who train nothing: a pretrained pipeline in fewer calls, and which corruption for my data."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from examples.recipe.dead_leaves import dead_leaves
from tests.examples.commands import refused, run

diffusers = pytest.importorskip("diffusers")


WORDS = ("--count", 2, "--shown", 2, "--steps", 4, "--converged", 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images, and a pipeline of a network that predicts clean images."""
    folder = tmp_path_factory.mktemp("pretrained")
    np.save(folder / "images.npy", dead_leaves(60, size=8, seed=0))
    save(folder / "pipeline", network())
    return folder


def network(**options: Any) -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(**{
        "sample_size": 8, "block_out_channels": (8,), "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",), "norm_num_groups": 4, "layers_per_block": 1, **options,
    })  # fmt: skip


def save(folder: Path, unet: Any, steps: int = 1000, prediction: str = "sample", **options: Any) -> Path:
    """Save a pipeline, which clips by default, and return its folder."""
    scheduler = diffusers.DDPMScheduler(steps, prediction_type=prediction, **options)
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(folder)
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
    np.save(tmp_path / "tiny.npy", dead_leaves(60, size=8, seed=0)[:, :3, :5])
    said = refused("which_corruption", tmp_path / "tiny.npy", "--size", 4, "--out", tmp_path / "a.png")
    assert "tiny.npy has images of 5×3, less than 4×4" in said
    assert said.rstrip().endswith("pass images of 4×4 pixels or more")
    assert not (tmp_path / "a.png").exists()
    np.save(tmp_path / "one.npy", dead_leaves(1, size=8, seed=0))
    np.save(tmp_path / "same.npy", dead_leaves(1, size=8, seed=0).repeat(9, axis=0))
    for data, message in (
        (tmp_path / "one.npy", "has one image; a spectrum requires two or more"),
        (tmp_path / "same.npy", "has 9 images that are all the same; a spectrum requires images that differ\n"),
    ):
        for name, command in (
            ("which_corruption", [data, "--size", 8]),
            ("sample_pretrained", [folder / "pipeline", "--data", data]),
        ):
            assert f"{name}: {data} {message}" in refused(name, *command)
    (tmp_path / "images").mkdir()
    for number in range(2):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"no image")
    assert "mend or remove it, or skip such with --on-error skip" in refused("which_corruption", tmp_path / "images")
    assert "the path of the images is empty; pass . for the present folder" in refused("which_corruption", "")


def test_a_network_may_have_any_size_and_numbered_classes(folder: Path, tmp_path: Path) -> None:
    """A square is the same as a number; a size that is not square requires images of that size."""
    found = [
        run("sample_pretrained", model, "--data", folder / "images.npy", *WORDS, "--out", tmp_path).out
        for model in (folder / "pipeline", save(tmp_path / "square", network(sample_size=(8, 8))))
    ]
    assert found[0] == found[1]
    np.save(tmp_path / "wide.npy", dead_leaves(60, size=16, seed=0)[:, :8])
    wide = save(tmp_path / "wide", network(sample_size=(8, 16), num_class_embeds=4))
    run("sample_pretrained", wide, "--data", tmp_path / "wide.npy", *WORDS, "--count", 6, "--out", tmp_path)
    with np.load(tmp_path / "samples.npz") as archive:
        assert archive["arr_0"].shape == (6, 8, 16, 3)
        assert archive["arr_1"].tolist() == [0, 1, 2, 3, 0, 1]
    said = refused("sample_pretrained", wide, "--data", folder / "images.npy")
    assert "the network makes images of 3×8×16, --data has 3×8×8; pass an .npy array (N, H, W, C) of that shape" in said


def test_all_solvers_follow_the_table_of_the_pipeline(folder: Path, tmp_path: Path) -> None:
    """Of few steps, which the network counts; and of a name that DDIM does not know."""
    unet = network()
    for weight in unet.time_embedding.parameters():
        weight.data.mul_(8)  # else the network hardly heeds the time
    words = ["--data", folder / "images.npy", "--count", 2, "--converged", 96, "--steps", 48, "--out", tmp_path]
    for steps, schedule in ((100, "squaredcos_cap_v2"), (1000, "sigmoid")):
        options = {"beta_schedule": schedule, "timestep_spacing": "trailing"}
        model = save(tmp_path / schedule, unet, steps, "v_prediction", **options)
        row = run("sample_pretrained", model, *words).out.splitlines()[-2]
        assert all(float(cell.split(",")[0]) < 0.05 for cell in row.split("|")[2:5]), row


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "sample_size": (
        {"sample_size": None},
        "sample_size must be the size of the images, got None; write it in unet",
    ),
    "one side": ({"sample_size": (8,)}, "sample_size must be the size of the images, got [8]"),
    "classes": ({"class_embed_type": "timestep"}, "the network has class_embed_type='timestep', expected None"),
    "channels": ({"in_channels": 1, "out_channels": 1}, "the network makes images of 1×8×8, --data has 3×8×8; pass an"),
    "output": ({"out_channels": 1}, "the network takes 3 channels and returns 1, not as many"),
    "time": (
        {"time_embedding_type": "learned", "num_train_timesteps": 1000},
        "the network must have positional time embeddings, got 'learned'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_cannot_be_called_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    options, message = REFUSED[name]
    said = refused("sample_pretrained", save(tmp_path / "model", network(**options)), "--data", folder / "images.npy")
    assert f"sample_pretrained: {message}" in said


def test_what_is_no_pipeline_of_pixels_is_refused(folder: Path, tmp_path: Path) -> None:
    data = ["--data", folder / "images.npy"]
    latents = diffusers.LDMPipeline(
        diffusers.VQModel(block_out_channels=(8,), norm_num_groups=4),
        network(),
        diffusers.DDIMScheduler(),
    )
    latents.save_pretrained(tmp_path / "latents")
    shutil.copytree(folder / "pipeline", tmp_path / "damaged")
    config = tmp_path / "damaged" / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "block_out_channels": [16]}))
    (tmp_path / "empty").mkdir()
    for model, message in (
        ("", "MODEL is empty; pass the folder of a pipeline, or its name on the hub (owner/name)"),
        ("./none", "./none does not exist, and is not the name of a pipeline on the hub (owner/name)"),
        (tmp_path / "empty", "empty has no model_index.json, so it is not the folder of a pipeline; pass one that"),
        (tmp_path / "damaged", "damaged cannot be loaded as a pipeline (RuntimeError: Error(s) in loading state_dict"),
        (
            tmp_path / "latents",
            "latents has scheduler (DDIMScheduler), unet (UNet2DModel), vqvae (VQModel); latents",
        ),
    ):
        assert message in refused("sample_pretrained", model, *data)
    for seed in ("99999999999999999999999", "-1"):
        assert "argument --seed: expected a whole number" in refused(
            "sample_pretrained", folder / "pipeline", *data, f"--seed={seed}"
        )


def test_a_schedule_that_cannot_be_followed_is_refused(folder: Path, tmp_path: Path) -> None:
    data = ["--data", folder / "images.npy", "--steps", 8, "--converged", 8]
    few = save(tmp_path / "few", network(), 8, beta_schedule="squaredcos_cap_v2")
    said = refused("sample_pretrained", few, *data)
    assert "--steps 8 is too many for DPM-Solver++ with the 8 steps of the pipeline's schedule and their ti" in said
    said = refused("sample_pretrained", save(tmp_path / "short", network(), 8, timestep_spacing="trailing"), *data)
    assert "the pipeline's schedule does not end in noise: TableCorruption(8 steps to a²=0.922" in said


@pytest.mark.parametrize("kind", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_a_schedule_may_end_without_signal_unless_the_network_predicts_noise(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    """The solvers go to one solution, also from the step that DDIM begins with."""
    data = ["--data", folder / "images.npy", "--count", 2, "--converged", 200, "--steps", 5, 50, "--out", tmp_path]
    for prediction in ("v_prediction", "epsilon"):
        scheduler = getattr(diffusers, kind)(
            prediction_type=prediction, rescale_betas_zero_snr=True, timestep_spacing="trailing"
        )
        diffusers.DDPMPipeline(network(), scheduler).save_pretrained(tmp_path / prediction)
    rows = run("sample_pretrained", tmp_path / "v_prediction", *data).out.splitlines()[-3:-1]
    few, more = ([float(cell.split(",")[0]) for cell in row.split("|")[2:5]] for row in rows)
    assert all(fine < coarse / 3 and fine < 0.05 for fine, coarse in zip(more, few, strict=True))
    said = refused("sample_pretrained", tmp_path / "epsilon", *data)
    assert "the pipeline's schedule ends without signal (rescale_betas_zero_snr), where the noise that its net" in said
    assert "epsilon/scheduler/scheduler_config.json" in said


def test_samples_that_are_not_finite_are_told(folder: Path, tmp_path: Path) -> None:
    unet = network()
    unet.conv_out.bias.data.fill_(float("nan"))
    model = save(tmp_path / "model", unet)
    said = refused("sample_pretrained", model, "--data", folder / "images.npy", *WORDS)
    assert "model makes NaN or infinite values; pass another MODEL" in said


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
    for index in (60, -1):
        said = refused("which_corruption", folder / "images.npy", *options, "--show", index)
        assert f"--show must be the index of one of 60 images, 0 to 59, got {index}" in said


def test_grey_images_stored_as_rgb_are_told_and_can_be_read_as_grey(tmp_path: Path) -> None:
    grey = dead_leaves(60, size=8, seed=0)[..., :1]
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "rgb.npy", grey.repeat(3, axis=-1))
    options = ["--size", 8, "--steps", 5, "--out", tmp_path / "a.png"]
    as_rgb, as_grey, alone = (
        run("which_corruption", *words, *options).out
        for words in ([tmp_path / "rgb.npy"], [tmp_path / "rgb.npy", "--grey"], [tmp_path / "grey.npy"])
    )
    assert (
        "66.7 % of the coefficients do not vary at all, which makes the table misleading; if these are grey" in as_rgb
    )
    assert "stored as RGB, pass --grey to read their brightness alone." in as_rgb
    assert not re.search(r"-0\.0 %", as_rgb)
    assert "do not vary" not in as_grey
    assert as_grey == alone
    np.save(tmp_path / "two.npy", dead_leaves(2, size=8, seed=0))
    said = run("which_corruption", tmp_path / "two.npy", *options).out
    assert re.search(
        r"% of the coefficients do not vary at all, .*; 2 images of 3 channels are too few: pass more\.", said
    )
    np.save(tmp_path / "stripes.npy", grey[:, :1].repeat(8, axis=1))
    said = run("which_corruption", tmp_path / "stripes.npy", *options).out
    assert "87.5 % of the coefficients do not vary at all" in said
    assert "use images that vary in every direction." in said
