"""A few faults of `python -m studies.faults`; a training that is to be killed waits for it, whatever its speed."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

pytest.importorskip("resource", reason="limits and signals of POSIX systems")

from studies.faults import children, damage, disk, lives, ranks, rivals, strays
from studies.faults.__main__ import main
from studies.faults.lives import Plan, board_of
from studies.faults.results import Record, table
from studies.faults.training import SAVING, Board, train

pytestmark = pytest.mark.slow
PHASES = ("copying", *Board.WRITER[1:])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return lives.uninterrupted(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    yield
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


def in_each_phase(seed: int, training: int, life: int) -> Plan:
    return Plan("held", 4 + 4 * life, PHASES[life], 0.0)


def test_a_training_killed_in_each_phase_of_saving_ends_as_an_undisturbed_one(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    lines: list[dict[str, Any]] = []
    lives.training(tmp_path, 0, whole, seed=0, deaths=len(PHASES), planned=in_each_phase, record=lines.append)
    *deaths, end = lines
    assert [line["problems"] for line in lines] == [[]] * (len(PHASES) + 1)
    assert [line["phase_main"] if n == 0 else line["phase_writer"] for n, line in enumerate(deaths)] == list(PHASES)
    renamed = [phase in ("flushing the folder", "clearing") for phase in PHASES]
    assert [line["newest"] for line in deaths] == [4 * n + (4 if done else 2) for n, done in enumerate(renamed)]
    assert [line["torn"] for line in deaths] == [int(phase in ("flushing", "renaming")) for phase in PHASES]
    assert end["identical"]


def test_a_torn_checkpoint_would_be_noticed(tmp_path: Path, whole: dict[str, Any]) -> None:
    """The checks above, on a writer that writes in place and is killed in the middle."""
    lines: list[dict[str, Any]] = []
    first = Plan("held", 4, "flushing", 0.0)
    lives.training(tmp_path, 0, whole, seed=0, deaths=1, planned=lambda *_: first, record=lines.append, life=_careless)
    (problem,) = lines[0]["problems"]
    assert "checkpoint-00000004.pt is damaged" in problem
    assert "trying the one before" in problem


def _careless(folder: Path, when: Plan | None, recipe: str) -> None:
    board = board_of(folder, when)

    def replace(path: Path, data: memoryview) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            board.writer("flushing")
            file.write(data[len(data) // 2 :])

    with patch(SAVING["replace"], replace):
        train(folder, board, recipe=recipe)


def test_faults_in_the_folder_and_of_one_of_two_processes_lose_nothing(tmp_path: Path, whole: dict[str, Any]) -> None:
    """All at once, as they mostly wait; the last is a second training without a lock, which must be noticed."""

    def of_two(folder: Path, _: object, **options: int) -> dict[str, Any]:
        return ranks.strike(folder, ranks.uninterrupted(folder / "whole"), "kill", **options)

    faults = (partial(disk.full, kind="file size"), rivals.meet, strays.resume, of_two)
    with ThreadPoolExecutor() as pool:
        jobs = []
        for place, fault in enumerate((*faults, partial(rivals.meet, second=_unlocked))):
            folder = tmp_path / str(place)
            folder.mkdir()
            jobs.append(pool.submit(fault, folder, whole, seed=0, number=1))
    *found, unlocked = (job.result()["problems"] for job in jobs)
    assert found == [[]] * len(faults)
    assert "and said 'finished'" in unlocked[0]


def _unlocked(folder: Path) -> None:
    with patch("shortest_path.training._folder.fcntl", None):
        train(folder, Board(folder.with_suffix(".second")))


def test_all_threads_that_look_at_a_child_see_its_exit_code(tmp_path: Path) -> None:
    """The server of forks says the code once: one thread must not take it from the others."""

    def read_later(handle: int, read: Callable[[int], int] = forkserver.read_signed) -> int:
        time.sleep(0.05)  # until all threads have seen that there is a code
        return read(handle)

    child = children.start(_end_with_7, log=tmp_path / "log")
    wait([child.sentinel], 60)
    with patch.object(forkserver, "read_signed", read_later), ThreadPoolExecutor(6) as pool:
        assert list(pool.map(children.finish, [child] * 6)) == [7] * 6


def _end_with_7() -> None:
    os._exit(7)


def test_a_crash_of_the_reader_would_be_counted(tmp_path: Path) -> None:
    (found,) = damage.read_damaged(tmp_path, [damage.Job("npy", 0, 4)], seed=1, before=_crash)
    assert found["outcomes"]["crash"] == 1
    assert sum(found["outcomes"].values()) == 4
    assert "ended with -6" in found["notes"][0]


def _crash(place: int) -> None:
    if place == 2:
        os.abort()


def test_a_tiny_soak_loses_nothing_and_repeats_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--kills", "0", "--terminations", "1", "--cases", "0", "--mutations", "93", "--out", str(tmp_path)]
    assert main(few) == 0
    printed, results = capsys.readouterr().out, (tmp_path / "results.jsonl").read_text()
    assert "0 not as promised" in printed
    assert "| control: the traps undamaged, read with pickles allowed | 10 | 10 executed |" in printed
    lines = [json.loads(line) for line in results.splitlines()]
    assert {line["part"] for line in lines} >= {"terminate end", "damage", "control"}
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"part": "disk", "nu')  # torn
    assert main(few) == 0
    assert (tmp_path / "results.jsonl").read_text() == results
    record = Record(tmp_path / "results.jsonl", {"seed": 0})
    record.add({"part": "disk", "kind": "file size", "number": 1, "problems": ["lost"]})
    assert table(record)[1] == 1
    with pytest.raises(ValueError, match="is of seed 0, not 2; use another --out"):
        Record(tmp_path / "results.jsonl", {"seed": 2})
