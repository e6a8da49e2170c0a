"""The examples: what they read, paint, train and write."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import shortest_path as sp

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import quickstart
from dead_leaves import dead_leaves
from images import to_unit
from test_images import write_folder, write_npz, write_parquet
from unet import WhitenedInput, small_unet

PICTURES = ("corruptions.png", "spectrum.png", "loss.png", "samples.png", "sample_spectrum.png")
TINY = ("--size", "8", "--batch-size", "8", "--samples", "4", "--sample-steps", "3", "--seed", "5")


def run(out: Path, *more: str, steps: int = 3) -> dict:
    quickstart.main(["--out", str(out), "--steps", str(steps), *TINY, *more])
    return json.loads((out / "figures.json").read_text())


@pytest.fixture(scope="module")
def leaves() -> np.ndarray:
    return dead_leaves(12, size=8, seed=3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of a small but real run."""
    out = tmp_path_factory.mktemp("quickstart")
    quickstart.main(["--out", str(out), "--images", "64", "--steps", "30", *TINY, "--size", "32"])
    return out


@pytest.fixture
def only_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures that other tests look at, to save time."""
    for name in ("draw_corruptions", "draw_spectra", "draw_loss", "draw_sample_spectrum"):
        monkeypatch.setattr(quickstart.figures, name, lambda *_, **__: None)


# The quickstart -------------------------------------------------------------------------------------------------------


def test_quickstart_writes_pictures_that_show_something(finished: Path) -> None:
    for name in PICTURES:
        with Image.open(finished / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) >= 400
            grey = np.asarray(picture.convert("L"))
        assert (grey > 250).mean() > 0.05, f"{name} has no paper"
        assert (grey < 200).mean() > 0.01, f"{name} has no ink"


def test_quickstart_numbers_obey_the_laws(finished: Path) -> None:
    report = json.loads((finished / "figures.json").read_text())
    length, divergence = report["path_length"], report["gaussian_kl_50_steps"]
    assert set(length) == set(divergence) == {"Gaussian, cosine", "blur", "shortest path"}
    assert report["geodesic_distance"] <= length["shortest path"] < min(length["blur"], length["Gaussian, cosine"])
    assert 0 < divergence["shortest path"] < min(divergence["blur"], divergence["Gaussian, cosine"])
    assert set(report["seconds"]) == {"pictures", "spectrum", "comparison", "training", "sampling"}
    assert all(seconds > 0 for seconds in report["seconds"].values())
    assert report["images"] == 64
    assert report["settings"]["steps"] == 30
    assert report["torch"] == torch.__version__


def test_quickstart_learns(finished: Path) -> None:
    rows = [line.split(",") for line in (finished / "checkpoints" / "losses.csv").read_text().splitlines()]
    losses = [float(loss) for _, loss in rows]
    assert [int(step) for step, _ in rows] == list(range(1, 31))
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    assert json.loads((finished / "figures.json").read_text())["final_loss"] == pytest.approx(np.mean(losses))


@pytest.mark.usefixtures("only_samples")
def test_quickstart_resumes_as_if_never_interrupted(tmp_path: Path, monkeypatch, capsys) -> None:
    whole = run(tmp_path / "whole", "--images", "16", steps=5)
    fit, train_step = sp.DiffusionTrainer.fit, sp.DiffusionTrainer.train_step

    def fit_with_many_checkpoints(trainer: sp.DiffusionTrainer, batches, **options) -> None:
        fit(trainer, batches, **{**options, "checkpoint_every": 2})

    def interrupted_step(trainer: sp.DiffusionTrainer, batches):
        if trainer.step == 3:  # one step after a checkpoint: that step will be repeated
            raise KeyboardInterrupt
        return train_step(trainer, batches)

    monkeypatch.setattr(sp.DiffusionTrainer, "fit", fit_with_many_checkpoints)
    monkeypatch.setattr(sp.DiffusionTrainer, "train_step", interrupted_step)
    with pytest.raises(SystemExit, match="Run the same command again"):
        run(tmp_path / "halves", "--images", "16", steps=5)
    monkeypatch.setattr(sp.DiffusionTrainer, "fit", fit)
    monkeypatch.setattr(sp.DiffusionTrainer, "train_step", train_step)
    capsys.readouterr()
    halves = run(tmp_path / "halves", "--images", "16", steps=5)
    assert "continuing from" in capsys.readouterr().out
    assert halves["final_loss"] == whole["final_loss"]
    samples = [(tmp_path / name / "samples.png").read_bytes() for name in ("whole", "halves")]
    assert samples[0] == samples[1]


@pytest.mark.usefixtures("only_samples")
def test_quickstart_will_not_mix_two_data_sets(tmp_path: Path) -> None:
    run(tmp_path, "--images", "16", steps=1)
    with pytest.raises(SystemExit, match=r"another configuration.*delete .*checkpoints to begin anew"):
        run(tmp_path, "--images", "24", steps=2)


@pytest.mark.parametrize("kind", ["parquet", "folder", "npz"])
@pytest.mark.usefixtures("only_samples")
def test_quickstart_reads_data(tmp_path: Path, leaves: np.ndarray, kind: str) -> None:
    writers = {"parquet": write_parquet, "folder": write_folder, "npz": write_npz}
    path = writers[kind](tmp_path / ("photos" if kind == "folder" else f"photos.{kind}"), leaves)
    report = run(tmp_path / "out", "--data", str(path), "--images", "10", steps=1)
    assert report["images"] == 10
    assert report["settings"]["data"] == str(path)
    assert (tmp_path / "out" / "samples.png").exists()


def test_quickstart_explains_unfit_settings(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="nowhere does not exist"):
        run(tmp_path, "--data", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="got 4; use more pictures or a smaller --batch-size"):
        run(tmp_path, "--images", "4")
    with pytest.raises(SystemExit, match="size must be a multiple of"):
        run(tmp_path, "--size", "10")
    with pytest.raises(SystemExit):
        quickstart.main(["--steps", "0"])
    assert "expected a whole number, 1 or more, got '0'" in capsys.readouterr().err


# Dead leaves and the network ------------------------------------------------------------------------------------------


def test_dead_leaves_are_reproducible() -> None:
    many = dead_leaves(130, size=16, seed=7)
    assert many.shape == (130, 16, 16, 3)
    assert many.dtype == np.uint8
    np.testing.assert_array_equal(dead_leaves(130, size=16, seed=7), many)
    np.testing.assert_array_equal(dead_leaves(5, size=16, seed=7), many[:5])
    assert (dead_leaves(5, size=16, seed=8) != many[:5]).any()
    with pytest.raises(ValueError, match="count and size must be 1 or more, got 0 and 32"):
        dead_leaves(0)


def test_dead_leaves_have_the_statistics_of_photographs() -> None:
    x = to_unit(dead_leaves(768))
    correlation = torch.corrcoef(x.transpose(0, 1).flatten(1))
    assert correlation[~torch.eye(3, dtype=torch.bool)].min() > 0.65  # between red, green and blue
    assert 0.3 < x.std() < 0.7
    frequency, power = sp.PowerSpectrum.estimate([x]).radial_average()
    coarse = slice(1, 13)  # beyond, the softness of the edges takes over
    exponent = -np.polyfit(frequency[coarse].log().numpy(), power.mean(0)[coarse].log().numpy(), 1)[0]
    assert exponent == pytest.approx(2, abs=0.15)  # as in photographs; single edges have 3


def test_small_unet_listens_to_time() -> None:
    torch.manual_seed(0)
    model, x = small_unet(size=16), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        early, late = model(x, torch.zeros(2)), model(x, torch.full((2,), 0.9))
        assert early.shape == x.shape
        assert (early - late).abs().max() > 1e-3
        assert (early - model(x, torch.full((2,), 0.0004))).abs().max() > 0  # no rounding to whole steps
    with pytest.raises(ValueError, match="size must be a multiple of"):
        small_unet(size=30)
    with pytest.raises(ValueError, match="widths must be multiples of 8"):
        small_unet(widths=(12, 24))


@pytest.mark.parametrize("t", [0.0, 0.3, 0.999, 1.0])
def test_a_network_also_sees_the_whitened_image(t: float) -> None:
    x = to_unit(dead_leaves(64, size=8))
    spectrum = sp.PowerSpectrum.estimate([x])
    corruption = sp.ShortestPathCorruption(spectrum)
    seen = []

    class Network(torch.nn.Module):
        def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            seen.append(x_t)
            return x_t[:, :3]

    x_t = corruption.corrupt(x, t, torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))
    WhitenedInput(Network(), corruption, spectrum)(x_t, torch.full((64,), t))
    image, whitened = seen[0].split(3, 1)
    assert torch.equal(image, x_t)
    assert corruption.basis.analyze(whitened).square().mean() == pytest.approx(1.0, abs=0.1)
    torch.testing.assert_close(
        corruption.basis.analyze(whitened) * spectrum.power.float() ** ((1 - t) / 2),  # V = S^(1−t) on the geodesic
        corruption.basis.analyze(x_t),
        rtol=1e-3,
        atol=1e-3,
    )
