"""Full disks while a checkpoint is written: a small file system, or a limit on the size of files."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from studies.faults import children
from studies.faults.lives import newest_in, whole_in
from studies.faults.training import KEEP, Board, final_state, same, train

KINDS = ("file system", "file system, between two checkpoints", "file size")
_MEGABYTES = 18  # room for four checkpoints
_BEFORE = 8  # steps until the disk is full


@contextmanager
def small_file_system(folder: Path) -> Iterator[bool]:
    """Mount a file system of a few MB; yield False if this process may not."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.path.ismount(folder):  # left by a killed run
        subprocess.run(["umount", str(folder)], check=True)
    options = ["-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "none", str(folder)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def full(out: Path, whole: dict[str, Any], kind: str, *, seed: int, number: int) -> dict[str, Any]:
    """Train until the disk is full, check what is left, make room, and continue.

    Args:
        out: Folder, on a small file system unless `kind` is `file size`.
        whole: The last state of an undisturbed training.
        kind: `file system`, which is filled before training continues; `file system, between two checkpoints`, which
            is filled at a random instant of training and kept full; or `file size`, which is limited.
        seed: Random seed of the remaining room, or of the instant.
        number: Number of the case.
    """
    folder, filler = out / "run", out / "filler"
    if folder.exists():
        shutil.rmtree(folder)
    filler.unlink(missing_ok=True)
    rng = random.Random(f"{seed} {kind} {number}")
    log = out.with_suffix(".log")  # not on the full disk
    found = (
        _filled_meanwhile(folder, filler, rng, log) if "between" in kind else _filled(folder, filler, kind, rng, log)
    )
    problems, said = found["problems"], found["said"]
    if not said.startswith("OSError") or "could not write" not in said or "checkpoint-" not in said:
        problems.append(f"it said {said!r}")
    filler.unlink(missing_ok=True)
    if children.finish(children.start(_train, folder, None, None, log=log)) != 0:
        problems.append("it did not train on after room was made")
    elif not same(final_state(folder), whole):
        problems.append("the last state is not that of the undisturbed training")
    return {"part": "disk", "kind": kind, "number": number, **found}


def _filled(folder: Path, filler: Path, kind: str, rng: random.Random, log: Path) -> dict[str, Any]:
    """Train, leave room for a part of a checkpoint, and train on."""
    problems = []
    if children.finish(children.start(_train, folder, _BEFORE, None, log=log)) != 0:
        problems.append("it did not train while there was room")
    before = children.digests(folder)
    size = max((path.stat().st_size for path in folder.iterdir()), default=0)
    room = int(rng.random() * 0.98 * size)
    limit = room if kind == "file size" else None
    if limit is None:
        free = os.statvfs(folder)
        filler.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - room)))
    said = children.said(_train, folder, None, limit, log=log)
    after = children.digests(folder)
    if after != before:
        problems.append(f"there were {sorted(before)}, there are {sorted(after)}, or their bytes changed")
    return {"room": room, "said": said, "problems": problems}


def _filled_meanwhile(folder: Path, filler: Path, rng: random.Random, log: Path) -> dict[str, Any]:
    """Fill the file system at an instant of a running training, and take whatever its deletions free."""
    path = log.with_suffix(".board")
    board = Board(path, fresh=True)
    step, delay = rng.randrange(_BEFORE, 50), rng.random() * 0.02
    filling = children.start(_fill, filler, path, step, delay, log=log)
    try:
        said = children.said(_train_on_board, folder, path, log=log)
    finally:
        _end(filling)
    newest, problems = newest_in(folder)
    if newest < board["renamed"]:
        problems.append(f"step {board['renamed']} was complete, but {newest} is the newest found")
    steps = whole_in(folder)
    if steps[-KEEP:] != [newest - 2 * (KEEP - 1 - n) for n in range(KEEP)]:
        problems.append(f"the checkpoints left are of steps {steps}")
    if torn := list(folder.glob("*.tmp")):
        problems.append(f"torn files are left: {torn}")
    return {"step": step, "said": said, "problems": problems}


def _end(child: ForkServerProcess) -> None:
    child.kill()
    child.join()


def _fill(filler: Path, path: Path, step: int, delay: float) -> None:
    """Fill a file system from an instant of a training on."""
    board = Board(path)
    while board["step"] < step:
        time.sleep(0.001)
    time.sleep(delay)
    with filler.open("wb", buffering=0) as file:
        while True:
            with suppress(OSError):  # full
                while file.write(bytes(2**16)):
                    pass
            time.sleep(0.0005)


def _train(folder: Path, steps: int | None, limit: int | None) -> None:
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    train(folder) if steps is None else train(folder, steps=steps)


def _train_on_board(folder: Path, board: Path) -> None:
    train(folder, Board(board))
