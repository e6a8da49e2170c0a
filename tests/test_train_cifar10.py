"""Training on CIFAR-10: through the command line, with two processes, interrupted, and what is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from PIL import Image
from torch import nn

import shortest_path as sp

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

import runs
import train_cifar10
from cifar10 import Pictures
from dead_leaves import dead_leaves
from monitor import Log, Meter, Monitor, mean_over, sliced_wasserstein
from ranks import Ranks
from settings import Settings, parse
from shortest_path.checkpoint import latest_checkpoint, load_checkpoint

SCRIPT = str(EXAMPLES / "train_cifar10.py")
NETWORK = ("--size=8", "--widths=[8,16]", "--blocks=1", "--attention=[4]", "--head-channels=8", "--groups=8")
RATES = ("--batch-size=8", "--learning-rate=1e-3", "--warmup=4", "--ema-decay=0.5", "--dropout=0.0")
EVERY = ("--log-every=1", "--evaluate-every=0", "--evaluation-samples=4", "--evaluation-steps=2", "--seed=5")
TINY = (*NETWORK, *RATES, *EVERY)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
CPU = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "leaves.npz"
    np.savez(path, images=dead_leaves(48, size=8, seed=3), labels=np.arange(48) % 4)
    return path


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Return the folder and the output of a class-conditional run through the command line."""
    out = tmp_path_factory.mktemp("finished") / "run"
    file = out.parent / "config.yaml"
    file.write_text("steps: 100\nclass_conditional: true\ndrop_labels: 0.25\nprediction: velocity\n")
    words = ["--config", str(file), "--data", str(data), "--out", str(out), *TINY, "--evaluate-every=3", "--steps=6"]
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(out=out, stdout=done.stdout, words=words)


def train(data: Path, out: Path, *more: str, steps: int = 2) -> dict[str, Any]:
    """Train in this process, and return the state in the newest checkpoint."""
    train_cifar10.main(["--data", str(data), "--out", str(out), *TINY, f"--steps={steps}", *more])
    path = latest_checkpoint(out / "checkpoints")
    assert path is not None
    return load_checkpoint(path)


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *words]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)


def log(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


def assert_equal(ours: Any, theirs: Any, where: str = "state") -> None:
    """Compare two states to the last bit."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for name in ours:
            assert_equal(ours[name], theirs[name], f"{where}.{name}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(*pair, f"{where}[{index}]")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


# --- what a run leaves behind -----------------------------------------------------------------------------


def test_a_run_says_what_it_was_trained_on(finished: SimpleNamespace) -> None:
    assert "leaves.npz (file): 48 pictures 8×8×3, array, sha256" in finished.stdout
    assert "5 of them not trained on" in finished.stdout
    assert "step 6: loss" in finished.stdout
    settings = parse(["--config", str(finished.out / "config.yaml")])
    assert settings == parse(finished.words)
    assert (settings.steps, settings.drop_labels, settings.prediction) == (6, 0.25, "velocity")
    spectrum = sp.PowerSpectrum.load(finished.out / "spectrum.npz")
    assert spectrum.count == 2 * 43  # with their mirrors
    assert torch.equal(spectrum.power, runs.load_run(finished.out).spectrum.power)


def test_the_log_is_json_lines(finished: SimpleNamespace) -> None:
    steps = log(finished.out, "train")
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert [line["learning_rate"] for line in steps] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3])
    assert all(line["gradient_norm"] > 0 and line["images_per_second"] > 0 for line in steps)
    evaluations = log(finished.out, "evaluation")
    assert [line["step"] for line in evaluations] == [3, 6]
    for line in evaluations:
        assert len(line["loss_per_time"]) == 10
        assert len(line["loss_per_band"]) == 8
        assert np.mean(line["loss_per_time"]) == pytest.approx(line["loss"])
        assert len(line["log_power_ratio"]) == 6  # whole frequencies up to 3.5 √2
        assert 0 < line["log_power_error"] <= line["log_power_error_max"]
        assert line["sliced_wasserstein"] > 0
    assert list((finished.out / "tensorboard").glob("events.*"))
    for step in (3, 6):
        with Image.open(finished.out / f"samples-{step:08d}.png") as picture:
            assert min(picture.size) > 100


def test_tensorboard_shows_the_same_numbers(finished: SimpleNamespace) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.out / "tensorboard"))
    events.Reload()
    for kind, name in (("train", "loss"), ("evaluation", "sliced_wasserstein")):
        shown = [(event.step, event.value) for event in events.Scalars(f"{kind}/{name}")]
        assert shown == [(line["step"], pytest.approx(line[name])) for line in log(finished.out, kind)]
    assert "evaluation/loss_per_band/7" in events.Tags()["scalars"]
    assert [image.step for image in events.Images("samples")] == [3, 6]


def test_exported_weights_are_the_average_and_load_in_diffusers(finished: SimpleNamespace) -> None:
    unet = UNet2DModel.from_pretrained(finished.out / "unet")
    ema = load_checkpoint(finished.out / "checkpoints" / "checkpoint-00000006.pt")["ema"]
    own = {name: value for name, value in ema.items() if name.startswith("network.")}
    assert_equal({f"network.unet.{name}": value for name, value in unet.state_dict().items()}, own)
    assert unet.config.num_class_embeds == 5


def test_a_checkpoint_alone_draws_pictures(finished: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("checkpoint-00000006.pt", "best.pt"):
        alone = tmp_path / name
        alone.write_bytes((finished.out / "checkpoints" / name).read_bytes())
        run = runs.load_run(alone)
        assert (run.classes, run.shape, run.provenance["encoding"]) == (4, (3, 8, 8), "array")
        sampler = runs.make_sampler(run, solver="multistep", steps=2, guidance_scale=2.0)
        labels = {runs.LABELS: torch.tensor([1, 3])}
        drawn = sampler.sample((2, *run.shape), conditioning=labels, generator=torch.Generator().manual_seed(1))
        assert drawn.isfinite().all()


def test_the_best_is_the_nearest_to_real_pictures(finished: SimpleNamespace) -> None:
    best = load_checkpoint(finished.out / "checkpoints" / "best.pt")
    lines = log(finished.out, "evaluation")
    nearest = min(lines, key=lambda line: line["sliced_wasserstein"])
    assert (best["step"], best["value"]) == (nearest["step"], nearest["sliced_wasserstein"])


def test_the_best_stays_until_there_is_a_better_one(tmp_path: Path) -> None:
    trainer = SimpleNamespace(step=0, ema_model=nn.Linear(1, 1))
    path, kept = tmp_path / "best.pt", []
    for loss in (float("nan"), 3.0, 4.0, float("nan"), 2.0, 2.5):
        trainer.step += 1
        train_cifar10.keep_best(path, trainer, {}, {"loss": loss})
        kept.append(load_checkpoint(path)["step"] if path.exists() else None)
    assert kept == [None, 2, 2, 2, 5, 5]
    trainer.step = 3  # training goes on from a checkpoint before the best
    train_cifar10.keep_best(path, trainer, {}, {"loss": 4.0})
    assert load_checkpoint(path)["step"] == 3


# --- every process ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "--corruption=gaussian --schedule=linear --time-sampling=discrete --bf16=yes",
        "--corruption=blur --max-blur=4 --prediction=data --evaluation-samples=0 --max-grad-norm=null",
        "--basis=fourier --channels=independent --fused=yes --data-on-device=yes --accumulation=2",
        "--basis=principal --channels-last=false",
        "--spectrum=reference --basis=fourier --channels=shared --log-power-scale=0.9",
        "--whitened-input --prediction=whitened-velocity",
        "--whitened-input --prediction=whitened-velocity --weighting=velocity --corruption=gaussian --bf16=yes",
        "--whitened-input --prediction=whitened-velocity --weighting=noise --corruption=blur",
    ],
)
def test_every_corruption_trains(data: Path, tmp_path: Path, words: str) -> None:
    state = train(data, tmp_path, *words.split())
    settings = runs.load_run(tmp_path).settings
    assert settings == parse(["--data", str(data), "--out", str(tmp_path), *TINY, "--steps=2", *words.split()])
    line = log(tmp_path, "evaluation")[-1]
    assert line["step"] == state["step"] == 2
    assert len(line["loss_per_band"]) == 8
    assert np.isfinite([line["loss"], *line["loss_per_time"], *line["loss_per_band"]]).all()
    best = load_checkpoint(tmp_path / "checkpoints" / "best.pt")
    assert best["measure"] == ("sliced_wasserstein" if settings.evaluation_samples else "loss")
    assert (tmp_path / "samples-00000002.png").exists() == bool(settings.evaluation_samples)
    assert UNet2DModel.from_pretrained(tmp_path / "unet").config.in_channels == (6 if settings.whitened_input else 3)


def test_compiling_keeps_the_names_of_the_weights(data: Path, tmp_path: Path, monkeypatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    state = train(data, tmp_path, "--compile=yes", steps=1)
    assert compiled == ["WhitenedInput"]
    assert not any("_orig_mod" in name for name in [*state["model"], *state["ema"]])


# --- many processes ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_equal_one_with_the_same_global_batch(data: Path, tmp_path: Path) -> None:
    same = ("--class-conditional", "--groups=4")
    one = train(data, tmp_path / "one", *same, steps=5)
    words = ["--data", str(data), "--out", str(tmp_path / "two"), *TINY, *same, "--batch-size=4", "--steps=5"]
    done = torchrun(SCRIPT, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("48 pictures") == 1  # one process speaks for both
    two = load_checkpoint(tmp_path / "two" / "checkpoints" / "checkpoint-00000005.pt")
    for part in ("model", "ema"):
        assert one[part].keys() == two[part].keys()
        for name, value in one[part].items():
            if name.endswith("to_k.bias"):
                continue  # softmax takes it out, so that its gradient is rounding, of which AdamW makes whole steps
            torch.testing.assert_close(two[part][name], value, atol=1e-5, rtol=0)
    assert_equal(two["metadata"]["spectrum"], one["metadata"]["spectrum"])
    for kind in ("train", "evaluation"):
        for ours, theirs in zip(
            timeless(log(tmp_path / "one", kind)), timeless(log(tmp_path / "two", kind)), strict=True
        ):
            assert theirs == {k: v if isinstance(v, str) else pytest.approx(v, abs=1e-4) for k, v in ours.items()}
    assert log(tmp_path / "two", "train")[-1]["images_per_second"] > 0
    # One process may go on where two stopped: the global batch is what counts.
    assert train(data, tmp_path / "two", *same, steps=6)["step"] == 6


@pytest.mark.slow
def test_a_failing_process_ends_all_and_shows_its_traceback(data: Path, tmp_path: Path) -> None:
    wrapper = tmp_path / "wrapper.py"
    wrapper.write_text(
        textwrap.dedent(f"""
        import os, sys
        sys.path.insert(0, {str(EXAMPLES)!r})
        import train_cifar10

        class Broken(train_cifar10.sp.DiffusionTrainer):
            def train_step(self, batches):
                if os.environ["RANK"] == "1" and self.step == 1:
                    raise RuntimeError("out of luck")
                return super().train_step(batches)

        train_cifar10.sp.DiffusionTrainer = Broken
        train_cifar10.record(train_cifar10.main)()
        """)
    )
    done = torchrun(str(wrapper), "--data", str(data), "--out", str(tmp_path / "out"), *TINY, "--batch-size=4")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert 'raise RuntimeError("out of luck")' in done.stderr
    assert "RuntimeError: out of luck" in done.stderr.split("Root Cause")[-1]  # in torchrun's own words


# --- interruptions ----------------------------------------------------------------------------------------


def interrupt(monkeypatch, step: int) -> None:
    original = sp.DiffusionTrainer.train_step

    def interrupted(trainer: sp.DiffusionTrainer, batches):
        if trainer.step == step:
            raise KeyboardInterrupt
        return original(trainer, batches)

    monkeypatch.setattr(sp.DiffusionTrainer, "train_step", interrupted)


def test_an_interrupted_run_continues_exactly(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    words = ("--dropout=0.3", "--checkpoint-every=2", "--evaluate-every=3", "--class-conditional", "--drop-labels=0.5")
    whole = train(data, tmp_path / "whole", *words, steps=8)
    with monkeypatch.context() as patch:
        interrupt(patch, 7)  # in the second epoch of five steps; steps 5 and 6 were evaluated and will be again
        with pytest.raises(SystemExit) as stop:
            train(data, tmp_path / "parts", *words, "--checkpoint-every=4", steps=8)
    assert str(stop.value).startswith("\nStopped after step 7. The same command continues from ")
    assert str(stop.value).endswith("checkpoint-00000004.pt.")
    torch.manual_seed(99)
    parts = train(data, tmp_path / "parts", *words, steps=8)
    assert whole["step"] == parts["step"] == 8
    for part in ("model", "ema", "optimizer", "data", "random"):
        assert_equal(parts[part], whole[part], part)
    for kind in ("train", "evaluation"):  # steps done twice are there once
        assert timeless(log(tmp_path / "parts", kind)) == timeless(log(tmp_path / "whole", kind))
    best = [load_checkpoint(tmp_path / name / "checkpoints" / "best.pt") for name in ("whole", "parts")]
    assert_equal(best[0]["ema"], best[1]["ema"])
    capsys.readouterr()
    train(data, tmp_path / "parts", *words, steps=8)  # nothing left to do
    assert capsys.readouterr().out.endswith("and for diffusers in " + str(tmp_path / "parts" / "unet") + ".\n")


def test_a_damaged_checkpoint_is_passed_over(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path, "--checkpoint-every=1", steps=2)
    newest = tmp_path / "checkpoints" / "checkpoint-00000002.pt"
    whole = load_checkpoint(newest)
    newest.write_bytes(newest.read_bytes()[:5000])
    with pytest.warns(RuntimeWarning, match="trying the one before"):
        again = train(data, tmp_path, "--checkpoint-every=1", steps=2)
    assert_equal(again["model"], whole["model"])


def test_an_early_interruption_begins_anew(data: Path, tmp_path: Path, monkeypatch) -> None:
    interrupt(monkeypatch, 1)
    with pytest.raises(SystemExit, match=r"Stopped after step 1\. .* from the beginning: there is no checkpoint yet"):
        train(data, tmp_path)


def test_dropout_differs_between_processes_and_steps() -> None:
    trainer = SimpleNamespace(step=0, optimizer=SimpleNamespace(param_groups=[{}]))

    def draw(rank: int, step: int) -> float:
        trainer.step = step
        train_cifar10.prepare(trainer, Settings(), Ranks(rank, 2, torch.device("cpu")))
        return torch.rand(()).item()

    assert len({draw(rank, step) for rank in (0, 1) for step in (0, 1, 2)}) == 6
    assert draw(1, 2) == draw(1, 2)


def test_another_run_is_not_continued(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path, steps=1)
    others = tmp_path / "others.npz"
    np.savez(others, images=dead_leaves(48, size=8, seed=4))
    for words, message in {
        (
            "--learning-rate=0.1",
            "--dropout=0.5",
        ): r"another run: dropout was 0\.0, is 0\.5; learning_rate was 0\.001, is",
        ("--batch-size=4",): "the global batch was 8, is 4. Use the same settings, or another --out",
        ("--data", str(others)): "pictures was [0-9a-f]{8}, is [0-9a-f]{8}",
        ("--resume=false",): "holds checkpoints, but resume is false; choose another --out",
        ("--bf16=yes",): "precision: 'fp32' in the checkpoint, 'bf16' here",
    }.items():
        with pytest.raises(SystemExit, match=f"^train_cifar10: .*{message}"):
            train(data, tmp_path, *words)
    state = load_checkpoint(tmp_path / "checkpoints" / "checkpoint-00000001.pt")
    torch.save({**state, "metadata": {}}, tmp_path / "checkpoints" / "checkpoint-00000001.pt")
    with pytest.raises(SystemExit, match="^train_cifar10: the checkpoints in .* are of another program"):
        train(data, tmp_path)


# --- mistakes ---------------------------------------------------------------------------------------------


def test_unknown_settings_are_errors(tmp_path: Path, capsys) -> None:
    file = tmp_path / "typo.yaml"
    file.write_text("learning_rat: 1.0e-3\n")
    for words in (["--config", str(file)], ["--learning-rat", "1e-3"]):
        with pytest.raises(SystemExit, match="2"):
            train_cifar10.main(words)
        assert "learning" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data=nowhere.parquet"], r"nowhere\.parquet does not exist"),
        (["--size=10", "--widths=[8,8,8]", "--attention=[]"], "size 10 cannot be halved 2 times"),
        (["--widths=[8,12]"], r"widths must be multiples of groups=8 and head_channels=8, got \[12\]"),
        (["--attention=[16]"], r"attention at \[16\], but the feature maps have the sizes \[8, 4\]"),
        (["--batch-size=44"], "a step of 1 × 44 pictures needs as many, got 43; use more pictures"),
        (["--images=1"], "a step of 1 × 8 pictures needs as many, got 0"),
    ],
)
def test_mistakes_are_explained_in_one_line(data: Path, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^train_cifar10: {message}") as stop:
        train(data, tmp_path, *words)
    assert "\n" not in str(stop.value)
    assert not list(tmp_path.iterdir())  # nothing is begun


def test_pictures_must_fit(tmp_path: Path) -> None:
    unlabelled = tmp_path / "unlabelled.npz"
    np.savez(unlabelled, images=dead_leaves(16, size=8))
    with pytest.raises(SystemExit, match=r"unlabelled\.npz has no labels; train without class_conditional"):
        train(unlabelled, tmp_path, "--class-conditional")
    odd = Pictures(np.zeros((20, 6, 8, 3), np.uint8), None, {})  # as the hub may have them
    with pytest.raises(ValueError, match="the pictures are 6×8, but size is 8; set --size 6"):
        train_cifar10.split(odd, Settings(size=8))


@pytest.mark.filterwarnings("ignore:.*skipped:RuntimeWarning")
def test_a_diverged_run_stops_with_the_weights_from_before(data: Path, tmp_path: Path, monkeypatch) -> None:
    before = train(data, tmp_path, steps=2)
    original = sp.DiffusionTrainer.loss
    monkeypatch.setattr(sp.DiffusionTrainer, "loss", lambda self, *a, **k: original(self, *a, **k) * float("nan"))
    with pytest.raises(SystemExit, match=r"(?s)^train_cifar10: .*11 steps in a row"):
        train(data, tmp_path, "--checkpoint-every=100", steps=90)
    assert log(tmp_path, "train")[-1]["step"] == 2  # nothing that is not finite is logged
    kept = load_checkpoint(tmp_path / "checkpoints" / "before-nonfinite-00000002.pt")
    assert_equal(kept["model"], before["model"])


# --- the parts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "held"), [(48, 5), (5000, 500), (50_000, 511)])
def test_pictures_are_set_aside_evenly(count: int, held: int) -> None:
    images = np.zeros((count, 1, 1, 1), np.uint8)
    labels = np.arange(count)
    training, aside = train_cifar10.split(Pictures(images, labels, {}), Settings(size=1))
    assert (len(training.images), len(aside.images)) == (count - held, held)
    assert sorted([*training.labels, *aside.labels]) == list(range(count))
    assert len(set(np.diff(aside.labels))) == 1


def test_data_stay_where_they_are_told(monkeypatch) -> None:
    held = Pictures(np.zeros((4, 8, 8, 3), np.uint8), None, {})
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=4 * 4 * 192 + 1))
    assert train_cifar10.fits(Settings(), held, gpu)
    assert not train_cifar10.fits(Settings(), held, torch.device("cpu"))
    assert not train_cifar10.fits(Settings(data_on_device="no"), held, gpu)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=4 * 4 * 192))
    assert not train_cifar10.fits(Settings(), held, gpu)
    assert train_cifar10.fits(Settings(data_on_device="yes"), held, gpu)


class Constant(nn.Module):
    """Predicts one colour, and remembers the labels it was given."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.labels: list[int] = []

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, class_labels: torch.Tensor | None = None) -> torch.Tensor:
        self.labels += [] if class_labels is None else class_labels.tolist()
        return self.value.expand_as(x_t)


@pytest.mark.parametrize("basis", ["cosine", "fourier", "principal"])
def test_losses_are_split_without_loss(basis: str) -> None:
    sizes = {"batch_size": 32, "evaluation_samples": 6, "evaluation_steps": 2}
    settings = Settings(size=8, basis=basis, prediction="noise", **sizes)
    pictures = Pictures(dead_leaves(40, size=8), np.arange(40) % 4, {})
    spectrum = runs.measure_spectrum(settings, pictures)
    corruption = runs.make_corruption(settings, spectrum)
    model = Constant()
    run = runs.Run(settings, model, corruption, spectrum, spectrum.shape, 4, 0, {})
    monitor = Monitor(run, pictures, pictures.images, CPU)
    found = monitor._losses()
    assert model.labels == [i % 4 for i in range(40)] * 2 + [i % 4 for i in range(20)]  # 100 rows
    assert found["loss"] == pytest.approx(1.0, abs=0.02)  # what predicting no noise costs
    assert found["loss_per_time"] == pytest.approx([1.0] * 10, abs=0.15)
    assert np.mean(found["loss_per_time"]) == pytest.approx(found["loss"])
    sizes = torch.bincount(monitor._band)
    assert np.average(found["loss_per_band"], weights=sizes) == pytest.approx(found["loss"])
    model.value.data += 1.0  # an error that is constant over the picture is one of the lowest band alone
    shifted = monitor._losses()
    change = np.subtract(shifted["loss_per_band"], found["loss_per_band"])
    assert np.average(change, weights=sizes) == pytest.approx(1.0, abs=0.1)
    assert change[1:] == pytest.approx(np.zeros(7), abs=1e-5)
    assert monitor._compare(monitor._real)["sliced_wasserstein"] == 0
    louder = monitor._compare(2 * monitor._real)["log_power_ratio"]
    assert louder == pytest.approx(np.add(monitor._compare(monitor._real)["log_power_ratio"], np.log(4)))


def test_sliced_wasserstein_measures_a_shift() -> None:
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert sliced_wasserstein(x, x.flip(0)) == pytest.approx(0, abs=1e-12)  # sets have no order
    shift = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(2))
    assert sliced_wasserstein(x, x + shift, slices=4000) == pytest.approx(1.0, rel=0.1)  # |shift|² / 192
    assert sliced_wasserstein(x, torch.cat([x, 9 + x])) == pytest.approx(0, abs=1e-12)


def test_mean_over_groups() -> None:
    values = torch.tensor([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]])
    assert mean_over(values, torch.tensor([4, 0, 4])).tolist() == [[3.0, 3.0], [4.0, 4.0]]


def test_the_log_forgets_what_will_be_repeated(tmp_path: Path) -> None:
    first = Log(tmp_path)
    for step in (1, 2, 3):
        first.write("train", step, {"loss": float("inf") if step == 2 else 0.5, "each": [1.0, float("nan")]})
    first.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "kind": "tr')  # cut off by the end of the process
    second = Log(tmp_path, step=2)
    second.write("train", 3, {"loss": 0.25})
    second.close()
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        {"step": 1, "kind": "train", "loss": 0.5, "each": [1.0, None]},
        {"step": 2, "kind": "train", "loss": None, "each": [1.0, None]},
        {"step": 3, "kind": "train", "loss": 0.25},
    ]


def test_the_meter_leaves_out_pauses(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("monitor.time.perf_counter", lambda: now[0])
    meter = Meter(16)
    with pytest.raises(ValueError, match="no step since the last reading; call add after every step"):
        meter.read()
    for loss in (1.0, 3.0):
        meter.add(sp.TrainStep(1, torch.tensor(loss), torch.tensor(0.5)))
        now[0] += 2.0
        with meter.paused():
            now[0] += 50.0
    assert meter.read() == {"loss": 2.0, "gradient_norm": 0.5, "seconds": 4.0, "images_per_second": 8.0}
    meter.add(sp.TrainStep(2, torch.tensor(7.0), None))
    now[0] += 1.0
    assert meter.read() == {"loss": 7.0, "seconds": 1.0, "images_per_second": 16.0}


def test_pictures_that_cannot_be_read_stop_it_or_are_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, picture in enumerate(dead_leaves(24, size=8, seed=3)):
        Image.fromarray(picture).save(folder / f"{index:02d}.png")
    (folder / "05.png").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"^train_cifar10: .*05.png"):
        train(folder, tmp_path / "out")
    with pytest.warns(UserWarning, match=r"(?s)1 .*05.png"):
        state = train(folder, tmp_path / "out", "--on-error=skip")
    assert state["metadata"]["provenance"]["count"] == 23
