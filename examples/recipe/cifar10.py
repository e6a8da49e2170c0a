"""CIFAR-10 or other images: read them with their provenance, and make batches for one process or many."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ._contents import TEST, Contents, contents, holds_batches
from ._decoding import naming
from ._labels import NAMES, WITH_LABELS, Labels, as_labels, check_every_class, read_labels
from ._parquet import first_image
from .images import read_images


class Pictures(NamedTuple):
    """A data set in memory.

    `images` is uint8 (N, H, W, C), `labels` int64 (N,) or None, and `provenance` describes them: source, split,
    count, shape, encoding ("PNG", "JPEG", "array", …), the SHA-256 of the decoded pixels; and if labels were required,
    that of the labels, and `class_names` if they have names.
    """

    images: np.ndarray
    labels: np.ndarray | None
    provenance: dict[str, Any]

    @property
    def classes(self) -> int:
        """Number of classes, 0 without labels."""
        return 0 if self.labels is None else int(self.labels.max()) + 1


def load(
    source: str,
    *,
    split: str = "train",
    size: int | None = None,
    count: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    labels: bool = False,
    every_class: bool = False,
    enlarge: bool = True,
) -> Pictures:
    """Read a data set from a path, or from the Hugging Face hub if there is no such path.

    Labels are those of a column `label`, `labels` or `fine_label` of parquet files or the hub, of an array of that name
    in an .npz archive, or of `cifar-10-batches-py`. In a folder of images they are the names of the sub-folders
    directly in it, or else the names of the files up to the first underscore, if that makes two classes or more.
    Names are numbered in sorted order.

    Args:
        source: A path of images, as `images.load_images` takes, or the name of a data set on the hub.
        split: Split of a data set on the hub, or of `cifar-10-batches-py`; ignored for other paths.
        size: Fit images from a path to this height and width; None leaves them.
        count: Maximum number of images; the first ones are used.
        on_error: What to do about images in a path that cannot be used, as in `images.load_images`.
        labels: Require labels; otherwise a data set without usable ones has None.
        every_class: Require images of every class from 0 to the last, as training does; `count` may leave some out.
        enlarge: Whether images in a path that are smaller than `size` are enlarged, as in `images.load_images`.

    Raises:
        ValueError: the source does not exist or holds no images, labels or classes are required and missing, or the
            hub cannot be reached.
    """
    if every_class and not labels:
        raise ValueError("every_class=True requires labels=True, got False; omit it")
    path = Path(source)
    if not source:
        raise ValueError("the path of the images is empty; pass . for the present folder")
    if path.exists():
        part = _of_split(path, split)
        held = contents(part)
        found = _labels(lambda: read_labels(part, held), required=labels)
        images, places = read_images(part, size, on_error=on_error, enlarge=enlarge)
        found = None if found is None else _of_images(found, images, places, path)
        encoding = _encoding(held)
    elif path.suffix or source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise ValueError(f"{source} does not exist, and is not the name of a data set on the hub (owner/name)")
    else:
        images, found, encoding = _from_hub(source, split, required=labels)
    if every_class and found is not None:
        check_every_class(found.values, source)
    images = images[:count]
    provenance = {
        "source": path.name if path.exists() else source,
        "split": "file" if path.exists() and not holds_batches(path) else split,
        "count": len(images),
        "shape": list(images.shape[1:]),
        "encoding": encoding,
        "sha256": _sha256(images),
    }
    pictures = Pictures(images, None if found is None else found.values[:count], provenance)
    if labels and found is not None and pictures.labels is not None:
        provenance["labels_sha256"] = _sha256(pictures.labels)
        if found.names is not None:
            provenance["class_names"] = found.names[: pictures.classes]
    return pictures


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


class RankBatches:
    """Shuffled, mirrored batches: each process takes its rows of the batches that a single process would take.

    The order is a function of the seed and the epoch alone. The last incomplete batch of an epoch is dropped.

    Args:
        pictures: The data.
        batch_size: Number of images in a batch of this process.
        rank: Number of this process.
        world: Number of processes.
        seed: Random seed for the order and the mirroring.
        flip: Mirror each image with probability 1/2.
        labels: Yield (images, labels) rather than images.
        device: Device of the images and the batches.

    Yields:
        Floats in [-1, 1], (B, C, H, W); or (images, labels).

    Raises:
        ValueError: fewer images than all processes take in a step, or no labels to yield.
    """

    def __init__(
        self,
        pictures: Pictures,
        batch_size: int,
        *,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        flip: bool = True,
        labels: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(pictures.images) < batch_size * world:
            raise ValueError(
                f"a step of {world} × {batch_size} images needs as many, got {len(pictures.images)}; "
                "use more images or a smaller batch_size"
            )
        if labels and pictures.labels is None:
            raise ValueError(f"labels=True requires labels, {pictures.provenance['source']} has none; {WITH_LABELS}")
        self._images = torch.from_numpy(np.ascontiguousarray(pictures.images.transpose(0, 3, 1, 2))).to(device)
        self._labels = torch.from_numpy(pictures.labels).to(device) if labels and pictures.labels is not None else None
        self._batch, self._rank, self._world, self._seed, self._flip = batch_size, rank, world, seed, flip
        self._epoch = 0

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._images) // (self._batch * self._world)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; `DiffusionTrainer.fit` calls this."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        state = int(np.random.SeedSequence((self._seed, self._epoch)).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(state)
        device = self._images.device
        order = torch.randperm(len(self._images), generator=generator).to(device)
        mirrored = (torch.rand(len(self._images), generator=generator) < 0.5).to(device)
        for step in range(len(self)):
            first = (step * self._world + self._rank) * self._batch
            rows = order[first : first + self._batch]
            batch = self._images[rows].float() / 127.5 - 1
            if self._flip:
                batch = torch.where(mirrored[first : first + self._batch, None, None, None], batch.flip(-1), batch)
            yield batch if self._labels is None else (batch, self._labels[rows])


def _of_split(path: Path, split: str) -> Path:
    """Return the file or folder with a split of `cifar-10-batches-py`; other paths have one."""
    if not holds_batches(path):
        return path
    if split not in ("train", "test"):
        raise ValueError(f"{path} has the splits train and test, got split {split!r}")
    return path / TEST if split == "test" else path


def _of_images(labels: Labels, images: np.ndarray, places: np.ndarray, path: Path) -> Labels:
    """Return the labels of the images that were not skipped."""
    if path.suffix == ".npz" and len(labels.values) != len(images):
        raise ValueError(f"{path} has {len(images)} images but {len(labels.values)} labels")
    return labels._replace(values=labels.values[places])


def _labels(read: Callable[[], Labels], *, required: bool) -> Labels | None:
    """Return the labels that `read` gives, or None if it cannot and they are not required."""
    try:
        return read()
    except ValueError as error:
        if required:
            raise ValueError(f"labels are required, but {error}; {WITH_LABELS}") from error
        return None


def _from_hub(name: str, split: str, *, required: bool) -> tuple[np.ndarray, Labels | None, str]:
    import datasets

    try:
        table = datasets.load_dataset(name, split=split)
    except Exception as error:  # the hub's errors are of many kinds; each means that there is no data
        raise ValueError(
            f"could not load {name} from the Hugging Face hub ({type(error).__name__}: {error}); pass a file or folder"
        ) from error
    column = next((name for name in ("img", "image") if name in table.column_names), None)
    if column is None:
        raise ValueError(f"{name} has no column img or image; its columns are {', '.join(table.column_names)}")

    def read() -> Labels:
        label = next((name for name in NAMES if name in table.column_names), None)
        if label is None:
            raise ValueError(f"{name} has no such column; its columns are {', '.join(table.column_names)}")
        with naming(name):
            return as_labels(list(table[label]))

    labels = _labels(read, required=required)
    raw = table.cast_column(column, datasets.Image(decode=False))[column]
    encoding = _kind(raw[0]["bytes"]) if raw[0]["bytes"] else "unknown"
    images = np.stack([np.asarray(image.convert("RGB")) for image in table[column]])
    return images, labels, encoding


def _encoding(found: Contents) -> str:
    """Return the encoding of images in files; images that went through JPEG have other pixels."""
    if found.kind == "folder":
        kinds = {_kind(file.read_bytes()) for file, _ in found.files[:64] if file.is_file()} - {"unknown"}
        return "+".join(sorted(kinds)) or "unknown"
    return _kind(first_image(found.files[0][0])) if found.kind == "parquet" else "array"


def _kind(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.format or "unknown"
    except OSError:
        return "unknown"
