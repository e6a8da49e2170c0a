"""CIFAR-10 as its authors distribute it for Python: pickles, read without anything in them being called."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._decoding import FaultError, naming, open_file, told

_LARGEST = 10**8  # bytes; 10,000 images take 31 million
_ARRAYS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),  # its name since numpy 2
}


def read_batches(files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of the batches, (N, 32, 32, 3) of uint8, and their labels, (N,) of int64.

    Raises:
        ValueError: a file that is not such a batch; the message names the file.
    """
    parts = []
    for path in files:
        with naming(path):
            parts.append(_batch(path))
    images, labels = (np.concatenate(each) for each in zip(*parts, strict=True))
    return images, labels


def read_class_names(folder: Path) -> list[str] | None:
    """Return the names of the classes from `batches.meta`, or None if there is no such file.

    Raises:
        ValueError: the file holds something else; the message names it.
    """
    path = folder / "batches.meta"
    if not path.exists():
        return None
    with naming(path):
        names = _entries(path).get("label_names")
        if not isinstance(names, list) or not all(isinstance(name, (bytes, str)) for name in names):
            raise FaultError("has no list label_names; unpack it again")
        return [_text(name) for name in names]


def _batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    held = _entries(path)
    if missing := [name for name in ("data", "labels") if name not in held]:
        raise FaultError(f"is not a batch of CIFAR-10: no {' and no '.join(missing)} among {sorted(held)}")
    labels = held["labels"]
    if (
        not isinstance(labels, list)
        or not labels
        or not all(type(label) is int and 0 <= label < 10 for label in labels)
    ):
        raise FaultError("requires a list of labels from 0 to 9; unpack it again")
    try:
        images = _array(held["data"]).reshape(len(labels), 3, 32, 32)
    except Exception as error:  # of stand-ins that hold anything
        raise FaultError(
            f"requires {len(labels)} images of 3 × 32 × 32 bytes ({told(error)}); unpack it again"
        ) from error
    return images.transpose(0, 2, 3, 1), np.array(labels, dtype=np.int64)


def _entries(path: Path) -> dict[str, Any]:
    with open_file(path) as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise FaultError(f"is larger than a batch of CIFAR-10, with more than {_LARGEST:,} bytes")
    try:
        for code, argument, _ in pickletools.genops(data):
            if "PUT" in code.name and argument is not None and argument > len(data):
                raise ValueError(f"place {argument} of a memo")  # for which pickle would allocate
        held = _Reader(io.BytesIO(data), encoding="bytes").load()
        return {_text(name): value for name, value in held.items()}
    except FaultError:
        raise
    except Exception as error:  # damage shows in many ways
        raise FaultError(f"is not a readable batch of CIFAR-10 ({told(error)}); unpack it again") from error


class _Part:
    """Stands for a function, class or object of numpy, and keeps what the file says of it."""

    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Part]:
        """Return the stand-in for what an array is made of; nothing else is loaded, as it could run anything."""
        if (module, name) not in _ARRAYS:
            raise FaultError(
                f"asks for {module}.{name}, but a batch of CIFAR-10 holds numbers, text and arrays only; "
                "nothing of it was run; do not trust this file"
            )
        return _Part


def _array(part: Any) -> np.ndarray:
    """Return the array of bytes that a stand-in describes: version, shape, dtype, order and data are its state."""
    _, shape, dtype, by_columns, data = part.state
    if _text(dtype.arguments[0]) != "u1":
        raise ValueError(f"they are {dtype.arguments[0]!r}, not bytes")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if by_columns else "C")


def _text(name: object) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
