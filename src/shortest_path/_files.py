"""Paths that a caller passes; writing a file whole or not at all; reading what describes a folder."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

SAMPLER_FILE = "sampler.json"
"""The description in a folder of `Sampler.save_pretrained`, which marks it as whole."""

_CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP)  # what file systems say that do not flush folders
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
        ValueError: an empty one, which would be the present folder, or one with a null character.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path, got {type(path).__name__}")
    if not (text := os.fspath(path)):
        raise ValueError(f"{name} is empty; pass {instead}")
    if "\0" in text:
        raise ValueError(f"{name} must be a path, which holds no null character, got {text!r}; pass {instead}")
    return Path(path).expanduser()


def checked_file(name: str, path: object, example: str) -> Path:
    """Return a path from what names a file, as `checked_path` does.

    Args:
        name: Its name in an error.
        path: The path.
        example: Name of such a file.

    Raises:
        TypeError: not a path.
        ValueError: an empty one, or that of a folder.
    """
    file = checked_path(name, path, f"a file, e.g. {example!r}")
    if file.is_dir():
        raise ValueError(f"{name} must be a file, got the folder {file}; name a file in it, e.g. {file / example}")
    return file


@contextmanager
def made_folder(folder: Path, what: str) -> Iterator[None]:
    """Make a folder if it is missing; within, a file is first written in it.

    Args:
        folder: The folder.
        what: What it is for, in an error, e.g. "save".

    Raises:
        OSError: it cannot be made or written to; says why, and what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        why = error.strerror or error
        if isinstance(error, FileExistsError):  # mkdir finds no folder
            why = "a link to nothing is there" if folder.is_symlink() else "a file is there"
        raise OSError(error.errno, f"cannot {what} to {folder} ({why}); choose another folder") from error


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Put a file in its place at once: written beside it under a name of its own, flushed to the disk, renamed.

    Args:
        path: The file; its folder must exist.
        write: Called with the open file.

    Raises:
        OSError: the file could not be written; what was there before is unchanged.

    Warns:
        RuntimeWarning: the file is in its place, and the system could not flush its folder to the disk.
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
    flush_renamed(path.parent)


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


@contextmanager
def naming(where: object) -> Iterator[None]:
    """Make a ValueError that begins with the name of a description of any error that its values raise."""
    try:
        yield
    except OSError:  # of another file, which it names
        raise
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    except Exception as error:  # what wrong values raise in a constructor is anyone's guess
        what = f"lacks {error}" if isinstance(error, KeyError) else f"holds what cannot be used ({error})"
        raise ValueError(
            f"{where} {what}; it is damaged or of a later version: download it again, or update shortest_path"
        ) from error


def flush_folders(*folders: Path) -> None:
    """Make renames in folders last through a power cut, where the system lets a folder be flushed.

    Raises:
        OSError: the disk reports an error.
    """
    for folder in folders:
        _flush_folder(folder)


def flush_renamed(folder: Path) -> None:
    """Flush a folder after a rename that every process sees already, so that a failure is a warning.

    Warns:
        RuntimeWarning: the disk reports an error; a power cut may undo the rename.
    """
    try:
        flush_folders(folder)
    except OSError as error:
        warnings.warn(
            f"the files in {folder} are whole and in their places, but the system could not flush the folder "
            f"({error.strerror or error}): a power cut may undo it; check the disk",
            RuntimeWarning,
            stacklevel=2,
        )


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(handle)
