"""Samples and a reference to compare with: read them, and refuse a comparison that would mislead."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from .cifar10 import Pictures, load

_LOSSLESS = {"PNG", "BMP", "PPM"}
FAULTS = ("encoding", "range", "duplicates", "copies")
_FEWEST = 20  # images
_DUPLICATES = 0.01


def read(path: Path) -> Pictures:
    """Read samples; plain values in an .npz file become part of their provenance.

    Raises:
        ValueError: the path does not exist, holds no images, or is the folder of a training run.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; pass an .npz or .npy array, a folder of PNG files or a parquet file")
    if (path / "checkpoints").is_dir():
        raise ValueError(
            f"{path} is the folder of a training run, whose PNG files are sheets of several samples; sample with "
            f"sample_cifar10.py {path} --out samples.npz, and pass samples.npz"
        )
    samples, about = load(str(path)), {}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            for name in set(archive.files) - {"images", "arr_0"}:
                try:
                    entry = archive[name]
                except ValueError:  # a pickle, which could run anything
                    continue
                if entry.ndim == 0 and entry.dtype.kind in "biufU":
                    about[name] = entry.item()
    return samples._replace(provenance={**samples.provenance, **({"about": about} if about else {})})


def check(samples: Pictures, reference: Pictures, allowed: Sequence[str] = ()) -> dict[str, str]:
    """Return explanations, by name, of the faults that would make measures mislead and that are allowed.

    Raises:
        ValueError: images that cannot be compared, or a fault that is not allowed.
    """
    pair = {"samples are": samples, "the reference is": reference}
    shapes = ["×".join(map(str, each.images.shape[1:])) for each in pair.values()]
    if shapes[0] != shapes[1]:
        raise ValueError(f"samples are {shapes[0]}, the reference is {shapes[1]}; generate samples of the same size")
    counts = [len(each.images) for each in pair.values()]
    if min(counts) < _FEWEST:
        raise ValueError(f"{_FEWEST} images or more are needed, got {counts[0]} samples and {counts[1]} to compare")
    found = {}
    if signs := [f"{name} {sign}" for name, each in pair.items() if (sign := sign_of_jpeg(each))]:
        found["encoding"] = f"{' and '.join(signs)}: the measures are not comparable with published ones"
    levels = [torch.bincount(torch.from_numpy(each.images).flatten()).nonzero().flatten() for each in pair.values()]
    if 2 * len(levels[0]) < len(levels[1]):
        spans = [f"{len(used)} levels from {int(used[0])} to {int(used[-1])}" for used in levels]
        found["range"] = f"the samples have {spans[0]}, the reference {spans[1]}: scale them to 0 … 255 and round"
    ours, real = (
        [hashlib.sha256(image).digest() for image in np.ascontiguousarray(each.images)] for each in pair.values()
    )
    repeats = len(ours) - len(set(ours))
    if repeats > _DUPLICATES * len(ours):
        found["duplicates"] = f"{repeats:,} of {len(ours):,} samples repeat another one"
    real = set(real)
    if copies := sum(digest in real for digest in ours):
        found["copies"] = f"{copies:,} of {len(ours):,} samples are images of the reference, bit for bit"
    if refused := {name: text for name, text in found.items() if name not in allowed}:
        faults = "\n".join(f"  {name}: {text}" for name, text in refused.items())
        options = " ".join(f"--allow {name}" for name in refused)
        raise ValueError(f"the measures would mislead\n{faults}\nto compute them nevertheless, add {options}")
    return found


def storage(pictures: Pictures) -> str:
    """Return how images were stored: "lossless", "JPEG", or the kind of their files where neither is known.

    An array may hold images of any origin, but not that of a split, which is CIFAR-10's own.
    """
    encoding, split = pictures.provenance["encoding"], pictures.provenance["split"]
    if sign_of_jpeg(pictures):
        return "JPEG"
    known = set(encoding.split("+")) <= _LOSSLESS or (encoding == "array" and split != "file")
    return "lossless" if known else encoding


def sign_of_jpeg(pictures: Pictures) -> str | None:
    """Return the evidence that images went through JPEG: the kind of their files, or steps between blocks of 8 × 8.

    At quality 75 the steps of CIFAR-10 are 7 % larger than the steps beside them. Above 85, and in smoother images,
    they cannot be detected.
    """
    if "JPEG" in pictures.provenance["encoding"]:
        return "JPEG-decoded"
    steps = []  # at the borders of blocks, and beside them
    for first in range(0, len(pictures.images), 1024):
        part = pictures.images[first : first + 1024].astype(np.int16)
        for axis in (1, 2):
            border = np.arange(7, part.shape[axis] - 2, 8)
            if len(border):
                size = np.abs(np.diff(part, axis=axis)).mean((3 - axis, 3))
                beside = (size[:, border - 1] + size[:, border + 1]) / 2
                steps.append(np.stack([size[:, border].mean(1), beside.mean(1)]))
    if not steps:
        return None
    at, beside = np.concatenate(steps, 1)
    if not beside.any():
        return None
    ratio = at.mean() / beside.mean()
    error = (at - ratio * beside).std() / beside.mean() / len(at) ** 0.5
    if ratio - 1 < max(0.02, 4 * error):
        return None
    return f"JPEG-decoded by their pixels (steps between blocks of 8×8 are {ratio - 1:.0%} larger than beside them)"
