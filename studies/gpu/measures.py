"""Measures of a trained case: bits/dim of test images, and the distance of its samples from the training set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import shortest_path as sp
from examples.recipe.chunks import Chunks
from examples.recipe.cifar10 import Pictures
from examples.recipe.comparison import storage
from examples.recipe.features import Network, frechet_label, load_network
from examples.recipe.images import to_uint8
from examples.recipe.metrics import frechet_distance, kernel_distance
from examples.recipe.ranks import Ranks
from examples.recipe.summaries import Summary, summarise, summary_of_reference
from examples.recipe.unet import Bf16
from studies.gpu.limit import Limit
from studies.gpu.records import show
from studies.gpu.training import Training

SEED = 1234  # of samples, dequantisation and signs: the same in all cases
SHOWN = 64  # samples in a grid
_AT_ONCE = 250  # images in a batch of features
_INCEPTION_RATE = 800.0  # images per second, a low estimate for a GPU


class Judge(NamedTuple):
    """What cases are compared with.

    `held_out` are dequantised test images, `real` the reference of samples, `reason` says why `network` is None,
    `samples` is the number of samples for a measure, `at_once` that in a batch, `part` the number of test images in a
    batch, and `note` names the reference.
    """

    held_out: Tensor
    real: Pictures
    network: Network | None
    reason: str
    reference: Summary | None
    samples: int
    at_once: int
    part: int
    note: str


def dequantised(images: np.ndarray) -> Tensor:
    """Return 8-bit images in [-1, 1] with uniform noise of one level; image i has the same noise in every call.

    x = (level + U[−½, ½)) / 127.5 − 1
    """
    levels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).double()
    noise = torch.rand(levels.shape, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    return ((levels + noise - 0.5) / 127.5 - 1).float()


def load_features(name: str, device: torch.device) -> tuple[Network | None, str]:
    """Return the feature network, or None and the reason that there is none."""
    if name == "none":
        return None, "--features none"
    try:
        return load_network(name, Ranks(0, 1, device)), ""
    except ValueError as error:
        return None, str(error)


def reference_of(network: Network, real: Pictures, folder: Path, device: torch.device, limit: Limit) -> Summary:
    """Return the statistics of the real images' features, computed once."""
    if not any(folder.glob("*.npz")):
        limit.require(len(real.images) / _INCEPTION_RATE)
    return summary_of_reference(network, real, Ranks(0, 1, device), folder, _AT_ONCE)[0]


def bits(
    training: Training, judge: Judge, steps: int, found: list[float], limit: Limit, keep: Callable[[], None]
) -> None:
    """Append the bits/dim of the test images that `found` lacks, part by part."""
    sampler = training.trainer.sampler(steps=steps)  # in float32: a bias of bfloat16 would look like likelihood
    took = 0.0
    while len(found) < len(judge.held_out):
        limit.require(took)
        before, first = limit.left(), len(found)
        x_0 = judge.held_out[first : first + judge.part].to(training.device)
        signs = torch.Generator().manual_seed(SEED + first)
        values = sampler.log_likelihood(x_0, generator=signs, progress=False)
        found += [float(each) for each in sp.bits_per_dim(values.double().cpu(), x_0.shape[1:])]
        took = before - limit.left()
        keep()


def quality(training: Training, judge: Judge, solver: str, calls: int, place: Path, limit: Limit) -> dict[str, Any]:
    """Sample what is missing, draw a grid, and return the distances from real images.

    Args:
        training: The trained case.
        judge: Real images and the feature network.
        solver: Name of the solver.
        calls: Number of its steps.
        place: Path and beginning of the names of files to write.
        limit: Time of the call; finished batches of samples are kept for the next one.
    """
    network, known = judge.network, judge.reference
    count = SHOWN if network is None else judge.samples
    name = f"{place.name}-{solver}-{calls}"
    chunks = Chunks(place.with_name(f"{name}-{training.step}-{count}.parts"), count, judge.at_once)
    chunks.open({"step": training.step, "solver": solver, "calls": calls, "count": count}, write=True)
    _sample(training, chunks, solver, calls, name, limit)
    images = chunks.join()
    grid = place.with_name(f"{name}.png")
    Image.fromarray(tiled(images[:SHOWN])).save(grid)
    entry: dict[str, Any] = {"samples": count, "grid": grid.name, "fid": None, "reason": judge.reason}
    if network is not None and known is not None:
        limit.require(count / _INCEPTION_RATE)
        device = training.device
        found = summarise(network, images, Ranks(0, 1, device), _AT_ONCE, "samples")
        few = min(len(found.features), len(known.features))
        kernel = kernel_distance(*(each.features[:few].to(device) for each in (known, found)))
        entry |= {
            "label": f"{frechet_label(network, count)}, {judge.note}",
            "fid": frechet_distance(*(each.to(device) for each in (*known[1:3], *found[1:3]))),
            "kid": kernel[0],
            "kid_standard_error": kernel[1],
        }
    chunks.remove()
    return entry


def _sample(training: Training, chunks: Chunks, solver: str, calls: int, name: str, limit: Limit) -> None:
    """Write the samples that are missing, a file at a time."""
    model = training.trainer.ema_model
    sampler = sp.Sampler(
        Bf16(model) if training.settings.bf16 == "yes" else model,
        training.trainer.corruption,
        prediction=training.settings.prediction,
        spectrum=training.spectrum,
        steps=calls,
        solver=solver,  # type: ignore[arg-type]
    )
    took = 0.0
    for indices in chunks.missing():
        limit.require(took)
        before = limit.left()
        (x_0,) = sampler.batches(
            indices, training.spectrum.shape, batch_size=len(indices), seed=SEED, device=training.device, progress=False
        )
        if not x_0.isfinite().all():
            raise ValueError(f"{name} gives samples that are not finite; its training has diverged")
        chunks.write(indices, to_uint8(x_0))
        took = before - limit.left()
        show(f"  {name}: sample {indices[-1] + 1} of {chunks.ranges[-1][-1] + 1}")


def tiled(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """Return uint8 images, (N, H, W, C), as one, (N / columns × H, columns × W, C), without an incomplete last row."""
    rows = len(images) // columns
    _, height, width, channels = images.shape
    grid = images[: rows * columns].reshape(rows, columns, height, width, channels)
    return grid.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def storage_note(pictures: Pictures, note: str | None) -> str:
    """Return how the reference is named: its number of images and storage, or the note that was given."""
    return f"{len(pictures.images):,} training images, {note or storage(pictures)}"
