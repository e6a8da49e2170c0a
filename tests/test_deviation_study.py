"""The deviation study: trained once for each path, measured, told."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import shortest_path as sp

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import deviation_study
import sample_cifar10
import train_cifar10
from dead_leaves import dead_leaves
from images import to_unit
from runs import load_run

TINY = (
    *("--size", "8", "--widths", "[8,16]", "--groups", "8", "--head-channels", "8", "--attention", "[]"),
    *("--blocks", "1", "--batch-size", "8", "--evaluation-samples", "0"),
)


def study(out: Path, data: Path, *more: str, steps: int = 3) -> dict:
    own = ["--out", str(out), "--scales", "0.8", "1", "--calls", "3", "5", "--samples", "16"]
    deviation_study.main([*own, "--data", str(data), *TINY, "--steps", str(steps), *more])
    return json.loads((out / "deviation.json").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "leaves.npz"
    np.savez(path, images=dead_leaves(96, size=8))
    return path


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    study(out, data)
    return out


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """Return a study that a test may change."""
    return shutil.copytree(done, tmp_path / "study")


def test_each_path_is_trained_and_measured(done: Path) -> None:
    report = json.loads((done / "deviation.json").read_text())
    paths = report["paths"]
    assert {name: found["scale"] for name, found in paths.items()} == {
        "scale-0.8": 0.8,
        "scale-1": 1,
        "reference": None,
    }
    for name, found in paths.items():
        run = load_run(done / name)
        assert run.step == found["step"] == 3
        assert run.settings.log_power_scale == (found["scale"] or 1)
        assert run.settings.spectrum == ("measured" if found["scale"] else "reference")
        assert set(found["calls"]) == {"3", "5"}
        for calls, values in found["calls"].items():
            assert set(values) == {"kl", "distance", "power_error"}
            assert np.isfinite(list(values.values())).all()
            with np.load(done / name / f"samples-00000003-ancestral-{calls}.npz") as archive:
                assert archive["images"].shape == (16, 8, 8, 3)
    assert load_run(done / "reference").settings.basis == "fourier"
    assert report["held_out"] == {"source": "set aside of leaves.npz", "count": 10}
    text = (done / "deviation.json").read_text() + (done / "deviation.md").read_text()
    assert "fid" not in text.lower()


def test_the_shortest_path_is_the_shortest(done: Path) -> None:
    paths = json.loads((done / "deviation.json").read_text())["paths"]
    shortest, other, constants = (paths[name] for name in ("scale-1", "scale-0.8", "reference"))
    assert 1 <= shortest["length"] < other["length"] < constants["length"]
    for calls in ("3", "5"):
        kl = [each["calls"][calls]["kl"] for each in (shortest, other, constants)]
        assert 0 < kl[0] < kl[1] < kl[2]


def test_the_table_and_the_plot(done: Path) -> None:
    report = json.loads((done / "deviation.json").read_text())
    lines = (done / "deviation.md").read_text().splitlines()
    assert lines[0].split(" | ")[:4] == ["| log S scaled by", "length / geodesic", "KL, 3 calls", "KL, 5 calls"]
    assert [line.split(" | ")[0] for line in lines[2:6]] == [
        "| 0.8",
        "| 1",
        "| the paper's constants",
        "| training pictures",
    ]
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert lines[3].split(" | ")[5] == f"{report['paths']['scale-1']['calls']['5']['distance']:.4g}"
    assert (
        lines[7] == "16 pictures drawn with the ancestral solver, compared with 10 held out (set aside of leaves.npz)."
    )
    with Image.open(done / "deviation.png") as plot:
        assert plot.size[0] > 1000
        assert (np.asarray(plot.convert("L")) < 200).mean() > 0.01


def test_what_is_finished_is_not_done_again(copy: Path, data: Path, monkeypatch) -> None:
    before = json.loads((copy / "deviation.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(train_cifar10, "main", lambda _: pytest.fail("trained again"))
        patch.setattr(sp.Sampler, "batches", lambda *_, **__: pytest.fail("drawn again"))
        assert study(copy, data)["paths"] == before["paths"]
    train, again = train_cifar10.main, []
    monkeypatch.setattr(train_cifar10, "main", lambda words: again.append(words[-1]) or train(words))
    (copy / "scale-1" / "checkpoints" / "checkpoint-00000003.pt").unlink()
    assert study(copy, data)["paths"] == before["paths"]
    assert again == [str(copy / "scale-1")]


def test_other_settings_in_the_same_folder_are_refused(copy: Path, data: Path) -> None:
    with pytest.raises(SystemExit, match=r"^train_cifar10: .*scale-0\.8 holds another run: seed was 0, is 1"):
        study(copy, data, "--seed", "1")
    with pytest.raises(SystemExit, match="^sample_cifar10: .*is of another request: count 16 there, 8 here"):
        study(copy, data, "--samples", "8")


def test_pictures_held_out(copy: Path, data: Path, tmp_path: Path) -> None:
    images = dead_leaves(40, size=8, seed=1)
    np.savez(tmp_path / "others.npz", images=images)
    report = study(copy, data, "--held-out", str(tmp_path / "others.npz"))
    assert report["held_out"] == {"source": "others.npz (file)", "count": 40}
    with pytest.raises(
        SystemExit, match=r"deviation_study: --held-out .*leaves\.npz holds the pictures that are trained"
    ):
        study(copy, data, "--held-out", str(data))
    with pytest.raises(SystemExit, match="deviation_study: .*nowhere.npz does not exist"):
        study(copy, tmp_path / "nowhere.npz")


def test_measures_of_known_differences() -> None:
    pictures = to_unit(dead_leaves(64, size=8))
    real = deviation_study.Real(pictures, pictures, "", "")
    same = deviation_study.measure(pictures, real)
    assert same == {"distance": 0, "power_error": 0}
    louder = deviation_study.measure(2 * pictures, real)
    assert louder["power_error"] == pytest.approx(np.log(4))
    shifted = deviation_study.measure(pictures + torch.tensor(0.1), real)
    assert shifted["distance"] == pytest.approx(0.1, rel=0.2)  # a direction sees 0.1 √n times its mean over pixels


def test_kl_is_that_of_the_times_that_are_sampled(done: Path) -> None:
    run = load_run(done / "scale-0.8")
    run = run._replace(settings=dataclasses.replace(run.settings, prediction="noise"))
    times = sp.Sampler(run.model, run.corruption, solver="ancestral", steps=5).times
    assert float(times[0]) == 0.999  # the network predicts noise
    assert deviation_study.kl(run, 5) == sp.gaussian_kl(run.corruption, run.spectrum, times=times)


def test_several_processes(monkeypatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    deviation_study.call(sample_cifar10, ["folder", "--count", "3"], 2)
    (command,) = commands
    assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    assert Path(command[5]).samefile(sample_cifar10.__file__)
    assert command[6:] == ["folder", "--count", "3"]


def test_a_part_that_fails_in_processes_of_its_own(data: Path, tmp_path: Path, monkeypatch) -> None:
    def fail(command: list[str], check: bool) -> None:
        raise subprocess.CalledProcessError(3, command)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(SystemExit, match=r"^deviation_study: train_cifar10\.py ended with status 3$"):
        study(tmp_path, data, "--processes", "2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scales", "0"), "--scales must be positive, got 0"),
        (("--log-power-scale", "2"), "--log-power-scale is what the study varies"),
        (("--corruption=blur",), "--corruption=blur is what the study varies"),
        (("--stepz", "3"), "stepz"),
        (("--calls", "0"), "expected a whole number, 1 or more, got '0'"),
    ],
)
def test_unfit_options_are_explained(data: Path, tmp_path: Path, capsys, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit):
        study(tmp_path, data, *words)
    assert message in capsys.readouterr().err


def test_torchrun_is_for_the_parts(data: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit):
        study(tmp_path, data)
    assert "run it with python; --processes N" in capsys.readouterr().err
