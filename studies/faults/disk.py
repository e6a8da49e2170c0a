"""Full disks while a checkpoint is written: a small file system, or a limit on the size of files."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studies.faults import children
from studies.faults.training import final_state, same, train

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
        out: Folder, on a small file system if `kind` is `file system`.
        whole: The last state of an undisturbed training.
        kind: `file system`, which is filled, or `file size`, which is limited.
        seed: Random seed of the remaining room.
        number: Number of the case.
    """
    log = out / "disk.log"
    folder, filler = out / "run", out / "filler"
    if folder.exists():
        shutil.rmtree(folder)
    filler.unlink(missing_ok=True)
    problems = []
    if children.finish(children.start(_train, folder, _BEFORE, None, log=log)) != 0:
        problems.append("it did not train while there was room")
    before = _digests(folder)
    size = max((path.stat().st_size for path in folder.iterdir()), default=0)
    room = int(random.Random(f"{seed} {kind} {number}").random() * 0.98 * size)
    limit = room if kind == "file size" else None
    if limit is None:
        free = os.statvfs(out)
        filler.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - room)))
    said = _said(folder, limit, log)
    if not said.startswith("OSError") or "could not write" not in said or "checkpoint-" not in said:
        problems.append(f"it said {said!r}")
    after = _digests(folder)
    if after != before:
        problems.append(f"there were {sorted(before)}, there are {sorted(after)}, or their bytes changed")
    filler.unlink(missing_ok=True)
    if children.finish(children.start(_train, folder, None, None, log=log)) != 0:
        problems.append("it did not train on after room was made")
    elif not same(final_state(folder), whole):
        problems.append("the last state is not that of the undisturbed training")
    return {"part": "disk", "kind": kind, "number": number, "room": room, "said": said, "problems": problems}


def _said(folder: Path, limit: int | None, log: Path) -> str:
    reader, writer = children.pipe()
    child = children.start(_report, folder, limit, writer, log=log)
    writer.close()
    try:
        return str(reader.recv()) if reader.poll(60) else "nothing"
    except EOFError:
        return "nothing"
    finally:
        children.finish(child, 10)


def _report(folder: Path, limit: int | None, writer: Any) -> None:
    try:
        _train(folder, None, limit)
        writer.send("finished")
    except BaseException as error:  # any error is the result
        kind = "OSError" if isinstance(error, OSError) else type(error).__name__
        writer.send(f"{kind}: {error}")


def _train(folder: Path, steps: int | None, limit: int | None) -> None:
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    train(folder) if steps is None else train(folder, steps=steps)


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
