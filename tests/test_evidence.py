"""The study of trained networks, at a size that shows that everything works."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import shortest_path as sp

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import classifier
import evidence
import evidence_cases
import evidence_runs
from dead_leaves import dead_leaves
from evidence_cases import CASES, PRESETS, TARGETS, TUNED_ON, Target
from evidence_runs import Run, Study


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("evidence")
    for name, seed in (("training", 0), ("held", 1)):
        np.save(folder / f"{name}.npy", dead_leaves(60, size=8, seed=seed))
    network = classifier.Classifier(size=8, width=8)
    facts = {"format": classifier.FORMAT, "size": 8, "width": 8, "classes": 10, "test_accuracy": 0.1}
    classifier.write(folder, network, facts)
    sources = ["--data", str(folder / "training.npy"), "--held-out", str(folder / "held.npy")]
    return ["--scale", "tiny", *sources, "--classifier", str(folder)]


def study(words: list[str], out: Path, *more: str) -> dict:
    evidence.main([*words, "--out", str(out), *more])
    return json.loads((out / "evidence.json").read_text())


@pytest.fixture(autouse=True)
def little_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "TUNING", (("ancestral", 2), ("multistep", 2)))
    for family in TARGETS:
        monkeypatch.setitem(evidence_cases.TARGETS, family, (Target("data"), Target("whitened-velocity", "velocity")))


def test_a_study_can_be_extended_and_does_nothing_twice(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = study(words, tmp_path, "--cases", "gaussian-cosine", "heat", "--seeds", "0", "--calls", "2")
    assert {run["case"] for run in first["runs"]} == {"gaussian-cosine", "heat"}
    assert [(entry["solver"], entry["calls"]) for entry in first["runs"][0]["quality"]] == [
        ("ancestral", 2),
        ("ddim", 2),
        ("multistep", 2),
    ]
    for name in ("evidence.md", "quality.png"):
        assert (tmp_path / name).stat().st_size > 0
    capsys.readouterr()
    again = study(words, tmp_path, "--cases", "gaussian-cosine", "heat", "--seeds", "0", "--calls", "2")
    assert again["runs"] == first["runs"]
    assert "step" not in capsys.readouterr().out  # nothing was trained
    more = study(words, tmp_path, "--cases", "gaussian-cosine", "--seeds", "0", "--calls", "3", "--solvers", "ddim")
    assert "step" not in capsys.readouterr().out
    kept = next(run for run in more["runs"] if run["case"] == "gaussian-cosine")
    assert kept["quality"][:3] == first["runs"][0]["quality"]
    assert [(entry["solver"], entry["calls"]) for entry in kept["quality"][3:]] == [("ddim", 3)]


def test_another_study_in_the_same_folder_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["--cases", "gaussian-cosine", "--seeds", "0", "--calls", "2", "--solvers", "ddim"]
    study(words, tmp_path, *own)
    monkeypatch.setitem(evidence_cases.PRESETS, "tiny", dataclasses.replace(PRESETS["tiny"], steps=5))
    with pytest.raises(SystemExit, match=r"is of another study \(its scale"):
        study(words, tmp_path, *own)


def test_the_same_seed_gives_the_same_first_weights_and_noise_to_every_case(words: list[str], tmp_path: Path) -> None:
    args = evidence.parse([*words, "--out", str(tmp_path)])
    one = Study(args.scale, args.data, args.held_out, args.classifier, args.out)
    weights = []
    for name in ("gaussian-flow", "path-principal"):
        spectrum = evidence_runs.spectrum_of(one, CASES[name])
        corruption = CASES[name].make(spectrum)
        trainer = evidence_runs.make_trainer(one, Run(name, Target("data"), 3, False), 4, corruption, spectrum)
        weights.append(torch.cat([value.flatten() for value in trainer.model.parameters()]))
        noise = trainer.generator.get_state()
        assert torch.equal(noise, torch.Generator().manual_seed(3).get_state())
    assert torch.equal(*weights)


def test_every_case_is_the_corruption_that_it_says() -> None:
    spectrum = sp.PowerSpectrum.power_law((3, 16, 16), amplitude=2.0, offset=0.1, exponent=2.0)
    t = torch.tensor([0.5], dtype=torch.float64)
    path = CASES["path-rgb"].make(spectrum)
    assert sp.path_length(path, spectrum) == pytest.approx(sp.fisher_distance(spectrum, 1.0), rel=1e-6)
    for name, case in CASES.items():
        corruption = case.make(spectrum)
        assert corruption.signal(t).isfinite().all(), name
        if name.startswith("scale-"):
            scale = float(name.removeprefix("scale-"))
            torch.testing.assert_close(corruption.power.double().expand(3, 16, 16), spectrum.power**scale)
    assert CASES["blur-20"].make(spectrum).max_blur == 10.0  # of 16 pixels
    assert set(TUNED_ON) == set(TARGETS) == {case.family for case in CASES.values()}
    assert len({len(targets) for targets in TARGETS.values()}) == 1  # the same budget


def test_the_best_target_of_each_case_is_bold_and_one_not_tried_is_left_open() -> None:
    runs = [
        {"case": "heat", "target": "data", "score": 3.0},
        {"case": "heat", "target": "velocity", "score": None},
        {"case": "blur-20", "target": "data", "score": 250.0},
        {"case": "blur-20", "target": "noise", "score": 2.0},
    ]
    lines = evidence.tuning_table({"runs": runs, "drawn": [["ddim", 5]], "steps": 7}).splitlines()
    assert lines[0].endswith("ddim with 5 calls, after 7 steps:")
    assert lines[-3:] == ["| data | **3** | 250 |", "| velocity | inf | – |", "| noise | – | **2** |"]


def test_pictures_that_diverged_never_win() -> None:
    entries = [{"solver": solver, "calls": calls, "frechet": 4.0} for solver, calls in evidence.TUNING]
    assert evidence.score({"quality": entries}) == pytest.approx(4.0)
    entries[0]["frechet"] = None
    assert evidence.score({"quality": entries}) == math.inf


def test_the_tuning_of_another_study_decides_and_is_told_with_the_rest(words: list[str], tmp_path: Path) -> None:
    scores = [("data", 3.0), ("velocity", None), ("whitened-velocity weighed as velocity", 2.0)]
    runs = [{"case": "gaussian-cosine", "target": name, "score": value} for name, value in scores]
    tuning = {"runs": runs, "drawn": [["ddim", 5]], "steps": 7}
    (tmp_path / "earlier.json").write_text(json.dumps({"tuning": tuning}))
    tuned = ["--tuned", str(tmp_path / "earlier.json"), "--seeds", "0", "--calls", "2", "--solvers", "ddim"]
    found = study(words, tmp_path / "out", *tuned, "--cases", "gaussian-flow")
    assert [run["target"] for run in found["runs"]] == ["whitened-velocity weighed as velocity"]
    assert found["tuning"] == tuning | {"source": "earlier.json"}
    assert "chosen by the tuning of another study, `earlier.json`" in (tmp_path / "out" / "evidence.md").read_text()
    assert not (tmp_path / "out" / "tuning").exists()
    with pytest.raises(SystemExit, match="the tuning has no score for blur, tuned on blur-20"):
        study(words, tmp_path / "out", *tuned, "--cases", "blur-4")
    (tmp_path / "earlier.json").write_text("[]")
    with pytest.raises(SystemExit, match=r"earlier\.json is not the evidence\.json of a study"):
        study(words, tmp_path / "out", *tuned, "--cases", "gaussian-flow")


def test_a_compiled_network_is_trained_and_drawn_from(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["--cases", "path-cosine", "--seeds", "0", "--calls", "2", "--solvers", "ancestral on fisher"]
    expected = study(words, tmp_path / "eager", *own)
    called = {}

    def compiled(forward: Callable[..., object], **options: object) -> Callable[..., object]:
        def call(*args: object, **named: object) -> object:
            training = forward.__self__.training  # type: ignore[attr-defined]
            called[training] = called.get(training, 0) + 1
            return forward(*args, **named)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    found = study(words, tmp_path / "compiled", *own, "--compile")
    assert called[True] == len(TARGETS["path"]) * PRESETS["tiny"].tuning_steps + PRESETS["tiny"].steps
    assert called[False] > 0
    assert found["runs"][0]["quality"][0]["frechet"] == expected["runs"][0]["quality"][0]["frechet"]
