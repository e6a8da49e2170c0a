"""Read images into memory, and make batches of them for a network."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ._arrays import read_images_of
from ._cifar_batches import read_batches
from ._contents import contents
from ._decoding import FaultError, decode, fit, shown, told
from ._parquet import encoded_rows
from .arguments import LEAST_SIZE


def load_images(
    path: str | Path,
    size: int | None = None,
    *,
    on_error: Literal["raise", "skip"] = "raise",
    enlarge: bool = True,
) -> np.ndarray:
    """Read every image of a data set into memory.

    Images become 8-bit RGB as they are meant to be seen: rotated by their EXIF data, grey repeated, CMYK converted,
    16 bits scaled to 8, and transparent pixels composed with white. Colour profiles are not applied. A file from
    which something would be lost is an error: animations and other files of several images (of a camera's MPO, the
    first one is read), and numbers without a known black and white. Damage is found as far as a format reveals it:
    in PNG all of it, by checksums; in other formats missing parts, but few flipped bits.

    Folders are read with their sub-folders in the order of names. Files and folders whose names begin with a dot are
    left out; other files that are not read are counted in a warning.

    Args:
        path: A folder of images; a parquet file with a column `img` or `image`, as data sets of Hugging Face have, or
            a folder with several, which are its shards; the folder `cifar-10-batches-py`, for its training images, or
            one file of it, e.g. `test_batch`; or an .npy or .npz array (N, H, W, C) or (N, H, W) of uint8.
        size: Crop images to their central square and resize it to this many pixels; None leaves them.
        on_error: `raise` at the first image that cannot be used, or `skip` such images and warn of them at the
            end; without `size`, also those of another size than most. An array is read whole or not at all, and so
            are the pages of a parquet file.
        enlarge: Whether images smaller than `size` are enlarged to it, with a warning; otherwise they are an error, as
            the finest detail of an enlarged image is that of the interpolation.

    Returns:
        uint8, (N, H, W, 3); an array keeps the channels it has.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: no images, or none left; images of different sizes; files that are not one data set; an array of
            another type or shape, or that would expand to more than 1 GiB and 100 times its size; or a file that
            cannot be read.

    Warns:
        UserWarning: a folder holds files that are not read, or lacks shards; images were skipped or enlarged, or pillow
            warns of some, with their number and the names of three.
    """
    return read_images(path, size, on_error=on_error, enlarge=enlarge)[0]


def read_images(
    path: str | Path,
    size: int | None = None,
    *,
    on_error: Literal["raise", "skip"] = "raise",
    enlarge: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Read as `load_images` does, and return the images and their places in the data set, (N,) of int64."""
    path = Path(path)
    if size is not None and size < 1:
        raise ValueError(f"size must be 1 or more, got {size}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}')
    found = contents(path)
    for remark in found.remarks:
        warnings.warn(remark, stacklevel=3)
    files = [file for file, _ in found.files]
    if found.kind == "folder":
        return _collect(path, [(shown(file), fault or file) for file, fault in found.files], size, on_error, enlarge)
    if found.kind == "parquet":
        return _collect(path, encoded_rows(files), size, on_error, enlarge)
    images = read_images_of(path) if found.kind == "array" else read_batches(files)[0]
    height, width = images.shape[1:3]
    if size is not None and min(height, width) < size:
        _check_enlarged(f"{shown(path)} has images of {width}×{height}", min(height, width), size, enlarge)
    return _fitted(images, size), np.arange(len(images))


def check_several(images: np.ndarray | Tensor, source: object) -> None:
    """Raise a ValueError for images without a spectrum: one, or several that are all the same."""
    if len(images) < 2:
        raise ValueError(f"{source} has one image; a spectrum requires two or more, better a few hundred")
    if all(bool((image == images[0]).all()) for image in images):  # ends at the first that differs
        raise ValueError(
            f"{source} has {len(images)} images that are all the same; a spectrum requires images that differ"
        )


def to_grey(images: np.ndarray) -> np.ndarray:
    """Return the brightness of uint8 images (N, H, W, 3), 0.299 R + 0.587 G + 0.114 B, as (N, H, W, 1)."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = (images[..., channel, None].astype(np.int32) for channel in range(3))
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)


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
                f"{len(images)} images to train with are fewer than the {batch_size} of a batch; "
                f"use more images, or --batch-size {max(1, len(images))} or less"
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
    path: Path, sources: Sequence[tuple[str, Any]], size: int | None, on_error: str, enlarge: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Decode images from (name, file or bytes or fault), and return the good ones with their places."""
    good: list[tuple[int, str, np.ndarray]] = []
    faults: list[str] = []
    doubts: list[str] = []
    small: list[tuple[str, int, int]] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for place, (name, source) in enumerate(_progress(sources)):
            said.clear()
            try:
                image, (width, height) = decode(source, size)
            except FaultError as fault:
                if on_error == "raise":
                    raise ValueError(f'{name} {fault}; mend or remove it, or skip such with on_error="skip"') from fault
                faults.append(f"{name} {fault}")
                continue
            if on_error == "raise" and good and image.shape != good[0][2].shape:
                raise ValueError(
                    f"images differ in size: {good[0][1]} is {_extent(good[0][2].shape)}, "
                    f"{name} is {_extent(image.shape)}; resize them, or fit them with --size where a script has it"
                )
            if size is not None and min(width, height) < size:
                small.append((name, width, height))
                if not enlarge:
                    break
            good.append((place, name, image))
            doubts += [f"{name} ({told(said[0].message)})"] if said else []
    if size is not None and small:
        name, width, height = small[0]
        others = f", and {len(small) - 1} others are as small" if len(small) > 1 else ""
        _check_enlarged(f"{name} is {width}×{height}{others}", min(small[0][1:]), size, enlarge)
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


def _check_enlarged(what: str, side: int, size: int, enlarge: bool) -> None:
    """Warn that images were enlarged, or raise a ValueError if they must not be."""
    if not enlarge:
        mend = f"choose --size {side} or less"
        if side < LEAST_SIZE:
            mend = f"pass images of {LEAST_SIZE}×{LEAST_SIZE} pixels or more"
        raise ValueError(
            f"{what}, less than {size}×{size}, and images are not enlarged: the finest detail would be that of the "
            f"interpolation; {mend}"
        )
    warnings.warn(f"{what}, enlarged to {size}×{size}: the finest detail is that of the interpolation", stacklevel=4)


def _fitted(images: np.ndarray, size: int | None) -> np.ndarray:
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
