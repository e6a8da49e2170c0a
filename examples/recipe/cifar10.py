"""CIFAR-10 or other images: read them with their provenance, and make batches for one process or many."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .images import read_images

_LABELS = ("label", "labels", "fine_label")


class Pictures(NamedTuple):
    """A data set in memory.

    `images` is uint8 (N, H, W, C), `labels` int64 (N,) or None, and `provenance` describes them: source, split,
    count, shape, encoding ("PNG", "JPEG", "array", …) and the SHA-256 of the decoded pixels.
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
) -> Pictures:
    """Read a data set from a path, or from the Hugging Face hub if there is no such path.

    Args:
        source: A parquet file, folder of images, .npy or .npz array, or the name of a data set on the hub.
        split: Split of a data set on the hub; ignored for a path.
        size: Fit images from a path to this height and width; None leaves them.
        count: Maximum number of images; the first ones are used.
        on_error: What to do about images in a path that cannot be used, as in `images.load_images`.

    Raises:
        ValueError: the source does not exist or holds no images, or the hub cannot be reached.
    """
    path = Path(source)
    if path.exists():
        images, places = read_images(path, size, on_error=on_error)
        labels, encoding = _labels_beside(path), _encoding(path)
        if labels is not None and path.suffix == ".parquet":  # elsewhere nothing with labels is skipped
            labels = labels[places]
    elif path.suffix or source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise ValueError(f"{source} does not exist, and is not the name of a data set on the hub (owner/name)")
    else:
        images, labels, encoding = _from_hub(source, split)
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{source} has {len(images)} images but {len(labels)} labels")
    images, labels = images[:count], None if labels is None else labels[:count].astype(np.int64)
    provenance = {
        "source": path.name if path.exists() else source,
        "split": "file" if path.exists() else split,
        "count": len(images),
        "shape": list(images.shape[1:]),
        "encoding": encoding,
        "sha256": hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest(),
    }
    return Pictures(images, labels, provenance)


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
            raise ValueError(f"{pictures.provenance['source']} has no labels; train without class_conditional")
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


def _from_hub(name: str, split: str) -> tuple[np.ndarray, np.ndarray | None, str]:
    import datasets

    try:
        table = datasets.load_dataset(name, split=split)
    except Exception as error:  # the hub's errors are of many kinds; each means that there is no data
        raise ValueError(
            f"could not load {name} from the Hugging Face hub ({type(error).__name__}: {error}); "
            "pass a file or folder with --data"
        ) from error
    column = next((name for name in ("img", "image") if name in table.column_names), None)
    if column is None:
        raise ValueError(f"{name} has no column img or image; its columns are {', '.join(table.column_names)}")
    label = next((name for name in _LABELS if name in table.column_names), None)
    raw = table.cast_column(column, datasets.Image(decode=False))[column]
    encoding = _kind(raw[0]["bytes"]) if raw[0]["bytes"] else "unknown"
    images = np.stack([np.asarray(image.convert("RGB")) for image in table[column]])
    return images, None if label is None else np.asarray(table[label]), encoding


def _labels_beside(path: Path) -> np.ndarray | None:
    """Return the labels in a parquet file or .npz archive, if there are any."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        name = next((name for name in pq.read_schema(path).names if name in _LABELS), None)
        return None if name is None else np.asarray(pq.read_table(path, columns=[name])[name].to_pylist())
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            name = next((name for name in archive.files if name in _LABELS), None)
            return None if name is None else archive[name]
    return None


def _encoding(path: Path) -> str:
    """Return the encoding of the images at a path; images that went through JPEG have other pixels."""
    if path.is_dir():
        kinds = {_kind(file.read_bytes()) for file in sorted(path.rglob("*"))[:64] if file.is_file()} - {"unknown"}
        return "+".join(sorted(kinds)) or "unknown"
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        column = next((name for name in pq.read_schema(path).names if name in ("img", "image")), None)
        if column is None:
            return "unknown"
        first = next(pq.ParquetFile(path).iter_batches(1, columns=[column])).to_pylist()[0][column]
        return _kind(first["bytes"] if isinstance(first, dict) else first)
    return "array"


def _kind(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.format or "unknown"
    except OSError:
        return "unknown"
