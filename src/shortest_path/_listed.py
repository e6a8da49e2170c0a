"""The files of a save, as its description lists them: what tells each from another, and whether it still holds that."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES = "files"
"""Key of a description under which it has the files that were written with it, and what they hold."""

_PART = 2**20  # bytes that are read at a time
_HASH = "sha256:"
_EDITED = (".json", ".md")


def held(file: Path) -> str | None:
    """Return what tells a file from others: its size, and a hash of its bytes; None if it cannot be read."""
    if not os.path.isfile(file):
        return None
    found = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            while part := opened.read(_PART):
                found.update(part)
    except OSError:
        return None
    return f"{size} {_HASH}{found.hexdigest()}"


def listed(described: dict[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the files of a folder that a description lists, by name, with what they hold; see `held`."""
    inside = folder.resolve()
    for name, holds in described[FILES].items():
        if isinstance(holds, str) and _is_inside(inside, name):
            yield name, holds


def check_listed(folder: Path, mark: str) -> None:
    """Raise unless the files of a folder hold what its description lists; reads them whole, about 1.5 seconds a GB.

    Not compared are texts that people edit (.json, .md), files whose entry is null, and files that are not listed.

    Args:
        folder: The folder.
        mark: Name of the description.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file holds something else.
    """
    try:
        files = list(listed(json.loads((folder / mark).read_text(encoding="utf-8")), folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # which its reader tells
        return
    for name, holds in files:
        if name.endswith(_EDITED) or _HASH not in holds:
            continue
        file = folder / name
        if not os.path.lexists(file):
            raise FileNotFoundError(f"{file} is missing; download the folder whole")
        found = held(file)
        if found != holds:
            before, now = (each.split(" ")[0] if each else "no" for each in (holds, found))
            what = "other bytes" if before == now else f"{now} bytes instead of {before}"
            raise ValueError(
                f"{file} is not as it was saved ({what}): it is damaged, or of another save; copy or download the "
                f"folder again, or save it again. If you replaced the file, set its entry in {FILES!r} of "
                f"{folder / mark} to null"
            )


def _is_inside(folder: Path, name: str) -> bool:
    """Return whether a name is that of a file in a folder, spelt as `Path.as_posix` spells it."""
    return Path(name).as_posix() == name and (folder / name).parent.resolve().is_relative_to(folder)
