"""Newer files, folders and links of the names of checkpoints, beside those from which a training continues."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studies.faults import children
from studies.faults.lives import whole_in
from studies.faults.training import STEPS, Board, final_state, same, train

_BEFORE = 8  # steps until the strays appear
_SEALED = 75  # bytes at the end, of which some may change without changing what is read
_WARNED = ("flipped", "empty", "cut", "link to a damaged file")


def resume(out: Path, whole: dict[str, Any], *, seed: int, number: int) -> dict[str, Any]:
    """Train a little, add strays at random later steps, and train on, first by one step.

    Folders are at odd steps, of which no checkpoint is written: in the place of one they are an error.

    Args:
        out: Folder for the checkpoints and logs.
        whole: The last state of an undisturbed training.
        seed: Random seed of the strays.
        number: Number of the case.
    """
    rng = random.Random(f"{seed} strays {number}")
    folder, elsewhere = out / "strays", out / "elsewhere"
    for each in (folder, elsewhere):
        if each.exists():
            shutil.rmtree(each)
    elsewhere.mkdir()
    log, problems = folder.with_suffix(".log"), list[str]()
    _finish(problems, folder, _BEFORE, log)
    good = folder / f"checkpoint-{_BEFORE:08d}.pt"
    data = good.read_bytes()
    strays = _strays(data, elsewhere, rng)
    names = rng.sample(sorted(strays), rng.randrange(2, len(strays) + 1))
    places = rng.sample(range(6, 45), len(names))
    steps = {name: 2 * place + (name == "folder") for name, place in zip(names, places, strict=True)}
    paths = {name: folder / f"checkpoint-{step:08d}.pt" for name, step in steps.items()}
    for name, path in paths.items():
        strays[name](path)
    before, outside = children.digests(folder), children.digests(elsewhere)
    log.write_text("")
    _finish(problems, folder, _BEFORE + 1, log)
    warnings = log.read_text()
    board = Board(folder.with_suffix(".board"))
    if board["resumed"] != _BEFORE:
        problems.append(f"it continued from step {board['resumed']}, not {_BEFORE}")
    # Reading ends at the newest good one, which may be a link's.
    newest = steps.get("link to a good file", 0)
    silent = [name for name in names if name in _WARNED and steps[name] > newest and paths[name].name not in warnings]
    if silent:
        problems.append(f"it did not warn of {silent}")
    after = children.digests(folder)
    deleted = f"checkpoint-{_BEFORE - 2:08d}.pt"
    new = f"checkpoint-{_BEFORE + 1:08d}.pt"
    if {name: value for name, value in before.items() if name != deleted} != {
        name: value for name, value in after.items() if name not in (deleted, new)
    }:
        problems.append(f"there were {sorted(before)}, there are {sorted(after)}, or their bytes changed")
    if whole_in(folder) != [_BEFORE, _BEFORE + 1]:
        problems.append("a good checkpoint was lost")
    _finish(problems, folder, STEPS, log)
    if not problems and not same(final_state(folder), whole):
        problems.append("the last state is not that of the undisturbed training")
    end = children.digests(folder)
    kept = {path.name for name, path in paths.items() if name == "folder" or steps[name] > STEPS}
    if (
        any(value != end.get(name) for name, value in before.items() if name.split("/")[0] in kept)
        or children.digests(elsewhere) != outside
    ):
        problems.append("a folder, a stray of a later step, or the target of a link was changed")
    return {"part": "strays", "number": number, "strays": steps, "problems": problems}


def _strays(data: bytes, elsewhere: Path, rng: random.Random) -> dict[str, Callable[[Path], object]]:
    """Return how to make each kind of stray at a path."""
    place, cut = rng.randrange(len(data) - _SEALED), rng.randrange(1, len(data))
    flipped = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    (elsewhere / "damaged.pt").write_bytes(flipped)
    (elsewhere / "good.pt").write_bytes(data)
    (elsewhere / "folder").mkdir()

    def folder(path: Path) -> None:
        path.mkdir()
        (path / "notes.txt").write_text("mine")

    return {
        "flipped": lambda path: path.write_bytes(flipped),
        "empty": lambda path: path.write_bytes(b""),
        "cut": lambda path: path.write_bytes(data[:cut]),
        "folder": folder,
        "link to a damaged file": lambda path: path.symlink_to(elsewhere / "damaged.pt"),
        "link to a good file": lambda path: path.symlink_to(elsewhere / "good.pt"),
        "link to a folder": lambda path: path.symlink_to(elsewhere / "folder"),
        "dangling link": lambda path: path.symlink_to(elsewhere / "nothing"),
    }


def _finish(problems: list[str], folder: Path, steps: int, log: Path) -> None:
    Board(folder.with_suffix(".board"), fresh=True)
    code = children.finish(children.start(_train, folder, steps, log=log))
    if code != 0:
        problems.append(f"the training to step {steps} ended with {code}")


def _train(folder: Path, steps: int) -> None:
    train(folder, Board(folder.with_suffix(".board")), steps=steps)
