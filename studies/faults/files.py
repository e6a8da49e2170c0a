"""Image files of every kind that examples/recipe/images.py reads, to be damaged."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from examples.recipe.dead_leaves import dead_leaves

_LEAVES = dead_leaves(12, size=8, seed=3)
_LEAF = dead_leaves(1, size=16, seed=1)[0, :, :12]
_DEEP = (np.arange(192, dtype=np.uint16) * 343 + 11).reshape(16, 12)  # 16 bits, up to 65524
_EXIF = b"Exif\0\0II*\0\10\0\0\0\1\0\22\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"


def packed(save: Callable[..., None], **arrays: np.ndarray) -> bytes:
    """Return arrays as the bytes of an .npy file (`np.save`, which takes one array) or of an .npz archive."""
    buffer = io.BytesIO()
    save(buffer, *arrays.values()) if save is np.save else save(buffer, **arrays)
    return buffer.getvalue()


def _encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def _palette() -> Image.Image:
    return Image.fromarray(_LEAF).quantize(7)


def _animation() -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    return _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def _table(kind: str) -> bytes:
    buffer = io.BytesIO()
    rows = [{"bytes": _encoded(image, kind), "path": None} for image in _LEAVES[:4]]
    pq.write_table(pa.table({"img": rows}), buffer)
    return buffer.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "png": lambda: _encoded(_LEAF),
    "png resealed": lambda: _encoded(_LEAF, exif=_EXIF),
    "png palette resealed": lambda: _encoded(_palette(), transparency=bytes([0, 100, 255, 200])),
    "png 16 bits resealed": lambda: _encoded(_DEEP, transparency=11),
    "jpeg": lambda: _encoded(_LEAF, "JPEG", exif=_EXIF),
    "webp": lambda: _encoded(_LEAF, "WEBP"),
    "gif": lambda: _encoded(_palette(), "GIF"),
    "gif of frames": _animation,
    "bmp": lambda: _encoded(_LEAF, "BMP"),
    "tif": lambda: _encoded(_LEAF, "TIFF"),
    "tif packed": lambda: _encoded(_LEAF, "TIFF", compression="tiff_lzw"),
    "tif 16 bits": lambda: _encoded(_DEEP, "TIFF"),
    "parquet": lambda: _table("PNG"),
    "parquet of jpeg": lambda: _table("JPEG"),
    "npy": lambda: packed(np.save, images=_LEAVES),
    "npz": lambda: packed(np.savez, images=_LEAVES),
    "npz packed": lambda: packed(np.savez_compressed, images=_LEAVES, labels=np.arange(12)),
}
"""How to make the bytes of a file, by its kind. The first word is the file's suffix; in a kind with "resealed", the
checksums are corrected after the damage."""
