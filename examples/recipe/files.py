"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` once it is complete and on the disk."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def try_writing(folder: Path) -> None:
    """Write to a folder, or to the nearest one above it that is there; nothing is left.

    Raises:
        OSError: it cannot be written to.
    """
    nearest = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    with tempfile.TemporaryFile(dir=nearest):
        pass
