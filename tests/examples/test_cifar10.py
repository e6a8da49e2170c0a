"""Training on CIFAR-10 and sampling from what it leaves: interrupted, repeated, divided among processes."""

from __future__ import annotations

import json
import os
import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import shortest_path as sp
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.runs import load_run, make_sampler
from examples.recipe.settings import parse
from shortest_path.training import load_checkpoint, load_latest, write_checkpoint
from tests.examples.commands import Stop, refused, run, start
from tests.examples.image_files import encoded, write
from tests.training.networks import layer

NETWORK = ("--size=8", "--widths=[8,16]", "--blocks=1", "--attention=[4]", "--head-channels=8", "--groups=4")
RATES = ("--batch-size=8", "--learning-rate=1e-3", "--warmup=4", "--ema-decay=0.5", "--dropout=0.0")
EVERY = ("--log-every=1", "--evaluate-every=0", "--evaluation-samples=0", "--evaluation-steps=2", "--seed=5")
TINY = (*NETWORK, *RATES, *EVERY)
STEP = "shortest_path:DiffusionTrainer.train_step"
CLASSES = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "leaves.npz"
    np.savez(path, images=dead_leaves(48, size=8, seed=3), labels=np.arange(48) % CLASSES)
    return path


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder of a class-conditional run, and the text that it wrote."""
    out = tmp_path_factory.mktemp("trained")
    file = out / "config.in"
    file.write_text("steps: 100\nclass_conditional: true\ndrop_labels: 0.25\nprediction: velocity\n")
    words = ("--config", file, "--data", data, "--out", out, *TINY, "--evaluate-every=3", "--steps=6")
    words += ("--evaluation-samples=4",)
    told = run("train_cifar10", *words).out
    assert parse(["--config", str(out / "config.yaml")]) == parse(list(map(str, words)))
    return out, told


def log(out: Path, kind: str) -> list[dict[str, Any]]:
    """Return the lines of a log, without what depends on the clock."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]
    return [line for line in timeless if line["kind"] == kind]


def state(out: Path, step: int) -> dict[str, Any]:
    return load_checkpoint(out / "checkpoints" / f"checkpoint-{step:08d}.pt")


def assert_equal(ours: Any, theirs: Any) -> None:
    """Compare two states to the last bit."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_run_leaves_a_log_images_weights_and_its_spectrum(trained: tuple[Path, str]) -> None:
    out, told = trained
    assert "leaves.npz (file): 48 images 8×8×3, array, sha256" in told
    assert f"not trained on, {CLASSES} classes\n" in told
    steps, evaluations = log(out, "train"), log(out, "evaluation")
    assert [line["step"] for line in steps] == list(range(1, 7))
    assert [line["learning_rate"] for line in steps] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3])
    assert [line["step"] for line in evaluations] == [3, 6]
    for line in evaluations:
        assert np.mean(line["loss_per_time"]) == pytest.approx(line["loss"])
        assert (len(line["loss_per_time"]), len(line["loss_per_band"]), len(line["log_power_ratio"])) == (10, 8, 6)
        assert 0 < line["log_power_error"] <= line["log_power_error_max"]
        assert (out / f"samples-{line['step']:08d}.png").exists()
    assert list((out / "tensorboard").glob("events.*"))
    average = state(out, 6)["ema"]
    unet = load_file(out / "unet" / "diffusion_pytorch_model.safetensors")
    assert_equal(
        {f"network.model.{n}": v for n, v in unet.items()}, {n: v for n, v in average.items() if "network.model" in n}
    )
    assert json.loads((out / "unet" / "config.json").read_text())["num_class_embeds"] == CLASSES + 1
    best = load_checkpoint(out / "checkpoints" / "best.pt")
    nearest = min(evaluations, key=lambda line: line["sliced_wasserstein"])
    assert (best["step"], best["value"]) == (nearest["step"], nearest["sliced_wasserstein"])


@pytest.mark.parametrize(
    "words",
    [
        "--corruption=gaussian --schedule=linear --time-sampling=discrete --bf16=yes --prediction=noise",
        "--corruption=blur --max-blur=4 --prediction=data --max-grad-norm=null --time-sampling=loss-second-moment",
        "--basis=principal --channels-last=false --whitened-input=false --weighting=noise",
        "--spectrum=reference --basis=fourier --channels=shared --log-power-scale=0.9 --fused=yes --data-on-device=yes",
    ],
)
def test_every_corruption_trains_and_samples(data: Path, tmp_path: Path, words: str) -> None:
    run("train_cifar10", "--data", data, "--out", tmp_path, *TINY, "--steps=2", *words.split())
    line = log(tmp_path, "evaluation")[-1]
    assert np.isfinite([line["loss"], *line["loss_per_time"], *line["loss_per_band"]]).all()
    kept = load_checkpoint(tmp_path / "checkpoints" / "best.pt")
    assert (kept["step"], kept["measure"], kept["value"]) == (2, "loss", line["loss"])
    assert sample(tmp_path, tmp_path / "samples.npz", "--solver=ancestral", count=2)["images"].std() > 5


def test_an_interrupted_run_continues_exactly(data: Path, tmp_path: Path) -> None:
    words = ("--data", data, *TINY, "--steps=10", "--evaluate-every=7", "--checkpoint-every=3")
    words += ("--dropout=0.3", "--class-conditional", "--drop-labels=0.5")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run("train_cifar10", *words, "--out", whole)
    told = refused("train_cifar10", *words, "--out", parts, stop=Stop(STEP, 2))
    assert f"Stopped after step 2. The same command continues from {parts / 'checkpoints'}" in told
    killed = start("train_cifar10", *words, "--out", parts, stop=Stop(STEP, 6, signal.SIGKILL))  # after an evaluation
    assert killed.status == signal.SIGKILL
    run("train_cifar10", *words, "--out", parts)
    for part in ("model", "ema", "optimizer", "data", "random"):
        assert_equal(state(parts, 10)[part], state(whole, 10)[part])
    for kind in ("train", "evaluation"):  # steps done twice are there once
        assert log(parts, kind) == log(whole, kind)
    assert_equal(*(load_checkpoint(out / "checkpoints" / "best.pt")["ema"] for out in (parts, whole)))


def test_a_run_with_several_averages_and_a_decay_continues_from_a_named_file(data: Path, tmp_path: Path) -> None:
    words = ("--data", data, *TINY, "--ema-decay=[0.5,0.9]", "--decay=cosine", "--held-out=0", "--time-input=index")
    words += ("--time-sampling=ddpm", "--discrete-steps=50", "--scale-shift", "--zero-init", "--gradient-checkpointing")
    words += ("--ema-warmup=false", "--prediction=noise", "--dropout=0.3")
    whole, branch = tmp_path / "whole", tmp_path / "branch"
    told = run("train_cifar10", *words, "--steps=6", "--checkpoint-every=4", "--out", whole).out
    assert "; 0 of them not trained on" in told
    assert "on images trained on" in told
    file = whole / "checkpoints" / "checkpoint-00000004.pt"
    words += ("--resume", file)
    run("train_cifar10", *words, "--steps=6", "--out", branch)
    for part in ("model", "ema", "average", "optimizer"):
        assert_equal(state(branch, 6)[part], state(whole, 6)[part])
    assert [line["learning_rate"] for line in log(branch, "train")] == pytest.approx([1e-3, 5e-4])
    first, second = (load_run(branch, ema_decay=decay).model.state_dict() for decay in (None, 0.9))
    assert_equal(first, state(branch, 6)["ema"])
    assert_equal(second, state(branch, 6)["average"]["others"][0.9]["model"])
    with pytest.raises(ValueError, match="has no average of decay 0.7; it has 0.5, 0.9"):
        load_run(branch, ema_decay=0.7)
    assert sample(branch, tmp_path / "second.npz", "--ema=0.9", count=2)["images"].std() > 0


def test_two_processes_equal_one_with_the_same_global_batch_and_are_preempted_together(
    data: Path, tmp_path: Path
) -> None:
    words = ("--data", data, *TINY, "--class-conditional", "--steps=5", "--evaluation-samples=4")
    one, two = tmp_path / "one", tmp_path / "two"
    run("train_cifar10", *words, "--out", one)
    both = (*words, "--out", two, "--batch-size=4")
    stopped = start("train_cifar10", *both, processes=2, stop=Stop(STEP, 2, signal.SIGTERM))
    assert stopped.status == 75  # "try again later", for job scripts
    assert stopped.out.count("48 images") == 1  # one process speaks for both
    run("train_cifar10", *both, processes=2)
    ours, theirs = state(one, 5), state(two, 5)
    for part in ("model", "ema"):
        for name, value in ours[part].items():
            if not name.endswith("to_k.bias"):  # its gradient is rounding, of which AdamW makes whole steps
                torch.testing.assert_close(theirs[part][name], value, atol=1e-5, rtol=0)
    assert_equal(*(each["metadata"]["spectrum"]["power"] for each in (ours, theirs)))
    for kind in ("train", "evaluation"):
        for here, there in zip(log(one, kind), log(two, kind), strict=True):
            assert there == {k: v if isinstance(v, str) else pytest.approx(v, abs=1e-4) for k, v in here.items()}


def test_another_run_is_not_continued_and_a_diverged_one_stops(data: Path, tmp_path: Path) -> None:
    words = ("--data", data, "--out", tmp_path, *TINY, "--learning-rate=1e38", "--steps=30")
    told = refused("train_cifar10", *words, "--checkpoint-every=1")
    assert "11 consecutive steps had a loss or a gradient that is not finite" in told
    assert all(np.isfinite(line["loss"]) for line in log(tmp_path, "train"))
    np.savez(tmp_path / "others.npz", images=dead_leaves(48, size=8, seed=4))
    for more, message in {
        ("--learning-rate=0.1", "--dropout=0.5"): "another run: dropout was 0.0, is 0.5; learning_rate was 1e+38, is",
        ("--batch-size=4",): "the global batch was 8, is 4. Use the same settings, or another --out",
        ("--data", tmp_path / "others.npz"): "holds another run: pixels was",
        ("--resume=false",): "holds checkpoints, but resume is false; choose another --out",
        ("--bf16=yes",): "precision: 'fp32' in the checkpoint, 'bf16' here",
    }.items():
        assert message in refused("train_cifar10", *words, *more)


def test_mistakes_are_explained_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "unlabelled.npz", images=dead_leaves(16, size=8))
    np.savez(tmp_path / "from_one.npz", images=dead_leaves(16, size=8), labels=np.arange(16) % 2 + 1)
    broken = {f"{n:02d}_png": encoded(image) for n, image in enumerate(dead_leaves(12, size=8))} | {"05_png": b""}
    folder, out = write(tmp_path / "folder", **broken), tmp_path / "out"
    for more, message in {
        ("--data=nowhere.parquet",): "nowhere.parquet does not exist",
        ("--size=6", "--widths=[8,8,8]", "--attention=[]"): "size 6 cannot be halved 2 times",
        ("--widths=[8,10]",): "widths must be multiples of groups=4 and head_channels=8, got [10]",
        ("--widths=[]", "--attention=[]"): "widths must hold one number or more, got none",
        ("--widths=[8,0]",): "widths must be 1 or more, got 0",
        ("--groups=0",): "groups must be 1 or more, got 0",
        ("--ema-decay=1.5",): "ema_decay must lie in [0, 1), got 1.5",
        ("--ema-decay=[0.5,0.5]",): "a sequence of ema_decay must hold one or more different decays, got (0.5, 0.5)",
        ("--max-grad-norm=0",): "max_grad_norm must be positive, got 0",
        ("--max-blur=-1", "--corruption=blur"): "max_blur must be positive",
        ("--weight-decay=.nan",): "weight_decay must be 0 or more, got nan",
        ("--images=0",): "images must be 1 or more, got 0",
        ("--attention=[16]",): "attention at [16], but the feature maps have the sizes [8, 4]",
        ("--batch-size=44",): "a step of 1 × 44 images needs as many, got 43; use more images",
        ("--data", tmp_path / "unlabelled.npz", "--class-conditional"): "unlabelled.npz holds no array label or labels",
        ("--data", folder): "05.png is not a readable image (empty); mend or remove it, or skip such with --on-error s",
        ("--data", tmp_path / "from_one.npz", "--class-conditional"): "from_one.npz requires images of every class",
    }.items():
        told = refused("train_cifar10", "--data", data, "--out", out, *TINY, *more)
        assert message in told
        assert told.startswith("train_cifar10: ")
        assert not out.exists()
    assert "leaves.npz (Not a directory); choose another" in refused("train_cifar10", "--data", data, "--out", data)
    told = refused("train_cifar10", "--data", data, "--out", out, *TINY, patch={"recipe.runs:make_sampler": no_sampler})
    assert told == "train_cifar10: no sampler of such settings\n"
    assert not out.exists()


def of_the_first(folder: Path, **options: Any) -> tuple[Path, dict[str, Any]] | None:
    """Find the checkpoints that one process has written to a disk of its own."""
    return None if os.environ["RANK"] == "1" else load_latest(folder, **options)


def damaged(folder: Path, **options: Any) -> tuple[Path, dict[str, Any]] | None:
    if os.environ["RANK"] == "1":
        raise ValueError("this process has a damaged file")
    return load_latest(folder, **options)


def test_processes_that_find_different_checkpoints_are_refused(data: Path, trained: tuple[Path, str]) -> None:
    words = ("--data", data, "--out", trained[0], *TINY)
    told = refused("train_cifar10", *words, processes=2, patch={"recipe.continuing:load_latest": of_the_first})
    found = f"rank 0 from {trained[0] / 'checkpoints' / 'checkpoint-00000006.pt'} of step 6, rank 1 from no checkpoint"
    advice = "let --out be a folder that all of them share, as rank 0 alone writes"
    assert told.count(f"train_cifar10: the processes would continue from different checkpoints, {found}; {advice}") == 2
    told = refused("train_cifar10", *words, processes=2, patch={"recipe.continuing:load_latest": damaged})
    assert told.count("train_cifar10: this process has a damaged file\n") == 1
    assert told.count("train_cifar10: rank 1 cannot read its checkpoint to continue from: this process has a dam") == 1


def test_a_full_disk_is_told_with_the_way_to_go_on(tmp_path: Path, data: Path) -> None:
    words = ("--data", data, "--out", tmp_path / "run", *TINY, "--steps=4", "--checkpoint-every=2")
    told = refused("train_cifar10", *words, patch={"shortest_path.training._writer:write_and_clear": full})
    assert told.startswith("train_cifar10: [Errno 28] No space left on device. Stopped after step 4. The same command")
    assert told.endswith("continues from the beginning: there is no checkpoint yet.\n")


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def no_sampler(*_: object, **__: object) -> None:
    raise ValueError("no sampler of such settings")


def options(out: Path, *more: object, count: int = 10) -> list[object]:
    return ["--out", out, "--count", count, "--steps", 3, "--chunk", 4, "--batch-size", 4, *more]


def sample(checkpoint: Path, out: Path, *more: object, **others: Any) -> dict[str, np.ndarray]:
    run("sample_cifar10", checkpoint, *options(out, *more, **others))
    with np.load(out, allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def checkpoint(trained: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint that lies in a folder of its own: nothing else is needed."""
    alone = tmp_path_factory.mktemp("checkpoint") / "network.pt"
    alone.write_bytes((trained[0] / "checkpoints" / "checkpoint-00000006.pt").read_bytes())
    return alone


def test_a_run_is_shared_by_one_command(trained: tuple[Path, str], checkpoint: Path, tmp_path: Path) -> None:
    said = refused("share", checkpoint, tmp_path / "shared", "--ema", 0.3)
    assert "no average of decay 0.3, it has 0.5; choose one, or omit --ema" in said
    told = run("share", checkpoint, tmp_path / "shared", "--steps", 3, "--solver", "ddim").out
    assert "parameters; load it with from_pretrained(" in told
    assert told.endswith(") after import shortest_path.integrations.diffusers\n")
    assert "3 steps from" in told
    import_module("shortest_path.integrations.diffusers")  # imports diffusers, which takes long
    sampler = sp.Sampler.from_pretrained(tmp_path / "shared")
    labels = {"class_labels": torch.tensor([0, 1])}
    images = sampler.sample((2, 3, 8, 8), conditioning=labels, generator=torch.Generator().manual_seed(0))
    ours = make_sampler(load_run(checkpoint), solver="ddim", steps=3)
    expected = ours.sample((2, 3, 8, 8), conditioning=labels, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)  # the run's weights have the channels last
    assert "does not exist; pass the checkpoint_dir of fit, or a file in it" in refused(
        "share", tmp_path / "none", tmp_path / "other"
    )
    for source in (trained[0], trained[0] / "checkpoints" / "best.pt"):
        assert "parameters" in run("share", source, tmp_path / "again").out
    for own in (trained[0], trained[0] / "checkpoints", trained[0] / "new"):
        said = refused("share", trained[0], own)
        assert f"share: {own} is the run {trained[0]}, or inside it; name another folder, e.g. my-model" in said


def test_a_training_of_another_program_is_shared_by_the_same_command(tmp_path: Path) -> None:
    trainer = sp.DiffusionTrainer(layer(), sp.GaussianCorruption("flow"))
    trainer.fit([torch.zeros(2, 3, 8, 8)], steps=1, checkpoint_dir=tmp_path / "run")
    told = run("share", tmp_path / "run", tmp_path / "shared", "--register", "json").out
    assert f"the weights of a Conv2d; load them with from_pretrained('{tmp_path / 'shared'}', Conv2d(...))" in told
    again = sp.Sampler.from_pretrained(tmp_path / "shared", layer())
    assert isinstance(again.model, torch.nn.Conv2d)
    assert torch.equal(again.model.weight, trainer.ema_model.weight)
    said = refused("share", tmp_path / "run", tmp_path / "b", "--register", "absent")
    assert "No module named 'absent'; PYTHONPATH must have the folder of the module, e.g. PYTHONPATH=." in said
    for name in ("", "../x"):
        said = refused("share", tmp_path / "run", tmp_path / "b", "--register", name)
        assert "argument --register: expected the name of a module, e.g. my_corruptions" in said
    (tmp_path / "notes.txt").write_text("notes")
    said = refused("share", tmp_path / "notes.txt", tmp_path / "b")
    assert "notes.txt is not a checkpoint: it does not begin as the zip archives of torch.save do" in said
    assert "argument out: expected a path, got nothing" in refused("share", tmp_path / "run", "")


def test_labels_guidance_solvers_and_the_request(checkpoint: Path, tmp_path: Path) -> None:
    plain = sample(checkpoint, tmp_path / "deep" / "samples.npz", count=12)
    assert (plain["images"].shape, plain["images"].dtype) == ((12, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(plain["labels"], np.arange(12) % CLASSES)
    about = json.loads(str(plain["metadata"]))
    assert (about["step"], about["provenance"]["source"]) == (6, "leaves.npz")
    solver = "Multistep(order=2, corrector=True, eta=0.0)"
    wanted = {"solver": solver, "steps": 3, "grid": None, "seed": 0, "clip": True, "label": "all", "bf16": False}
    assert about["request"].items() >= wanted.items()
    with Image.open(tmp_path / "deep" / "samples.png") as sheet:
        pixels = np.asarray(sheet)[::2, ::2]
    assert pixels.shape == (20, 100, 3)  # ten columns, two rows
    np.testing.assert_array_equal(pixels[11:19, 11:19], plain["images"][11])
    assert len(list((tmp_path / "deep").iterdir())) == 2

    two, same = sample(checkpoint, tmp_path / "two.npz", "--label", "2", count=12), plain["labels"] == 2
    assert (two["labels"] == 2).all()
    np.testing.assert_allclose(plain["images"][same], two["images"][same], atol=1)
    assert (plain["images"][~same] != two["images"][~same]).any((1, 2, 3)).all()
    never = ("--guidance-scale", "3", "--guidance-interval", "0", "0")
    found = sample(checkpoint, tmp_path / "never.npz", *never, count=12)["images"]
    np.testing.assert_array_equal(found, plain["images"])
    for words in ("--guidance-scale 3", "--solver ddim --eta 1 --grid cosine", "--bf16 yes"):
        (tmp_path / "a.npz").unlink(missing_ok=True)
        found = sample(checkpoint, tmp_path / "a.npz", *words.split(), count=12)["images"]
        assert found.std() > 5
        assert (found != plain["images"]).mean() > 0.02
    assert np.abs(found - plain["images"].astype(float)).mean() < 3  # bfloat16 is nearly float32


def test_neither_batches_nor_processes_nor_interruptions_change_a_sample(checkpoint: Path, tmp_path: Path) -> None:
    words = ("--solver", "ancestral", "--guidance-scale", "2")
    whole = sample(checkpoint, tmp_path / "whole.npz", *words)["images"]
    other = sample(checkpoint, tmp_path / "a.npz", *words, "--batch-size", "3", "--chunk", "7", count=8)["images"]
    np.testing.assert_allclose(whole[:8], other, atol=1)
    assert (whole[:8] != other).mean() < 0.01

    parts, out = tmp_path / "parts.parts", tmp_path / "parts.npz"
    stop = Stop("recipe.chunks:Chunks.write", 1)
    told = refused("sample_cifar10", checkpoint, *options(out, *words), stop=stop)
    assert "Stopped. Run the same command again" in told
    (parts / "images-00000008-00000009.npy.tmp").write_bytes(b"half of it")  # as a kill would leave it
    other = refused("sample_cifar10", checkpoint, *options(out, *words, "--seed", "1"))
    assert "parts.parts is of another request: seed 0 there, 1 here; delete it, or pass another --out" in other
    other = refused("sample_cifar10", checkpoint, *options(out, *words, "--chunk", "5"))
    assert "parts.parts is of another request: chunk 4 there, 5 here; delete it, or pass another --out" in other
    again = run("sample_cifar10", checkpoint, *options(out, *words), processes=2)
    assert "; 4 are there already" in again.out
    for kind in ("npz", "png"):
        assert out.with_suffix(f".{kind}").read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
    assert not parts.exists()
    for more in ((), ("--chunk", 5)):
        told = run("sample_cifar10", checkpoint, *options(out, *words, *more)).out
        assert "all 10 samples are there already" in told
    fewer = refused("sample_cifar10", checkpoint, *options(out, *words, count=9))
    assert "parts.npz is of another request: count 10" in fewer


def test_unfit_requests_are_explained(checkpoint: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros(3))
    write(tmp_path / "c.parts", thesis_txt=b"")
    network = load_checkpoint(checkpoint)
    diverged = {name: value * float("nan") for name, value in network["ema"].items() if name.startswith("network")}
    write_checkpoint(tmp_path / "nan.pt", {**network, "ema": {**network["ema"], **diverged}})
    write_checkpoint(tmp_path / "other.pt", {**network, "metadata": {}})
    out = tmp_path / "samples.npz"
    for words, message in {
        (checkpoint, "--out", "samples.png"): "--out must end in .npz, got samples.png",
        (checkpoint, "--solver=ancestral", "--eta=1"): "--eta has no effect with --solver ancestral; omit it, or use",
        (checkpoint, "--variance=small"): "--variance has no effect with --solver multistep; omit it, or use --solver",
        (checkpoint, "--solver=ddim", "--order=1"): "--order has no effect with --solver ddim; omit it, or use --solve",
        (checkpoint, "--guidance-interval", 0, 1): "--guidance-interval has no effect without --guidance-scale",
        (checkpoint, "--grid", "reference", "--steps", "2"): "the reference grid needs 3 steps or more, got 2",
        (checkpoint, "--label", "4"): "--label must be below 4, the number of classes, got 4",
        (checkpoint, "--label", "cat"): "expected the number of a class or 'all', got 'cat'",
        (checkpoint, "--out", tmp_path / "a.npz"): "a.npz exists, and was not written by sample_cifar10.py; move it",
        (checkpoint, "--out", tmp_path / "c.npz"): "c.parts is needed for unfinished work, but holds something else",
        (tmp_path,): "holds no checkpoint",
        (tmp_path / "none",): "none does not exist; pass the --out folder of train_cifar10.py, or a checkpoint in it",
        (tmp_path / "other.pt",): "was not written by train_cifar10.py",
        (tmp_path / "nan.pt",): "the network gives samples that are not finite",
    }.items():
        assert message in refused("sample_cifar10", words[0], *options(out, *words[1:]))
    assert (tmp_path / "c.parts" / "thesis.txt").exists()
    assert not out.exists()
