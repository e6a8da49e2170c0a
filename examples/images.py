"""Reading pictures, and making batches of them for a network."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # of pillow's many; some others start programs
_BITS, _MEANING, _BLACK_IS_ZERO = 258, 262, 1  # of TIFF: BitsPerSample, PhotometricInterpretation
_COLUMNS = ("img", "image")
_KINDS = "a parquet file, a folder of pictures, or an .npy or .npz array"


def load_images(
    path: str | Path, size: int | None = None, *, on_error: Literal["raise", "skip"] = "raise"
) -> np.ndarray:
    """Read every picture of a data set into memory.

    Pictures become 8-bit RGB as they are meant to be seen: turned as their EXIF data say, grey repeated, CMYK
    converted, 16 bits scaled to 8, and what is transparent laid on white. Colour profiles are not applied. What
    would lose something is an error: animations and other files of several pictures (of a camera's MPO, the first
    one counts), and numbers whose black and white are not known. Damage is found as far as a format reveals it: by
    the checksums of PNG all of it, elsewhere cuts, but few flipped bits.

    Args:
        path: A parquet file with a column `img` or `image`, as data sets of Hugging Face have; a folder of
            pictures, read in the order of their names, sub-folders included; or an .npy or .npz array
            (N, H, W, C) or (N, H, W) of uint8.
        size: Crop pictures to their central square and resize it to this many pixels; None leaves them.
        on_error: `raise` at the first picture that cannot be used, or `skip` such pictures and warn of them at the
            end; without `size`, also those that have not the commonest size. An array is read whole or not at all,
            and so are the pages of a parquet file.

    Returns:
        uint8, (N, H, W, 3); an array keeps the channels it has.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: no pictures, or none left; pictures of different sizes; or a file that is not what it should be.

    Warns:
        UserWarning: pictures were skipped, or pillow doubts some; says how many, and names a few.
    """
    return read_images(path, size, on_error=on_error)[0]


def read_images(
    path: str | Path, size: int | None = None, *, on_error: Literal["raise", "skip"] = "raise"
) -> tuple[np.ndarray, np.ndarray]:
    """Read as `load_images` does, and return the pictures with their places in the data set, (N,) of int64."""
    path = Path(path)
    if size is not None and size < 1:
        raise ValueError(f"size must be 1 or more, got {size}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}')
    if not os.path.exists(path):
        link = f", a link to {_shown(os.readlink(path))}," if os.path.islink(path) else ""
        raise FileNotFoundError(
            f"{_shown(path)}{link} does not exist; pass a parquet file, a folder of pictures, an .npy or .npz file"
        )
    if os.path.isdir(path):
        return _collect(path, _in_folder(path), size, on_error)
    try:
        with _open(path) as file:
            if path.suffix == ".parquet":
                return _collect(path, _in_parquet(path, file), size, on_error)
            if path.suffix in (".npy", ".npz"):
                images = _from_array(path, file, size)
                return images, np.arange(len(images))
    except _FaultError as fault:
        raise ValueError(f"{_shown(path)} {fault}") from fault
    raise ValueError(f"{_shown(path)} is of an unknown kind; pass {_KINDS}")


def to_unit(images: np.ndarray) -> Tensor:
    """Return uint8 pictures (N, H, W, C) as floats in [-1, 1], (N, C, H, W)."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 of shape (N, H, W, C), got {images.dtype} {images.shape}")
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_uint8(x: Tensor) -> np.ndarray:
    """Return pictures in [-1, 1], (N, C, H, W), as uint8 (N, H, W, C).

    Rounded, not truncated: truncation darkens every picture by half a level, which shifts measures such as FID.
    """
    levels = ((x.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


class Batches:
    """Shuffled, mirrored batches of pictures, without end if iterated again and again.

    The order is a function of the seed and the epoch alone, so that an interrupted training continues with
    the batch it would have seen next. The last incomplete batch of an epoch is dropped.

    Args:
        images: uint8, (N, H, W, C).
        batch_size: B; at most N.
        seed: Of the order and the mirroring.
        flip: Mirror every second picture, at random.

    Yields:
        Floats in [-1, 1], (B, C, H, W).

    Raises:
        ValueError: fewer pictures than a batch holds, or not uint8 of that shape.
    """

    def __init__(self, images: np.ndarray, batch_size: int, seed: int = 0, flip: bool = True) -> None:
        if batch_size < 1 or len(images) < batch_size:
            raise ValueError(
                f"a batch of {batch_size} needs 1 picture or more and at least that many, got {len(images)}; "
                "use more pictures or a smaller --batch-size"
            )
        to_unit(images[:1])  # complains now rather than in the middle of training
        self.images, self.batch_size, self.seed, self.flip = images, batch_size, seed, flip
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self.images) // self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; `DiffusionTrainer.fit` calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        # SeedSequence mixes the two numbers, so that (seed 1, epoch 0) and (seed 0, epoch 1) are unrelated.
        state = int(np.random.SeedSequence((self.seed, self.epoch)).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(state)
        order = torch.randperm(len(self.images), generator=generator).numpy()
        mirrored = torch.rand(len(self.images), generator=generator) < 0.5
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = slice(start, start + self.batch_size)
            batch = to_unit(self.images[order[chosen]])
            if self.flip:
                batch = torch.where(mirrored[chosen, None, None, None], batch.flip(-1), batch)
            yield batch


class _FaultError(ValueError):
    """Why something cannot be used; its name comes before."""


def _collect(
    path: Path, sources: Sequence[tuple[str, Any]], size: int | None, on_error: str
) -> tuple[np.ndarray, np.ndarray]:
    """Decode pictures from (name, file or bytes or fault), and return the good ones with their places."""
    good: list[tuple[int, str, np.ndarray]] = []
    faults: list[str] = []
    doubts: list[str] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for place, (name, source) in enumerate(_progress(sources)):
            said.clear()
            try:
                image = _decode(source, size)
            except _FaultError as fault:
                if on_error == "raise":
                    raise ValueError(f'{name} {fault}; mend or remove it, or skip such with on_error="skip"') from fault
                faults.append(f"{name} {fault}")
                continue
            if on_error == "raise" and good and image.shape != good[0][2].shape:
                raise ValueError(
                    f"pictures differ in size: {good[0][1]} is {_extent(good[0][2].shape)}, "
                    f"{name} is {_extent(image.shape)}; fit them all with --size"
                )
            good.append((place, name, image))
            doubts += [f"{name} ({_told(said[0].message)})"] if said else []
    if not good:
        raise ValueError(f"{_shown(path)} holds no pictures that can be read: {_listed(faults)}")
    (shape, _), *others = Counter(image.shape for _, _, image in good).most_common()
    if others:
        odd = [(name, image.shape) for _, name, image in good if image.shape != shape]
        faults += [f"{name} is {_extent(other)}, most are {_extent(shape)}" for name, other in odd]
        good = [each for each in good if each[2].shape == shape]
    if faults:
        warnings.warn(f"skipped {len(faults)} of {len(sources)} pictures: {_listed(faults)}", stacklevel=4)
    if doubts:
        warnings.warn(
            f"used {len(doubts)} of {len(sources)} pictures though they may be damaged: {_listed(doubts)}", stacklevel=4
        )
    return np.stack([image for _, _, image in good]), np.array([place for place, _, _ in good], dtype=np.int64)


def _in_folder(folder: Path) -> list[tuple[str, Path | _FaultError]]:
    found = [(_shown(path), source) for path, source in _walk(folder, ())]
    if not found:
        kinds = ", ".join(sorted(_PICTURES))
        raise ValueError(f"{_shown(folder)} holds no pictures; expected files that end in {kinds}")
    return found


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, Path | _FaultError]]:
    """Find the pictures in a folder, in order; `rglob` would pass over what it may not or cannot enter."""
    try:
        found = folder.stat()
        here = (found.st_dev, found.st_ino)
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield folder, _FaultError(f"cannot be opened ({error.strerror})")
        return
    if here in above:
        yield folder, _FaultError("is a link to a folder that holds it")
        return
    for entry in entries:
        if os.path.isdir(entry):
            yield from _walk(entry, (*above, here))
        elif entry.suffix.lower() in _PICTURES:
            yield entry, entry


def _in_parquet(path: Path, file: BinaryIO) -> list[tuple[str, Any]]:
    import pyarrow.parquet as pq

    name = _shown(path)
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as table:
            columns = table.schema_arrow.names
            column = next((each for each in _COLUMNS if each in columns), None)
            rows = [] if column is None else table.read(columns=[column]).column(column).to_pylist()
    except Exception as error:  # damage shows in many ways, and not all are errors of Arrow
        raise _FaultError(f"is not a readable parquet file ({_told(error)})") from error
    if column is None:
        raise _FaultError(f"has no column {' or '.join(_COLUMNS)}; its columns are {_shown(', '.join(columns))}")
    if not rows:
        raise _FaultError(f"holds no pictures: column {column} is empty")
    return [(f"{name} row {index}", _encoded(row, column)) for index, row in enumerate(rows)]


def _encoded(row: Any, column: str) -> bytes | _FaultError:
    data = row.get("bytes") if isinstance(row, dict) else row
    if isinstance(data, bytes):
        return data
    if isinstance(row, dict) and isinstance(row.get("path"), str):
        what = f"the path {_shown(row['path'])} but no picture"
    else:
        what = "nothing" if row is None else f"{type(row).__name__}, no encoded picture,"
    return _FaultError(f"holds {what} in column {column}; expected bytes, or {{bytes, path}} with bytes")


def _from_array(path: Path, file: BinaryIO, size: int | None) -> np.ndarray:
    if not file.read(6).startswith((b"\x93NUMPY", b"PK\3\4", b"PK\5\6")):  # numpy would take it for a pickle
        raise _FaultError("is not a readable array of pictures (not an .npy or .npz file, or damaged at its beginning)")
    file.seek(0)
    try:
        loaded = np.load(file, allow_pickle=False)  # a pickle could run anything
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded as archive:
                names = archive.files
                if len(names) != 1 and not {"images", "arr_0"} & set(names):
                    raise ValueError(f"it holds the arrays {', '.join(names) or '(none)'}; name the pictures 'images'")
                loaded = archive[next((name for name in ("images", "arr_0") if name in names), names[0])]
        elif file.read(1):
            raise ValueError("it goes on after the array; save one array alone")
    except Exception as error:  # damage shows in many ways: of zip, of zlib, of the header that numpy parses
        raise _FaultError(f"is not a readable array of pictures ({_told(error)})") from error
    if loaded.dtype != np.uint8:
        with np.errstate(all="ignore"):
            known = loaded.size and loaded.dtype.kind in "fiu"
            span = f" in [{loaded.min():.4g}, {loaded.max():.4g}]" if known else ""
        raise _FaultError(f"must hold uint8 values from 0 to 255, got {loaded.dtype}{span}; save it as uint8")
    images = loaded[..., None] if loaded.ndim == 3 else loaded
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.size == 0:
        raise _FaultError(f"must have shape (N, H, W, 3), (N, H, W, 1) or (N, H, W), got {loaded.shape}")
    if size is None or images.shape[1:3] == (size, size):
        return images
    channels = images.shape[-1]
    plain = images[..., 0] if channels == 1 else images
    fitted = [np.asarray(_fit(Image.fromarray(image), size)) for image in _progress(plain)]
    return np.stack(fitted).reshape(-1, size, size, channels)


def _open(file: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise _FaultError("is not a file")  # to open a pipe would wait for ever
        return file.open("rb")
    except OSError as error:
        link = f"is a link to {_shown(os.readlink(file))}, which" if file.is_symlink() else ""
        raise _FaultError(f"{link} cannot be opened ({error.strerror})".lstrip()) from error


def _decode(source: Path | bytes | _FaultError, size: int | None) -> np.ndarray:
    if isinstance(source, _FaultError):
        raise source
    with _open(source) if isinstance(source, Path) else io.BytesIO(source) as file:
        try:
            picture = Image.open(file, formats=_FORMATS)
            if picture.format == "PNG":  # else pillow would look at no checksum of the pixels
                picture.verify()
                file.seek(0)
                picture = Image.open(file, formats=_FORMATS)
            if getattr(picture, "is_animated", False) and picture.format != "MPO":
                raise _FaultError("holds more than one picture; save those to use in files of their own")
            if picture.format == "TIFF":  # whose parts may leave some of it out, which pillow would make black
                parts = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), *_ in picture.tile)
                if parts < picture.width * picture.height:
                    raise _FaultError(
                        f"is not a readable picture (pixels of its {picture.width}×{picture.height} are missing)"
                    )
            picture = _as_rgb(picture)
            return np.asarray(picture if size is None else _fit(picture, size))
        except _FaultError:
            raise
        except UnidentifiedImageError as error:
            what = f"not one of {', '.join(_FORMATS)}, or damaged at its beginning" if file.seek(0, 2) else "empty"
            raise _FaultError(f"is not a readable picture ({what})") from error
        except Exception as error:  # damage shows in many ways, from struct.error to ZeroDivisionError
            raise _FaultError(f"is not a readable picture ({_told(error)})") from error


def _as_rgb(picture: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        return _from_16_bits(picture)
    if picture.mode in ("I", "F"):
        raise _FaultError("holds numbers whose black and white are not known; save it with 8 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _from_16_bits(picture: Image.Image) -> Image.Image:
    """Scale grey levels, which pillow itself would clip."""
    tags = getattr(picture, "tag_v2", {})
    if tags and (tags.get(_BITS), tags.get(_MEANING)) != ((16,), _BLACK_IS_ZERO):
        raise _FaultError("holds grey levels that are not of 16 bits with black at 0; save it with 8 bits")
    levels = np.asarray(picture).astype(np.uint32)
    levels = np.where(levels == picture.info.get("transparency"), 65535, levels)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")


def _fit(picture: Image.Image, size: int) -> Image.Image:
    if picture.size == (size, size):
        return picture
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))  # first: a resize would look beyond its box
    return square.resize((size, size), Image.Resampling.LANCZOS)


def _extent(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"


def _shown(name: str | Path) -> str:
    """Return a name as it can be printed on one line."""
    return str(name) if str(name).isprintable() else repr(str(name))


def _told(error: Exception | str) -> str:
    """Return what an error says, or at least its kind."""
    return _shown(" ".join(str(error).split()) or type(error).__name__)


def _listed(items: Sequence[str]) -> str:
    return "; ".join(items[:3]) + (f"; and {len(items) - 3} more" if len(items) > 3 else "")


def _progress(items):  # type: ignore[no-untyped-def]
    """Show progress once it takes longer than a second; nothing where there is no terminal."""
    return tqdm(items, desc="reading", unit=" pictures", delay=1, disable=None, leave=False)
