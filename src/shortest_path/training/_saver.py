"""When, and by which process, checkpoints are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from ._checkpoint import CheckpointWriter, latest_checkpoint, write_checkpoint
from ._ranks import Ranks
from ._state import of_all_ranks


class Saver:
    """Writes checkpoints with the random states of all ranks; every method is collective, and rank 0 writes.

    Args:
        folder: Folder for the checkpoints; None writes none.
        ranks: The processes that train.
        every: Steps between checkpoints.
        keep: Number of newest checkpoints to keep.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, ranks: Ranks, *, every: int, keep: int) -> None:
        self._folder, self._ranks, self._every = None if folder is None else Path(folder), ranks, every
        self._writer = None if folder is None or ranks.own else CheckpointWriter(folder, keep=keep)
        self._newest: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.wait()

    def due(self, step: int, last: int) -> bool:
        """Return whether a checkpoint of this step is to be written."""
        return self._folder is not None and (step % self._every == 0 or step == last)

    def save(self, state: Mapping[str, Any]) -> None:
        """Begin to write the checkpoint of a step, unless it is written already."""
        if self._newest != state["step"]:
            self._newest = state["step"]
            whole = of_all_ranks(state, self._ranks)
            if self._writer is not None:
                self._writer.save(state["step"], whole)

    def finish(self, state: Mapping[str, Any]) -> Path | None:
        """Write the checkpoint of a step, unless it is written; return the newest path once rank 0 has written it."""
        self.save(state)
        try:
            if self._writer is not None:
                self._writer.wait()
        finally:
            self._ranks.wait()  # or the end of another rank may make a launcher end this one before all is written
        return None if self._folder is None else latest_checkpoint(self._folder) or self._folder

    def set_aside(self, name: str, state: Mapping[str, Any]) -> str:
        """Write a state that no later checkpoint replaces; return its location in words."""
        if self._folder is None:
            return "the state from before them is not saved, as there is no checkpoint_dir"
        whole, path = of_all_ranks(state, self._ranks), self._folder / name
        problem = ""
        try:
            if self._writer is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_checkpoint(path, whole)
        except OSError as error:
            problem = f" could not be saved: {error}"
        self._ranks.wait()
        return f"the state from before them{problem or f': {path}'}"
