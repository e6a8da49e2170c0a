"""Image files of every kind that the examples read, made of a few leaves."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from examples.recipe.dead_leaves import dead_leaves

LEAVES = dead_leaves(12, size=8, seed=3)
LEAF = dead_leaves(1, size=16, seed=1)[0, :, :12]
DEEP = (np.arange(192, dtype=np.uint16) * 343 + 11).reshape(16, 12)  # 16 bits, to 65524


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def frames(kind: str) -> bytes:
    """Return a file of three images."""
    first, *others = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green"))
    return encoded(first, kind, save_all=True, append_images=others)


def table(images: np.ndarray, kind: str = "PNG", column: str = "img") -> bytes:
    """Return a parquet file of images and their labels, 0 to 3 in turn."""
    buffer = io.BytesIO()
    rows = [{"bytes": encoded(image, kind), "path": None} for image in images]
    pq.write_table(pa.table({column: rows, "label": [n % 4 for n in range(len(rows))]}), buffer)
    return buffer.getvalue()


def write(folder: Path, **files: bytes) -> Path:
    """Write files, whose names have an underscore for the dot, and return their folder."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    return folder


def _packed(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


# Good files, to be damaged. The first word of a name is the suffix; "resealed" ones get correct checksums afterwards.
FILES: dict[str, Callable[[], bytes]] = {
    "png": lambda: encoded(LEAF),
    "png palette resealed": lambda: encoded(Image.fromarray(LEAF).quantize(7), transparency=bytes([0, 100, 255, 200])),
    "png 16 bits resealed": lambda: encoded(DEEP, transparency=11),
    "jpeg": lambda: encoded(LEAF, "JPEG"),
    "webp": lambda: encoded(LEAF, "WEBP"),
    "gif": lambda: frames("GIF"),
    "tif packed": lambda: encoded(LEAF, "TIFF", compression="tiff_lzw"),
    "parquet": lambda: table(LEAVES[:4]),
    "npz packed": lambda: _packed(images=LEAVES, labels=np.arange(12)),
}
