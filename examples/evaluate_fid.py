"""How close samples are to real images: FID, KID, precision and recall.

    python examples/evaluate_fid.py samples.npz                          # against CIFAR-10's training set
    python examples/evaluate_fid.py samples.npz --features network.pt2   # in the features of another network
    torchrun --standalone --nproc_per_node 8 examples/evaluate_fid.py samples.npz

Samples are an .npz or .npy array of uint8, a folder of PNG files or a parquet file. The statistics of the reference
are computed once and kept in `--cache`, under a name that depends on its pixels, the network and the libraries.

Comparisons that would mislead are refused: samples or a reference that went through JPEG (encoding), too few levels
(range), samples that repeat each other (duplicates) or the reference (copies). `--allow NAME` evaluates nevertheless,
with a remark beside each measure. Only 50,000 samples in the features of the original Inception network give an
"FID"; 10,000 give an "FID-10k", and features of other networks a "Fréchet distance (NAME)".
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from recipe.cifar10 import Pictures, load
from recipe.comparison import FAULTS, check, read
from recipe.features import Network, frechet_label, load_network
from recipe.files import replacing
from recipe.metrics import Statistics, frechet_distance, kernel_distance, precision_recall
from recipe.ranks import Ranks, ranks

KEPT = 10_000  # rows of features kept for the kernel distance, precision and recall
NEIGHBOUR = 3


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    start = time.perf_counter()
    try:
        samples, reference = read(args.samples), load(args.data, split=args.split)
        remarks = check(samples, reference, args.allow)
        with ranks(args.device) as process:
            network = load_network(args.features, args.weights, process)
            known, origin = summary_of_reference(network, reference, process, args.cache, args.batch_size)
            found = summarise(network, samples, process, args.batch_size, "samples")
        if not process.first:
            return
        report = {
            "measures": measure(network, known, found, process.device),
            "remarks": remarks,
            "samples": samples.provenance,
            "reference": {**reference.provenance, **origin},
            "features": network.provenance,
            "processes": process.world,
            "seconds": round(time.perf_counter() - start, 1),
        }
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(describe(report))
    except (OSError, ValueError) as error:
        raise SystemExit(f"evaluate_fid: {error}") from error


# Statistics -----------------------------------------------------------------------------------------------------------


class Summary(NamedTuple):
    """Statistics of a set: count, mean (D,), covariance (D, D), and the features (≤ KEPT, D) of random images."""

    count: int
    mean: Tensor
    covariance: Tensor
    features: Tensor


def summarise(network: Network, pictures: Pictures, process: Ranks, batch_size: int, title: str) -> Summary:
    """Return the summary of all images, divided among the processes and equal in each."""
    images = pictures.images
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
    """
    wanted = json.dumps({**pictures.provenance, "features": network.provenance, "kept": KEPT}, sort_keys=True)
    source = re.sub(r"[^\w.-]+", "-", pictures.provenance["source"])
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    path = folder / f"{source}-{pictures.provenance['split']}-{digest[:16]}.npz"
    cached = _read_summary(path, wanted) if process.first else None
    known = torch.tensor(float(cached is not None), device=process.device)
    if process.world > 1:  # one process decides: a file may appear meanwhile
        dist.broadcast(known, 0)
    if known and cached is None:
        return Summary(0, *[torch.empty(0)] * 3), {}  # only the first process compares
    summary = cached or summarise(network, pictures, process, batch_size, "reference")
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


# Measures -------------------------------------------------------------------------------------------------------------


def measure(network: Network, known: Summary, found: Summary, device: torch.device) -> list[dict[str, Any]]:
    """Return measures: name, label to quote it with, value, and its standard error if there is one."""
    real, ours = known.features.to(device), found.features.to(device)
    few = min(len(real), len(ours))  # of each: precision and recall depend on it
    frechet = frechet_distance(*(each.to(device) for each in (*known[1:3], *found[1:3])))
    kernel, error = kernel_distance(real[:few], ours[:few])
    precision, recall = precision_recall(real[:few], ours[:few], k=NEIGHBOUR)
    label, singular = frechet_label(network, found.count), ""
    if min(found.count, known.count) <= len(found.mean):
        singular = f", singular covariance: {min(found.count, known.count):,} images, {len(found.mean):,} features"
    setting = f"k = {NEIGHBOUR}, {few:,} of each"
    own = "" if network.standard else f" ({network.name})"
    return [
        {"name": "frechet_distance", "label": label + singular, "value": frechet},
        {
            "name": "kernel_distance",
            "label": f"{'KID' if network.standard else 'kernel distance'}{own}",
            "value": kernel,
            "standard_error": error,
        },
        {"name": "precision", "label": f"precision{own}, {setting}", "value": precision},
        {"name": "recall", "label": f"recall{own}, {setting}", "value": recall},
    ]


def describe(report: dict[str, Any]) -> str:
    """Return a report as a Markdown table, and one line each about samples, reference and features."""
    features, remarks = report["features"], report["remarks"]
    column = ["remarks"] if remarks else []
    rows = [["measure", "value", "features", *column], ["---"] * (3 + len(column))]
    for figure in report["measures"]:
        value = f"{figure['value']:.5g}"
        if "standard_error" in figure:
            value += f" ± {figure['standard_error']:.2g}"
        name = f"{features['name']}, SHA-256 {features['sha256'][:12]}…"
        rows.append([figure["label"], value, name, *([", ".join(remarks)] if remarks else [])])
    lines = [f"| {' | '.join(row)} |" for row in rows] + [""]
    for name in ("samples", "reference"):
        what = report[name]
        lines.append(
            f"{name}: {what['source']} ({what['split']}), {what['count']:,} images of "
            f"{'×'.join(map(str, what['shape']))}, {what['encoding']}, SHA-256 of the pixels {what['sha256']}"
        )
    lines[-1] += f"; statistics {'from' if what['cached'] else 'kept in'} {what['statistics']}"
    versions = ", ".join(f"{package} {number}" for package, number in features["versions"].items())
    lines.append(f"features: {features['name']}, SHA-256 {features['sha256']}; {versions}")
    return "\n".join(lines + [f"remark, {name}: {text}" for name, text in remarks.items()])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("samples", type=Path, metavar="SAMPLES", help=".npz or .npy array, folder of PNG files, or parquet file")
    add("--data", default="uoft-cs/cifar10", help="reference: a data set on the hub, or a path (%(default)s)")
    add(
        "--split",
        choices=("train", "test"),
        default="train",
        help="split, on the hub or of cifar-10-batches-py (%(default)s)",
    )
    add("--features", default="inception", help="inception, or a .pt2 or .pt file that you trust (%(default)s)")
    add("--weights", type=Path, metavar="FILE", help="local weights of inception (default: download them)")
    add("--cache", type=Path, default=Path("outputs/statistics"), help="folder of statistics (%(default)s)")
    add("--batch-size", type=int, default=250, help="images in a batch (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write all results to this file")
    add("--allow", action="append", default=[], choices=FAULTS, help="evaluate in spite of this fault; may be repeated")
    add("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f"--batch-size must be 1 or more, got {args.batch_size}")
    if args.weights and args.features != "inception":
        parser.error("--weights belongs to --features inception")
    return args


if __name__ == "__main__":
    main()
