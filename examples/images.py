"""Reading pictures, and making batches of them for a network."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_COLUMNS = ("img", "image")
_KINDS = "a parquet file, a folder of pictures, or an .npy or .npz array"


def load_images(path: str | Path, size: int | None = None) -> np.ndarray:
    """Read every picture of a data set into memory.

    Args:
        path: A parquet file with a column `img` or `image`, as data sets of Hugging Face have; a folder of
            pictures, read in the order of their names, sub-folders included; or an .npy or .npz array
            (N, H, W, C) or (N, H, W) of uint8.
        size: Crop pictures to their central square and resize it to this many pixels; None leaves them.

    Returns:
        uint8, (N, H, W, 3); an array keeps the channels it has.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: no pictures, pictures of different sizes, or a file that is not what it should be.
    """
    path = Path(path)
    if size is not None and size < 1:
        raise ValueError(f"size must be 1 or more, got {size}")
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; pass a parquet file, a folder of pictures, an .npy or .npz file"
        )
    if path.is_dir():
        return _from_folder(path, size)
    if path.suffix == ".parquet":
        return _from_parquet(path, size)
    if path.suffix in (".npy", ".npz"):
        return _from_array(path, size)
    raise ValueError(f"{path} is of an unknown kind; pass {_KINDS}")


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


def _from_folder(folder: Path, size: int | None) -> np.ndarray:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _PICTURES)
    if not files:
        raise ValueError(f"{folder} holds no pictures; expected files that end in {', '.join(sorted(_PICTURES))}")
    return _stack([(str(file), _decode(str(file), file, size)) for file in _progress(files)])


def _from_parquet(path: Path, size: int | None) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            column = next((name for name in _COLUMNS if name in names), None)
            if column is None:
                raise ValueError(f"{path} has no column {' or '.join(_COLUMNS)}; its columns are {', '.join(names)}")
            rows = file.read(columns=[column]).column(column).to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"{path} is not a readable parquet file ({error})") from error
    if not rows:
        raise ValueError(f"{path} holds no pictures: column {column} is empty")
    named = []
    for index, row in enumerate(_progress(rows)):
        name = f"{path} row {index}"
        data = row.get("bytes") if isinstance(row, dict) else row
        if not isinstance(data, bytes):
            raise ValueError(f"{name} holds no encoded picture in column {column}; expected {{bytes, path}} with bytes")
        named.append((name, _decode(name, io.BytesIO(data), size)))
    return _stack(named)


def _from_array(path: Path, size: int | None) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)  # a pickle could run anything
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded as archive:
                names = archive.files
                if len(names) != 1 and not {"images", "arr_0"} & set(names):
                    raise ValueError(f"it holds the arrays {', '.join(names) or '(none)'}; name the pictures 'images'")
                loaded = archive[next((name for name in ("images", "arr_0") if name in names), names[0])]
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is not a readable array of pictures ({error})") from error
    if loaded.dtype != np.uint8:
        span = f" in [{loaded.min():.4g}, {loaded.max():.4g}]" if loaded.size and loaded.dtype.kind in "fiu" else ""
        raise ValueError(f"{path} must hold uint8 values from 0 to 255, got {loaded.dtype}{span}; save it as uint8")
    images = loaded[..., None] if loaded.ndim == 3 else loaded
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.size == 0:
        raise ValueError(f"{path} must have shape (N, H, W, 3), (N, H, W, 1) or (N, H, W), got {loaded.shape}")
    if size is None or images.shape[1:3] == (size, size):
        return images
    channels = images.shape[-1]
    fitted = [np.asarray(_fit(Image.fromarray(image.squeeze()), size)) for image in _progress(images)]
    return np.stack(fitted).reshape(-1, size, size, channels)


def _decode(name: str, source: Path | io.BytesIO, size: int | None) -> np.ndarray:
    try:
        with Image.open(source) as picture:
            picture = picture.convert("RGB")
    except OSError as error:  # pillow's word for a damaged or unknown file
        raise ValueError(f"{name} is not a readable picture ({error}); mend or remove it") from error
    return np.asarray(picture if size is None else _fit(picture, size))


def _fit(picture: Image.Image, size: int) -> Image.Image:
    if picture.size == (size, size):
        return picture
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))  # first: a resize would look beyond its box
    return square.resize((size, size), Image.Resampling.LANCZOS)


def _stack(named: list[tuple[str, np.ndarray]]) -> np.ndarray:
    first_name, first = named[0]
    for name, image in named:
        if image.shape != first.shape:
            sizes = [f"{array.shape[1]}×{array.shape[0]}" for array in (first, image)]
            raise ValueError(
                f"pictures differ in size: {first_name} is {sizes[0]}, {name} is {sizes[1]}; fit them all with --size"
            )
    return np.stack([image for _, image in named])


def _progress(items):  # type: ignore[no-untyped-def]
    """Show progress once it takes longer than a second; nothing where there is no terminal."""
    return tqdm(items, desc="reading", unit=" pictures", delay=1, disable=None, leave=False)
