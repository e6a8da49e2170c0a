"""The small training that the faults strike, and the board on which it reports its progress."""

from __future__ import annotations

import mmap
import os
import pkgutil
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import shortest_path as sp
from shortest_path.training import load_checkpoint

STEPS, EVERY, KEEP = 60, 2, 2
_PADDING = 2**20  # floats; makes a checkpoint of 4 MB, so that writing it takes a while
_STEP, _FLUSH = 0.008, 0.003  # extra seconds, so that instants spread over all phases
# The library's functions between which a process is killed; they are patched by name, as they are private.
SAVING = {
    "serialise": "shortest_path.training._checkpoint.serialise",
    "write_and_clear": "shortest_path.training._checkpoint._write_and_clear",
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


class Shuffled:
    """Batches in an order that depends on the epoch, with a little noise from torch's global generator."""

    def __init__(self, board: Board | None) -> None:
        self._images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
        self._epoch, self._board = 0, board

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(40, generator=torch.Generator().manual_seed(self._epoch))
        for rows in order.split(8):
            if self._board is not None:
                self._board.main("training")
            yield self._images[rows] + 0.01 * torch.randn(8, 3, 8, 8)


class Network(nn.Module):
    """A tiny network with batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.layers = nn.Sequential(first, nn.BatchNorm2d(8), nn.SiLU(), last)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return a velocity; the time is ignored."""
        return self.layers(x_t)  # type: ignore[no-any-return]


def trainer() -> sp.DiffusionTrainer:
    """Return the trainer, the same one each time."""
    torch.manual_seed(0)
    spectrum = sp.PowerSpectrum.power_law((3, 8, 8), amplitude=1.59, offset=0.0086, exponent=2.0)
    padding = torch.rand(_PADDING, generator=torch.Generator().manual_seed(2))
    return sp.DiffusionTrainer(
        Network(),
        sp.ShortestPathCorruption(spectrum),
        prediction="velocity",
        learning_rate=1e-2,
        ema_decay=0.9,
        max_grad_norm=1.0,
        time_sampling="stratified",
        metadata={"padding": padding},
    )


def train(folder: Path, board: Board | None = None, *, steps: int = STEPS) -> None:
    """Train to `steps` in all, from the newest checkpoint if there is one."""
    torch.set_num_threads(1)
    if board is not None:
        _watch(board)
        board["threads"] = _threads(os.getppid())
    ours = trainer()

    def note(trainer: sp.DiffusionTrainer, report: Any) -> None:
        if board is None:
            return
        if not board["step"]:
            board["resumed"] = trainer.step - 1
        board["step"] = trainer.step
        time.sleep(_STEP)

    if board is not None:
        board.main("loading")
    ours.fit(
        Shuffled(board), steps=steps, checkpoint_dir=folder, checkpoint_every=EVERY, keep_checkpoints=KEEP,
        on_signal="save", callbacks=[note], progress=False,
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
        return alike and one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def _threads(process: int) -> int:
    try:
        return len(os.listdir(f"/proc/{process}/task"))
    except OSError:
        return 0  # not Linux


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
