"""Paths that a caller passes; writing files whole or not at all; reading what describes a folder."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

SAMPLER_FILE = "sampler.json"
"""The description in a folder of `Sampler.save_pretrained`, which marks it as whole."""

_FILES = "files"  # key under which a mark lists the files that were written with it
_AGAIN = "download the folder again, or save it again"
_KINDS: dict[str, Callable[[Any], bool]] = {
    "a string": lambda value: isinstance(value, str),
    "true or false": lambda value: isinstance(value, bool),
    "a number": lambda value: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and -math.inf < value < math.inf
    ),
    "a whole number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "an object": lambda value: isinstance(value, Mapping),
    "an object or null": lambda value: value is None or isinstance(value, Mapping),
}


def checked_path(name: str, path: object, instead: str) -> Path:
    """Return a path from what names a file or folder; "~" is expanded, as a shell does.

    Args:
        name: Its name in an error.
        path: The path.
        instead: What to pass instead of an empty one.

    Raises:
        TypeError: not a path.
        ValueError: an empty one, which would be the present folder.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path, got {type(path).__name__}")
    if not os.fspath(path):
        raise ValueError(f"{name} is empty; pass {instead}")
    return Path(path).expanduser()


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Put a file in its place at once: written beside it under a name of its own, flushed to the disk, renamed.

    Args:
        path: The file; its folder must exist.
        write: Called with the open file.

    Raises:
        OSError: the file could not be written; what was there before is unchanged.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def replace_folder(folder: Path, write: Callable[[Path], object], mark: str) -> None:
    """Put files of a folder in their places together.

    They are written to a new folder inside it, and what was there before is unchanged until all are. Then descriptions,
    which are JSON, are taken away before anything else is replaced, and the new ones come last: a folder with its mark
    is whole. Files that the former mark lists and that were not written again are removed; all others stay.

    Args:
        folder: The folder, made if missing.
        write: Called with the new folder, to write the mark too.
        mark: Name of the description that marks a whole folder, to which the list of its files is added.

    Raises:
        OSError: a file could not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f"saving.{secrets.token_hex(4)}.tmp"
    try:
        new.mkdir()
        write(new)
        names = sorted(each.relative_to(new).as_posix() for each in new.rglob("*") if each.is_file())
        described = json.loads((new / mark).read_text(encoding="utf-8"))
        described[_FILES] = [name for name in names if name != mark]
        (new / mark).write_text(json.dumps(described, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        mode = (new / mark).stat().st_mode  # safetensors lets the owner alone read
        for name in names:
            with (new / name).open("r+b") as file:
                os.fsync(file.fileno())
            (new / name).chmod(stat.S_IMODE((new / name).stat().st_mode | mode))
        former = _listed(folder, mark)
        names.sort(key=lambda name: (name.endswith(".json"), name == mark))
        for name in reversed(names):
            if name.endswith(".json"):
                (folder / name).unlink(missing_ok=True)
        _flush_folder(folder)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).replace(folder / name)
        _flush_folder(folder)
        for name in former.difference(names):
            _remove(folder, name)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def read_description(file: Path, what: str, **kinds: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        file: The file.
        what: What it should be, in an error.
        **kinds: What its entries must be; see `check_entries`.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: a file that is no JSON object, or an entry that is missing or of another kind.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file} is missing; download the folder whole") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not {what} ({type(error).__name__}: {error}); {_AGAIN}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is not {what}, but a {type(found).__name__}; {_AGAIN}")
    check_entries(file, found, **kinds)
    return found


def check_entries(where: object, values: Mapping[str, Any], **kinds: str) -> None:
    """Raise a ValueError unless a mapping has entries of the kinds given in words, e.g. `alone="true or false"`."""
    for name, kind in kinds.items():
        if name not in values or not _KINDS[kind](values[name]):
            found = repr(values[name]) if name in values else "nothing"
            found = found if len(found) < 80 else f"{found[:80]}…"
            raise ValueError(f"{where} requires {name!r}, {kind}, got {found}; {_AGAIN}")


def _listed(folder: Path, mark: str) -> set[str]:
    """Return the names in a folder that its description lists, without such as lead out of the folder."""
    try:
        names = json.loads((folder / mark).read_text(encoding="utf-8"))[_FILES]
        inside = folder.resolve()
        return {name for name in names if (folder / name).parent.resolve().is_relative_to(inside)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none, or one that tells nothing
        return set()


def _remove(folder: Path, name: str) -> None:
    """Remove a file, and the folders in which it was the last one."""
    with suppress(OSError):  # it is gone, or in use
        (folder / name).unlink()
        for above in Path(name).parents[:-1]:
            (folder / above).rmdir()


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system lets a folder be flushed."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
