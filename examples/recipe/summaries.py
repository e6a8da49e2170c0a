"""Statistics of the features of a set of images, by one process or many; those of a reference are kept in a file."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from .cifar10 import Pictures
from .features import Network
from .files import replacing, try_writing
from .metrics import Statistics
from .ranks import Ranks

KEPT = 10_000  # rows of features kept for the kernel distance, precision and recall


class Summary(NamedTuple):
    """Statistics of a set: count, mean (D,), covariance (D, D), and the features (≤ KEPT, D) of random images."""

    count: int
    mean: Tensor
    covariance: Tensor
    features: Tensor


def summarise(network: Network, images: np.ndarray, process: Ranks, batch_size: int, title: str) -> Summary:
    """Return the summary of uint8 images (N, H, W, C), divided among the processes and equal in each."""
    count, device = len(images), process.device
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    place = order.argsort().to(device)  # of each image among the kept ones
    first, last = (count * part // process.world for part in (process.rank, process.rank + 1))
    statistics = kept = None
    bar = tqdm(
        total=last - first, desc=f"features of the {title}", unit=" images", disable=None if process.first else True
    )
    with bar:
        for start in range(first, last, batch_size):
            stop = min(start + batch_size, last)
            rows = network.features(images[start:stop])
            if statistics is None or kept is None:
                statistics = Statistics(rows.shape[1], device)
                kept = torch.zeros(min(KEPT, count), rows.shape[1], device=device)
            statistics.update(rows)
            chosen = place[start:stop] < len(kept)
            kept[place[start:stop][chosen]] = rows[chosen]
            bar.update(stop - start)
    if statistics is None or kept is None:
        raise ValueError(f"{process.world} processes have nothing to do with {count} images; start fewer")
    statistics.all_reduce()
    if process.world > 1:
        dist.all_reduce(kept)  # each row is zero on all processes but one
    return Summary(count, statistics.mean.cpu(), statistics.covariance.cpu(), kept.cpu())


def summary_of_reference(
    network: Network, pictures: Pictures, process: Ranks, folder: Path, batch_size: int
) -> tuple[Summary, dict[str, Any]]:
    """Return the summary of the reference, from the cache if possible, and its origin.

    A file is used only if its whole provenance is equal: pixels, split, network, versions of the libraries.

    Raises:
        ValueError: the summary is not in the folder, which cannot be written to.
    """
    wanted = json.dumps({**pictures.provenance, "features": network.provenance, "kept": KEPT}, sort_keys=True)
    source = re.sub(r"[^\w.-]+", "-", pictures.provenance["source"])
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    path = folder / f"{source}-{pictures.provenance['split']}-{digest[:16]}.npz"
    cached = _read_summary(path, wanted) if process.first else None
    if process.first and cached is None:
        try:
            try_writing(folder)
        except OSError as error:
            raise ValueError(
                f"cannot write to {folder} ({error.strerror}); choose another folder for the statistics"
            ) from error
    known = torch.tensor(float(cached is not None), device=process.device)
    if process.world > 1:  # one process decides: a file may appear meanwhile
        dist.broadcast(known, 0)
    if known and cached is None:
        return Summary(0, *[torch.empty(0)] * 3), {}  # only the first process compares
    summary = cached or summarise(network, pictures.images, process, batch_size, "reference")
    if process.first and cached is None:
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.asarray(value) for name, value in summary._asdict().items()}
        with replacing(path) as file:
            np.savez(file, provenance=np.array(wanted), **arrays)
    return summary, {"statistics": str(path), "cached": cached is not None}


def _read_summary(path: Path, wanted: str) -> Summary | None:
    if not path.exists():
        return None
    try:
        # Opened here, as np.load forgets to close a damaged file.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if str(archive["provenance"]) == wanted:
                tensors = (torch.from_numpy(archive[name]) for name in Summary._fields[1:])
                return Summary(int(archive["count"]), *tensors)
        problem = "is of other images"
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        problem = f"is damaged ({error})"
    print(f"{path} {problem}; it is computed again")
    return None
