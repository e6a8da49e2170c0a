"""The images that exact studies measure: from a file, or generated."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

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


def read(arguments: argparse.Namespace) -> Images:
    """Return the images that the options name."""
    if arguments.data is None:
        return Images("generated images", generated_images(arguments.images or 2000))
    return Images(arguments.data.name, to_unit(load_images(arguments.data))[: arguments.images])
