"""What a path holds: images, parquet shards, an array or the batches of CIFAR-10, and which files are not read."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ._decoding import FaultError, shown

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
TRAINING, TEST = tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch"
_KINDS = "a parquet file, a folder of images or of parquet files, cifar-10-batches-py, or an .npy or .npz array"
SPLIT = re.compile(r"(?<![a-z])(?:train(?:ing)?|test(?:ing)?|val(?:id)?|validation|dev|eval(?:uation)?)(?![a-z])")
_SHARD = re.compile(r"(.*)-\d+-of-(\d+)")
_SHOWN = 6


class Contents(NamedTuple):
    """The kind of a data set, its files in the order of their names, and what a reader of it should be told.

    A file with a fault, such as a folder that cannot be opened, has the reason beside it.
    """

    kind: Literal["folder", "parquet", "array", "batches"]
    files: list[tuple[Path, FaultError | None]]
    remarks: tuple[str, ...] = ()


def contents(path: Path) -> Contents:
    """Return what a path holds; hidden files and folders, whose names begin with a dot, are left out.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: an unknown kind of file, a folder without images, or files that are not one data set.
    """
    if not os.path.exists(path):
        link = f", a link to {shown(os.readlink(path))}," if os.path.islink(path) else ""
        raise FileNotFoundError(f"{shown(path)}{link} does not exist; pass {_KINDS}")
    if holds_batches(path):
        return Contents("batches", [(file, None) for file in _training_batches(path)])
    if os.path.isdir(path):
        return _in_folder(path)
    if path.name in (*TRAINING, TEST):
        return Contents("batches", [(path, None)])
    if path.suffix == ".parquet":
        return Contents("parquet", [(path, None)])
    if path.suffix in (".npy", ".npz"):
        return Contents("array", [(path, None)])
    raise ValueError(f"{shown(path)} is of an unknown kind; pass {_KINDS}")


def holds_batches(path: Path) -> bool:
    """Whether a path is a folder with the batches of CIFAR-10."""
    return any(os.path.isfile(path / name) for name in (*TRAINING, TEST))


def _training_batches(folder: Path) -> list[Path]:
    if missing := [name for name in TRAINING if not os.path.exists(folder / name)]:
        raise ValueError(
            f"{shown(folder)} requires {TRAINING[0]} to {TRAINING[-1]}, got no {', '.join(missing)}; "
            f"unpack it again, or pass one of its files, e.g. {TEST}"
        )
    return [folder / name for name in TRAINING]


def _in_folder(folder: Path) -> Contents:
    images: list[tuple[Path, FaultError | None]] = []
    shards: list[Path] = []
    others: Counter[str] = Counter()
    for path, fault in _walk(folder, ()):
        suffix = path.suffix.lower()
        if fault is not None or suffix in SUFFIXES:
            images.append((path, fault))
        elif suffix == ".parquet":
            shards.append(path)
        else:
            others[suffix] += 1
    if not shards or any(fault is None for _, fault in images):
        unread = _counted(others + Counter({".parquet": len(shards)}))
        if not images:
            kinds = ", ".join(sorted(SUFFIXES | {".parquet"}))
            end = f"; not read: {unread}" if unread else ""
            raise ValueError(f"{shown(folder)} holds no images; expected files that end in {kinds}{end}")
        return Contents("folder", images, _remark(folder, unread))
    for path, fault in images:
        raise ValueError(f"{shown(path)} {fault}; mend or remove it")
    remarks = _remark(folder, _counted(others)) + _missing_shards(folder, shards)
    return Contents("parquet", [(path, None) for path in shards], remarks)


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, FaultError | None]]:
    """Find the files in a folder, in order; `rglob` would pass over what it may not or cannot enter."""
    try:
        found = folder.stat()
        here = (found.st_dev, found.st_ino)
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield folder, FaultError(f"cannot be opened ({error.strerror})")
        return
    if here in above:
        yield folder, FaultError("is a link to a folder that holds it")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry):
            yield from _walk(entry, (*above, here))
        else:
            yield entry, None


def _missing_shards(folder: Path, shards: Sequence[Path]) -> tuple[str, ...]:
    """Return a remark if the names of shards tell of others; raise if they tell of several splits."""
    names = [path.relative_to(folder).with_suffix("").as_posix().lower() for path in shards]
    splits = {" ".join(sorted(set(SPLIT.findall(name)))) for name in names}
    if len(splits) > 1:
        told = ", ".join(split or "(none)" for split in sorted(splits))
        raise ValueError(
            f"{shown(folder)} holds parquet files of the splits {told}; pass one file, or a folder with those of one"
        )
    numbered = [(path.parent, found[1], int(found[2])) for path in shards if (found := _SHARD.fullmatch(path.stem))]
    count = sum(number for _, _, number in set(numbered))
    if len(numbered) < len(shards) or len(shards) >= count:
        return ()
    return (f"{shown(folder)} holds {len(shards)} of {count} shards; the images in the others are missing",)


def _remark(folder: Path, unread: str) -> tuple[str, ...]:
    return (f"{shown(folder)} holds files that are not read: {unread}",) if unread else ()


def _counted(suffixes: Counter[str]) -> str:
    """Return the number of files of each extension as text."""
    each = [(count, shown(suffix) or "without an extension") for suffix, count in sorted((+suffixes).items())]
    rest = [(sum(count for count, _ in each[_SHOWN:]), "of other kinds")] if len(each) > _SHOWN else []
    return ", ".join(f"{count} {kind}" for count, kind in each[:_SHOWN] + rest)
