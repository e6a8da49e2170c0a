"""The images that exact studies measure: from a file, or generated."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.generated_images import generated_images
from examples.recipe.images import load_images, to_unit

_BATCH = 1024


class Images(NamedTuple):
    """Images in [-1, 1], (N, C, H, W), and where they are from."""

    source: str
    images: Tensor

    def mirrored(self) -> list[Tensor]:
        """Return batches of the images and their mirror images, float64."""
        return [torch.cat([batch, batch.flip(-1)]).double() for batch in self.images.split(_BATCH)]


def add_options(options: argparse.ArgumentParser) -> None:
    """Add --data and --images."""
    options.add_argument("--data", type=Path, help="parquet file with a column img (default: generated images)")
    options.add_argument("--images", type=int, default=None, help="number of images to use, from the first")


def images_in(path: Path, program: str, size: int | None = None) -> np.ndarray:
    """Return the images of a data set, (N, H, W, C) of uint8; a program of this name ends if they cannot be read."""
    try:
        return load_images(path, size)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{program}: {error}") from error


def read(arguments: argparse.Namespace, program: str) -> Images:
    """Return the images that the options name; see `images_in`."""
    if arguments.data is None:
        return Images("generated images", generated_images(arguments.images or 2000))
    return Images(arguments.data.name, to_unit(images_in(arguments.data, program))[: arguments.images])
