"""The small training that the faults strike, and the board on which it reports its progress."""

from __future__ import annotations

import mmap
import os
import pkgutil
import stat
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import shortest_path as sp
from shortest_path.training import load_checkpoint
from studies.faults import recipes

STEPS, EVERY, KEEP = 60, 2, 2
_STEP, _FLUSH = 0.008, 0.003  # extra seconds, so that instants spread over all phases
# The library's functions between which a process is killed; they are patched by name, as they are private.
SAVING = {
    "serialise": "shortest_path.training._writer.serialise",
    "write_and_clear": "shortest_path.training._writer.write_and_clear",
    "replace": "shortest_path.training._checkpoint._replace",
    "flush_folder": "shortest_path._files._flush_folder",
}


class Board:
    """Numbers in a file, which survive the process that writes them.

    Args:
        path: The file.
        fresh: Create the file, with all numbers 0.
        hold: Step of a checkpoint, and a phase of saving it at whose start the process stops for good, to be killed.
    """

    NAMES = ("main", "writer", "step", "saving", "held", "resumed", "renamed", "cleared", "threads", "place")
    MAIN = ("starting", "loading", "training", "copying", "leaving")
    WRITER = ("idle", "preparing", "writing", "flushing", "renaming", "flushing the folder", "clearing")

    def __init__(self, path: Path, *, fresh: bool = False, hold: tuple[int, str] | None = None) -> None:
        self._hold = hold
        if fresh:
            path.write_bytes(bytes(8 * len(self.NAMES)))
        with path.open("r+b") as file:
            self._numbers = mmap.mmap(file.fileno(), 0)

    def __getitem__(self, name: str) -> int:
        return int(struct.unpack_from("q", self._numbers, 8 * self.NAMES.index(name))[0])

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("q", self._numbers, 8 * self.NAMES.index(name), value)

    def main(self, phase: str) -> None:
        """Set the phase of the main thread."""
        self["main"] = self.MAIN.index(phase)
        self._stop_at(phase)

    def writer(self, phase: str) -> None:
        """Set the phase of the thread that writes checkpoints."""
        self["writer"] = self.WRITER.index(phase)
        self._stop_at(phase)

    def _stop_at(self, phase: str) -> None:
        if self._hold == (self["saving"], phase):
            self["held"] = 1
            threading.Event().wait()


def train(
    folder: Path,
    board: Board | None = None,
    *,
    steps: int = STEPS,
    recipe: str = "adamw",
    rank: int = 0,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
) -> None:
    """Train to `steps` in all, from the newest checkpoint if there is one.

    Args:
        folder: Folder of the checkpoints.
        board: Where to report progress, or None.
        steps: Total number of steps.
        recipe: Name of the kind of training.
        rank: Rank of this process.
        wrap: Wraps the network, e.g. `DistributedDataParallel`.
    """
    torch.set_num_threads(1)
    if board is not None:
        _watch(board)
        board["threads"] = _threads(os.getppid())
    ours = recipes.trainer(recipe, steps=STEPS, rank=rank, wrap=wrap)

    def note(trainer: sp.DiffusionTrainer, report: Any) -> None:
        if board is None:
            return
        if not board["step"]:
            board["resumed"] = trainer.step - 1
        board["step"] = trainer.step
        time.sleep(_STEP)

    def mark() -> None:
        if board is not None:
            board.main("training")

    if board is not None:
        board.main("loading")
    ours.fit(
        recipes.data(recipe, mark, rank=rank), steps=steps, checkpoint_dir=folder, checkpoint_every=EVERY,
        keep_checkpoints=KEEP, on_signal="save", callbacks=[note], progress=False,
    )  # fmt: skip
    if board is not None:
        board.main("leaving")


def final_state(folder: Path) -> dict[str, Any]:
    """Return the last checkpoint: weights, averages, optimizer, place in the data, random states."""
    return load_checkpoint(folder / f"checkpoint-{STEPS:08d}.pt")


def same(one: object, other: object) -> bool:
    """Return whether two states are equal bit by bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and torch.equal(_bytes(one), _bytes(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _threads(process: int) -> int:
    """Count the threads of a process, without the one of pyarrow's memory allocator, which is made to be forked."""
    try:
        names = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/comm")]
    except OSError:
        return 0  # not Linux
    return sum(not name.startswith("jemalloc") for name in names)


def _watch(board: Board) -> None:
    """Report the phases of saving on a board; saving itself is unchanged, except that flushing is slower."""
    serialise, write_and_clear, replace = _original("serialise"), _original("write_and_clear"), _original("replace")
    flush_folder, fsync = _original("flush_folder"), os.fsync

    def watched_serialise(state: Any) -> Any:
        before, board["saving"] = board["main"], state["step"]
        board.main("copying")
        data = serialise(state)
        board["main"] = before
        return data

    def watched_write_and_clear(*arguments: Any) -> Any:
        board.writer("preparing")
        result = write_and_clear(*arguments)
        board["cleared"] += 1
        board.writer("idle")
        return result

    def watched_replace(path: Path, data: Any) -> None:
        board.writer("writing")
        replace(path, data)
        board.writer("clearing")

    def watched_flush_folder(folder: Path) -> None:
        board["renamed"] = board["saving"]
        board.writer("flushing the folder")
        flush_folder(folder)

    def watched_fsync(handle: int) -> None:
        is_file = stat.S_ISREG(os.fstat(handle).st_mode)
        if is_file:
            board.writer("flushing")
        time.sleep(_FLUSH)
        fsync(handle)
        if is_file:
            board.writer("renaming")

    # For the rest of this process.
    patch(SAVING["serialise"], watched_serialise).start()
    patch(SAVING["write_and_clear"], watched_write_and_clear).start()
    patch(SAVING["replace"], watched_replace).start()
    patch(SAVING["flush_folder"], watched_flush_folder).start()
    patch("os.fsync", watched_fsync).start()


def _original(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = pkgutil.resolve_name(SAVING[name])
    return found
