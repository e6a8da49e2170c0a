"""Distances between sets of images: the formulas, and the example that reports them under honest names."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor, nn

from examples.recipe.cifar10 import Pictures
from examples.recipe.comparison import check, read, sign_of_jpeg
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.features import Network, frechet_label, load_network
from examples.recipe.images import to_unit
from examples.recipe.metrics import Statistics, frechet_distance, kernel_distance, precision_recall, sliced_wasserstein
from examples.recipe.ranks import Ranks
from examples.recipe.summaries import summary_of_reference
from tests.examples.commands import refused, run
from tests.examples.image_files import encoded, table, write

SIZE, WIDTH = 16, 8
ALONE = Ranks(0, 1, torch.device("cpu"))
LEAVES = dead_leaves(12, size=SIZE)
X = to_unit(LEAVES)


def normal(count: int, width: int = 5, seed: int = 0) -> Tensor:
    """Return correlated features with a mean, float64."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, width, generator=generator, dtype=torch.float64)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return white @ mixing + torch.randn(width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("count", [200, 12])  # of 12, the covariance is singular
def test_frechet_distance_agrees_with_scipy(count: int) -> None:
    x, y = normal(count, 16), normal(300, 16, seed=1)
    ours = frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
    root = scipy.linalg.sqrtm((x.T.cov() @ y.T.cov()).numpy()).real
    gap = (x.mean(0) - y.mean(0)).square().sum() + (x.T.cov() + y.T.cov()).trace()
    assert ours == pytest.approx(float(gap) - 2 * root.trace(), rel=1e-6)


def test_kernel_distance_is_the_unbiased_estimate() -> None:
    x, y = normal(43, 3), normal(40, 3, seed=1)

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    def estimate(x: Tensor, y: Tensor) -> float:
        n = range(len(x))
        within = sum(k(z[i], z[j]) for z in (x, y) for i in n for j in n if i != j) / (len(x) * (len(x) - 1))
        return within - 2 * sum(k(x[i], y[j]) for i in n for j in n) / len(x) ** 2

    expected = np.array([estimate(x[n : n + 4], y[n : n + 4]) for n in range(0, 40, 4)])  # the fewest subsets are 10
    value, error = kernel_distance(x, y)
    assert value == pytest.approx(expected.mean(), rel=1e-12)
    assert error == pytest.approx(expected.std(ddof=1) / 10**0.5, rel=1e-12)


def test_precision_and_recall_equal_their_definition() -> None:
    real, ours = normal(40, 3), normal(30, 3) * 1.5

    def fraction(x: Tensor, centres: Tensor) -> float:
        radii = [sorted(float((c - other).norm()) for other in centres)[3] for c in centres]  # [0] is c itself
        inside = [any(float((row - c).norm()) <= r for c, r in zip(centres, radii, strict=True)) for row in x]
        return sum(inside) / len(x)

    expected = (fraction(ours, real), fraction(real, ours))
    assert 0 < min(expected) <= max(expected) < 1
    far = 1e5 * torch.ones(3, dtype=torch.float64)
    for chunk, shift in ((7, 0), (1000, far)):
        assert precision_recall(real + shift, ours + shift, chunk=chunk) == pytest.approx(expected)


def test_sliced_wasserstein_measures_a_shift() -> None:
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert sliced_wasserstein(x, x.flip(0)) == pytest.approx(0, abs=1e-12)  # sets have no order
    shift = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(2))
    assert sliced_wasserstein(x, x + shift, slices=4000) == pytest.approx(1.0, rel=0.1)  # |shift|² / 192


def test_what_cannot_be_measured_is_refused() -> None:
    m, one, x = torch.zeros(2), torch.eye(2), normal(50)
    for call, message in {
        lambda: frechet_distance(m, one, torch.zeros(3), torch.eye(3)): r"must have shapes \(D,\) and \(D, D\), got",
        lambda: frechet_distance(m, one, m, one.triu() + one.flip(0).triu()): "a covariance must be symmetric",
        lambda: frechet_distance(m, one, m, -one): "must be positive semi-definite, got the eigenvalue -1",
        lambda: Statistics(5).update(torch.zeros(2, 4)): r"features must have shape \(B, 5\), got \(2, 4\)",
        lambda: kernel_distance(x[:19], x): "needs 20 rows or more on either side, got 19 and 50",
        lambda: kernel_distance(x, x[:, :4]): r"must have shapes \(N, D\) and \(M, D\), got \(50, 5\) and \(50, 4\)",
        lambda: precision_recall(x[:3], x): "k = 3 needs more than k rows on either side, got 3 and 50",
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_fid_alone_is_of_inception_and_50_000_samples() -> None:
    standard, other = (Network(lambda images: images, {"name": "n.pt2"}, flag) for flag in (True, False))
    counts = (50_000, 10_000, 49_999)
    assert [frechet_label(standard, n) for n in counts] == ["FID", "FID-10k", "FID-49999"]
    assert {frechet_label(other, n) for n in counts} == {"Fréchet distance (n.pt2)"}


def pictures(images: np.ndarray) -> Pictures:
    return Pictures(images, None, {"encoding": "array"})


def test_jpeg_shows_in_the_pixels() -> None:
    leaves = dead_leaves(100, size=32, seed=4)
    jpeg = np.stack([np.asarray(Image.open(io.BytesIO(encoded(leaf, "JPEG", quality=30)))) for leaf in leaves])
    assert "steps between blocks of 8×8 are" in sign_of_jpeg(pictures(jpeg))
    for images in (leaves, leaves[:, :8, :8], np.full_like(leaves, 7)):
        assert sign_of_jpeg(pictures(images)) is None


def test_misleading_comparisons_are_refused() -> None:
    leaves = dead_leaves(60, size=SIZE)
    real, ours = leaves[:30], leaves[30:]
    jpeg = Pictures(ours, None, {"encoding": "JPEG"})
    assert check(pictures(ours), pictures(real)) == {}
    for fault, samples, message in (
        ("range", pictures(ours // 128), "the samples have 2 levels from 0 to 1, the reference 256 levels from 0 to"),
        ("duplicates", pictures(np.concatenate([ours, ours[:1]])), "1 of 31 samples repeat another one"),
        ("copies", pictures(np.concatenate([ours, real[:1]])), "1 of 31 samples are images of the reference"),
        ("encoding", jpeg, "samples are JPEG-decoded: the measures are not comparable with published ones"),
    ):
        allowed = ("duplicates",) if fault == "range" else ()
        with pytest.raises(ValueError, match=rf"would mislead\n  {fault}: {message}[^$]*add --allow {fault}"):
            check(samples, pictures(real), allowed)
        assert fault in check(samples, pictures(real), (*allowed, fault))
    for samples, message in ((ours[:, :8], "samples are 8×16×3, the reference is 16×16×3"), (ours[:19], "got 19 samp")):
        with pytest.raises(ValueError, match=message):
            check(pictures(samples), pictures(real))
    with pytest.raises(ValueError, match=r"gone\.npy does not exist; pass an \.npz or \.npy array"):
        read(Path("gone.npy"))


def test_the_folder_of_a_run_is_not_taken_for_samples(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "samples-00000010.png")
    with pytest.raises(ValueError, match=r"is the folder of a training run, .*; sample with sample_cifar10\.py"):
        read(tmp_path)


class Tiny(nn.Module):
    """A random feature network; its dropout must not be at work."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layer, self.dropout = nn.Conv2d(3, WIDTH, 3, 2).requires_grad_(False), nn.Dropout(0.5)
        self.layer.weight.data = torch.randn(self.layer.weight.shape, generator=generator)
        self.layer.bias.data = torch.zeros(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(torch.relu(self.layer(x)).mean((2, 3)))


class Broken(nn.Module):
    """Returns what are no features; with 10 or more images, not even finite numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x if len(x) < 10 else x.mean((2, 3)).log()


class Trap:
    """Pickled, it writes a file wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_networks_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a_pt=b"nothing", a_pt2=b"nothing")
    torch.save({"weights": Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")
    torch.jit.script(Broken()).save(tmp_path / "broken.pt")
    broken = load_network(str(tmp_path / "broken.pt"), ALONE)
    with pytest.raises(ValueError, match=r"broken\.pt gives features that are not finite"):
        broken.features(LEAVES)
    with pytest.raises(ValueError, match=r"broken\.pt must map \(B, 3, H, W\) to \(B, D\), got"):
        broken.features(LEAVES[:2])
    for name, message in {
        "a.pt": r"a\.pt is not a readable TorchScript file",
        "a.pt2": r"a\.pt2 is not a readable torch\.export file",
        "trap.pt": r"trap\.pt is not a readable TorchScript file",
        "a.onnx": r"features must be inception, a \.pt2 file",
        "b.pt": r"b\.pt does not exist; pass the file of a network, or inception",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_network(str(tmp_path / name), ALONE)
    assert not (tmp_path / "sprung").exists()
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(Tiny().eval(), (X,), dynamic_shapes=batch), tmp_path / "tiny.pt2")
    exported = load_network(str(tmp_path / "tiny.pt2"), ALONE)
    torch.testing.assert_close(exported.features(LEAVES), Tiny().eval()(X))


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_features(tmp_path: Path) -> None:
    def features(images: np.ndarray) -> Tensor:
        raise AssertionError(images)

    (tmp_path / "file").touch()
    network, about = Network(features, {"name": "n"}, False), {"source": "leaves", "split": "file"}
    with pytest.raises(ValueError, match=r"cannot write to .*file.new \(Not a directory\); choose another folder for"):
        summary_of_reference(network, Pictures(LEAVES, None, about), ALONE, tmp_path / "file" / "new", 4)


def test_measures_are_those_of_the_features_and_the_reference_is_measured_once(tmp_path: Path) -> None:
    leaves = dead_leaves(120, size=SIZE)
    real, ours = leaves[:80], leaves[80:]
    write(tmp_path, real_parquet=table(real))
    np.savez(tmp_path / "ours.npz", images=ours, steps=np.array(20), code=np.array([print], dtype=object))
    torch.jit.script(Tiny()).save(tmp_path / "tiny.pt")  # in training mode
    words = [tmp_path / "ours.npz", "--device", "cpu", "--data", tmp_path / "real.parquet"]
    words += ["--cache", tmp_path / "cache", "--json", tmp_path / "report.json"]
    words += ["--features", tmp_path / "tiny.pt"]

    def evaluate(*more: object, **options: int) -> SimpleNamespace:
        told = run("evaluate_fid", *words, *more, **options).out
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        values = {each["name"]: each["value"] for each in report["measures"]}
        return SimpleNamespace(**report, values=values, told=told)

    first = evaluate("--batch-size", 30)
    x, y = (Tiny().eval()(to_unit(images)).double() for images in (real, ours))
    expected = frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
    assert first.values["frechet_distance"] == pytest.approx(expected, rel=1e-5)
    x, y = (z[torch.randperm(len(z), generator=torch.Generator().manual_seed(0))] for z in (x, y))
    assert first.values["kernel_distance"] == pytest.approx(kernel_distance(x[:40], y)[0], rel=1e-4)
    assert (first.values["precision"], first.values["recall"]) == precision_recall(x[:40], y)
    assert "| Fréchet distance (tiny.pt) |" in first.told
    assert "FID" not in first.told
    assert first.samples["about"] == {"steps": 20}  # and no pickle was opened
    assert (first.reference["encoding"], first.reference["count"], first.remarks) == ("PNG", 80, {})

    again = evaluate(processes=2)
    assert (first.reference["cached"], again.reference["cached"], again.processes) == (False, True, 2)
    assert again.values == pytest.approx(first.values, rel=1e-5)
    path = Path(again.reference["statistics"])
    path.write_bytes(path.read_bytes()[:500])
    ours[1] = ours[0]
    np.savez(tmp_path / "ours.npz", images=ours)
    assert "add --allow duplicates" in refused("evaluate_fid", *words)
    mended = evaluate("--allow", "duplicates")
    assert f"{path} is damaged" in mended.told
    assert sum(line.endswith("| duplicates |") for line in mended.told.splitlines()) == 4
