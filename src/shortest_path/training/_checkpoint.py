"""Checkpoint files: written whole or not at all, checked when read, and read without running anything in them.

A checkpoint is a file of `torch.save` with the SHA-256 of its bytes in the comment of the zip archive, so `torch.load`
reads it too. The comment also tells which training it is of. The checksum is of all but the last 73 bytes: itself, and
two bytes before it, which in a comment without a training are its length. A file is written under a temporary name,
flushed to the disk and renamed, so that a crash, a full disk or a power cut leaves earlier checkpoints unchanged.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .._checks import check_count, kind_of
from .._files import checked_file, checked_path, made_folder, replace_file
from ._plain import plain

TRAINING = "training"
"""Name of the entry that tells which training a checkpoint is of; earlier states have none."""
_PATTERN = re.compile(r"checkpoint-(\d+)\.pt")
_COMMENT = b"sha256:"
_LENGTH = struct.Struct("<H")  # how zip writes the length of its comment, just before it
_PLAIN_END = b"PK\x05\x06"  # and 18 bytes, of which the last two are 0: the end of an archive without a comment
_DIGEST, _MARK = 64, 16  # hexadecimal digits of the checksum, and of what a training is
_MARK_AND_DIGEST = len("training:") + _MARK + _LENGTH.size + len(_COMMENT) + _DIGEST
_CHUNK = 2**20
_BEGIN = b"PK\x03\x04"
_NO_ARCHIVE = "it does not begin as the zip archives of torch.save do"
_PASS = "pass a file that a trainer wrote, e.g. a checkpoint-<step>.pt"


def save_checkpoint(directory: str | os.PathLike[str], step: int, state: Mapping[str, Any], *, keep: int) -> Path:
    """Write `state` as the checkpoint of `step`, then delete the undamaged ones before it but the newest `keep`.

    Checkpoints of later steps or of another training, damaged ones, links, folders and files of other names are never
    deleted.

    Args:
        directory: Folder for the checkpoints; created if missing.
        step: Training step.
        state: Tensors and plain values.
        keep: Number of checkpoints to keep, 1 or more.

    Raises:
        OSError: the file could not be written; existing files are unchanged.
        TypeError: `step` or `keep` is not a whole number, or `state` not a dictionary of tensors and plain values.
        ValueError: `step` is negative, or `keep` is less than 1.
    """
    check_count("step", step, least=0)
    check_count("keep", keep)
    state = _dictionary(state)
    folder, data = folder_of(directory), serialise(state)
    with made_folder(folder, "write checkpoints"):
        return write_and_clear(folder, step, data, keep, of_one_training(whole_checkpoints(folder, up_to=step), state))


def write_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write `state` to a file of any name, in place of what is there.

    Raises:
        OSError: the file could not be written; existing files are unchanged.
        TypeError: `state` is not a dictionary of tensors and plain values.
    """
    _replace(checked_file("path", path, "best.pt"), serialise(_dictionary(state)))


def latest_checkpoint(directory: str | os.PathLike[str]) -> Path | None:
    """Return the path of the checkpoint with the largest step, damaged or not, or None if there is none."""
    return next(_newest_first(folder_of(directory)), None)


def load_latest(
    directory: str | os.PathLike[str], *, otherwise: str | os.PathLike[str] | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest undamaged checkpoint in a folder, with its path, or None if there are no checkpoints.

    Damaged checkpoints are skipped with a warning.

    Args:
        directory: The folder.
        otherwise: A checkpoint to return where the folder has none; it may lie in the folder if it is the newest there.

    Raises:
        FileNotFoundError: `otherwise` does not exist.
        ValueError: all checkpoints are damaged, or `otherwise` is not a checkpoint, or not the newest of the folder.
    """
    folder = folder_of(directory)
    if otherwise is not None:
        return _load_otherwise(folder, checked_path("otherwise", otherwise, "None"))
    refused, paths = [], list(_newest_first(folder))
    for path in paths:
        try:
            return path, load_checkpoint(path)
        except ValueError as error:  # noqa: PERF203
            refused.append(str(error))
            if path != paths[-1]:
                warnings.warn(f"{error}; trying the one before", RuntimeWarning, stacklevel=2)
    if refused:
        raise ValueError(
            f"no checkpoint in {folder} can be read: {'; '.join(refused)}. "
            "Move them away to begin anew, or restore one from a copy"
        )
    return None


def _load_otherwise(folder: Path, file: Path) -> tuple[Path, dict[str, Any]]:
    """Return the newest checkpoint of a folder, or a file where it has none."""
    newest = latest_checkpoint(folder)
    if newest is not None and file.parent.resolve() == folder.resolve() and file.name != newest.name:
        raise ValueError(
            f"to continue from {file}, its folder must not hold later checkpoints, got {newest.name}; move them away, "
            "or write to another folder"
        )
    if newest is not None and (found := load_latest(folder)) is not None:
        return found
    return file, load_checkpoint(file)


def whole_checkpoints(directory: str | os.PathLike[str], *, after: int = -1, up_to: float = math.inf) -> list[Path]:
    """Return the undamaged checkpoints in a folder, oldest first; links and folders are not among them.

    Args:
        directory: The folder.
        after: Only those of larger steps.
        up_to: Only those of steps up to this one.
    """
    folder, found = folder_of(directory), []
    for path in _newest_first(folder):
        if path.is_symlink() or not after < _step(path) <= up_to:
            continue
        with path.open("rb") as file:
            if _is_whole(file):
                found.append(path)
    return found[::-1]


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values are accepted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a folder, a damaged file, or a file with other content.
    """
    path = checked_path("path", path, "a file, e.g. 'best.pt'")
    if path.is_dir():
        if (newest := latest_checkpoint(path)) is None:
            raise ValueError(f"{path} is a folder without checkpoints; {_PASS}")
        raise ValueError(f"{path} is a folder; pass a file in it, e.g. {newest}")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {_PASS}")
    with path.open("rb") as file:
        if not _is_whole(file):
            raise ValueError(_unlike(path, file))
        file.seek(0)
        _check_archive(path, file)
        file.seek(0)
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises many kinds for a damaged file; each means the same here
            raise ValueError(_refusal(path, error)) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not a checkpoint: it holds {type(state).__name__}, expected a dict")
    return state


def _dictionary(state: object) -> dict[str, Any]:
    """Return a state whose values a checkpoint can give back.

    Raises:
        TypeError: it is not a dictionary of tensors and plain values.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a dictionary of tensors and plain values, got {kind_of(state)}")
    found: dict[str, Any] = plain(state)
    return found


def serialise(state: Mapping[str, Any]) -> memoryview:
    """Return the bytes of a checkpoint: the one part of saving that must see the tensors before they change."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    training = state.get(TRAINING)
    mark = f"training:{training}  ".encode() if isinstance(training, str) and len(training) == _MARK else b""
    head = _LENGTH.pack(len(mark) + len(_COMMENT) + _DIGEST) + mark
    data = buffer.getbuffer()
    digest = hashlib.sha256(data[: -_LENGTH.size])  # an archive without a comment ends with its length, 0
    digest.update(head[: -_LENGTH.size])
    data.release()
    buffer.seek(-_LENGTH.size, io.SEEK_END)
    buffer.write(head + _COMMENT + digest.hexdigest().encode())
    return buffer.getbuffer()


def of_one_training(paths: Iterable[Path], state: Mapping[str, Any]) -> list[Path]:
    """Return which checkpoints are of the training of a state; those that do not tell theirs count too."""
    own = state.get(TRAINING)
    return [path for path in paths if own is None or _training_of(path) in (None, own)]


def _training_of(path: Path) -> str | None:
    """Return the digest of a checkpoint's training that its comment has, or None."""
    try:
        with path.open("rb") as file:
            file.seek(-_MARK_AND_DIGEST, io.SEEK_END)
            found = re.match(rb"training:([0-9a-f]{16})  sha256:", file.read())
    except OSError:  # it cannot be read, or is too short
        return None
    return None if found is None else found[1].decode()


def checksum(path: Path) -> int:
    """Return a number below 2**60 that differs between checkpoints of other content."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, io.SEEK_END) - _DIGEST))
        end = file.read()
        if re.fullmatch(rb"[0-9a-f]{64}", end):
            return int(end[:15], 16)
        file.seek(0)
        return int(hashlib.sha256(file.read()).hexdigest()[:15], 16)


def write_and_clear(folder: Path, step: int, data: memoryview, keep: int, mine: list[Path]) -> Path:
    """Write a checkpoint, then delete the oldest of `mine`, which the new one joins, beyond `keep`."""
    path = folder / f"checkpoint-{step:08d}.pt"
    _replace(path, data)
    if path not in mine:
        mine.append(path)
    while len(mine) > keep:
        mine.pop(0).unlink(missing_ok=True)
    return path


def _replace(path: Path, data: memoryview) -> None:
    """Write a file in one piece; the error says that earlier checkpoints are unchanged."""
    try:
        replace_file(path, lambda file: file.write(data))
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {path} ({error.strerror or error}, {len(data) / 1e6:.0f} MB); "
            "the checkpoints before it are unchanged. Make room, or choose another folder",
        ) from error


def _is_whole(file: BinaryIO) -> bool:
    """Whether a file has the checksum that it says; archives without one, as `torch.save` writes, count as whole."""
    size = file.seek(0, io.SEEK_END)
    length = _LENGTH.size + len(_COMMENT) + _DIGEST
    file.seek(max(0, size - length))
    end = file.read(length)
    comment = end[_LENGTH.size :]
    if not comment.startswith(_COMMENT):
        return end[-len(_PLAIN_END) - 18 :].startswith(_PLAIN_END) and end.endswith(b"\0\0")
    digest, left = hashlib.sha256(), size - length
    file.seek(0)
    while left:
        data = file.read(min(_CHUNK, left))
        if not data:
            return False
        digest.update(data)
        left -= len(data)
    return digest.hexdigest().encode() == comment[len(_COMMENT) :]


def _unlike(path: Path, file: BinaryIO) -> str:
    """Return why a file is not a whole checkpoint: it never was one, or it is damaged."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - len(_COMMENT) - _DIGEST))
    end = file.read()
    file.seek(0)
    if not _BEGIN.startswith(file.read(len(_BEGIN))) and not end.startswith(_COMMENT):
        return f"{path} is not a checkpoint: {_NO_ARCHIVE}; {_PASS}"
    return f"{path} is damaged: its bytes do not have the checksum that was written with them"


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Raise a ValueError for what is not an archive of `torch.save`, or would grow when it is unpacked."""
    if file.read(len(_BEGIN)) != _BEGIN:  # older formats of torch.load reach code that zip archives do not
        raise ValueError(f"{path} is not a checkpoint: {_NO_ARCHIVE}; {_PASS}")
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise ValueError(f"{path} is damaged: its archive cannot be read ({error})") from error
    if not any(member.filename.endswith("/data.pkl") for member in members):
        raise ValueError(f"{path} is not a checkpoint: its archive holds no data.pkl, which torch.save writes; {_PASS}")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError(f"{path} holds compressed members, which torch.save does not write; it is not read")


def _refusal(path: Path, error: Exception) -> str:
    """Return why torch refused a file, without torch's advice to trust the file."""
    if asked := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"{path} holds {asked[1]}, but only tensors and plain values are ever loaded; if you trust its origin, "
            "save its weights again from a process that can read it, as {'model': model.state_dict()}"
        )
    reason = str(error).splitlines()[0][:200] if str(error) else "no reason given"
    return f"{path} is damaged: torch cannot read it ({type(error).__name__}: {reason})"


def folder_of(directory: str | os.PathLike[str]) -> Path:
    folder = checked_path("directory", directory, "'.' for the present folder")
    if folder.is_file():
        raise ValueError(f"{folder} is a file; pass the folder of checkpoints, or read it with load_checkpoint")
    return folder


def _newest_first(folder: Path) -> Iterator[Path]:
    found = (path for path in folder.glob("checkpoint-*.pt") if _PATTERN.fullmatch(path.name) and path.is_file())
    yield from sorted(found, key=_step, reverse=True)


def _step(path: Path) -> int:
    match = _PATTERN.fullmatch(path.name)
    return int(match[1]) if match else -1
