"""Pictures from a checkpoint: the same ones however the work is divided, interrupted or repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import shortest_path as sp
from conftest import correlated_images

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

import runs
import sample_cifar10
from cifar10 import Pictures
from images import to_uint8
from settings import Settings

TINY = Settings(
    size=8,
    prediction="noise",
    whitened_input=False,
    widths=(8, 16),
    blocks=1,
    attention=(),
    head_channels=8,
    groups=8,
    dropout=0.0,
    batch_size=8,
)
CLASSES = 4


def make_checkpoint(folder: Path, *, steps: int = 2, **changes: Any) -> Path:
    """Train a network for a moment, and return its folder."""
    settings = replace(TINY, **changes)
    images = correlated_images(32).float().clamp(-1, 1)
    classes = CLASSES if settings.class_conditional else 0
    spectrum = runs.measure_spectrum(settings, Pictures(to_uint8(images), None, {}))
    corruption = runs.make_corruption(settings, spectrum)
    torch.manual_seed(0)
    network = runs.make_network(settings, corruption, spectrum, classes)
    trainer = sp.DiffusionTrainer(
        network,
        corruption,
        learning_rate=1e-2,
        ema_decay=0.5,
        label_name=runs.LABELS if classes else None,
        metadata=runs.metadata(settings, spectrum, classes, {"source": "made up", "count": len(images)}),
    )
    labels = torch.arange(8) % CLASSES
    batches = [(part, labels) if classes else part for part in images.split(8)]
    trainer.fit(batches, steps=steps, checkpoint_dir=folder / "checkpoints")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("conditional"), class_conditional=True)


def options(out: Path, *more: str, count: int = 10) -> list[str]:
    return ["--out", str(out), "--count", str(count), "--steps", "3", "--chunk", "4", "--batch-size", "4", *more]


def draw(checkpoint: Path, out: Path, *more: str, count: int = 10) -> dict[str, np.ndarray]:
    sample_cifar10.main([str(checkpoint), *options(out, *more, count=count)])
    return load(out)


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def largest_difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# What is written ------------------------------------------------------------------------------------------------------


def test_an_archive_and_a_picture_from_the_checkpoint_alone(checkpoint: Path, tmp_path: Path, capsys) -> None:
    found = draw(checkpoint, tmp_path / "deep" / "samples.npz", count=12)
    assert set(found) == {"images", "metadata"}
    assert found["images"].shape == (12, 8, 8, 3)
    assert found["images"].dtype == np.uint8
    assert len(np.unique(found["images"])) > 20
    metadata = json.loads(str(found["metadata"]))
    assert metadata["step"] == 2
    assert metadata["provenance"] == {"source": "made up", "count": 32}
    assert metadata["settings"]["corruption"] == "shortest-path"
    wanted = {"solver": "multistep", "steps": 3, "grid": None, "seed": 0, "clip": True, "label": "all", "bf16": False}
    assert metadata["request"].items() >= wanted.items()
    with Image.open(tmp_path / "deep" / "samples.png") as sheet:
        assert sheet.size == (2 * 10 * 10, 2 * 2 * 10)  # ten columns, two rows
        pixels = np.asarray(sheet)[::2, ::2]
    np.testing.assert_array_equal(pixels[11:19, 11:19], found["images"][11])
    assert (pixels[10:, 20:] == 255).all()  # twelve pictures
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["samples.npz", "samples.png"]
    told = capsys.readouterr()
    assert "Drawing 12 pictures with the network of step 2\n" in told.out
    assert "sampling: 12/12 images" in told.err
    assert "0 s left" in told.err


def test_pictures_are_those_of_the_averaged_weights(checkpoint: Path, tmp_path: Path) -> None:
    run = runs.load_run(checkpoint)
    sampler = runs.make_sampler(run, solver="multistep", steps=3)
    wanted = torch.cat(list(sampler.batches(10, run.shape, batch_size=5, seed=3, clip=(-1, 1))))
    found = draw(checkpoint, tmp_path / "a.npz", "--seed", "3")["images"]
    assert largest_difference(found, to_uint8(wanted)) <= 1
    assert (found != draw(checkpoint, tmp_path / "b.npz", "--seed", "4")["images"]).mean() > 0.5
    free = draw(checkpoint, tmp_path / "c.npz", "--seed", "3", "--no-clip")["images"]
    assert (found != free).any()


class Constant(nn.Module):
    """Predicts the same clean image always."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.value.expand_as(x_t)


@pytest.mark.parametrize(("level", "wanted"), [(100.4, 100), (100.6, 101), (254.7, 255), (-0.3, 0)])
def test_pixels_are_rounded(checkpoint: Path, tmp_path: Path, monkeypatch, level: float, wanted: int) -> None:
    run = runs.load_run(checkpoint)
    run = run._replace(model=Constant(level / 127.5 - 1), settings=replace(run.settings, prediction="data"))
    monkeypatch.setattr(sample_cifar10, "load_run", lambda *_: run)
    assert (draw(checkpoint, tmp_path / "samples.npz", "--solver", "ddim")["images"] == wanted).all()


def test_pictures_that_are_not_finite_are_refused(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    run = runs.load_run(checkpoint)._replace(model=Constant(float("nan")))
    monkeypatch.setattr(sample_cifar10, "load_run", lambda *_: run)
    with pytest.raises(SystemExit, match="sample_cifar10: the network draws pictures that are not finite"):
        draw(checkpoint, tmp_path / "samples.npz")


# The same pictures ----------------------------------------------------------------------------------------------------


def test_neither_batches_nor_chunks_change_a_picture(checkpoint: Path, tmp_path: Path) -> None:
    whole = draw(checkpoint, tmp_path / "a.npz", "--solver", "ancestral", count=11)["images"]
    for name, change in {"b": ("--batch-size", "3"), "c": ("--chunk", "7"), "d": ("--batch-size", "50")}.items():
        other = draw(checkpoint, tmp_path / f"{name}.npz", "--solver", "ancestral", *change, count=11)["images"]
        assert largest_difference(whole, other) <= 1
        assert (whole != other).mean() < 0.01
    fewer = draw(checkpoint, tmp_path / "e.npz", "--solver", "ancestral", count=8)["images"]
    np.testing.assert_array_equal(fewer, whole[:8])


@pytest.mark.slow
def test_two_processes_draw_the_same_as_one(conditional: Path, tmp_path: Path) -> None:
    words = ("--guidance-scale", "2", "--device", "cpu")
    draw(conditional, tmp_path / "one.npz", *words)
    script = [str(EXAMPLES / "sample_cifar10.py"), str(conditional), *options(tmp_path / "two.npz", *words)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, *script], capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("10 pictures") == 2  # said once: at the beginning, and at the end
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


def test_an_interrupted_run_continues(checkpoint: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    draw(checkpoint, tmp_path / "whole.npz")
    batches = sp.Sampler.batches
    asked: list[range] = []

    def interrupted(sampler: sp.Sampler, indices: range, *args: Any, **more: Any):
        asked.append(indices)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return batches(sampler, indices, *args, **more)

    monkeypatch.setattr(sp.Sampler, "batches", interrupted)
    with pytest.raises(SystemExit, match="Stopped. Run the same command again"):
        draw(checkpoint, tmp_path / "halves.npz")
    parts = tmp_path / "halves.parts"
    names = ["images-00000000-00000003.npy", "images-00000004-00000007.npy", "request.json"]
    assert sorted(path.name for path in parts.iterdir()) == names
    (parts / "images-00000008-00000009.npy.tmp").write_bytes(b"half of it")  # as a kill would leave it
    capsys.readouterr()
    draw(checkpoint, tmp_path / "halves.npz")
    assert asked[3:] == [range(8, 10)]  # nothing is drawn again
    assert "; 8 are there already" in capsys.readouterr().out
    assert (tmp_path / "halves.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not parts.exists()
    draw(checkpoint, tmp_path / "halves.npz")
    assert len(asked) == 4
    assert "all 10 pictures are there already" in capsys.readouterr().out


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("finished", [True, False])
def test_another_request_is_refused(checkpoint: Path, tmp_path: Path, monkeypatch, finished: bool) -> None:
    out, place = tmp_path / "samples.npz", r"samples\.npz" if finished else r"samples\.parts"
    with monkeypatch.context() as patch:
        if finished:
            draw(checkpoint, out)
        else:
            patch.setattr(sample_cifar10.Chunks, "join", interrupt)
            with pytest.raises(SystemExit):
                draw(checkpoint, out)
    with pytest.raises(
        SystemExit,
        match=rf"^sample_cifar10: .*{place} is of another request: count 10 there, 9 here; seed 0 there, 1 here; "
        "delete it, or pass another --out$",
    ):
        draw(checkpoint, out, "--seed", "1", count=9)
    later = make_checkpoint(tmp_path / "later", steps=3)
    with pytest.raises(SystemExit, match=r"checkpoint of step 2 \(\w{12}\) there, of step 3 \(\w{12}\) here;"):
        draw(later, out)


def test_a_run_that_drew_nothing_binds_no_other(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sample_cifar10, "finite", interrupt)
        with pytest.raises(SystemExit):
            draw(checkpoint, tmp_path / "samples.npz")
    draw(checkpoint, tmp_path / "samples.npz", "--seed", "1")
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_not_ours_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros(3))
    (tmp_path / "b.npz").write_bytes(b"PK and no more")
    for name in ("a", "b"):
        with pytest.raises(SystemExit, match=rf"{name}\.npz exists, and is not of sample_cifar10\.py; move it away"):
            draw(checkpoint, tmp_path / f"{name}.npz")
    (tmp_path / "c.parts").mkdir()
    (tmp_path / "c.parts" / "thesis.txt").touch()
    with pytest.raises(SystemExit, match=r"c\.parts is needed for unfinished work, but holds something else"):
        draw(checkpoint, tmp_path / "c.npz")
    assert (tmp_path / "c.parts" / "thesis.txt").exists()


# Solvers, labels and guidance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("--solver", "ancestral", "--steps", "20"),
        ("--solver", "ddim"),
        ("--solver", "ddim", "--eta", "1", "--grid", "cosine"),
        ("--solver", "multistep", "--order", "1", "--grid", "log-snr"),
        ("--bf16", "yes"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("corruption", ["gaussian", "blur", "shortest-path"])
def test_every_solver_draws_from_every_corruption(tmp_path: Path, corruption: str, words: tuple[str, ...]) -> None:
    folder = make_checkpoint(tmp_path, corruption=corruption)
    found = draw(folder, tmp_path / "samples.npz", *words, count=3)
    assert found["images"].std() > 5
    request = json.loads(str(found["metadata"]))["request"]
    assert request["bf16"] is ("--bf16" in words)
    assert request["steps"] == (20 if "20" in words else 3)


def test_bf16_is_nearly_float32(checkpoint: Path, tmp_path: Path) -> None:
    exact = draw(checkpoint, tmp_path / "a.npz")["images"].astype(float)
    short = draw(checkpoint, tmp_path / "b.npz", "--bf16", "yes")["images"].astype(float)
    assert 0 < np.abs(exact - short).mean() < 3


def test_labels_are_balanced_or_one(conditional: Path, tmp_path: Path) -> None:
    every = draw(conditional, tmp_path / "every.npz")
    np.testing.assert_array_equal(every["labels"], np.arange(10) % CLASSES)
    assert every["labels"].dtype == np.int64
    two = draw(conditional, tmp_path / "two.npz", "--label", "2")
    assert (two["labels"] == 2).all()
    same = every["labels"] == 2
    assert largest_difference(every["images"][same], two["images"][same]) <= 1
    assert (every["images"][~same] != two["images"][~same]).any((1, 2, 3)).all()


def test_guidance_at_its_times(conditional: Path, tmp_path: Path) -> None:
    plain = draw(conditional, tmp_path / "plain.npz")["images"]
    guided = draw(conditional, tmp_path / "guided.npz", "--guidance-scale", "3")["images"]
    never = ("--guidance-scale", "3", "--guidance-interval", "0", "0")
    assert (guided != plain).mean() > 0.1
    np.testing.assert_array_equal(draw(conditional, tmp_path / "never.npz", *never)["images"], plain)
    run = runs.load_run(conditional)
    sampler = runs.make_sampler(run, solver="multistep", steps=3, guidance_scale=3)
    labels = {runs.LABELS: torch.arange(10) % CLASSES}
    wanted = torch.cat(list(sampler.batches(10, run.shape, conditioning=labels, clip=(-1, 1))))
    assert largest_difference(guided, to_uint8(wanted)) <= 1


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "samples.png"), r"--out must end in \.npz, got samples\.png"),
        (("--solver", "ancestral", "--eta", "1"), "--eta is an option of ddim and multistep"),
        (("--solver", "ddim", "--order", "1"), "--order is an option of multistep; ddim has order 1"),
        (("--eta", "2"), r"eta must lie in \[0, 1\]"),
        (("--label", "1"), "was trained without labels.*train with --class-conditional"),
        (("--guidance-scale", "2"), "was trained without labels"),
        (("--grid", "reference", "--steps", "2"), "the reference grid needs 3 steps or more, got 2"),
    ],
)
def test_unfit_options_are_explained(checkpoint: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^sample_cifar10: .*{message}[^\n]*$"):
        draw(checkpoint, tmp_path / "samples.npz", *words)


def test_labels_and_guidance_out_of_range(conditional: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="--label must be below 4, the number of classes, got 4"):
        draw(conditional, tmp_path / "samples.npz", "--label", "4")
    with pytest.raises(SystemExit, match=r"guidance_interval must be \(low, high\)"):
        draw(conditional, tmp_path / "samples.npz", "--guidance-scale", "2", "--guidance-interval", "1", "0")
    with pytest.raises(SystemExit):
        draw(conditional, tmp_path / "samples.npz", "--label", "cat")
    assert "expected the number of a class or 'all', got 'cat'" in capsys.readouterr().err


def test_checkpoints_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="^sample_cifar10: .*holds no checkpoint"):
        draw(tmp_path, tmp_path / "samples.npz")
    with pytest.raises(SystemExit, match=r"^sample_cifar10: .*gone\.pt"):
        draw(tmp_path / "gone.pt", tmp_path / "samples.npz")
    other = sp.DiffusionTrainer(nn.Conv2d(3, 3, 1), sp.GaussianCorruption())
    other.save(tmp_path / "other")
    with pytest.raises(SystemExit, match=r"was not written by train_cifar10\.py"):
        draw(tmp_path / "other", tmp_path / "samples.npz")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="torch sees no GPU; leave out --device"):
        draw(checkpoint, tmp_path / "samples.npz", "--device", "cuda")
