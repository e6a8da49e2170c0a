"""One image file: from its bytes to 8-bit RGB as it is meant to be seen, or the reason why not."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # of pillow's many; some others start programs
_BITS, _MEANING, _BLACK_IS_ZERO = 258, 262, 1  # of TIFF: BitsPerSample, PhotometricInterpretation


class FaultError(ValueError):
    """Why a file cannot be used; a message begins with the name of the file, then this."""


@contextmanager
def naming(source: str | Path) -> Iterator[None]:
    """Begin the message of a fault with the name of its file or data set."""
    try:
        yield
    except FaultError as fault:
        raise ValueError(f"{shown(source)} {fault}") from fault


def open_file(file: Path) -> BinaryIO:
    """Open a regular file; raise a FaultError for anything else."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise FaultError("is not a file")  # to open a pipe would wait for ever
        return file.open("rb")
    except OSError as error:
        link = f"is a link to {shown(os.readlink(file))}, which" if file.is_symlink() else ""
        raise FaultError(f"{link} cannot be opened ({error.strerror})".lstrip()) from error


def decode(source: Path | bytes | FaultError, size: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    """Return an image as uint8 (H, W, 3), fitted to a size if there is one, and the (width, height) that it had.

    Raises:
        FaultError: what is no image.
    """
    if isinstance(source, FaultError):
        raise source
    with open_file(source) if isinstance(source, Path) else io.BytesIO(source) as file:
        try:
            image = Image.open(file, formats=_FORMATS)
            if image.format == "PNG":  # otherwise pillow checks no checksum of the pixels
                image.verify()
                file.seek(0)
                image = Image.open(file, formats=_FORMATS)
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise FaultError("holds more than one image; save each in a file of its own")
            if image.format == "TIFF":  # pillow would fill in pixels that no part of it covers with black
                parts = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), *_ in image.tile)
                if parts < image.width * image.height:
                    raise FaultError(
                        f"is not a readable image (pixels of its {image.width}×{image.height} are missing)"
                    )
            image = _as_rgb(image)
            return np.asarray(image if size is None else fit(image, size)), image.size
        except FaultError:
            raise
        except UnidentifiedImageError as error:
            what = f"not one of {', '.join(_FORMATS)}, or damaged at its beginning" if file.seek(0, 2) else "empty"
            raise FaultError(f"is not a readable image ({what})") from error
        except Exception as error:  # damage shows in many ways, from struct.error to ZeroDivisionError
            raise FaultError(f"is not a readable image ({told(error)})") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        raise FaultError("holds numbers whose black and white are not known; save it with 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Scale grey levels, which pillow itself would clip."""
    tags = getattr(image, "tag_v2", {})
    if tags and (tags.get(_BITS), tags.get(_MEANING)) != ((16,), _BLACK_IS_ZERO):
        raise FaultError("holds grey levels that are not of 16 bits with black at 0; save it with 8 bits")
    levels = np.asarray(image).astype(np.uint32)
    levels = np.where(levels == image.info.get("transparency"), 65535, levels)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")


def fit(image: Image.Image, size: int) -> Image.Image:
    """Crop an image to its central square and resize it."""
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))  # first: a resize would look beyond its box
    return square.resize((size, size), Image.Resampling.LANCZOS)


def shown(name: str | Path) -> str:
    """Return a name in a form that prints on one line."""
    return str(name) if str(name).isprintable() else repr(str(name))


def told(error: Exception | str) -> str:
    """Return the message of an error on one line, or its type if it has none."""
    return shown(" ".join(str(error).split()) or type(error).__name__)
