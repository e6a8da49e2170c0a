"""The kit for a lent GPU, at toy size on the CPU: every call ends in time, continues, and is read by the report."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from examples.recipe.runs import make_network
from examples.recipe.settings import Settings
from studies import gpu
from studies.gpu import compare, measures, speed
from studies.gpu.__main__ import CALLS, main, parse
from studies.gpu.cases import CASES, COMPARE, WINNER, settings_of
from studies.gpu.limit import Limit, TimeUp, next_round
from studies.gpu.measures import dequantised, tiled
from studies.gpu.ranking import leaders, paired
from studies.gpu.training import Training
from tests.worlds import spectrum

TOY = ("--size", "toy", "--device", "cpu")
MEASURES = {"bits": ["3"], "quality": ["multistep-2"]}


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a feature network, as a file."""

    class Features(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :4]

    path = tmp_path_factory.mktemp("features") / "corner.pt"
    torch.jit.script(Features()).save(str(path))
    return path


def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next call train for one round, as if its time were up then."""
    plans = [0.0, 0.1]

    def plan(trained: dict[str, float], **_: float) -> dict[str, float]:
        return dict.fromkeys(trained, seconds) if (seconds := plans.pop()) else {}

    monkeypatch.setattr(compare, "next_round", plan)


def test_cases_have_equal_seconds_after_every_round_and_after_interruptions() -> None:
    trained = dict.fromkeys("abc", 0.0)
    assert next_round(trained, left=100, slice_seconds=20, goal=50) == dict.fromkeys("abc", 20)
    trained = {"a": 20.0, "b": 20.0, "c": 7.0}  # interrupted: the one that is behind goes first, and alone
    assert next_round(trained, left=100, slice_seconds=20, goal=50) == {"c": 20, "a": 7, "b": 7}
    assert next_round(trained, left=5, slice_seconds=20, goal=50) == {"c": 5}
    assert next_round(trained, left=22, slice_seconds=20, goal=50) == {"c": 16, "a": 3, "b": 3}
    assert next_round(dict.fromkeys("abc", 45.0), left=100, slice_seconds=20, goal=50) == dict.fromkeys("abc", 5)
    assert next_round(dict.fromkeys("abc", 50.0), left=100, slice_seconds=20, goal=50) == {}
    assert next_round(trained, left=0, slice_seconds=20, goal=50) == {}


def test_a_call_has_a_soft_limit() -> None:
    now = [0.0]
    limit = Limit(1, clock=lambda: now[0])
    limit.require(59)
    now[0] = 50
    assert limit.left() == 10
    with pytest.raises(TimeUp):
        limit.require(10)
    with pytest.raises(SystemExit):
        main(["check", "--minutes", "0"])


def test_a_large_file_travels_in_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "some.whl"
    with pytest.raises(SystemExit, match=r"join requires some.whl.part0, … and some.whl.sha256 in"):
        main(["join", str(file)])
    file.write_bytes(bytes(range(101)))
    main(["split", str(file), "--parts", "3"])
    assert "some.whl.part2: 33 bytes" in capsys.readouterr().out
    file.unlink()
    main(["join", str(file)])
    assert file.read_bytes() == bytes(range(101))
    (tmp_path / "some.whl.part1").unlink()
    with pytest.raises(SystemExit, match="2 parts of some.whl require the SHA-256 .*; carry all parts"):
        main(["join", str(file)])


def test_checks_are_lines_and_are_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = (
        "sample on fisher",
        "basis wavelet",
        "in fp32",
        "corrupt, shortest path, Fourier",
        "copies: loss",
        "of the CPU",
    )
    words = ["check", *TOY, "--out", str(tmp_path), "--backend", "eager", "--only", *only]
    main(words)
    found = read(tmp_path / "check.json")["checks"]
    assert {each["state"] for name, each in found.items() if "waits" not in name} == {"right"}, found
    assert found["waits and copies: loss"]["state"] == "not possible here"
    assert "compiled whole: corrupt, shortest path, Fourier: right (0 graph breaks" in capsys.readouterr().out
    main(words)
    assert capsys.readouterr().out == "6 checks: 5 right, 1 not possible here\n"
    main([*words[:-6], "nonsense", "basis wavelet", "--again", "--minutes", "0.000001"])
    assert capsys.readouterr().out == "The time is up: the same command continues.\n"
    with pytest.raises(SystemExit, match="--only nonsense names no check; names are same as the CPU: corrupt"):
        main([*words[:-6], "nonsense"])
    with pytest.raises(SystemExit, match=r"check.json is of other work \(its backend differ\); pass another --out"):
        main(["check", *TOY, "--out", str(tmp_path)])


def test_an_error_makes_a_check_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: nn.Module, x: Tensor) -> Tensor:
        raise RuntimeError("no kernel")

    monkeypatch.setattr("shortest_path.bases.WaveletBasis.spatial_coefficients", broken)
    main(["check", *TOY, "--out", str(tmp_path), "--only", "basis wavelet"])
    found = read(tmp_path / "check.json")["checks"]["same as the CPU: basis wavelet"]
    assert found == {"state": "wrong", "text": "RuntimeError: no kernel", "figure": None}


def test_speed_compares_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(speed.SIDES, "toy", (8,))
    words = ["speed", *TOY, "--out", str(tmp_path), "--repeats", "2", "--no-compile"]
    main(words)
    found = read(tmp_path / "speed.json")["timings"]
    assert [list(each) for each in found.values()] == [
        ["bare step", "trainer"],
        ["network alone", "sampler"],
        ["floor", "corrupt, rotated cosine", "corrupt, Fourier", "task, rotated cosine"],
    ]
    for contenders in found.values():
        first, *others = contenders.values()
        assert first["ratio"] == [1, 1, 1]
        assert all(each["images_per_second"] > 0 and each["ratio"][1] > 0 for each in others)
    main(words)
    assert read(tmp_path / "speed.json")["timings"] == found
    main(["report", "--out", str(tmp_path)])
    assert "| bare step |" in (tmp_path / "report.md").read_text()


def test_a_comparison_continues_and_chooses_a_winner(
    tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "CASES", {name: CASES[name] for name in ("authors", "gaussian")})
    shared = [
        *TOY,
        "--precision",
        "fp32",
        "--out",
        str(tmp_path),
        "--features",
        str(features),
        "--data-note",
        "JPEG copies",
    ]
    words = ["compare", *shared, "--slice-seconds", "0.2"]
    with pytest.raises(SystemExit, match="winner requires a primary measure of all cases in .*; run compare, or pass"):
        main(["winner", *shared])
    with monkeypatch.context() as patch:
        one_round(patch)
        main(words)  # ends in training
    cases = read(tmp_path / "compare.json")["cases"]
    assert "The time is up: the same command continues." in capsys.readouterr().out
    assert all(len(each["slices"]) == 1 and "quality" not in each for each in cases.values())

    main([*words, "--train-minutes", "0.001"])  # which is reached: the measures
    values = read(tmp_path / "compare.json")
    for name, each in values["cases"].items():
        assert each["slices"] == cases[name]["slices"]
        assert [len(each["bits"][steps]) for steps in ("2", "1")] == [6, 6]
        quality = each["quality"]["multistep-2"]
        assert quality["label"] == "Fréchet distance (corner.pt), 64 training images, JPEG copies"
        assert quality["fid"] > 0
        assert quality["samples"] == 40
        assert (tmp_path / "compare" / quality["grid"]).exists()
    assert not list(tmp_path.rglob("*.parts"))
    main([*words, "--train-minutes", "0.001"])
    assert read(tmp_path / "compare.json")["cases"] == values["cases"]
    with pytest.raises(SystemExit, match=r"compare.json is of other work \(its judged differ\)"):
        main([*words, "--judged", "5"])

    main(["winner", *shared, "--train-minutes", "0.001"])
    best = leaders(values["cases"], values["fixed"]["measures"])
    assert f"best by FID: {best['fid']}; best by bits/dim: {best['bits']}; continuing with {best['fid']}" in (
        capsys.readouterr().out
    )
    winner = tmp_path / f"winner-{best['fid']}.json"
    first = read(winner)["cases"][best["fid"]]
    one_round(monkeypatch)
    main(["winner", *shared])
    later = read(winner)["cases"][best["fid"]]
    assert later["slices"][0] == first["slices"][0]
    assert later["slices"][-1]["step"] > first["measured_step"]
    assert later["earlier"][0]["quality"] == first["quality"]

    main(["report", "--out", str(tmp_path), "--to", str(tmp_path / "small")])
    text = (tmp_path / "small" / "report.md").read_text()
    assert text.count("Reference: 64 training images, JPEG copies.") == 2
    assert "Earlier, " in text
    assert (tmp_path / "small" / "compare" / "gaussian-multistep-2.png").exists()
    assert not list((tmp_path / "small").rglob("*.pt"))


def test_errors_of_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="--size full requires --data TRAIN and --held-out TEST"):
        main(["compare", "--out", str(tmp_path), "--device", "cpu"])
    with pytest.raises(SystemExit, match="holds no records; run check, speed or compare with this --out first"):
        main(["report", "--out", str(tmp_path)])
    monkeypatch.setattr(measures, "to_uint8", None)  # samples never come so far
    monkeypatch.setattr(nn.GroupNorm, "forward", lambda self, x: x * float("nan"))
    with pytest.raises(SystemExit, match="linear-multistep-2 gives samples that are not finite; its training has"):
        main(
            [
                "winner",
                *TOY,
                "--out",
                str(tmp_path),
                "--case",
                "linear",
                "--train-minutes",
                "0",
                "--features",
                "none",
                "--precision",
                "fp32",
            ]
        )


def test_a_training_continues_exactly(tmp_path: Path) -> None:
    size = COMPARE["toy"]
    settings = settings_of(CASES["equal-snr"], size, "fp32")
    pictures, _ = compare._data(main_options(), size)
    first, second = (Training(CASES["equal-snr"], settings, pictures, tmp_path, torch.device("cpu")) for _ in range(2))
    for step in range(3):
        assert first.train(0).step == step + 1
    first.save()
    again = Training(CASES["equal-snr"], settings, pictures, tmp_path, torch.device("cpu"))
    assert again.step == 3
    for each in (first, again):
        each.train(0)
    for _ in range(4):
        second.train(0)
    ours, *others = ([*each.trainer.ema_model.parameters()] for each in (first, again, second))
    assert all(torch.equal(*pair) for other in others for pair in zip(ours, other, strict=True))


def main_options() -> object:
    return type("Options", (), {"data": None, "held_out": None, "size": "toy"})()


def test_sizes_of_the_networks() -> None:
    data = spectrum()
    for name in ("linear", "shortest"):
        settings = settings_of(CASES[name], COMPARE["full"], "bf16")
        network = make_network(settings, CASES[name].corruption(settings, data), data, 0)
        assert 8e6 < sum(weights.numel() for weights in network.parameters()) < 12e6
    longest, default = settings_of(CASES["shortest"], WINNER["full"], "bf16"), Settings()
    assert (longest.widths, longest.blocks, longest.attention) == (default.widths, default.blocks, default.attention)
    equal = CASES["equal-snr"].corruption(settings_of(CASES["equal-snr"], COMPARE["full"], "bf16"), data)
    torch.testing.assert_close(equal.color**2, data.power)


def test_paired_differences_and_leaders() -> None:
    cases = {
        "gaussian": {"bits": {"3": [4.0, 2.0, 3.0]}, "quality": {"multistep-2": {"fid": 9.0}}},
        "shortest": {"bits": {"3": [3.9, 1.9, 2.9]}, "quality": {"multistep-2": {"fid": 9.5}}},
    }
    found = paired(cases, "3")["shortest"]
    assert found["difference"] == pytest.approx(-0.1)
    assert found["standard_error"] == pytest.approx(0.0, abs=1e-12)
    assert leaders(cases, MEASURES) == {"fid": "gaussian", "bits": "shortest"}
    cases["gaussian"]["quality"] = {}
    cases["shortest"]["bits"]["3"].pop()
    assert leaders(cases, MEASURES) == {"fid": None, "bits": None}


def test_the_readme_shows_commands_that_exist() -> None:
    text = (Path(gpu.__file__).with_name("README.md")).read_text().replace("\\\n", "")
    commands = re.findall(r"^python -m studies\.gpu (.+)$", text, re.MULTILINE)
    assert {parse(shlex.split(words, comments=True)).call for words in commands} == {*CALLS, "split", "join"}


def test_noise_of_a_level_is_the_same_in_every_call() -> None:
    images = torch.arange(12).view(2, 2, 1, 3).to(torch.uint8).numpy()
    x = dequantised(images)
    away = (x + 1) * 127.5 - torch.from_numpy(images.transpose(0, 3, 1, 2))
    assert float(away.abs().max()) <= 0.5
    assert torch.equal(x, dequantised(images))
    grid = tiled(images.repeat(5, 0), columns=4)
    assert grid.shape == (4, 4, 3)
    assert (grid[:2, :1] == images[0]).all()
    assert (grid[2:, 2:3] == images[1]).all()
