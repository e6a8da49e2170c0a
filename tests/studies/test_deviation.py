"""The deviation study: each path is trained and measured once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.runs import load_run
from studies.deviation.__main__ import main
from tests.examples import commands

TINY = (
    *("--size", "8", "--widths", "[8,16]", "--groups", "8", "--head-channels", "8", "--attention", "[]"),
    *("--blocks", "1", "--batch-size", "8", "--evaluation-samples", "0", "--steps", "3"),
)


def study(folder: Path, *more: str) -> dict:
    own = ["--out", str(folder / "study"), "--scales", "0.8", "1", "--no-reference", "--calls", "3", "--samples", "16"]
    main([*own, "--data", str(folder / "leaves.npz"), *TINY, *more])
    return json.loads((folder / "study" / "deviation.json").read_text())


@pytest.mark.slow
def test_each_path_is_trained_and_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def run(command: Sequence[str], check: bool) -> None:
        called.append(Path(command[1]).stem)
        result = commands.start(called[-1], *command[2:])  # in a fork of a process that has imported torch
        if result.status:
            raise subprocess.CalledProcessError(result.status, command, result.out, result.err)

    monkeypatch.setattr(subprocess, "run", run)
    np.savez(tmp_path / "leaves.npz", images=dead_leaves(96, size=8))
    report = study(tmp_path)
    assert called == ["train_cifar10", "sample_cifar10"] * 2
    assert {name: found["scale"] for name, found in report["paths"].items()} == {"scale-0.8": 0.8, "scale-1": 1}
    for name, found in report["paths"].items():
        run_of = load_run(tmp_path / "study" / name)
        assert (run_of.step, run_of.settings.log_power_scale) == (found["step"], found["scale"]) == (3, found["scale"])
    other, shortest = (report["paths"][name] for name in ("scale-0.8", "scale-1"))
    assert 1 <= shortest["length"] < other["length"]
    assert 0 < shortest["calls"]["3"]["kl"] < other["calls"]["3"]["kl"]
    assert "| 0.8 | 1.0" in (tmp_path / "study" / "deviation.md").read_text()
    called.clear()
    assert study(tmp_path)["paths"] == report["paths"]
    assert called == ["sample_cifar10"] * 2  # which returns the samples that are there
    with pytest.raises(SystemExit, match=r"^deviation: train_cifar10\.py ended with status 1$"):
        study(tmp_path, "--seed", "1")  # another run in the same folder
    with pytest.raises(SystemExit, match=r"deviation: --held-out .*leaves\.npz has the training images"):
        study(tmp_path, "--held-out", str(tmp_path / "leaves.npz"))
