"""When, and by which process, checkpoints are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from ._checkpoint import write_checkpoint
from ._folder import Folder
from ._ranks import Ranks
from ._state import of_all_ranks
from ._writer import CheckpointWriter


class Saver:
    """Writes checkpoints with the random states of all ranks; every method is collective, and rank 0 writes.

    The folder is made, tried and locked at once, before the first step.

    Args:
        folder: Folder for the checkpoints; None writes none.
        ranks: The processes that train.
        every: Steps between checkpoints.
        keep: Number of newest checkpoints to keep.

    Raises:
        OSError: the folder cannot be written to.
        ValueError: another training writes to it.
        RuntimeError: rank 0 failed with one of these.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, ranks: Ranks, *, every: int, keep: int) -> None:
        self._path, self._ranks, self._every = None if folder is None else Path(folder), ranks, every
        self._writer: CheckpointWriter | None = None
        self._folder: Folder | None = None
        self._newest: int | None = None
        problem: Exception | None = None
        if self._path is None:
            return
        if ranks.own == 0:
            try:
                self._folder = Folder(self._path)
                self._writer = CheckpointWriter(self._path, keep=keep)
            except (OSError, ValueError) as error:
                problem = error
        ranks.raise_together(problem, f"rank 0 cannot write checkpoints to {self._path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.wait()
        finally:
            if self._folder is not None:
                self._folder.release()

    def due(self, step: int, last: int) -> bool:
        """Return whether a checkpoint of this step is to be written."""
        return self._path is not None and (step % self._every == 0 or step == last)

    def save(self, state: Mapping[str, Any]) -> None:
        """Begin to write the checkpoint of a step, unless it is written already.

        During a row of skipped steps no earlier checkpoint is deleted: the last good state stays.
        """
        if self._newest != state["step"]:
            self._newest = state["step"]
            whole = of_all_ranks(state, self._ranks)
            if self._writer is not None:
                self._writer.save(state["step"], whole, delete=state["skipped"]["in_a_row"] == 0)

    def finish(self, state: Mapping[str, Any]) -> Path | None:
        """Write the checkpoint of a step, unless it is written; return its path once rank 0 has written it."""
        self.save(state)
        try:
            if self._writer is not None:
                self._writer.wait()
        finally:
            self._ranks.wait()  # or the end of another rank may make a launcher end this one before all is written
        return None if self._path is None else self._path / f"checkpoint-{state['step']:08d}.pt"

    def set_aside(self, name: str, state: Mapping[str, Any]) -> str:
        """Write a state that no later checkpoint replaces; return its location in words."""
        if self._path is None:
            return "the state from before them is not saved, as there is no checkpoint_dir"
        whole, path = of_all_ranks(state, self._ranks), self._path / name
        problem = ""
        try:
            if self._writer is not None:
                write_checkpoint(path, whole)
        except OSError as error:
            problem = f" could not be saved: {error}"
        self._ranks.wait()
        return f"the state from before them{problem or f': {path}'}"
