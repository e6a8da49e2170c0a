"""Settings, data and parts of a CIFAR-10 run."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

import shortest_path as sp

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

import cifar10
import runs
import settings as settings_module
from settings import CONFIGS, Settings, from_dict, parse, to_dict

TINY = {"size": 8, "widths": (8, 16), "blocks": 1, "attention": (4,), "head_channels": 8, "groups": 8}


def pictures(count: int = 24, size: int = 8, labels: bool = True) -> cifar10.Pictures:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return cifar10.Pictures(images, np.arange(count) % 4 if labels else None, {"source": "made up"})


# --- settings ---------------------------------------------------------------------------------------------


def test_the_command_line_goes_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("steps: 7\nbatch_size: 5\nwidths: [32, 64]\n")
    found = parse(["--config", str(file), "--batch-size", "9", "--class-conditional", "--seed=3"])
    assert found == Settings(steps=7, batch_size=9, widths=(32, 64), class_conditional=True, seed=3)


def test_print_config_is_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse(["--steps", "7", "--corruption", "blur", "--print-config"])
    file = tmp_path / "c.yaml"
    file.write_text(capsys.readouterr().out)
    assert parse(["--config", str(file)]) == Settings(steps=7, corruption="blur")


def test_settings_survive_a_checkpoint() -> None:
    chosen = Settings(widths=(8, 16), max_grad_norm=None)
    assert from_dict(to_dict(chosen)) == chosen
    assert all(type(value) in (str, int, float, bool, list, type(None)) for value in to_dict(chosen).values())
    with pytest.raises(ValueError, match="unknown settings stepz; the settings are accumulation"):
        from_dict({"stepz": 1})


@pytest.mark.parametrize("words", [["--stepz", "3"], ["--steps", "many"], ["--corruption", "rain"], ["--config", "no"]])
def test_unknown_options_and_values_are_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(words)
    assert "error" in capsys.readouterr().err


def test_unknown_keys_in_a_file_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("stepz: 7\n")
    with pytest.raises(SystemExit):
        parse(["--config", str(tmp_path / "c.yaml")])
    assert "stepz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "train_cifar10: steps must be 1 or more, got 0"),
        (["--warmup", "-1"], "warmup must be 0 or more, got -1"),
        (["--dropout", "1"], "dropout and drop_labels must lie in"),
        (["--learning-rate", "0"], "learning_rate must be positive, got 0"),
        (["--spectrum", "reference", "--basis", "principal"], "constants are for basis=fourier or cosine"),
        (["--seed", "-1"], "seed must be 0 or more, got -1"),
    ],
)
def test_values_out_of_range_are_explained(words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        parse(words)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_config_file_makes_a_network_and_a_corruption(file: Path) -> None:
    chosen = parse(["--config", str(file)])
    assert set(yaml.safe_load(file.read_text())) <= set(to_dict(chosen))
    small = settings_module.dataclasses.replace(chosen, widths=tuple(w // 4 for w in chosen.widths), head_channels=8)
    small = settings_module.dataclasses.replace(small, groups=8)
    spectrum = runs.measure_spectrum(small, pictures(size=32))
    corruption = runs.make_corruption(small, spectrum)
    assert isinstance(corruption, sp.Corruption)
    network = runs.make_network(small, corruption, spectrum, 0)
    x = torch.zeros(1, 3, 32, 32)
    assert network(x, torch.zeros(1)).shape == x.shape


# --- data -------------------------------------------------------------------------------------------------


def encoded(images: np.ndarray, kind: str) -> list[bytes]:
    result = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind)
        result.append(buffer.getvalue())
    return result


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_parquet_file_with_its_labels_and_provenance(tmp_path: Path, kind: str) -> None:
    made = pictures()
    rows = [{"bytes": data, "path": None} for data in encoded(made.images, kind)]
    pq.write_table(pa.table({"img": rows, "label": made.labels}), tmp_path / "a.parquet")
    found = cifar10.load(str(tmp_path / "a.parquet"), count=10)
    assert found.labels is not None
    assert found.labels.tolist() == (np.arange(10) % 4).tolist()
    assert found.classes == 4
    assert (found.provenance["source"], found.provenance["count"]) == ("a.parquet", 10)
    assert found.provenance["encoding"] == kind
    assert (kind == "PNG") == np.array_equal(found.images, made.images[:10])


def test_an_archive_and_a_folder(tmp_path: Path) -> None:
    made = pictures(6)
    np.savez(tmp_path / "a.npz", images=made.images, labels=made.labels)
    found = cifar10.load(str(tmp_path / "a.npz"))
    assert found.classes == 4
    assert found.provenance["encoding"] == "array"
    assert found.provenance["sha256"] != cifar10.load(str(tmp_path / "a.npz"), count=5).provenance["sha256"]
    (tmp_path / "folder").mkdir()
    for index, data in enumerate(encoded(made.images, "PNG")):
        (tmp_path / "folder" / f"{index}.png").write_bytes(data)
    again = cifar10.load(str(tmp_path / "folder"))
    assert (again.classes, again.labels, again.provenance["encoding"]) == (0, None, "PNG")
    assert again.provenance["sha256"] == found.provenance["sha256"]  # of the pixels, whatever the file


def test_wrong_data_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("missing.parquet", "./missing", "cifar10"):
        with pytest.raises(ValueError, match=r"does not exist, and is not the name of a data set on the hub"):
            cifar10.load(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    np.savez(tmp_path / "a.npz", images=pictures(6).images, labels=np.zeros(5))
    with pytest.raises(ValueError, match="has 6 pictures but 5 labels"):
        cifar10.load(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("flip", [False, True])
def test_processes_share_the_batches_of_one(flip: bool) -> None:
    made = pictures()
    alone = list(cifar10.RankBatches(made, 6, seed=3, flip=flip, labels=True))
    shared = [list(cifar10.RankBatches(made, 3, rank=r, world=2, seed=3, flip=flip, labels=True)) for r in (0, 1)]
    assert len(alone) == len(shared[0]) == 4
    for (images, labels), *parts in zip(alone, *shared, strict=True):
        assert torch.equal(images, torch.cat([part[0] for part in parts]))
        assert torch.equal(labels, torch.cat([part[1] for part in parts]))


def test_every_epoch_has_an_order_of_its_own_and_every_picture_once() -> None:
    made = pictures()
    batches = cifar10.RankBatches(made, 8, seed=1, flip=False)
    first = torch.cat(list(batches))
    batches.set_epoch(1)
    second = torch.cat(list(batches))
    assert not torch.equal(first, second)
    for epoch in (first, second):
        levels = sorted(((epoch + 1) * 127.5).round().flatten(1).sum(1).tolist())
        assert levels == sorted(made.images.astype(float).reshape(24, -1).sum(1).tolist())


def test_batches_that_cannot_be_are_explained() -> None:
    with pytest.raises(ValueError, match=r"a step of 2 × 16 pictures needs as many, got 24"):
        cifar10.RankBatches(pictures(), 16, world=2)
    with pytest.raises(ValueError, match="made up has no labels; train without class_conditional"):
        cifar10.RankBatches(pictures(labels=False), 8, labels=True)


# --- parts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 9}, "size 9 cannot be halved 1 times, for 2 widths"),
        ({"widths": (8, 12)}, r"widths must be multiples of groups=8 and head_channels=8, got \[12\]"),
        ({"attention": (5,)}, r"attention at \[5\], but the feature maps have the sizes \[8, 4\]"),
    ],
)
def test_networks_that_cannot_be_are_explained(changes: dict, message: str) -> None:
    spectrum = runs.measure_spectrum(Settings(**TINY), pictures())
    with pytest.raises(ValueError, match=message):
        runs.make_network(Settings(**{**TINY, **changes}), sp.GaussianCorruption(), spectrum, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"corruption": "gaussian", "schedule": "linear"},
        {"corruption": "blur", "max_blur": 4.0},
        {"basis": "cosine", "log_power_scale": 1.25},
        {"basis": "fourier", "channels": "independent"},
        {"basis": "principal"},
        {"whitened_input": True, "prediction": "whitened-velocity"},
        {"prediction": "whitened-velocity", "weighting": "velocity", "corruption": "gaussian"},
        {"basis": "fourier", "channels": "shared", "spectrum": "reference"},
    ],
)
def test_a_checkpoint_alone_gives_the_run_back(tmp_path: Path, options: dict) -> None:
    chosen = Settings(**TINY, **options)
    made = pictures()
    spectrum = runs.measure_spectrum(chosen, made)
    corruption = runs.make_corruption(chosen, spectrum)
    network = runs.make_network(chosen, corruption, spectrum, made.classes)
    trainer = sp.DiffusionTrainer(
        network, corruption, metadata=runs.metadata(chosen, spectrum, made.classes, {"source": "made up"})
    )
    trainer.save(tmp_path)
    run = runs.load_run(tmp_path)
    assert (run.settings, run.shape, run.classes, run.step) == (chosen, (3, 8, 8), 4, 0)
    t = torch.tensor([0.3])
    torch.testing.assert_close(run.corruption.signal(t), corruption.signal(t))
    sampler = runs.make_sampler(run, solver="multistep", steps=2, guidance_scale=2.0)
    drawn = sampler.sample((2, 3, 8, 8), conditioning={runs.LABELS: torch.tensor([0, 3])})
    assert drawn.isfinite().all()


def test_log_power_scale_departs_from_the_path() -> None:
    made = pictures()
    one, other = (Settings(**TINY, log_power_scale=scale) for scale in (1.0, 0.5))
    spectrum = runs.measure_spectrum(one, made)
    torch.testing.assert_close(runs.make_corruption(other, spectrum).power, spectrum.power.sqrt())


def test_checkpoints_of_something_else_are_explained(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint-<step>.pt; train first"):
        runs.load_run(tmp_path)
    trainer = sp.DiffusionTrainer(torch.nn.Conv2d(3, 3, 1), sp.GaussianCorruption())
    trainer.save(tmp_path)
    with pytest.raises(ValueError, match=r"was not written by train_cifar10.py; it does not say how"):
        runs.load_run(tmp_path)


# --- processes --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hanging_process_ends_all_within_the_stated_time(tmp_path: Path) -> None:
    script = tmp_path / "hang.py"
    script.write_text(
        f"""
import sys, time
from datetime import timedelta
sys.path.insert(0, {str(Path(runs.__file__).parent)!r})
import torch
import torch.distributed as dist
from ranks import ranks
with ranks("cpu", timedelta(seconds=4)) as me:
    dist.all_reduce(torch.ones(1))
    if me.rank == 1:
        time.sleep(300)
    dist.all_reduce(torch.ones(1))
"""
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    start = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode != 0
    assert time.monotonic() - start < 60
    assert "Timed out waiting" in run.stderr or "timeout" in run.stderr.lower()
