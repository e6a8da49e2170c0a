"""Arrays in .npy and .npz files; what a file declares is compared with its size before anything is unpacked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from ._decoding import FaultError, naming, open_file, told

# Deflate shrinks photographs to a half and drawings to a thirtieth, but a block of zeros to a thousandth.
_LARGE, _RATIO = 2**30, 100
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_images_of(path: Path) -> np.ndarray:
    """Return the images of an .npy file, or the array `images` or `arr_0` of an .npz archive, (N, H, W, C) of uint8.

    Raises:
        ValueError: not a readable array, or not one of images; the message names the file.
    """
    with naming(path):
        loaded = _load(path, _images_among)
        _check_shape(loaded.shape)
        _check_values(loaded)
        return loaded[..., None] if loaded.ndim == 3 else loaded


def read_named(path: Path, names: Sequence[str]) -> np.ndarray:
    """Return the first of the named arrays of an .npz archive.

    Raises:
        ValueError: the archive has no such array, or it cannot be read; the message names the file.
    """

    def choose(held: Sequence[str]) -> str:
        found = next((name for name in names if name in held), None)
        if found is None:
            raise FaultError(f"holds no array {' or '.join(names)}, but {', '.join(held)}")
        return found

    with naming(path):
        return _load(path, choose)


def _images_among(names: Sequence[str]) -> str:
    if len(names) != 1 and not {"images", "arr_0"} & set(names):
        raise ValueError(f"it holds the arrays {', '.join(names) or '(none)'}; name the images 'images'")
    return next((name for name in ("images", "arr_0") if name in names), names[0])


def _load(path: Path, choose: Callable[[Sequence[str]], str]) -> np.ndarray:
    with open_file(path) as file:
        start = file.read(6)
        try:
            if start.startswith(b"\x93NUMPY"):
                _check_header(file, file.seek(0, 2))
                return _read(file)
            if start.startswith((b"PK\3\4", b"PK\5\6")):
                return _from_archive(file, choose)
            raise ValueError("not an .npy or .npz file, or damaged at its beginning")  # a pickle could run anything
        except FaultError:
            raise
        except Exception as error:  # damage shows in many ways: of zip, of zlib, of the header that numpy parses
            raise FaultError(f"is not a readable array of images ({told(error)})") from error


def _from_archive(file: IO[bytes], choose: Callable[[Sequence[str]], str]) -> np.ndarray:
    with zipfile.ZipFile(file) as archive:
        _check_expansion(archive.infolist())
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        chosen = members[choose(list(members))]
        with archive.open(chosen) as member:
            _check_header(member, chosen.file_size)
        with archive.open(chosen) as member:  # anew, as going back in a member can switch its checksum off
            return _read(member)


def _check_expansion(members: Sequence[zipfile.ZipInfo]) -> None:
    for info in members:
        if info.file_size > _LARGE and info.file_size > _RATIO * info.compress_size:
            raise ValueError(
                f"{info.filename} would expand from {info.compress_size:,} to {info.file_size:,} bytes, "
                f"more than {_RATIO} times and 1 GiB, as no images do; if they are right, save them with np.savez"
            )


def _check_header(file: IO[bytes], size: int) -> None:
    """Raise unless an array fills a file of `size` bytes; numpy would allocate whatever the header declares."""
    file.seek(0)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of the format, expected 1.0 or 2.0; save it again")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which only a pickle could give back; save an array of numbers")
    declared, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared < held:
        raise ValueError("it goes on after the array; save one array alone")
    if declared > held:
        raise ValueError(f"{shape} of {dtype} takes {declared:,} bytes, but {held:,} follow; save it again")


def _read(file: IO[bytes]) -> np.ndarray:
    file.seek(0)
    array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)  # a pickle could run anything
    return array


def _check_shape(shape: tuple[int, ...]) -> None:
    """Raise unless a shape is one of images, with what to do about other orders of the axes."""
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        mend = "; this is one image (H, W, C): add the axis of the batch with image[None]"
    elif len(shape) == 4 and shape[-1] not in (1, 3) and shape[1] in (1, 3):
        mend = "; these are images (N, C, H, W): move the channels with images.transpose(0, 2, 3, 1)"
    else:
        mend = ""
    if shape[:1] == (0,):
        raise FaultError(f"holds no images: its shape is {shape}")
    if mend or not (len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3))) or 0 in shape:
        raise FaultError(f"must have shape (N, H, W, 3), (N, H, W, 1) or (N, H, W), got {shape}{mend}")


def _check_values(images: np.ndarray) -> None:
    """Raise unless values are 8-bit levels, with what to do about other scales."""
    known = images.dtype.kind in "fiub"
    with np.errstate(all="ignore"):
        low, high = (float(images.min()), float(images.max())) if known else (0.0, 255.0)
    if images.dtype == np.uint8:
        if high == 1:
            raise FaultError(
                "holds only the values 0 and 1 of 0 to 255; multiply images in [0, 1] by 255 before the cast"
            )
        return
    if low >= 0 and high <= 1:
        mend = "scale images in [0, 1] with (255 * images).round().astype(np.uint8)"
    elif low >= -1 and high <= 1:
        mend = "scale images in [-1, 1] with (127.5 * (images + 1)).round().astype(np.uint8)"
    elif images.dtype == np.uint16 and high > 255:
        mend = "scale 16-bit images with (images / 257).round().astype(np.uint8)"
    elif low >= 0 and high <= 255:
        mend = "save it as uint8"
    else:
        mend = "scale it to 0 to 255, round, and save it as uint8, as a cast alone wraps larger values"
    span = f" in [{low:.4g}, {high:.4g}]" if known else ""
    raise FaultError(f"must hold uint8 values from 0 to 255, got {images.dtype}{span}; {mend}")
