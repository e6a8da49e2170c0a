"""Checkpoints that are written while training goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from .._checks import check_count
from ._checkpoint import folder_of, of_one_training, serialise, whole_checkpoints, write_and_clear


class CheckpointWriter:
    """Writes checkpoints while training goes on: `save` returns as soon as the state is copied to memory.

    One file is written at a time. An error in writing is raised by the next `save` or `wait`.

    Args:
        directory: Folder for the checkpoints.
        keep: Number of newest checkpoints to keep.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int) -> None:
        self._directory, self._keep = folder_of(directory), check_count("keep", keep)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._there = whole_checkpoints(self._directory)
        self._mine: list[Path] | None = None  # of these, those of the training whose state is saved
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.wait()

    def save(self, step: int, state: Mapping[str, Any], *, delete: bool = True) -> Path:
        """Begin to write the checkpoint of a step, and return its path; without `delete`, earlier ones stay."""
        self.wait()
        data, keep = serialise(state), self._keep if delete else 2**62
        if self._mine is None:
            self._mine = of_one_training(self._there, state)
        mine = self._mine

        def write() -> None:
            try:
                write_and_clear(self._directory, step, data, keep, mine)
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=write, name=f"checkpoint-{step}")  # not a daemon: an exit waits for it
        self._thread.start()
        return self._directory / f"checkpoint-{step:08d}.pt"

    def wait(self) -> None:
        """Return when everything is written.

        Raises:
            OSError: a checkpoint could not be written; earlier ones are unchanged.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
