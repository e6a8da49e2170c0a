"""The classes of the images of a data set: from a column, an array, the names of sub-folders or those of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._arrays import read_named
from ._cifar_batches import read_batches, read_class_names
from ._contents import SPLIT, Contents
from ._decoding import FaultError, naming, shown
from ._parquet import label_column

_MOST_CLASSES, _SHOWN = 2**31, 3
NAMES = ("label", "labels", "fine_label")
WITH_LABELS = (
    f"labels are read from a parquet column or .npz array {', '.join(NAMES[:-1])} or {NAMES[-1]}, from "
    "cifar-10-batches-py, and from a folder with a sub-folder for each class or file names like cat_00012.png; "
    "use such data, or train without classes"
)


class Labels(NamedTuple):
    """The class of every image, (N,) of int64, and the names of the classes where they are known."""

    values: np.ndarray
    names: list[str] | None = None


def read_labels(path: Path, found: Contents) -> Labels:
    """Return the labels of all images at a path, which holds what was found there, in the order of the images.

    Raises:
        ValueError: there are none, or they are not classes.
    """
    files = [file for file, _ in found.files]
    if found.kind == "batches":
        return Labels(read_batches(files)[1], read_class_names(files[0].parent))
    with naming(path):
        if found.kind == "parquet":
            return as_labels(label_column(files, NAMES))
        if found.kind == "folder":
            return _in_folder(path, [file if fault is None else None for file, fault in found.files])
        if path.suffix == ".npz":
            return as_labels(read_named(path, NAMES).tolist())
        raise FaultError("has no labels, as an .npy file holds one array")


def as_labels(labels: Sequence[Any]) -> Labels:
    """Return whole numbers from 0 as they are, and text as places among the sorted names.

    Raises:
        FaultError: numbers or other things that are not classes.
    """
    if not isinstance(labels, list):
        raise FaultError(f"requires one label for each image, got {labels!r}")
    if labels and all(isinstance(label, str) for label in labels):
        names = sorted(set(labels))
        place = {name: index for index, name in enumerate(names)}
        return Labels(np.array([place[label] for label in labels], dtype=np.int64), names)
    bad = [x for x in labels if not (isinstance(x, (int, float)) and 0 <= x < _MOST_CLASSES and x % 1 == 0)]
    if bad:
        raise FaultError(f"requires whole numbers from 0 as labels, or names, got {shown(repr(bad[0])[:60])}")
    return Labels(np.array(labels, dtype=np.int64))


def check_every_class(labels: np.ndarray, source: str) -> None:
    """Raise a ValueError if some class from 0 to the last has no images: it would be made, and never trained."""
    present = np.unique(labels)
    last = int(present[-1])
    if missing := last + 1 - len(present):
        first = np.setdiff1d(np.arange(len(present) + _SHOWN), present)[: min(missing, _SHOWN)]
        others = f" and {missing - _SHOWN} others" if missing > _SHOWN else ""
        raise ValueError(
            f"{source} requires images of every class from 0 to {last}, got none of {', '.join(map(str, first))}"
            f"{others}; number the classes from 0 without gaps: np.unique(labels, return_inverse=True)[1], or add "
            "images of those"
        )


def _in_folder(folder: Path, files: Sequence[Path | None]) -> Labels:
    """Return the labels of the files in a folder, and -1 in the places of what cannot be read."""
    good = [place for place, file in enumerate(files) if file is not None]
    found = as_labels(_classes_of(folder, [file for file in files if file is not None]))
    values = np.full(len(files), -1, dtype=np.int64)
    values[good] = found.values
    return Labels(values, found.names)


def _classes_of(folder: Path, files: Sequence[Path]) -> list[str]:
    """Return the class of each file: the sub-folder that it is in, or its name up to the first underscore."""
    parts = [file.relative_to(folder).parts for file in files]
    outer = [inner[0] for inner in parts if len(inner) > 1]
    if 0 < len(outer) < len(parts):
        beside = next(inner[0] for inner in parts if len(inner) == 1)
        raise FaultError(f"has images in sub-folders and others beside them, such as {shown(beside)}")
    if len(names := set(outer)) > 1:
        if all(SPLIT.fullmatch(name.lower()) for name in names):
            raise FaultError(f"has a sub-folder for each split ({', '.join(sorted(names))}); pass one of them")
        return outer
    stems = [inner[-1].partition("_") for inner in parts]
    classes = [name for name, mark, _ in stems if name and mark]
    if len(classes) == len(parts) and 1 < len(set(classes)) < len(parts):
        return classes
    raise FaultError("has neither a sub-folder for each of two or more classes nor file names that begin with a class")
