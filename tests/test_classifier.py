"""The classifier in whose features pictures are compared: it learns, continues exactly, and is read as written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import classifier
from classifier import Classifier, augmented, load_classifier
from shortest_path.checkpoint import load_checkpoint

TINY = ("--size=8", "--width=4", "--batch-size=16", "--epochs=4", "--seed=3", "--device=cpu")


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pictures of 8×8 of three classes, that neither a mirror nor a shift can mistake for each other."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    wave = 60 * np.cos(np.pi * np.arange(8))
    patterns = np.stack([np.zeros((8, 8)), np.broadcast_to(wave, (8, 8)), np.broadcast_to(wave[:, None], (8, 8))])
    images = 128 + patterns[labels][..., None] + rng.normal(0, 20, (count, 8, 8, 3))
    return images.clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("stripes")
    paths = SimpleNamespace(train=folder / "train.npz", test=folder / "test.npz", folder=folder)
    for path, count, seed in ((paths.train, 200, 0), (paths.test, 60, 1)):
        images, labels = stripes(count, seed)
        np.savez(path, images=images, labels=labels)
    return paths


def run(data: SimpleNamespace, out: Path, *more: str) -> None:
    classifier.main([f"--data={data.train}", f"--test={data.test}", f"--out={out}", *TINY, *more])


@pytest.fixture(scope="module")
def finished(data: SimpleNamespace) -> Path:
    run(data, data.folder / "finished", "--required-accuracy=0.95")
    return data.folder / "finished"


def pictures(count: int = 5, size: int = 8) -> torch.Tensor:
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_it_learns_an_easy_set_and_tells_what_it_depends_on(data: SimpleNamespace, finished: Path) -> None:
    facts = json.loads((finished / "classifier.json").read_text())
    network = load_classifier(finished)
    assert 0.95 <= facts["test_accuracy"] <= 1
    assert facts["parameters"] == sum(weights.numel() for weights in network.parameters())
    assert (facts["size"], facts["width"], facts["features"], facts["classes"]) == (8, 4, 16, 3)
    assert (facts["epochs"], facts["seed"], facts["precision"]) == (4, 3, "bf16")
    assert facts["seconds"] > 0
    assert facts["torch"] == torch.__version__
    assert [facts[part]["source"] for part in ("training_data", "test_data")] == ["train.npz", "test.npz"]
    assert [facts[part]["count"] for part in ("training_data", "test_data")] == [200, 60]
    assert facts["training_data"]["sha256"] != facts["test_data"]["sha256"]
    # The accuracy, once more by hand.
    images, labels = stripes(60, 1)
    logits = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
    assert (logits.argmax(1).numpy() == labels).mean() == facts["test_accuracy"]


def test_an_interrupted_run_continues_exactly(
    data: SimpleNamespace, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = classifier.train_epoch

    def interrupted(*arguments: object) -> float:
        calls.append(arguments)
        loss = original(*arguments)  # so that what it changed has to be forgotten
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(classifier, "train_epoch", interrupted)
        with pytest.raises(SystemExit, match="same command continues after the last epoch"):
            run(data, tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["epoch"] == 2
    assert not (tmp_path / "classifier.json").exists()
    run(data, tmp_path)
    ours, theirs = (load_checkpoint(folder / "checkpoint.pt") for folder in (tmp_path, finished))
    assert all(torch.equal(ours["network"][name], theirs["network"][name]) for name in theirs["network"])
    momenta = [[group["momentum_buffer"] for group in each["optimizer"]["state"].values()] for each in (ours, theirs)]
    assert all(torch.equal(a, b) for a, b in zip(*momenta, strict=True))
    weights = [(folder / "classifier.safetensors").read_bytes() for folder in (tmp_path, finished)]
    assert weights[0] == weights[1]


def test_what_is_finished_is_only_tested_again(
    data: SimpleNamespace, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "train_epoch", None)
    before = (finished / "classifier.json").read_text()
    run(data, finished)
    assert (finished / "classifier.json").read_text() == before


def test_saved_and_loaded_features_are_equal(finished: Path) -> None:
    network = load_classifier(finished)
    trained = Classifier(size=8, width=4, classes=3)
    trained.load_state_dict(load_checkpoint(finished / "checkpoint.pt")["network"])
    features = network.features(pictures())
    assert torch.equal(features, trained.to(memory_format=torch.channels_last).eval().features(pictures()))
    assert features.shape == (5, 16)
    assert not features.requires_grad
    assert not network.training
    torch.testing.assert_close(classifier.LOGIT_SCALE * network.head(features), network(pictures()))


def test_features_are_of_each_picture_alone(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_classifier(finished).double()
    whole = network.features(pictures(7))
    assert whole.dtype == torch.float64
    monkeypatch.setattr(classifier, "PART", 2)
    torch.testing.assert_close(network.features(pictures(7)), whole)
    torch.testing.assert_close(network.features(pictures(7)[3:4]), whole[3:4])


@pytest.mark.parametrize(("size", "convolutions"), [(8, 7), (16, 7), (32, 8), (64, 9)])
def test_larger_pictures_have_a_deeper_network(size: int, convolutions: int) -> None:
    network = Classifier(size=size, width=2).eval()
    assert sum(isinstance(part, torch.nn.Conv2d) for part in network.modules()) == convolutions
    assert network.features(pictures(2, size)).shape == (2, 8)


def test_augmentation_is_a_mirror_and_a_shift_with_reflection() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    crops = [padded[y : y + 6, x : x + 7] for y in range(5) for x in range(5)]
    wanted = {crop.tobytes() for crop in crops} | {crop[:, ::-1].tobytes() for crop in crops}
    batch = torch.from_numpy(np.repeat(image[None], 600, axis=0))
    found = augmented(batch, shift=2, generator=torch.Generator().manual_seed(0))
    assert {each.numpy().tobytes() for each in found} == wanted
    assert len(wanted) == 50


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--required-accuracy=1.1", "--epochs=1"],
            r"test accuracy is 0\.\d{4}, expected 1\.1, so nothing was written",
        ),
        (
            ["--learning-rate=1e30", "--epochs=2", "--precision=fp32"],
            "the loss became nan in epoch [12]; use a smaller",
        ),
        (["--size=4"], "expected size ≥ 8, width ≥ 1 and 2 classes or more; got size 4, width 4 and 3 classes"),
        (["--batch-size=201"], "--batch-size must be from 1 to 200 pictures, got 201"),
        (["--epochs=0"], "expected --epochs ≥ 1 and --learning-rate > 0, got 0, 0.2"),
        (["--test={train}"], "--data and --test are the same pictures"),
        (["--data={folder}/plain.npz"], "--data must have labels and three channels"),
        (["--test={folder}/grey.npz"], "--test must have labels and three channels"),
        (["--test={folder}/more.npz"], "--test has 4 classes, --data 3; pass two parts of one set"),
        (["--test={folder}/absent.npz"], "absent.npz does not exist"),
    ],
)
def test_errors_of_a_run(data: SimpleNamespace, tmp_path: Path, words: list[str], message: str) -> None:
    images, labels = stripes(20, 2)
    np.savez(data.folder / "plain.npz", images=images)
    np.savez(data.folder / "grey.npz", images=images[..., :1], labels=labels)
    np.savez(data.folder / "more.npz", images=images, labels=labels + 1)
    with pytest.raises(SystemExit, match=message):
        run(data, tmp_path, *(word.format(train=data.train, folder=data.folder) for word in words))
    assert not (tmp_path / "classifier.json").exists()


def test_another_run_is_not_continued(data: SimpleNamespace, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"of another run: epochs was 4, is 9; seed was 3, is 4\. Use its settings"):
        run(data, finished, "--seed=4", "--epochs=9")
    torch.save({"step": 3}, tmp_path / "checkpoint.pt")
    with pytest.raises(SystemExit, match="of another run: size was None, is 8"):
        run(data, tmp_path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.zeros(2, 3, 8, 9),
            r"expected floats of shape \(B ≥ 1, \*\(3, 8, 8\)\), got torch.float32 \(2, 3, 8, 9\)",
        ),
        (torch.zeros(3, 8, 8), r"got torch.float32 \(3, 8, 8\); convert them"),
        (torch.zeros(0, 3, 8, 8), r"got torch.float32 \(0, 3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"got torch.uint8"),
        (torch.full((2, 3, 8, 8), 255.0), r"images must be in \[-1, 1\], got \[255, 255\]; scale or clip them"),
        (torch.full((2, 3, 8, 8), torch.nan), r"got \[nan, nan\]"),
    ],
)
def test_errors_of_features(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier(size=8, width=2).features(images)


def test_errors_of_loading(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"classifier.json does not exist; make it with"):
        load_classifier(tmp_path)
    facts = json.loads((finished / "classifier.json").read_text())
    (tmp_path / "classifier.json").write_text(json.dumps(facts))
    with pytest.raises(FileNotFoundError, match=r"classifier.safetensors does not exist; make it with"):
        load_classifier(tmp_path)
    data = bytearray((finished / "classifier.safetensors").read_bytes())
    (tmp_path / "classifier.safetensors").write_bytes(data)
    load_classifier(tmp_path)
    for change in ({"format": 0}, {"width": 5}, {"weights_sha256": "0"}, {"size": 2}, {"size": "8"}):
        (tmp_path / "classifier.json").write_text(json.dumps(facts | change))
        with pytest.raises(ValueError, match=r"classifier.json cannot be used \(.*\); make it again with"):
            load_classifier(tmp_path)
    (tmp_path / "classifier.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cannot be used \(KeyError\('format'\)\)"):
        load_classifier(tmp_path)
    (tmp_path / "classifier.json").write_text(json.dumps(facts))
    data[-1] ^= 1
    (tmp_path / "classifier.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"expected format 1 and the SHA-256 of classifier.safetensors"):
        load_classifier(tmp_path)
