"""Unfinished samples: a folder of files, each with the samples of a range of indices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .files import replacing


class Chunks:
    """Finished samples in a folder, a file for each range of indices, and the request that they answer.

    Args:
        folder: Made by `open`, removed by `remove`.
        count: Number of samples in all files.
        size: Number of samples in a file.
    """

    def __init__(self, folder: Path, count: int, size: int) -> None:
        self.folder = folder
        self.ranges = [range(first, min(first + size, count)) for first in range(0, count, size)]
        self._request = folder / "request.json"

    def open(self, request: Mapping[str, Any], *, write: bool) -> None:
        """Make the folder, or continue with one of the same request; only one process may `write`.

        Raises:
            ValueError: the folder holds samples of another request, or other files.
        """
        if self._request.exists() and any(self.folder.glob("images-*.npy")):
            check_same(self.folder, json.loads(self._request.read_text()), request)
        elif write:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(not path.name.startswith((self._request.name, "images-")) for path in self.folder.iterdir()):
                raise ValueError(f"{self.folder} is needed for unfinished work, but holds something else; move it away")
            with replacing(self._request) as file:
                file.write(json.dumps(request, indent=2).encode())

    def missing(self) -> list[range]:
        """Return the ranges that have no file yet."""
        return [indices for indices in self.ranges if not self._path(indices).exists()]

    def write(self, indices: range, images: np.ndarray) -> None:
        """Write the samples of a range."""
        with replacing(self._path(indices)) as file:
            np.save(file, images)

    def join(self) -> np.ndarray:
        """Return the samples of all files, in order."""
        return np.concatenate([np.load(self._path(indices), allow_pickle=False) for indices in self.ranges])

    def remove(self) -> None:
        """Remove the folder, if `open` made it."""
        if self._request.exists():
            shutil.rmtree(self.folder)

    def _path(self, indices: range) -> Path:
        return self.folder / f"images-{indices[0]:08d}-{indices[-1]:08d}.npy"


def check_same(place: Path, found: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """Raise a ValueError that lists the differences between this request and the one found at a place."""
    if names := [name for name in request if found.get(name) != request[name]]:
        different = "; ".join(f"{name} {found.get(name)} there, {request[name]} here" for name in names)
        raise ValueError(f"{place} is of another request: {different}; delete it, or pass another --out")
