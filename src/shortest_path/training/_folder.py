"""The folder of a training's checkpoints: made, tried and locked before the first step."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import IO

from .._files import made_folder

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

_LOCK = "training.lock"
_held: set[IO[bytes]] = set()


def _let_go() -> None:
    """Close the locks of the process that forked this one, which holds them."""
    for lock in _held:
        lock.close()
    _held.clear()


if hasattr(os, "register_at_fork"):  # e.g. for workers of a data loader, which outlive a process that is killed
    os.register_at_fork(after_in_child=_let_go)


class Folder:
    """A folder that one training at a time writes to.

    Args:
        path: The folder; made if missing.

    Raises:
        OSError: the folder cannot be made or written to.
        ValueError: another training writes to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock: IO[bytes] | None = None
        with made_folder(path, "write checkpoints"):
            probe = path / f"probe.{secrets.token_hex(4)}.tmp"
            probe.write_bytes(b"\0")
            probe.unlink()
        if fcntl is not None:
            self._acquire()
        for torn in path.glob("*.pt.*.tmp"):  # of a process that was killed while it wrote
            torn.unlink(missing_ok=True)

    def _acquire(self) -> None:
        name = self.path / _LOCK
        while self.lock is None:
            lock = name.open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.close()
                raise ValueError(
                    f"another training writes checkpoints to {self.path}; wait for its end, or choose another folder"
                ) from error
            except OSError:  # a file system without locks
                lock.close()
                return
            if name.exists() and os.path.samestat(os.fstat(lock.fileno()), name.stat()):
                self.lock = lock
                _held.add(lock)
            else:  # a training that ended in between has removed the file that was opened
                lock.close()

    def release(self) -> None:
        """Let other trainings write to the folder; the end of the process does so too."""
        if self.lock is not None:
            (self.path / _LOCK).unlink(missing_ok=True)  # before the lock is let go: nobody else holds it
            _held.discard(self.lock)
            self.lock.close()
            self.lock = None
