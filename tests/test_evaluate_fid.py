"""Distances between sets of pictures: the formulas, and the example that reports them under honest names."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

import evaluate_fid
import features
from cifar10 import Pictures
from dead_leaves import dead_leaves
from evaluate_fid import Network, frechet_label, sign_of_jpeg
from images import to_unit
from metrics import Statistics, frechet_distance, kernel_distance, precision_recall

SIZE, WIDTH = 16, 8


def normal(count: int, width: int = 5, seed: int = 0) -> Tensor:
    """Correlated features with a mean, float64."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, width, generator=generator, dtype=torch.float64)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return white @ mixing + torch.randn(width, generator=generator, dtype=torch.float64)


class Tiny(nn.Module):
    """A random feature network; its dropout must not be at work."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layer, self.dropout = nn.Conv2d(3, WIDTH, 3, 2), nn.Dropout(0.5)
        self.layer.weight.data = torch.randn(self.layer.weight.shape, generator=generator)
        self.layer.bias.data = torch.zeros(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(torch.relu(self.layer(x)).mean((2, 3)))


def export(path: Path, network: nn.Module) -> Path:
    if path.suffix == ".pt":
        torch.jit.script(network).save(path)
    else:
        batch = {0: torch.export.Dim("batch")}
        program = torch.export.export(network.eval(), (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=(batch,))
        torch.export.save(program, path)
    return path


def encode(image: np.ndarray, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def through_jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(encode(image, "JPEG", quality=quality)))) for image in images])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Return a network, real pictures and samples, in files."""
    folder = tmp_path_factory.mktemp("evaluate_fid")
    leaves = dead_leaves(180, size=SIZE, seed=0)
    real, drawn = leaves[:120], leaves[120:]
    rows = [{"bytes": encode(image), "path": None} for image in real]
    pq.write_table(pa.table({"img": rows}), folder / "real.parquet")
    np.savez(folder / "drawn.npz", images=drawn, steps=np.array(20), code=np.array([print], dtype=object))
    network = export(folder / "tiny.pt2", Tiny())
    return SimpleNamespace(
        folder=folder,
        real=real,
        drawn=drawn,
        network=network,
        data=folder / "real.parquet",
        samples=folder / "drawn.npz",
    )


@pytest.fixture
def evaluate(world: SimpleNamespace, tmp_path: Path) -> Callable[..., dict]:
    def run(*more: str | Path, samples: Path | np.ndarray = world.samples, **options: str | Path) -> dict:
        if isinstance(samples, np.ndarray):
            np.save(tmp_path / "samples.npy", samples)
            samples = tmp_path / "samples.npy"
        out = tmp_path / "report.json"
        options = {"data": world.data, "features": world.network, "cache": tmp_path / "cache", "json": out, **options}
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        evaluate_fid.main([str(samples), "--device", "cpu", *words, *map(str, more)])
        return json.loads(out.read_text(encoding="utf-8"))

    return run


def values(report: dict) -> dict[str, float]:
    return {figure["name"]: figure["value"] for figure in report["measures"]}


# The Fréchet distance -------------------------------------------------------------------------------------------------


def test_frechet_distance_of_normal_distributions_that_commute() -> None:
    a, b = torch.tensor([4.0, 1.0, 0.0]).double(), torch.tensor([1.0, 9.0, 0.25]).double()  # one variance is zero
    rotation, _ = torch.linalg.qr(normal(3, 3))
    m = torch.tensor([1.0, -2.0, 2.0]).double()
    expected = float((a.sqrt() - b.sqrt()).square().sum()) + 9  # 1 + 4 + 0.25 + 9
    covariances = [rotation @ torch.diag(v) @ rotation.T for v in (a, b)]
    assert frechet_distance(m, covariances[0], 0 * m, covariances[1]) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(0 * m, covariances[1], m, covariances[0]) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(m, covariances[0], m, covariances[0]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("count", [200, 12])  # of 12, the covariance is singular
def test_frechet_distance_agrees_with_scipy_and_torchmetrics(count: int) -> None:
    x, y = normal(count, 16), normal(300, 16, seed=1)
    ours = frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
    root = scipy.linalg.sqrtm((x.T.cov() @ y.T.cov()).numpy()).real
    gap = (x.mean(0) - y.mean(0)).square().sum() + (x.T.cov() + y.T.cov()).trace()
    assert ours == pytest.approx(float(gap) - 2 * root.trace(), rel=1e-6)
    module = nn.Identity()
    module.num_features = 16
    theirs = FrechetInceptionDistance(module).set_dtype(torch.float64)
    theirs.update(x, real=True)
    theirs.update(y, real=False)
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_frechet_distance_refuses_what_is_no_covariance() -> None:
    m, one = torch.zeros(2), torch.eye(2)
    with pytest.raises(ValueError, match=r"must have shapes \(D,\) and \(D, D\), got \[\(2,\), \(2, 2\), \(3,\)"):
        frechet_distance(m, one, torch.zeros(3), torch.eye(3))
    with pytest.raises(ValueError, match="a covariance must be symmetric"):
        frechet_distance(m, one, m, torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    for wrong in ((m, one * torch.nan), (m * torch.nan, one)):
        with pytest.raises(ValueError, match="means and covariances must be finite"):
            frechet_distance(m, one, *wrong)
    for pair in ((-one, one), (one, -one)):
        with pytest.raises(ValueError, match="must be positive semi-definite, got the eigenvalue -1"):
            frechet_distance(m, pair[0], m, pair[1])


def test_statistics_of_batches_are_those_of_all() -> None:
    x = normal(50) + 100
    statistics = Statistics(5)
    for batch in x.float().split(7):
        statistics.update(batch)
    torch.testing.assert_close(statistics.mean, x.float().double().mean(0))
    torch.testing.assert_close(statistics.covariance, x.float().double().T.cov(), rtol=1e-9, atol=1e-9)
    assert statistics.count == 50
    with pytest.raises(ValueError, match=r"features must have shape \(B, 5\), got \(2, 4\)"):
        statistics.update(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="features must be finite"):
        statistics.update(torch.full((1, 5), torch.nan))
    with pytest.raises(ValueError, match="needs 2 rows or more, got 0"):
        _ = Statistics(5).covariance


# The kernel distance --------------------------------------------------------------------------------------------------


def test_kernel_distance_is_the_unbiased_estimate() -> None:
    x, y = normal(43, 3), normal(40, 3, seed=1)

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    def estimate(x: Tensor, y: Tensor) -> float:
        n = range(len(x))
        within = sum(k(z[i], z[j]) for z in (x, y) for i in n for j in n if i != j) / (len(x) * (len(x) - 1))
        return within - 2 * sum(k(x[i], y[j]) for i in n for j in n) / len(x) ** 2

    parts = [(x[n : n + 4], y[n : n + 4]) for n in range(0, 40, 4)]  # the fewest subsets are 10
    expected = np.array([estimate(*part) for part in parts])
    value, error = kernel_distance(x, y)
    assert value == pytest.approx(expected.mean(), rel=1e-12)
    assert error == pytest.approx(expected.std(ddof=1) / 10**0.5, rel=1e-12)
    assert value == pytest.approx(float(torch.stack([poly_mmd(*part) for part in parts]).mean()), rel=1e-12)


def test_kernel_distance_knows_its_error() -> None:
    draws = [kernel_distance(*torch.randn(2, 240, 4, generator=torch.Generator().manual_seed(n))) for n in range(200)]
    value, error = np.array(draws).T
    assert value.std() == pytest.approx(np.sqrt((error**2).mean()), rel=0.2)
    assert abs(value.mean()) < 4 * value.std() / 200**0.5  # of the same distribution: zero


def test_kernel_distance_needs_enough_rows() -> None:
    with pytest.raises(ValueError, match="needs 20 rows or more on either side, got 19 and 50"):
        kernel_distance(normal(19), normal(50))
    with pytest.raises(ValueError, match=r"must have shapes \(N, D\) and \(M, D\), got \(50, 5\) and \(50, 4\)"):
        kernel_distance(normal(50), normal(50, 4))


# Precision and recall -------------------------------------------------------------------------------------------------


def test_precision_and_recall_of_plain_cases() -> None:
    x = normal(60)
    assert precision_recall(x, x.clone()) == (1, 1)
    assert precision_recall(x, x + 1000) == (0, 0)
    modes = torch.cat([x, x + 1000])
    precision, recall = precision_recall(modes, x[torch.randperm(60)])  # draws one of the two modes alone
    assert (precision, recall) == (1, 0.5)
    assert precision_recall(x, modes) == (0.5, 1)


def test_precision_and_recall_equal_their_definition() -> None:
    real, drawn = normal(40, 3), normal(30, 3) * 1.5

    def share(x: Tensor, centres: Tensor) -> float:
        inside = 0
        for row in x:
            radii = [sorted(float((c - other).norm()) for other in centres)[3] for c in centres]  # [0] is c itself
            inside += any(float((row - c).norm()) <= radius for c, radius in zip(centres, radii, strict=True))
        return inside / len(x)

    expected = (share(drawn, real), share(real, drawn))
    assert min(expected) > 0
    assert max(expected) < 1
    for chunk in (7, 1000):
        assert precision_recall(real, drawn, chunk=chunk) == pytest.approx(expected)
    far = 1e5 * torch.ones(3, dtype=torch.float64)
    assert precision_recall(real + far, drawn + far) == pytest.approx(expected)
    with pytest.raises(ValueError, match="k = 3 needs more than k rows on either side, got 3 and 30"):
        precision_recall(real[:3], drawn)


# The example ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".pt2", ".pt"])
def test_figures_are_those_of_the_features(evaluate, world, tmp_path: Path, kind: str, capsys) -> None:
    path = world.network if kind == ".pt2" else export(tmp_path / "tiny.pt", Tiny())  # exported in training mode
    report = evaluate(features=path, batch_size=50)
    with torch.no_grad():
        real, drawn = (Tiny().eval()(to_unit(images)) for images in (world.real, world.drawn))
    x, y = real.double(), drawn.double()
    found = values(report)
    assert found["frechet_distance"] == pytest.approx(
        frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()), rel=1e-5
    )
    real, drawn = (z[torch.randperm(len(z), generator=torch.Generator().manual_seed(0))] for z in (real, drawn))
    assert found["kernel_distance"] == pytest.approx(kernel_distance(real, drawn)[0], rel=1e-4)
    assert (found["precision"], found["recall"]) == precision_recall(real[:60], drawn)

    text, digest = capsys.readouterr().out, hashlib.sha256(path.read_bytes()).hexdigest()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 6
    assert all(f"tiny{kind}, SHA-256 {digest[:12]}" in line for line in table[2:])
    assert f"| Fréchet distance (tiny{kind}) |" in text
    assert "FID" not in text
    assert "KID" not in text
    assert digest in text
    assert report["samples"]["about"] == {"steps": 20}  # and no pickle was opened
    assert report["reference"]["encoding"] == "PNG"
    assert report["reference"]["count"] == 120
    assert report["remarks"] == {}


def test_statistics_of_the_reference_are_made_once(evaluate, world, monkeypatch, tmp_path: Path, capsys) -> None:
    seen = []
    load = evaluate_fid.load_network

    def counted(*args: object) -> Network:
        network = load(*args)

        def features(images: np.ndarray) -> Tensor:
            seen.append(len(images))
            return network.features(images)

        return network._replace(features=features)

    monkeypatch.setattr(evaluate_fid, "load_network", counted)
    first = evaluate()
    assert sum(seen) == 120 + 60
    seen.clear()
    second = evaluate()
    assert sum(seen) == 60
    assert second["measures"] == first["measures"]
    assert (first["reference"]["cached"], second["reference"]["cached"]) == (False, True)
    (path,) = (tmp_path / "cache").iterdir()
    assert second["reference"]["statistics"] == str(path)

    np.save(tmp_path / "other.npy", world.real[::-1])  # other pixels: another file
    assert not evaluate(data=tmp_path / "other.npy")["reference"]["cached"]
    monkeypatch.setattr(features, "version", lambda package: "0")  # and so for other libraries
    assert not evaluate()["reference"]["cached"]
    monkeypatch.undo()
    assert len(list((tmp_path / "cache").iterdir())) == 3

    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "provenance": np.array("of something else"), "mean": 0 * arrays["mean"]})
    assert evaluate()["measures"] == first["measures"]
    assert f"{path} is of other pictures; it is made anew" in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:500])
    assert evaluate()["measures"] == first["measures"]
    assert "is damaged" in capsys.readouterr().out
    assert evaluate()["reference"]["cached"]


def faulty(world: SimpleNamespace, fault: str) -> np.ndarray:
    drawn = world.drawn.copy()
    if fault == "range":
        return drawn // 128  # as [0, 1] cut to whole numbers
    if fault == "duplicates":
        drawn[1] = drawn[0]
    if fault == "copies":
        drawn[3] = world.real[7]
    return drawn


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("range", "range: the samples have 2 levels from 0 to 1, the reference 256 levels from 0 to 255: scale them"),
        ("duplicates", "duplicates: 1 of 60 samples repeat another one"),
        ("copies", "copies: 1 of 60 samples are pictures of the reference, bit for bit"),
        ("encoding", "encoding: samples are JPEG-decoded: the figures are not comparable with published ones"),
    ],
)
def test_misleading_set_ups_are_refused(evaluate, world, tmp_path: Path, fault: str, message: str, capsys) -> None:
    samples = faulty(world, fault)
    if fault == "encoding":
        for index, image in enumerate(samples):
            (tmp_path / f"{index}.jpg").write_bytes(encode(image, "JPEG"))
        samples = tmp_path
    with pytest.raises(SystemExit, match=rf"the figures would mislead\n  {message}(.|\n)*add --allow {fault}$"):
        evaluate(samples=samples)
    assert not (tmp_path / "cache").exists()
    report = evaluate("--allow", fault, samples=samples)
    assert list(report["remarks"]) == [fault]
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert all(line.endswith(f"| {fault} |") for line in table[2:])


def test_several_faults_are_told_at_once(evaluate, world, tmp_path: Path) -> None:
    rows = [{"bytes": encode(image, "JPEG"), "path": None} for image in world.real]
    pq.write_table(pa.table({"img": rows}), tmp_path / "jpeg.parquet")
    pattern = r"encoding: the reference is JPEG-decoded: (.|\n)*duplicates: (.|\n)*--allow encoding --allow duplicates"
    with pytest.raises(SystemExit, match=pattern):
        evaluate(data=tmp_path / "jpeg.parquet", samples=faulty(world, "duplicates"))
    with pytest.raises(SystemExit, match="add --allow duplicates"):
        evaluate("--allow", "encoding", data=tmp_path / "jpeg.parquet", samples=faulty(world, "duplicates"))


def test_jpeg_shows_in_the_pixels() -> None:
    def sign(images: np.ndarray) -> str | None:
        return sign_of_jpeg(Pictures(images, None, {"encoding": "array"}))

    leaves = dead_leaves(300, size=32, seed=4)
    assert sign(leaves) is None
    assert sign(np.random.default_rng(0).integers(0, 256, leaves.shape, dtype=np.uint8)) is None
    assert sign(leaves[:, :8, :8]) is None  # a single block
    assert sign(np.full_like(leaves, 7)) is None
    assert "steps between blocks of 8×8 are" in sign(through_jpeg(leaves, 40))
    assert "steps between blocks of 8×8 are" in sign(through_jpeg(leaves, 40)[..., :1])


def test_pictures_that_cannot_be_compared(evaluate, world, tmp_path: Path) -> None:
    everything = [word for fault in evaluate_fid.FAULTS for word in ("--allow", fault)]
    for samples, message in (
        (world.drawn[:, :8], "samples are 8×16×3, the reference is 16×16×3"),
        (world.drawn[..., :1], "samples are 16×16×1, the reference is 16×16×3"),
        (world.drawn[:19], "20 pictures or more are needed, got 19 samples and 120 to compare"),
        (world.drawn / np.float32(255), r"must hold uint8 values from 0 to 255, got float32 in \[0, 1\]"),
    ):
        with pytest.raises(SystemExit, match=message):
            evaluate(*everything, samples=samples)
    with pytest.raises(SystemExit, match="gone does not exist; pass an .npz or .npy array, a folder of PNG"):
        evaluate(samples=tmp_path / "gone")


def test_more_features_than_pictures_are_noted(evaluate, world) -> None:
    assert "singular" not in evaluate()["measures"][0]["label"]
    np.save(world.folder / "few.npy", world.drawn[:20])
    wide = export(world.folder / "wide.pt", Wide())
    label = evaluate(samples=world.folder / "few.npy", features=wide)["measures"][0]["label"]
    assert label == "Fréchet distance (wide.pt), singular covariance: 20 pictures, 48 features"


class Wide(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :4, :4].flatten(1)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).log()


class Unflat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Narrow(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ torch.ones(7, 2)


class Trap:
    """Pickled, it writes a file wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_unfit_networks_are_refused(evaluate, tmp_path: Path) -> None:
    for network, message in (
        (Broken(), "network.pt gives features that are not finite"),
        (Unflat(), r"network.pt must map \(B, 3, H, W\) to \(B, D\), got \(60, 3, 16, 16\) from \(60, 3, 16, 16\)"),
        (Narrow(), r"network.pt fails on a batch of shape \(60, 3, 16, 16\)"),
    ):
        with pytest.raises(SystemExit, match=message):
            evaluate("--batch-size", "60", features=export(tmp_path / "network.pt", network))
    for name, message in (("a.pt", "TorchScript"), ("a.pt2", "torch.export")):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(SystemExit, match=rf"{name} is not a readable {message} file"):
            evaluate(features=tmp_path / name)
    torch.save({"weights": Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")
    with pytest.raises(SystemExit, match="trap.pt is not a readable TorchScript file"):
        evaluate(features=tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()
    for name in ("a.onnx", "gone.pt"):
        with pytest.raises(SystemExit, match=rf"features must be inception, a .pt2 file .* got .*{name}"):
            evaluate(features=tmp_path / name)


def test_unfit_words_are_refused(evaluate, capsys) -> None:
    for words, message in (
        (["--batch-size", "0"], "--batch-size must be 1 or more, got 0"),
        (["--weights", "w.pth"], "--weights belongs to --features inception"),
        (["--allow", "size"], "invalid choice: 'size'"),
    ):
        with pytest.raises(SystemExit):
            evaluate(*words)
        assert message in capsys.readouterr().err


# Inception ------------------------------------------------------------------------------------------------------------


class FakeInception(Tiny):
    """Has the interface of torch-fidelity's, down to the careless loading; and sees uint8."""

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: object) -> None:
        super().__init__()
        assert features_list == ["2048"]
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=False))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        assert x.dtype == torch.uint8
        return (super().forward(x.float() / 127.5 - 1),)


@pytest.fixture
def inception(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(sys.modules, "torch_fidelity", SimpleNamespace(FeatureExtractorInceptionV3=FakeInception))
    monkeypatch.setattr(features, "version", lambda package: "1.0")
    torch.save(Tiny().state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_only_the_weights_of_fid_give_an_fid(evaluate, inception: Path, monkeypatch, capsys) -> None:
    def labels() -> list[str]:
        return [figure["label"] for figure in evaluate(features="inception", weights=inception)["measures"]]

    own = evaluate()
    assert labels()[:2] == ["Fréchet distance (weights.pth)", "kernel distance (weights.pth)"]
    digest = hashlib.sha256(inception.read_bytes()).hexdigest()
    monkeypatch.setattr(features, "WEIGHTS_SHA256", digest)
    assert labels() == ["FID-60", "KID", "precision, k = 3, 60 of each", "recall, k = 3, 60 of each"]
    assert f"inception, SHA-256 {digest[:12]}" in capsys.readouterr().out
    assert values(evaluate(features="inception", weights=inception)) == pytest.approx(values(own), rel=1e-4)


def test_fid_alone_is_of_50_000_samples() -> None:
    standard, other = (Network(lambda images: images, {"name": "n.pt2"}, flag) for flag in (True, False))
    counts = (50_000, 10_000, 1_000, 49_999, 60)
    assert [frechet_label(standard, n) for n in counts] == ["FID", "FID-10k", "FID-1k", "FID-49999", "FID-60"]
    assert {frechet_label(other, n) for n in counts} == {"Fréchet distance (n.pt2)"}


def test_weights_that_hold_code_are_refused(evaluate, inception: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({**Tiny().state_dict(), "more": Trap(sprung)}, inception)
    torch.load(inception, weights_only=False)  # the trap works
    assert sprung.exists()
    sprung.unlink()
    with pytest.raises(SystemExit, match=r"weights.pth does not hold plain weights \(UnpicklingError\); not loaded"):
        evaluate(features="inception", weights=inception)
    assert not sprung.exists()
    torch.save({"other": torch.zeros(2)}, inception)
    with pytest.raises(SystemExit, match=r"weights.pth does not hold the weights of Inception \(Error"):
        evaluate(features="inception", weights=inception)
    with pytest.raises(SystemExit, match=r"No such file or directory: .*gone.pth"):
        evaluate(features="inception", weights=tmp_path / "gone.pth")


def test_inception_says_how_to_get_it(evaluate, inception: Path, monkeypatch, tmp_path: Path) -> None:
    def unreachable(url: str, path: str, digest: str) -> None:
        assert digest == features.WEIGHTS_SHA256
        assert digest[:8] in url
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(SystemExit, match="could not download https.*no network.*pass a local file with --weights"):
        evaluate(features="inception")
    data = inception.read_bytes()
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda _, path, __: Path(path).write_bytes(data))
    with pytest.raises(SystemExit, match="6726825d.pth is not what https.* holds; delete it"):
        evaluate(features="inception")  # the file is there, but damaged
    monkeypatch.setattr(features, "WEIGHTS_SHA256", hashlib.sha256(data).hexdigest())
    assert evaluate(features="inception")["features"]["name"] == "inception"
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(SystemExit, match="inception needs torch-fidelity, .* pip install torch-fidelity, or choose"):
        evaluate(features="inception")


# Several processes ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_find_what_one_finds(evaluate, world, tmp_path: Path) -> None:
    alone = evaluate(batch_size=32)
    out, cache = tmp_path / "two.json", tmp_path / "two"
    words = [world.samples, "--data", world.data, "--features", world.network, "--cache", cache, "--json", out]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, EXAMPLES / "evaluate_fid.py", *words, "--device", "cpu", "--batch-size", "25"]
    for cached in (False, True):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("| Fréchet distance (tiny.pt2) |") == 1
        report = json.loads(out.read_text(encoding="utf-8"))
        assert (report["processes"], report["reference"]["cached"]) == (2, cached)
        assert values(report) == pytest.approx(values(alone), rel=1e-6)
