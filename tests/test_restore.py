"""The restoring example: what it reads, draws and measures."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import shortest_path as sp

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import quickstart
import restore
from dead_leaves import dead_leaves
from images import to_unit

TINY = ("--size", "8", "--batch-size", "8", "--samples", "1", "--sample-steps", "1", "--seed", "5")
FEW = ("--steps", "8", "--draws", "2", "--pictures", "4", "--likelihood-pictures", "6", "--likelihood-steps", "4")


def start(out: Path, *more: str, steps: int = 1) -> Path:
    """Run a tiny quickstart, without the pictures that other tests look at."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_corruptions", "draw_spectra", "draw_loss", "draw_samples", "draw_sample_spectrum"):
            patch.setattr(quickstart.figures, name, lambda *_, **__: None)
        quickstart.main(["--out", str(out), "--steps", str(steps), *TINY, *more])
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(tmp_path_factory.mktemp("quickstart"), "--images", "64", steps=30)


class Finished:
    """A whole run: its folder, its report, and the rows of every picture that it drew."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.out = out
        self.rows: dict[str, list[tuple[str, Tensor]]] = {}
        draw_rows = restore.draw_rows

        def remembering(path: Path, title: str, rows: list[tuple[str, Tensor]], columns: object = None) -> None:
            self.rows[path.stem] = rows
            draw_rows(path, title, rows, columns)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(restore, "draw_rows", remembering)
            restore.main([str(folder), "--out", str(out), *FEW])
        self.report = json.loads((out / "restore.json").read_text())

    def row(self, picture: str, label: str) -> Tensor:
        return next(images for name, images in self.rows[picture] if name.startswith(label))


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(folder, tmp_path_factory.mktemp("restore"))


def unseen(count: int) -> Tensor:
    return to_unit(dead_leaves(6, 8, seed=6))[:count]  # one seed after the quickstart's


def psnr(found: Tensor, truth: Tensor) -> float:
    found, truth = found.clamp(-1, 1).numpy(), truth.numpy()
    return float(np.mean([10 * np.log10(4 / np.mean((f - x) ** 2)) for f, x in zip(found, truth, strict=True)]))


# --- the whole run ----------------------------------------------------------------------------------------


def test_it_writes_pictures_that_show_something(finished: Finished) -> None:
    assert {path.name for path in finished.out.iterdir()} == {
        *("restored.png", "variations.png", "interpolations.png", "restore.json")
    }
    for name in finished.rows:
        with Image.open(finished.out / f"{name}.png") as picture:
            assert min(picture.size) >= 400
            grey = np.asarray(picture.convert("L"))
        assert (grey > 250).mean() > 0.05
        assert (grey < 200).mean() > 0.01


def test_restored_pictures_agree_with_what_is_known(finished: Finished) -> None:
    report = finished.report["restored"]
    assert list(report) == ["inpainting", "super-resolution 4×", "colourisation"]
    for found in report.values():
        assert found["pseudo_inverse_error"] < 1e-5
        assert found["measurement_error"] < 1e-5
    truth, rows = unseen(4), finished.rows["restored"]
    torch.testing.assert_close(finished.row("restored", "picture"), truth)
    _, in_known, in_draw, _, _, coarse, _, _, grey, _ = (images for _, images in rows)
    hidden = in_known == 0
    assert hidden.float().mean().item() == pytest.approx(0.25)  # 4×4 of 8×8
    torch.testing.assert_close(in_draw[~hidden], truth[~hidden], rtol=0, atol=1e-5)
    assert (in_draw - truth)[hidden].abs().max() > 0.05
    blocks = truth.unflatten(-1, (2, 4)).unflatten(-3, (2, 4))
    torch.testing.assert_close(coarse.unflatten(-1, (2, 4)).unflatten(-3, (2, 4)).mean((-3, -1)), blocks.mean((-3, -1)))
    torch.testing.assert_close(grey.mean(1), truth.mean(1), rtol=0, atol=1e-5)


def test_the_ratios_are_those_of_the_pictures(finished: Finished) -> None:
    rows, truth = finished.rows["restored"][1:], unseen(4)
    for index, found in enumerate(finished.report["restored"].values()):
        for (label, images), ratio in zip(rows[3 * index : 3 * index + 3], found["psnr"].values(), strict=True):
            assert ratio == pytest.approx(psnr(images, truth), abs=1e-3)
            assert f"{ratio:.1f} dB" in label


def test_less_is_left_of_a_picture_the_earlier_it_is_drawn_anew(finished: Finished) -> None:
    change = finished.report["varied"]["image_to_image_rms"]
    assert list(change) == ["0.3", "0.5", "0.7"]
    assert 0.01 < change["0.3"] < change["0.5"] < change["0.7"]
    found = finished.row("variations", "anew from t = 0.3") - unseen(4)
    assert change["0.3"] == pytest.approx(found.square().mean().sqrt().item())


def test_there_and_back_again(finished: Finished) -> None:
    varied = finished.report["varied"]
    assert varied["round_trip_rms"] < 0.02
    assert varied["encoding_deviation"] == pytest.approx(1, abs=0.3)
    torch.testing.assert_close(finished.row("variations", "and back"), unseen(4), rtol=0, atol=0.2)


def test_interpolation_ends_at_the_pictures(finished: Finished) -> None:
    truth = unseen(4)
    for index, (_, row) in enumerate(finished.rows["interpolations"]):
        assert len(row) == len(restore.SHARES)
        for found, picture in ((row[0], truth[index]), (row[-1], truth[index + 2])):
            assert (found - picture).square().mean().sqrt() < 0.03
        assert (row[2] - truth[index]).square().mean().sqrt() > 0.1


def test_bits_per_dimension_of_the_spectrum(folder: Path, finished: Finished) -> None:
    likelihood = finished.report["likelihood"]
    assert likelihood["pictures"] == 6
    for found in (likelihood["network"], likelihood["spectrum_alone"]):
        assert 2 < found["mean"] < 10
        assert 0 < found["standard_error"] < 1
    # Without the noise of one level the density is the same but for little, and known in closed form.
    spectrum = restore.read(folder).spectrum
    u, S = spectrum.basis.analyze(unseen(6).double()), spectrum.power
    nats = (0.5 * (u**2 / S + (2 * torch.pi * S).log())).flatten(1).sum(1) / u[0].numel()
    bits = nats / np.log(2) + np.log2(127.5)
    assert likelihood["spectrum_alone"]["mean"] == pytest.approx(bits.mean().item(), abs=0.1)
    assert likelihood["spectrum_alone"]["standard_error"] == pytest.approx(bits.std().item() / 6**0.5, rel=0.1)


def test_a_network_that_adds_nothing_is_worth_as_much_as_the_spectrum(folder: Path) -> None:
    trained = restore.read(folder)
    for parameter in trained.model.network.parameters():
        parameter.zero_()
    found = restore.judge(trained, unseen(6), steps=3, seed=0)
    assert abs(found["gain"]["mean"]) < 1e-3
    assert found["gain"]["standard_error"] < 1e-3


# --- pictures it was not trained on -----------------------------------------------------------------------


def test_more_leaves_are_others() -> None:
    found = restore.held_out({"size": 8, "seed": 5, "data": None, "images": 64}, None, 10)
    known = {image.tobytes() for image in dead_leaves(256, 8, seed=5)}
    assert not known & {image.tobytes() for image in found}


def test_pictures_it_was_trained_on_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaves = dead_leaves(12, 8, seed=1)
    whole, part = tmp_path / "whole.npy", tmp_path / "part.npy"
    np.save(whole, leaves)
    np.save(part, leaves[:9])
    settings = {"size": 8, "seed": 0, "data": str(whole), "images": 7}
    np.testing.assert_array_equal(restore.held_out(settings, None, 3), leaves[9:])
    np.testing.assert_array_equal(restore.held_out(settings, part, 3), leaves[7:9])  # another file, the same pictures
    everything = {**settings, "images": None}
    with pytest.raises(ValueError, match=r"trained on all but 0 pictures of .*part\.npy; pass others with --data"):
        restore.held_out(everything, part, 3)
    gone = {**settings, "data": str(tmp_path / "gone.npy")}
    np.testing.assert_array_equal(restore.held_out(gone, part, 3), leaves[6:9])
    assert "cannot be compared" in capsys.readouterr().out


# --- wrong folders and settings ---------------------------------------------------------------------------


def test_wrong_folders_are_explained(folder: Path, tmp_path: Path) -> None:
    def attempt(path: Path, message: str, *more: str) -> None:
        with pytest.raises(SystemExit, match=message):
            restore.main([str(path), "--out", str(tmp_path / "out"), *FEW, *more])
        assert not (tmp_path / "out").exists()

    attempt(tmp_path / "nowhere", r"nowhere does not exist; run examples/quickstart\.py first")
    empty, damaged, other = tmp_path / "empty", tmp_path / "damaged", tmp_path / "other"
    empty.mkdir()
    attempt(empty, r"empty is not the folder of a finished quickstart: it needs figures\.json and checkpoints")
    shutil.copytree(folder, damaged)
    (damaged / "checkpoints" / "checkpoint-00000030.pt").write_bytes(b"no more")
    attempt(damaged, r"checkpoint-00000030\.pt is damaged")
    other.mkdir()
    shutil.copy(folder / "figures.json", other)
    trainer = sp.DiffusionTrainer(torch.nn.Conv2d(3, 3, 1), sp.GaussianCorruption())
    trainer.save(other / "checkpoints")
    attempt(other, r"does not hold the network of examples/quickstart\.py \(KeyError")
    grey = tmp_path / "grey.npy"
    np.save(grey, dead_leaves(8, 8)[..., 0])
    attempt(folder, r"pictures of shape \(1, 8, 8\) do not fit a network for \(3, 8, 8\)", "--data", str(grey))


def test_one_picture_is_too_few(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        restore.main(["--pictures", "1"])
    assert "expected 2 or more, got '1'" in capsys.readouterr().err


def test_grey_pictures_have_no_colour_to_restore(tmp_path: Path) -> None:
    grey = tmp_path / "grey.npy"
    np.save(grey, dead_leaves(20, 8, seed=2)[..., :1])
    done = Finished(start(tmp_path / "quickstart", "--data", str(grey), "--images", "16"), tmp_path / "out")
    assert list(done.report["restored"]) == ["inpainting", "super-resolution 4×"]
    assert done.report["likelihood"]["pictures"] == 4  # no more were left
