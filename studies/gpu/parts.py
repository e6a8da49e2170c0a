"""Files that are too large for one transfer: cut into parts, joined, and compared by their SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

from examples.recipe.files import replacing


def split(path: Path, count: int) -> list[Path]:
    """Write `FILE.part0` … and `FILE.sha256` beside a file, and return the parts."""
    data = path.read_bytes()
    size = -(-len(data) // count)
    parts = [path.with_name(f"{path.name}.part{index}") for index in range(count)]
    for index, part in enumerate(parts):
        part.write_bytes(data[index * size : (index + 1) * size])
    _sum_of(path).write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
    return parts


def join(path: Path) -> None:
    """Write a file from its parts.

    Raises:
        FileNotFoundError: no parts, or no `FILE.sha256`.
        ValueError: the parts do not have the SHA-256 of the file that was cut.
    """
    parts = sorted(path.parent.glob(f"{path.name}.part*"), key=lambda part: int(part.suffix.removeprefix(".part")))
    if not parts or not _sum_of(path).exists():
        raise FileNotFoundError(f"join requires {path.name}.part0, … and {path.name}.sha256 in {path.parent}")
    data = b"".join(part.read_bytes() for part in parts)
    wanted, found = _sum_of(path).read_text().split()[0], hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise ValueError(
            f"{len(parts)} parts of {path.name} require the SHA-256 {wanted}, got {found}; carry all parts"
        )
    with replacing(path) as file:
        file.write(data)


def _sum_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
