"""The study of trained networks, at a size that shows that everything works."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import shortest_path as sp
from examples.recipe.dead_leaves import dead_leaves
from studies.trained_networks import cases, classifier, runs, tuning
from studies.trained_networks.__main__ import main
from studies.trained_networks.cases import CASES, TARGETS, TUNED_ON, Target


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the options that all runs share."""
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("training", 0), ("held", 1)):
        np.save(folder / f"{name}.npy", dead_leaves(60, size=8, seed=seed))
    facts = {"format": classifier.FORMAT, "size": 8, "width": 8, "classes": 10, "test_accuracy": 0.1}
    classifier.write(folder, classifier.Classifier(size=8, width=8), facts)
    sources = ["--data", str(folder / "training.npy"), "--held-out", str(folder / "held.npy")]
    return ["--scale", "tiny", *sources, "--classifier", str(folder), "--seeds", "0", "--calls", "2"]


def study(words: list[str], out: Path, *more: str) -> dict:
    main([*words, "--out", str(out), *more])
    return json.loads((out / "evidence.json").read_text())


@pytest.fixture(autouse=True)
def little_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "TUNING", (("ancestral", 2), ("multistep", 2)))
    for family in TARGETS:
        monkeypatch.setitem(cases.TARGETS, family, (Target("data"), Target("whitened-velocity", "velocity")))


def test_a_study_can_be_extended_and_repeats_nothing(words: list[str], tmp_path: Path, capsys) -> None:
    own = ["--cases", "gaussian-cosine", "heat"]
    first = study(words, tmp_path, *own)
    assert {run["case"] for run in first["runs"]} == {"gaussian-cosine", "heat"}
    quality = [(entry["solver"], entry["calls"]) for entry in first["runs"][0]["quality"]]
    assert quality == [("ancestral", 2), ("ddim", 2), ("multistep", 2)]
    assert all((tmp_path / name).stat().st_size > 0 for name in ("evidence.md", "quality.png", "deviation.png"))
    capsys.readouterr()
    assert study(words, tmp_path, *own)["runs"] == first["runs"]
    more = study(words, tmp_path, "--cases", "gaussian-cosine", "--calls", "3", "--solvers", "ddim")
    assert "step" not in capsys.readouterr().out  # nothing was trained
    kept = next(run for run in more["runs"] if run["case"] == "gaussian-cosine")
    assert kept["quality"][:3] == first["runs"][0]["quality"]
    assert [(entry["solver"], entry["calls"]) for entry in kept["quality"][3:]] == [("ddim", 3)]
    held_out = words[words.index("--held-out") + 1]
    with pytest.raises(SystemExit, match=r"is of another study \(its data differ\); pass another --out"):
        study(words, tmp_path, *own, "--data", held_out)


def test_the_tuning_of_another_study_can_be_used(words: list[str], tmp_path: Path) -> None:
    scores = [("data", 3.0), ("velocity", None), ("whitened-velocity weighed as velocity", 2.0)]
    entries = [{"case": "path-cosine", "target": name, "score": value} for name, value in scores]
    earlier = {"runs": entries, "drawn": [["ddim", 5]], "steps": 7}
    (tmp_path / "earlier.json").write_text(json.dumps({"tuning": earlier}))
    own = ["--tuned", str(tmp_path / "earlier.json"), "--solvers", "ancestral on fisher"]
    found = study(words, tmp_path / "out", *own, "--cases", "path-cosine")
    assert [run["target"] for run in found["runs"]] == ["whitened-velocity weighed as velocity"]
    assert found["tuning"] == earlier | {"source": "earlier.json"}
    assert not (tmp_path / "out" / "tuning").exists()
    with pytest.raises(SystemExit, match="the tuning has no score for blur, tuned on blur-20"):
        study(words, tmp_path / "out", *own, "--cases", "blur-4")
    (tmp_path / "earlier.json").write_text("[]")
    with pytest.raises(SystemExit, match=r"--tuned requires the evidence\.json of a study, got .*earlier\.json"):
        study(words, tmp_path / "out", *own, "--cases", "path-cosine")


def test_the_same_seed_gives_the_same_initial_weights_and_noise_to_every_case(words: list[str], tmp_path: Path) -> None:
    one = runs.Study(*words[1:8:2], tmp_path)
    weights = []
    for name in ("gaussian-flow", "path-principal"):
        spectrum = runs.spectrum_of(one, CASES[name])
        corruption = CASES[name].make(spectrum)
        trainer = runs.make_trainer(one, runs.Run(name, Target("data"), 3, False), 4, corruption, spectrum)
        weights.append(torch.cat([value.flatten() for value in trainer.model.parameters()]))
        assert torch.equal(trainer.generator.get_state(), torch.Generator().manual_seed(3).get_state())
    assert torch.equal(*weights)


def test_every_case_is_the_corruption_that_its_name_says() -> None:
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
