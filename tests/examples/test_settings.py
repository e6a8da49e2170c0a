"""Settings of a CIFAR-10 run: from files and command lines, to checkpoints and back."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
import yaml

from examples.recipe.cifar10 import Pictures, load
from examples.recipe.continuing import check_same, learning_rate
from examples.recipe.runs import FORMAT, make_corruption, measure_spectrum
from examples.recipe.settings import CONFIGS, FREE, Settings, from_dict, parse, to_dict


def test_the_command_line_goes_over_the_file_and_the_file_over_the_defaults(tmp_path: Path, capsys) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("steps: 7\nbatch_size: 5\nwidths: [32, 64]\n")
    words = ["--config", str(file), "--batch-size", "9", "--class-conditional", "--seed=3"]
    found = parse(words)
    assert found == Settings(steps=7, batch_size=9, widths=(32, 64), class_conditional=True, seed=3)
    with pytest.raises(SystemExit, match="0"):
        parse([*words, "--print-config"])
    file.write_text(capsys.readouterr().out)
    assert parse(["--config", str(file)]) == found


def test_a_missing_extra_is_named() -> None:
    code = "import sys; sys.modules['jsonargparse'] = None; import examples.recipe.settings"
    found = run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert 'the examples for CIFAR-10 require the extra `cifar10`: pip install -e ".[cifar10]"' in found.stderr


def test_settings_survive_a_checkpoint() -> None:
    chosen = Settings(widths=(8, 16), max_grad_norm=None)
    assert from_dict(to_dict(chosen)) == chosen
    assert all(type(value) in (str, int, float, bool, list, type(None)) for value in to_dict(chosen).values())
    assert to_dict(chosen).keys() >= FREE
    with pytest.raises(ValueError, match="unknown settings stepz; the settings are accumulation"):
        from_dict({"stepz": 1})


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_config_file_is_read(file: Path) -> None:
    found, written = to_dict(parse(["--config", str(file)])), yaml.safe_load(file.read_text())
    assert written == {name: found[name] for name in written}


def test_several_averages_a_file_to_continue_from_and_a_switch() -> None:
    found = parse(["--ema-decay", "[0.9,0.5]", "--resume", "old/checkpoint-00000001.pt", "--gradient-checkpointing"])
    assert (found.ema_decay, found.resume, found.gradient_checkpointing) == (
        (0.9, 0.5),
        "old/checkpoint-00000001.pt",
        True,
    )
    assert from_dict(to_dict(found)) == found
    assert [parse(words).resume for words in ([], ["--resume"], ["--resume=false"])] == [True, True, False]


def test_the_learning_rate_rises_and_falls_by_the_number_of_the_step() -> None:
    def rates(**more: object) -> list[float]:
        chosen = Settings(learning_rate=1.0, warmup=2, steps=6, **more)
        return [learning_rate(chosen, step) for step in range(7)]

    assert rates() == [0.5, 1, 1, 1, 1, 1, 1]
    assert rates(decay="linear") == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0.25, 0])
    assert rates(decay="cosine") == pytest.approx([0.5, 1, 1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0])
    assert learning_rate(Settings(learning_rate=1.0, warmup=0), 0) == 1


@pytest.mark.parametrize("decay", ["none", "linear"])
def test_more_steps_continue_a_run_unless_the_learning_rate_depends_on_them(decay: str) -> None:
    before, now = (Settings(decay=decay, warmup=1, steps=steps) for steps in (6, 7))
    kept, data = {"batch": 8}, {"sha256": "0" * 64}
    old = {name: value for name, value in to_dict(before).items() if name != "held_out"}  # of before there was one
    state = {"metadata": {"format": FORMAT, "settings": old, "provenance": data, **kept}}
    if decay == "none":
        check_same(now, data, kept, state)
    else:
        with pytest.raises(ValueError, match="outputs/cifar10 holds another run: steps was 6, is 7. Use the same"):
            check_same(now, data, kept, state)
    with pytest.raises(ValueError, match="the checkpoints in old.pt are of another program"):
        check_same(replace(now, resume="old.pt"), data, kept, {"metadata": {}})


def test_a_run_with_other_labels_is_another(tmp_path: Path) -> None:
    def facts(name: str, labels: list[int], **more: object) -> dict[str, object]:
        file = tmp_path / f"{name}.npz"
        np.savez(file, images=np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3), labels=labels, **more)
        return load(str(file), labels=True).provenance

    settings, kept = Settings(class_conditional=True), {"batch": 8}
    found = facts("found", ["ant", "bee", "cat"])
    state = {"metadata": {"format": FORMAT, "settings": to_dict(settings), "provenance": found, **kept}}
    check_same(settings, facts("numbers", [0, 1, 2]), kept, state)
    with pytest.raises(ValueError, match=r"class_names was \['ant', 'bee', 'cat'\], is \['bee', 'cat', 'zebra'\]"):
        check_same(settings, facts("others", ["bee", "cat", "zebra"]), kept, state)
    with pytest.raises(ValueError, match=r"holds another run: labels was [0-9a-f]{8}, is [0-9a-f]{8}\. Use the same"):
        check_same(settings, facts("permuted", [1, 2, 0]), kept, state)
    del found["labels_sha256"], found["class_names"]  # of a run before they were kept
    check_same(settings, facts("old", [1, 2, 0]), kept, state)


def test_unknown_names_and_values_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("stepz: 7\n")
    for words in (["--stepz", "3"], ["--corruption", "rain"], ["--config", str(tmp_path / "c.yaml")]):
        with pytest.raises(SystemExit, match="2"):
            parse(words)
        assert ("rain" if "rain" in words else "stepz") in capsys.readouterr().err
    file = tmp_path / "c.yaml"
    for text, message in (
        ("stepz: 7", "Option 'stepz' is not accepted"),
        ("steps: true", "Expected a <class 'int'>. Got value: True"),
        ("steps: [", "Problems parsing config"),
        ("- 1", "Unexpected config: - 1"),
    ):
        file.write_text(text)
        for words in (["--config", str(file)], [f"--config={file}", "--steps", "3"]):
            with pytest.raises(SystemExit, match="2"):
                parse(words)
            told = capsys.readouterr().err
            assert f"--config {file}: " in told
            assert message in told
    file.write_text("steps: 0")
    with pytest.raises(SystemExit, match=r"must be 1 or more, got 0 \(settings of .*c\.yaml and the command line\)"):
        parse(["--config", str(file)])
    assert parse(["--config", str(file), "--steps", "3"]).steps == 3
    for more, message in {
        "--out=": "out is empty; use . for the present folder",
        f"--out {file}": r"train_cifar10: cannot write to .*c\.yaml \(Not a directory\); choose another",
        "--steps 0": "train_cifar10: steps must be 1 or more, got 0",
        "--dropout 1": "dropout and drop_labels must lie in",
        "--learning-rate 0": "learning_rate must be positive, got 0",
        "--spectrum reference --basis principal": "spectrum=reference requires basis=fourier or cosine, got principal",
        "--spectrum reference --basis principal --channels shared": "requires basis=fourier or cosine, got principal",
        "--evaluate-fid 1": "evaluate_fid requires 2 samples or more, or 0 for no FID, got 1",
        "--evaluate-fid -1": "evaluate_fid must be 0 or more, got -1",
        "--seed -1": "seed must be 0 or more, got -1",
        f"--seed {2**63}": r"seed must be at most 2\*\*63 - 1, got 9223372036854775808",
        "--ema-decay 1": r"ema_decay must lie in \[0, 1\), got 1.0",
        "--ema-decay [0.9,-1]": r"ema_decay must lie in \[0, 1\), got -1.0",
        "--discrete-steps 100": "discrete_steps=100 requires time_sampling=discrete or ddpm, got stratified; omit it",
        "--schedule-steps 9": "schedule_steps=9 requires schedule=linear, got cosine; omit it",
        "--time-input index": "time_input=index requires time_sampling=discrete or ddpm, got stratified",
        "--decay linear --steps 5000": "decay=linear requires steps above warmup, got steps=5000 and warmup=5000",
        "--held-out -1": "held_out must be 0 or more, got -1",
    }.items():
        with pytest.raises(SystemExit, match=message):
            parse(more.split())


def test_an_empty_line_is_refused_unless_null_is_a_value(tmp_path: Path) -> None:
    file, nullable = tmp_path / "c.yaml", ("images", "schedule_steps", "weighting", "max_grad_norm", "discrete_steps")
    for name in (field.name for field in fields(Settings)):
        file.write_text(f"keep_checkpoints: 2\nlog_every: 7\n{name}:\n")
        if name in nullable:
            assert getattr(parse(["--config", str(file)]), name) is None
            continue
        told = rf"train_cifar10: {name} is empty in the configuration; give it a value, or omit the line \(settings of"
        with pytest.raises(SystemExit, match=told):
            parse(["--config", str(file)])
    file.write_text("log_every: 7\nblocks:\n")
    assert parse(["--config", str(file), "--blocks", "3"]).blocks == 3


def test_a_value_of_another_kind_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    for line, advice in {
        "bf16: yes": "YAML takes yes, no, on and off without quotes for true and false; write bf16: 'yes'",
        "compile: off": "YAML takes yes, no, on and off without quotes for true and false; write compile: 'no'",
        "widths: 16": "a list has brackets; write [16]",
        "attention: 8, 4": "a list has brackets; write [8,4]",
    }.items():
        file.write_text(f"log_every: 7\n{line}\n")
        words = f"--{line.replace(': ', '=').replace(' ', '')}"
        for chosen in (["--config", str(file)], [words]) if "brackets" in advice else (["--config", str(file)],):
            with pytest.raises(SystemExit, match="2"):
                parse(chosen)
            told = capsys.readouterr().err
            assert told.endswith(f"; {advice}\n")
            assert told.count(advice) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_named(encoding: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("steps: 3  # für Äpfel\n", encoding=encoding)
    with pytest.raises(SystemExit):
        parse(["--config", str(file)])
    assert f"--config {file}: it must be text in UTF-8 (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--corruption blur --basis fourier", "basis=fourier requires corruption=shortest-path, got blur; omit it"),
        ("--corruption blur --channels shared", "channels=shared requires corruption=shortest-path, got blur"),
        (
            "--corruption gaussian --spectrum reference",
            "spectrum=reference requires corruption=shortest-path, got g",
        ),
        (
            "--corruption blur --log-power-scale 1.25",
            "log_power_scale=1.25 requires corruption=shortest-path, got",
        ),
        ("--schedule linear", "schedule=linear requires corruption=gaussian, got shortest-path; omit it"),
        ("--schedule linear --schedule-steps 500", "schedule=linear requires corruption=gaussian, got shortest-path"),
        ("--max-blur 10", "max_blur=10.0 requires corruption=blur, got shortest-path; omit it"),
        ("--drop-labels 0.2", "drop_labels=0.2 requires class_conditional=True, got False; omit it"),
    ],
)
def test_a_setting_without_effect_is_refused(words: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        parse(words.split())


def test_a_default_without_effect_is_not_refused() -> None:
    words = "--corruption blur --basis cosine --channels rotate --spectrum measured --schedule cosine --drop-labels 0.1"
    assert parse(words.split()) == Settings(corruption="blur")


def test_the_constants_of_the_reference_are_at_the_frequencies_of_the_basis() -> None:
    images = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    for basis in ("cosine", "fourier"):
        chosen = Settings(spectrum="reference", basis=basis, channels="shared", size=8)
        measured = measure_spectrum(chosen, Pictures(images, None, {}))
        assert (measured.power == measured.power[:1]).all()
        from_the_lowest = measured.basis.frequencies((8, 8)).flatten().argsort()
        power = make_corruption(chosen, measured).power.expand(3, 8, 8)[0].flatten()
        assert (power[from_the_lowest].diff() <= 1e-12).all()
    by_default = measure_spectrum(replace(chosen, channels="rotate"), Pictures(images, None, {}))
    assert by_default.basis.channel_rotation is None


def test_the_help_tells_that_names_may_have_hyphens(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse(["--help"])
    assert "--discrete-steps is --discrete_steps" in " ".join(capsys.readouterr().out.split())
