"""Read images into memory, and make batches of them for a network."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ._decoding import FaultError, decode, fit, open_file, shown, told

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_COLUMNS = ("img", "image")
_KINDS = "a parquet file, a folder of images, or an .npy or .npz array"


def load_images(
    path: str | Path, size: int | None = None, *, on_error: Literal["raise", "skip"] = "raise"
) -> np.ndarray:
    """Read every image of a data set into memory.

    Images become 8-bit RGB as they are meant to be seen: rotated by their EXIF data, grey repeated, CMYK converted,
    16 bits scaled to 8, and transparent pixels composed with white. Colour profiles are not applied. A file from
    which something would be lost is an error: animations and other files of several images (of a camera's MPO, the
    first one is read), and numbers without a known black and white. Damage is found as far as a format reveals it:
    in PNG all of it, by checksums; in other formats missing parts, but few flipped bits.

    Args:
        path: A parquet file with a column `img` or `image`, as data sets of Hugging Face have; a folder of
            images, read in the order of their names, sub-folders included; or an .npy or .npz array
            (N, H, W, C) or (N, H, W) of uint8.
        size: Crop images to their central square and resize it to this many pixels; None leaves them.
        on_error: `raise` at the first image that cannot be used, or `skip` such images and warn of them at the
            end; without `size`, also those of another size than most. An array is read whole or not at all, and so
            are the pages of a parquet file.

    Returns:
        uint8, (N, H, W, 3); an array keeps the channels it has.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: no images, or none left; images of different sizes; or a file that cannot be read.

    Warns:
        UserWarning: images were skipped, or pillow warns of some; gives their number, and names three.
    """
    return read_images(path, size, on_error=on_error)[0]


def read_images(
    path: str | Path, size: int | None = None, *, on_error: Literal["raise", "skip"] = "raise"
) -> tuple[np.ndarray, np.ndarray]:
    """Read as `load_images` does, and return the images and their places in the data set, (N,) of int64."""
    path = Path(path)
    if size is not None and size < 1:
        raise ValueError(f"size must be 1 or more, got {size}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}')
    if not os.path.exists(path):
        link = f", a link to {shown(os.readlink(path))}," if os.path.islink(path) else ""
        raise FileNotFoundError(
            f"{shown(path)}{link} does not exist; pass a parquet file, a folder of images, an .npy or .npz file"
        )
    if os.path.isdir(path):
        return _collect(path, _in_folder(path), size, on_error)
    try:
        with open_file(path) as file:
            if path.suffix == ".parquet":
                return _collect(path, _in_parquet(path, file), size, on_error)
            if path.suffix in (".npy", ".npz"):
                images = _from_array(path, file, size)
                return images, np.arange(len(images))
    except FaultError as fault:
        raise ValueError(f"{shown(path)} {fault}") from fault
    raise ValueError(f"{shown(path)} is of an unknown kind; pass {_KINDS}")


def to_unit(images: np.ndarray) -> Tensor:
    """Return uint8 images (N, H, W, C) as floats in [-1, 1], (N, C, H, W)."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 of shape (N, H, W, C), got {images.dtype} {images.shape}")
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_uint8(x: Tensor) -> np.ndarray:
    """Return images in [-1, 1], (N, C, H, W), as uint8 (N, H, W, C).

    Rounded, not truncated: truncation darkens every image by half a level, which shifts measures such as FID.
    """
    levels = ((x.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


class Batches:
    """Shuffled, mirrored batches of images; each iteration is one epoch.

    The order is a function of the seed and the epoch alone, so that an interrupted training continues with
    the batch it would have seen next. The last incomplete batch of an epoch is dropped.

    Args:
        images: uint8, (N, H, W, C).
        batch_size: B; at most N.
        seed: Random seed for the order and the mirroring.
        flip: Mirror each image with probability 1/2.

    Yields:
        Floats in [-1, 1], (B, C, H, W).

    Raises:
        ValueError: fewer images than a batch holds, or not uint8 of that shape.
    """

    def __init__(self, images: np.ndarray, batch_size: int, seed: int = 0, flip: bool = True) -> None:
        if batch_size < 1 or len(images) < batch_size:
            raise ValueError(
                f"a batch of {batch_size} needs 1 image or more and at least that many, got {len(images)}; "
                "use more images or a smaller --batch-size"
            )
        to_unit(images[:1])  # raises now rather than in the middle of training
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


def _collect(
    path: Path, sources: Sequence[tuple[str, Any]], size: int | None, on_error: str
) -> tuple[np.ndarray, np.ndarray]:
    """Decode images from (name, file or bytes or fault), and return the good ones with their places."""
    good: list[tuple[int, str, np.ndarray]] = []
    faults: list[str] = []
    doubts: list[str] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for place, (name, source) in enumerate(_progress(sources)):
            said.clear()
            try:
                image = decode(source, size)
            except FaultError as fault:
                if on_error == "raise":
                    raise ValueError(f'{name} {fault}; mend or remove it, or skip such with on_error="skip"') from fault
                faults.append(f"{name} {fault}")
                continue
            if on_error == "raise" and good and image.shape != good[0][2].shape:
                raise ValueError(
                    f"images differ in size: {good[0][1]} is {_extent(good[0][2].shape)}, "
                    f"{name} is {_extent(image.shape)}; fit them all with --size"
                )
            good.append((place, name, image))
            doubts += [f"{name} ({told(said[0].message)})"] if said else []
    if not good:
        raise ValueError(f"{shown(path)} holds no images that can be read: {_listed(faults)}")
    (shape, _), *others = Counter(image.shape for _, _, image in good).most_common()
    if others:
        odd = [(name, image.shape) for _, name, image in good if image.shape != shape]
        faults += [f"{name} is {_extent(other)}, most are {_extent(shape)}" for name, other in odd]
        good = [each for each in good if each[2].shape == shape]
    if faults:
        warnings.warn(f"skipped {len(faults)} of {len(sources)} images: {_listed(faults)}", stacklevel=4)
    if doubts:
        warnings.warn(
            f"used {len(doubts)} of {len(sources)} images though they may be damaged: {_listed(doubts)}", stacklevel=4
        )
    return np.stack([image for _, _, image in good]), np.array([place for place, _, _ in good], dtype=np.int64)


def _in_folder(folder: Path) -> list[tuple[str, Path | FaultError]]:
    found = [(shown(path), source) for path, source in _walk(folder, ())]
    if not found:
        kinds = ", ".join(sorted(_SUFFIXES))
        raise ValueError(f"{shown(folder)} holds no images; expected files that end in {kinds}")
    return found


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, Path | FaultError]]:
    """Find the images in a folder, in order; `rglob` would pass over what it may not or cannot enter."""
    try:
        found = folder.stat()
        here = (found.st_dev, found.st_ino)
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield folder, FaultError(f"cannot be opened ({error.strerror})")
        return
    if here in above:
        yield folder, FaultError("is a link to a folder that holds it")
        return
    for entry in entries:
        if os.path.isdir(entry):
            yield from _walk(entry, (*above, here))
        elif entry.suffix.lower() in _SUFFIXES:
            yield entry, entry


def _in_parquet(path: Path, file: BinaryIO) -> list[tuple[str, Any]]:
    import pyarrow.parquet as pq

    name = shown(path)
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as table:
            columns = table.schema_arrow.names
            column = next((each for each in _COLUMNS if each in columns), None)
            rows = [] if column is None else table.read(columns=[column]).column(column).to_pylist()
    except Exception as error:  # damage shows in many ways, and not all are errors of Arrow
        raise FaultError(f"is not a readable parquet file ({told(error)})") from error
    if column is None:
        raise FaultError(f"has no column {' or '.join(_COLUMNS)}; its columns are {shown(', '.join(columns))}")
    if not rows:
        raise FaultError(f"holds no images: column {column} is empty")
    return [(f"{name} row {index}", _encoded(row, column)) for index, row in enumerate(rows)]


def _encoded(row: Any, column: str) -> bytes | FaultError:
    data = row.get("bytes") if isinstance(row, dict) else row
    if isinstance(data, bytes):
        return data
    if isinstance(row, dict) and isinstance(row.get("path"), str):
        what = f"the path {shown(row['path'])} but no image"
    else:
        what = "nothing" if row is None else f"{type(row).__name__}, no encoded image,"
    return FaultError(f"holds {what} in column {column}; expected bytes, or {{bytes, path}} with bytes")


def _from_array(path: Path, file: BinaryIO, size: int | None) -> np.ndarray:
    if not file.read(6).startswith((b"\x93NUMPY", b"PK\3\4", b"PK\5\6")):  # numpy would take it for a pickle
        raise FaultError("is not a readable array of images (not an .npy or .npz file, or damaged at its beginning)")
    file.seek(0)
    try:
        loaded = np.load(file, allow_pickle=False)  # a pickle could run anything
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded as archive:
                names = archive.files
                if len(names) != 1 and not {"images", "arr_0"} & set(names):
                    raise ValueError(f"it holds the arrays {', '.join(names) or '(none)'}; name the images 'images'")
                loaded = archive[next((name for name in ("images", "arr_0") if name in names), names[0])]
        elif file.read(1):
            raise ValueError("it goes on after the array; save one array alone")
    except Exception as error:  # damage shows in many ways: of zip, of zlib, of the header that numpy parses
        raise FaultError(f"is not a readable array of images ({told(error)})") from error
    if loaded.dtype != np.uint8:
        with np.errstate(all="ignore"):
            known = loaded.size and loaded.dtype.kind in "fiu"
            span = f" in [{loaded.min():.4g}, {loaded.max():.4g}]" if known else ""
        raise FaultError(f"must hold uint8 values from 0 to 255, got {loaded.dtype}{span}; save it as uint8")
    images = loaded[..., None] if loaded.ndim == 3 else loaded
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.size == 0:
        raise FaultError(f"must have shape (N, H, W, 3), (N, H, W, 1) or (N, H, W), got {loaded.shape}")
    if size is None or images.shape[1:3] == (size, size):
        return images
    channels = images.shape[-1]
    plain = images[..., 0] if channels == 1 else images
    fitted = [np.asarray(fit(Image.fromarray(image), size)) for image in _progress(plain)]
    return np.stack(fitted).reshape(-1, size, size, channels)


def _extent(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"


def _listed(items: Sequence[str]) -> str:
    return "; ".join(items[:3]) + (f"; and {len(items) - 3} more" if len(items) > 3 else "")


def _progress(items):  # type: ignore[no-untyped-def]
    """Show progress once it takes longer than a second; nothing where there is no terminal."""
    return tqdm(items, desc="reading", unit=" images", delay=1, disable=None, leave=False)
