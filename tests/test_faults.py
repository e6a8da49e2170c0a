"""A sample of what `benchmarks/soak.py` injects: deaths while training and saving, full disks, damaged files."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("resource", reason="limits and signals of POSIX systems")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import soak
from faults import damage, disk, lives
from faults.training import STEPS, Board, final_state, same, train


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return lives.uninterrupted(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    yield
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "deaths"), [("kill", 12), ("terminate", 3)])
def test_a_training_that_dies_again_and_again_ends_the_same(
    tmp_path: Path, whole: dict[str, Any], kind: str, deaths: int
) -> None:
    lines: list[dict[str, Any]] = []
    lives.training(tmp_path, 0, whole, seed=3, deaths=deaths, kind=kind, record=lines.append)
    problems = [problem for line in lines for problem in line["problems"]]
    assert problems == []
    found = lives.summary(lines, kind)
    assert found["died"] >= deaths // 2  # a slow machine may be at the end before all have struck
    assert (found["trainings"], found["identical"]) == (1, 1)
    if kind == "kill":
        assert found["in saving"] > 0


@pytest.mark.slow
def test_a_torn_checkpoint_would_be_noticed(tmp_path: Path, whole: dict[str, Any]) -> None:
    """The checks that the test above relies on, on a writer that writes in place."""
    lines: list[dict[str, Any]] = []
    lives.training(
        tmp_path, 0, whole, seed=3, deaths=6, kind="kill", record=lines.append, life=_careless
    )  # fmt: skip
    problems = [problem for line in lines for problem in line["problems"]]
    assert any("trying the one before" in problem for problem in problems)


def _careless(folder: Path) -> None:
    import time

    from shortest_path import checkpoint

    def replace(path: Path, data: memoryview) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            time.sleep(0.02)
            file.write(data[len(data) // 2 :])
        checkpoint._flush_folder(path.parent)

    checkpoint._replace = replace
    train(folder, Board(folder.with_suffix(".board")))


@pytest.mark.slow
def test_a_full_disk_is_told_and_costs_nothing_that_was_saved(tmp_path: Path, whole: dict[str, Any]) -> None:
    found = disk.full(tmp_path, whole, "file size", seed=0, number=0)
    assert found["problems"] == []
    assert "File too large" in found["said"]
    assert "checkpoint-00000010.pt" in found["said"]


@pytest.mark.slow
def test_damaged_files_are_refused_or_right_and_never_executed(tmp_path: Path) -> None:
    kinds = damage.kinds(tmp_path / "none")
    traps = [name for name in kinds if name.startswith("trap")]
    assert len(traps) >= 8
    assert damage.control(tmp_path) == len(traps)  # they do make the canary where pickles are trusted
    found = list(damage.read_damaged(tmp_path, [damage.Job(name, 0, 6) for name in kinds], seed=1))
    assert [line["notes"] for line in found if line["notes"]] == []
    lines = soak.Record(tmp_path / "results.jsonl", {"seed": 1})
    for line in found:
        lines.add(line)
    outcomes = sum((Counter(line["outcomes"]) for line in found), Counter())
    assert outcomes.total() == 6 * len(kinds) >= 150
    assert set(outcomes) <= {"refused", "right values", "other values"}
    assert soak.table(lines)[1] == 0


@pytest.mark.slow
def test_a_crash_of_the_reader_would_be_counted(tmp_path: Path) -> None:
    (found,) = damage.read_damaged(tmp_path, [damage.Job("npy", 0, 4)], seed=1, before=_crash)
    assert found["outcomes"]["crash"] == 1
    assert sum(found["outcomes"].values()) == 4
    assert "ended with -6" in found["notes"][0]


def _crash(place: int) -> None:
    import os

    if place == 2:
        os.abort()


def test_an_interrupted_soak_keeps_its_results(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    record = soak.Record(path, {"seed": 1, "machine": "", "commit": ""})
    record.add({"part": "disk", "kind": "file size", "number": 0, "problems": []})
    with path.open("a") as file:
        file.write('{"part": "disk", "nu')  # torn
    again = soak.Record(path, {"seed": 1})
    assert again.lines == record.lines
    again.add({"part": "disk", "kind": "file size", "number": 1, "problems": ["lost"]})
    assert [json.loads(line) for line in path.read_text().splitlines()] == again.lines
    rows, bad = soak.table(again)
    assert bad == 1
    assert any(row.startswith("| file size limit reached | 2 | 1: OSError") for row in rows)
    with pytest.raises(ValueError, match="is of seed 1, not 2; use another --out"):
        soak.Record(path, {"seed": 2})


def test_states_are_compared_bit_by_bit() -> None:
    state = {"a": torch.zeros(2), "b": [1, (2.0, None)]}
    assert same(state, {"a": torch.zeros(2), "b": [1, (2.0, None)]})
    for other in ({"a": -torch.zeros(2)}, {"a": torch.zeros(2).double()}, {"b": [1, (2.0, 0)]}, {"b": [1]}, {"c": 1}):
        assert not same(state, {**state, **other})
    nan = torch.tensor([float("nan")])
    assert same(nan, nan.clone())
    assert STEPS == 60
    assert callable(final_state)
