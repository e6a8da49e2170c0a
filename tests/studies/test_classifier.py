"""The classifier in whose features images are compared: it learns, continues exactly, and is read as written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from studies.trained_networks import classifier
from studies.trained_networks.classifier import load_classifier, main

TINY = ("--size=8", "--width=4", "--batch-size=16", "--epochs=4", "--seed=3", "--device=cpu")


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images of 8×8 of three classes, which neither a mirror nor a shift can confuse."""
    rng = np.random.default_rng(seed)
    labels, wave = np.arange(count) % 3, 60 * np.cos(np.pi * np.arange(8))
    patterns = np.stack([np.zeros((8, 8)), np.broadcast_to(wave, (8, 8)), np.broadcast_to(wave[:, None], (8, 8))])
    images = 128 + patterns[labels][..., None] + rng.normal(0, 20, (count, 8, 8, 3))
    return images.clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data, and a classifier trained on them."""
    folder = tmp_path_factory.mktemp("stripes")
    for name, count, seed in (("train", 200, 0), ("test", 60, 1)):
        images, labels = stripes(count, seed)
        np.savez(folder / f"{name}.npz", images=images, labels=labels)
    run(folder, folder / "finished", "--required-accuracy=0.95")
    return folder


def run(folder: Path, out: Path, *more: str) -> None:
    main([f"--data={folder / 'train.npz'}", f"--test={folder / 'test.npz'}", f"--out={out}", *TINY, *more])


def test_it_learns_an_easy_set_and_records_its_settings(folder: Path) -> None:
    facts = json.loads((folder / "finished" / "classifier.json").read_text())
    network = load_classifier(folder / "finished")
    assert facts["parameters"] == sum(weights.numel() for weights in network.parameters())
    assert (facts["size"], facts["width"], facts["features"], facts["classes"], facts["seed"]) == (8, 4, 16, 3, 3)
    assert [facts[part]["count"] for part in ("training_data", "test_data")] == [200, 60]
    images, labels = stripes(60, 1)
    logits = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
    assert (logits.argmax(1).numpy() == labels).mean() == facts["test_accuracy"] >= 0.95
    with pytest.raises(ValueError, match=r"images must be in \[-1, 1\], got \[nan, nan\]; scale or clip them"):
        network.features(torch.full((2, 3, 8, 8), torch.nan))


def test_crops_have_the_label_of_their_image(folder: Path, tmp_path: Path) -> None:
    for name, count, seed in (("train", 200, 0), ("test", 60, 1)):
        images, labels = stripes(count, seed)
        np.savez(tmp_path / f"{name}.npz", images=np.tile(images, (1, 2, 2, 1)), labels=labels)
    run(tmp_path, tmp_path / "crops", "--required-accuracy=0.95", "--average-from=16", "--crops", "--epochs=2")
    assert json.loads((tmp_path / "crops" / "classifier.json").read_text())["crops"]
    with pytest.raises(SystemExit, match="--crops requires --average-from, the size to cut from; pass e.g."):
        run(folder, tmp_path / "none", "--crops")


def test_damaged_files_are_refused(folder: Path, tmp_path: Path) -> None:
    facts = json.loads((folder / "finished" / "classifier.json").read_text())
    (tmp_path / "classifier.safetensors").write_bytes((folder / "finished" / "classifier.safetensors").read_bytes())
    for change in ({"format": 0}, {"width": 5}, {"weights_sha256": "0"}):
        (tmp_path / "classifier.json").write_text(json.dumps(facts | change))
        with pytest.raises(ValueError, match=r"classifier.json is unusable \(.*\); make it again with"):
            load_classifier(tmp_path)


def test_classes_of_other_names_are_refused(tmp_path: Path) -> None:
    images, _ = stripes(8, 0)
    for name, classes in (("train", ("cat", "dog")), ("test", ("dog", "fox"))):
        (tmp_path / name).mkdir()
        for index, image in enumerate(images if name == "train" else images[::-1]):
            Image.fromarray(image).save(tmp_path / name / f"{classes[index % 2]}_{index}.png")
    with pytest.raises(SystemExit, match="--test has the classes dog, fox, --data cat, dog; pass two parts of one"):
        main([f"--data={tmp_path / 'train'}", f"--test={tmp_path / 'test'}", f"--out={tmp_path / 'out'}", *TINY])


def test_an_interrupted_run_continues_exactly(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs, original = [], classifier.train_epoch

    def interrupted(*arguments: object) -> float:
        epochs.append(original(*arguments))  # its changes must be forgotten
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return epochs[-1]

    with monkeypatch.context() as patch:
        patch.setattr(classifier, "train_epoch", interrupted)
        with pytest.raises(SystemExit, match="same command continues after the last printed epoch"):
            run(folder, tmp_path)
    assert classifier.load_checkpoint(tmp_path / "checkpoint.pt")["epoch"] == 2
    assert not (tmp_path / "classifier.json").exists()
    run(folder, tmp_path)
    weights = [(each / "classifier.safetensors").read_bytes() for each in (tmp_path, folder / "finished")]
    assert weights[0] == weights[1]
