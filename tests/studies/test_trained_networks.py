"""The study of trained networks, at a size that shows that everything works."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import shortest_path as sp
from examples.recipe.dead_leaves import dead_leaves
from studies.trained_networks import classifier, images, join, more, report, runs, starts
from studies.trained_networks.__main__ import main
from studies.trained_networks.cases import CASES, LIKE, OUTPUTS, matched_times
from studies.trained_networks.join import joined
from studies.trained_networks.report import by_seed, tables
from studies.trained_networks.runs import Run, Study, make_trainer


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the options that all runs share."""
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("training", 0), ("held", 1)):
        np.save(folder / f"{name}.npy", dead_leaves(60, size=8, seed=seed))
    facts = {"format": classifier.FORMAT, "size": 8, "width": 8, "classes": 10, "test_accuracy": 0.1}
    classifier.write(folder, classifier.Classifier(size=8, width=8), facts)
    sources = ["--data", str(folder / "training.npy"), "--held-out", str(folder / "held.npy")]
    return ["--scale", "toy", *sources, "--classifier", str(folder)]


@pytest.fixture(autouse=True)
def few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure with as few calls as work, under the names of the real numbers."""
    sampled, bits = runs.samples_of, runs.bits_of
    for module in (runs, more):
        monkeypatch.setattr(module, "samples_of", lambda one, run, solver, calls, *n: sampled(one, run, solver, 2, *n))
        monkeypatch.setattr(module, "bits_of", lambda steps, held, *file: bits(2, held, *file))
    monkeypatch.setattr(runs, "STARTS", (None, 0.9))
    monkeypatch.setattr(runs, "CHAIN_STEPS", (2, 3))
    monkeypatch.setattr(report, "CHAIN_STEPS", (2, 3))


def study(words: list[str], out: Path, *more: str) -> dict:
    main([*words, "--out", str(out), *more])
    return json.loads((out / "evidence.json").read_text())


@pytest.fixture(scope="module")
def spectrum() -> sp.PowerSpectrum:
    levels = images.reduced(images_of(200), 8)
    return sp.PowerSpectrum.estimate([levels.dequantised()], progress=False)


def images_of(count: int, size: int = 16) -> runs.images.Pictures:
    return images.Pictures(dead_leaves(count, size=size, seed=3), None, {"source": "dead leaves"})


def test_a_study_can_be_extended_and_repeats_nothing(words: list[str], tmp_path: Path, capsys) -> None:
    own = ["--cases", "gaussian-cosine", "path-cosine", "--outputs", "whitened"]
    first = study(words, tmp_path, *own, "--seeds", "0", "1")
    assert {(run["case"], run["seed"]) for run in first["runs"]} == {
        (case, seed) for case in ("gaussian-cosine", "path-cosine") for seed in (0, 1)
    }
    assert len(first["tuning"]["runs"]) == 4  # both outputs
    assert first["runs"][0]["bits_50"]["mean"] > 0
    assert {len(run["multistep_50"]["power"]) for run in first["runs"]} == {3}
    text = (tmp_path / "evidence.md").read_text()
    assert "| shortest path, rotated cosine − Gaussian, cosine | " in text
    capsys.readouterr()
    assert study(words, tmp_path, *own, "--seeds", "0", "1")["runs"] == first["runs"]
    assert "bits/dim" not in capsys.readouterr().out  # nothing was measured again
    more = study(words, tmp_path, "--cases", "gaussian-cosine", "--seeds", "0", "--secondary", "--density", "matched")
    assert [run for run in more["runs"] if run["density"] == "uniform"] == first["runs"]
    assert all("ancestral_1000" in run for run in more["runs"] if run["density"] == "matched")
    shown = (tmp_path / "evidence.md").read_text()
    assert "Training times at which the mean log-SNR is distributed as under: Gaussian, cosine" in shown
    assert "as under: shortest path" not in shown
    held_out = words[words.index("--held-out") + 1]
    with pytest.raises(SystemExit, match=r"is of another study \(its data differ\); pass another --out"):
        study(words, tmp_path, *own, "--data", held_out)


def test_a_report_is_extended_without_its_folder(words: list[str], tmp_path: Path, capsys) -> None:
    own = ["--cases", "gaussian-cosine", "path-cosine", "--outputs", "whitened"]
    first = study(words, tmp_path / "first", *own, "--seeds", "0")
    capsys.readouterr()
    report = ["--extend", str(tmp_path / "first" / "evidence.json")]
    more = study(words, tmp_path / "more", *own, "--seeds", "0", "1", *report)
    printed = [line for line in capsys.readouterr().out.splitlines() if "bits/dim" in line]
    assert len(printed) == 2  # only the new seed was trained
    assert all("-whitened-1: " in line for line in printed)
    assert [run for run in more["runs"] if run["seed"] == 0] == first["runs"]
    for same in ("tuning", "starts", "image_errors", "cases", "classifier"):
        assert more[same] == first[same]
    with pytest.raises(SystemExit, match=r"is of another study \(its test images differ\)"):
        study([*words, "--held-out", words[words.index("--data") + 1]], tmp_path / "other", *report)


def test_likelihoods_are_added_from_a_report_of_another_classifier(words: list[str], tmp_path: Path) -> None:
    first = study(words, tmp_path, "--cases", "gaussian-cosine", "--outputs", "whitened", "--seeds", "0")
    other = copy.deepcopy(first)
    other["classifier"]["weights_sha256"] = "another"
    other["runs"][0] |= {"seed": 1, "bits_50": {"mean": 1.0, "error": 0.1}}
    both = joined(first, other)
    assert [run["seed"] for run in both["runs"]] == [0, 1]
    assert by_seed(both, "gaussian-cosine", "whitened")[1] == 1.0
    measures = [name for name in both["runs"][1] if name.startswith(("multistep", "ancestral"))]
    assert measures == []
    assert both["runs"][0] == first["runs"][0]
    assert "- added: likelihoods of 1 runs whose samples another classifier measured" in tables(both)
    assert joined(both, other)["runs"] == both["runs"]
    with pytest.raises(ValueError, match="both reports have one classifier, .*; use --extend"):
        joined(first, first)
    other["starts"] = {name: {**each, "start": 0.123} for name, each in other["starts"].items()}
    with pytest.raises(ValueError, match=r"of different studies \(their starts differ\)"):
        joined(first, other)
    files = [tmp_path / "evidence.json", tmp_path / "other.json"]
    files[1].write_text(json.dumps(other))
    with pytest.raises(SystemExit, match="join: the reports are of different studies"):
        join.main([str(files[0]), "--add", str(files[1]), "--out", str(tmp_path / "both")])
    files[1].write_text(json.dumps({**other, "starts": first["starts"]}))
    join.main([str(files[0]), "--add", str(files[1]), "--out", str(tmp_path / "both")])
    assert json.loads((tmp_path / "both" / "evidence.json").read_text())["runs"] == both["runs"]
    for text in ("{}", "[]"):
        files[1].write_text(text)
        with pytest.raises(SystemExit, match="is not an evidence.json of the study"):
            join.main([str(files[0]), "--add", str(files[1]), "--out", str(tmp_path / "both")])


def test_a_seed_gives_every_case_the_same_weights_and_noise(words: list[str], spectrum, tmp_path: Path) -> None:
    one = Study(*words[1:8:2], tmp_path)
    trainers = [make_trainer(one, Run(case, "noise", 3, 1e-3), 4, spectrum) for case in ("gaussian-flow", "blur-4")]
    assert torch.equal(*(torch.cat([value.flatten() for value in each.model.parameters()]) for each in trainers))
    for trainer in trainers:
        assert torch.equal(trainer.generator.get_state(), torch.Generator().manual_seed(3).get_state())


def test_gaussian_noise_on_the_geodesic_ties_with_gaussian_noise(words: list[str], spectrum, tmp_path: Path) -> None:
    one = Study(*words[1:8:2], tmp_path)
    found = []
    for case in ("gaussian-cosine", "gaussian-geodesic"):
        trainer = make_trainer(one, Run(case, "whitened", 0, 1e-3), 4, spectrum)
        trainer.fit(images.Batches(images.reduced(images_of(40), 8).levels, 10, seed=0), steps=4, progress=False)
        found.append(torch.cat([value.flatten() for value in trainer.model.parameters()]))
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)
    law = sp.PowerSpectrum.power_law((3, 8, 8), amplitude=1.59, offset=0.0086, exponent=2.0)
    path = CASES["gaussian-geodesic"].make(law)
    assert sp.path_length(path, law) == pytest.approx(sp.fisher_distance(law, 1.0), rel=1e-6)


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("like", LIKE.values())
def test_matched_times_give_the_mean_log_snr_of_a_case(case: str, like: str, spectrum: sp.PowerSpectrum) -> None:
    corruption, other = CASES[case].make(spectrum), CASES[like].make(spectrum)
    uniform = torch.linspace(0.02, 0.95, 50, dtype=torch.float64)
    times = matched_times(corruption, other, spectrum)(uniform)
    own, wanted = (
        (each.signal(t).square() * spectrum.power / each.noise(t).square()).log().flatten(1).mean(1)
        for each, t in ((corruption, times), (other, uniform))
    )
    torch.testing.assert_close(own, wanted, atol=0.02, rtol=0)


def test_training_times_of_a_density_are_those_of_its_case(words: list[str], spectrum, tmp_path: Path) -> None:
    one, uniform = Study(*words[1:8:2], tmp_path), torch.linspace(0.1, 0.9, 5)
    changed = {"matched": {"path-cosine"}, "path": {"gaussian-cosine"}}
    for density, cases in changed.items():
        for case in LIKE.values():
            times = make_trainer(one, Run(case, "noise", 0, 1e-3, density), 4, spectrum).options.time_sampling
            assert torch.allclose(times(uniform), uniform, atol=1e-3) == (case not in cases)


def test_every_case_is_the_corruption_that_its_name_says(spectrum: sp.PowerSpectrum) -> None:
    t = torch.tensor([0.5], dtype=torch.float64)
    for name, case in CASES.items():
        corruption = case.make(spectrum)
        assert corruption.signal(t).isfinite().all(), name
        if name.startswith("scale-"):
            scale = float(name.removeprefix("scale-"))
            torch.testing.assert_close(corruption.power.double(), spectrum.power**scale)
    equal = CASES["equal-snr"].make(spectrum)
    ratio = equal.signal(t) ** 2 * spectrum.power / equal.noise(t) ** 2
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
    assert CASES["blur-4"].make(spectrum).max_blur == 1.0  # of 8 pixels
    assert [output.whitened for output in OUTPUTS.values()] == [False, True]


def test_images_are_averaged_over_boxes_and_have_noise_of_one_level() -> None:
    pictures = images_of(3)
    found = images.reduced(pictures, 8)
    expected = pictures.images.astype(float).reshape(3, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(found.levels.permute(0, 2, 3, 1).numpy() - expected).max() <= 0.5
    x = found.dequantised()
    assert torch.equal(((x + 1) * 128).floor(), found.levels.float())
    torch.testing.assert_close(images.rounded(x), (found.levels + 0.5) / 128 - 1)
    with pytest.raises(ValueError, match="images of 16×16 do not divide into parts of 6×6; pass a divisor"):
        images.averaged(pictures.images, 6)
    crops = images.reduced(pictures, 8, crops=True)
    assert crops.provenance["crops"]
    assert len(crops.levels) == 4 * 3
    assert np.array_equal(crops.levels[5].permute(1, 2, 0).numpy(), pictures.images[1, :8, 8:])  # its upper right
    batches = images.Batches(found.levels, 2, seed=1)
    assert len(batches) == 1
    assert torch.equal(*(torch.cat(list(images.Batches(found.levels, 2, seed=1))) for _ in range(2)))


def test_starts_are_compared_on_networks_of_a_study(words: list[str], tmp_path: Path, monkeypatch) -> None:
    own = ["--cases", "gaussian-cosine", "--outputs", "noise"]
    with pytest.raises(SystemExit, match="has no finished runs of seed 0 of gaussian-cosine"):
        starts.main([*words, *own, "--study", str(tmp_path), "--out", str(tmp_path)])
    study(words, tmp_path, *own, "--seeds", "0")
    monkeypatch.setattr(starts, "FRACTIONS", (0.5, 0.1))
    few = ["--samples", "20", "--images", "4", "--out", str(tmp_path / "starts")]
    starts.main([*words, *own, *few, "--study", str(tmp_path)])
    rows = json.loads((tmp_path / "starts" / "starts.json").read_text())["rows"]
    assert [row["fraction"] for row in rows] == [0.5, 0.1]
    assert rows[0]["start"] < rows[1]["start"] < 0.999
    assert (tmp_path / "starts" / "starts.md").read_text().count("| Gaussian, cosine | ") == 2


def test_networks_of_a_study_are_measured_again(words: list[str], tmp_path: Path, capsys) -> None:
    own = ["--outputs", "whitened", "--cases", "gaussian-cosine", "path-cosine"]
    folders = ["--study", str(tmp_path), "--out", str(tmp_path / "more")]
    again = [*words, *own, *folders, "--seeds", "1", "--samples", "30", "--images", "6"]
    with pytest.raises(SystemExit, match="more: .* has no finished runs of gaussian-cosine, path-cosine"):
        more.main(again)
    first = study(words, tmp_path, *own, "--seeds", "0", "1")
    capsys.readouterr()
    more.main(again)
    values = json.loads((tmp_path / "more" / "more.json").read_text())
    assert [(row["case"], row["seed"]) for row in values["runs"]] == [("gaussian-cosine", 1), ("path-cosine", 1)]
    for row in values["runs"]:
        assert row["multistep_50"]["samples"] == row["ancestral_250"]["samples"] == 30
        (before,) = [run for run in first["runs"] if run["case"] == row["case"] and run["seed"] == 1]
        assert row["bits_50"] != before["bits_50"]  # of other images
    path, isotropic = (
        np.load(tmp_path / "runs" / f"{case}-whitened-1" / "bits-50-of-6.npy")
        for case in ("path-cosine", "gaussian-cosine")
    )
    difference = path - isotropic
    shown = f"{difference.mean():+.4f} ± {difference.std(ddof=1) / 6**0.5:.4f}"
    assert shown in (tmp_path / "more" / "more.md").read_text()
    expected = {"mean": difference.mean(), "error": difference.std(ddof=1) / 6**0.5}
    assert [row.get("difference") for row in values["runs"]] == [None, pytest.approx(expected)]
    assert capsys.readouterr().out.count("\n") == 7
    more.main([*again, "--measures", "bits_50"])  # nothing is measured again, and nothing is left out
    assert capsys.readouterr().out.count("\n") == 1
    assert json.loads((tmp_path / "more" / "more.json").read_text())["runs"] == values["runs"]
    assert study(words, tmp_path, *own, "--seeds", "0", "1")["runs"] == first["runs"]


def test_measures_of_other_test_images_are_not_taken_for_those_of_these(words: list[str], tmp_path: Path) -> None:
    own = [*words, "--outputs", "whitened", "--cases", "gaussian-cosine"]
    study(own, tmp_path)
    folders = ["--study", str(tmp_path), "--out", str(tmp_path / "more")]
    again = [*own, *folders, "--seeds", "0", "--images", "6", "--measures", "bits_50"]
    more.main(again)
    np.save(tmp_path / "others.npy", dead_leaves(60, size=8, seed=2))
    with pytest.raises(SystemExit, match=r"more\.json has measures with other test images; move it away"):
        more.main([*again, "--held-out", str(tmp_path / "others.npy")])
    with pytest.raises(SystemExit, match="--images 61 of 60 test images"):
        more.main([*again, "--images", "61"])


def test_networks_measured_again_are_compiled_for_sampling_alone(words: list[str], tmp_path: Path, monkeypatch) -> None:
    own = [*words, "--outputs", "whitened", "--cases", "gaussian-cosine"]
    study(own, tmp_path)
    folders = ["--study", str(tmp_path), "--out", str(tmp_path / "more")]
    again = [*own, *folders, "--seeds", "0", "--samples", "30", "--images", "6"]
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *args, **kwargs: compiled.append(self))
    more.main([*again, "--measures", "bits_50", "--compile"])
    assert not compiled
    more.main([*again, "--measures", "multistep_50", "--compile"])
    assert len(compiled) == 1
