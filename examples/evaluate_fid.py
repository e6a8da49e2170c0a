"""How close drawn pictures are to real ones: FID, KID, precision and recall.

    python examples/evaluate_fid.py samples.npz                          # against CIFAR-10's training set
    python examples/evaluate_fid.py samples.npz --features network.pt2   # in the features of another network
    torchrun --standalone --nproc_per_node 8 examples/evaluate_fid.py samples.npz

Samples are an .npz or .npy array of uint8, a folder of PNG files or a parquet file. What must be known of the reference
is computed once and kept in `--cache`, under a name that depends on its pixels, the network and the libraries.

Set-ups whose figures mislead are refused: samples or a reference that went through JPEG (encoding), too few levels
(range), samples that repeat each other (duplicates) or the reference (copies). `--allow NAME` evaluates all the same,
and says so beside each figure. Only 50,000 samples in the features of the original Inception network have an "FID";
10,000 have an "FID-10k", and features of other networks a "Fréchet distance (NAME)".
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

from cifar10 import Pictures, load
from features import Network, load_network
from metrics import Statistics, frechet_distance, kernel_distance, precision_recall
from ranks import Ranks, ranks

FAULTS = ("encoding", "range", "duplicates", "copies")
FULL = 50_000  # samples of an FID without further words
KEPT = 10_000  # features kept for the kernel distance, precision and recall
FEWEST = 20  # pictures
DUPLICATES = 0.01
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


# Pictures -------------------------------------------------------------------------------------------------------------


def read(path: Path) -> Pictures:
    """Read samples; their provenance takes over what an .npz says about itself in plain values.

    Raises:
        ValueError: nothing there, or not pictures.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; pass an .npz or .npy array, a folder of PNG files or a parquet file")
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
    """Return what makes figures of these pictures misleading, but was allowed: explanations by name.

    Raises:
        ValueError: pictures that cannot be compared, or a fault that was not allowed.
    """
    pair = {"samples are": samples, "the reference is": reference}
    shapes = ["×".join(map(str, each.images.shape[1:])) for each in pair.values()]
    if shapes[0] != shapes[1]:
        raise ValueError(f"samples are {shapes[0]}, the reference is {shapes[1]}; draw samples of the reference's size")
    counts = [len(each.images) for each in pair.values()]
    if min(counts) < FEWEST:
        raise ValueError(f"{FEWEST} pictures or more are needed, got {counts[0]} samples and {counts[1]} to compare")
    found = {}
    if signs := [f"{name} {sign}" for name, each in pair.items() if (sign := sign_of_jpeg(each))]:
        found["encoding"] = f"{' and '.join(signs)}: the figures are not comparable with published ones"
    levels = [torch.bincount(torch.from_numpy(each.images).flatten()).nonzero().flatten() for each in pair.values()]
    if 2 * len(levels[0]) < len(levels[1]):
        spans = [f"{len(used)} levels from {int(used[0])} to {int(used[-1])}" for used in levels]
        found["range"] = f"the samples have {spans[0]}, the reference {spans[1]}: scale them to 0 … 255 and round"
    drawn, real = (
        [hashlib.sha256(image).digest() for image in np.ascontiguousarray(each.images)] for each in pair.values()
    )
    repeats = len(drawn) - len(set(drawn))
    if repeats > DUPLICATES * len(drawn):
        found["duplicates"] = f"{repeats:,} of {len(drawn):,} samples repeat another one"
    real = set(real)
    if copies := sum(digest in real for digest in drawn):
        found["copies"] = f"{copies:,} of {len(drawn):,} samples are pictures of the reference, bit for bit"
    if refused := {name: text for name, text in found.items() if name not in allowed}:
        faults = "\n".join(f"  {name}: {text}" for name, text in refused.items())
        options = " ".join(f"--allow {name}" for name in refused)
        raise ValueError(f"the figures would mislead\n{faults}\nto have them all the same, add {options}")
    return found


def sign_of_jpeg(pictures: Pictures) -> str | None:
    """Return how pictures show that they went through JPEG: by their files, or by steps between blocks of 8 × 8.

    The steps of CIFAR-10 at quality 75 are 7 % larger than those beside them. Above 85, and in smoother pictures, they
    do not show.
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
    return f"JPEG-decoded by the look of it (steps between blocks of 8×8 are {ratio - 1:.0%} larger than beside them)"


# Statistics -----------------------------------------------------------------------------------------------------------


class Summary(NamedTuple):
    """What is kept of a set: count, mean (D,), covariance (D, D), and the features (≤ KEPT, D) of random pictures."""

    count: int
    mean: Tensor
    covariance: Tensor
    features: Tensor


def summarise(network: Network, pictures: Pictures, process: Ranks, batch_size: int, title: str) -> Summary:
    """Return the summary of all pictures; each process takes its share, and all get the same answer."""
    images = pictures.images
    count, device = len(images), process.device
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    place = order.argsort().to(device)  # of each picture among the kept ones
    first, last = (count * part // process.world for part in (process.rank, process.rank + 1))
    statistics = kept = None
    bar = tqdm(
        total=last - first, desc=f"features of the {title}", unit=" pictures", disable=None if process.first else True
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
        raise ValueError(f"{process.world} processes have nothing to do with {count} pictures; start fewer")
    statistics.all_reduce()
    if process.world > 1:
        dist.all_reduce(kept)  # each row is zero on all processes but one
    return Summary(count, statistics.mean.cpu(), statistics.covariance.cpu(), kept.cpu())


def summary_of_reference(
    network: Network, pictures: Pictures, process: Ranks, folder: Path, batch_size: int
) -> tuple[Summary, dict[str, Any]]:
    """Return the summary of the reference, from the cache if it is there, and where it came from.

    Only a file whose whole provenance is the wanted one is used: pixels, split, network, versions of the libraries.
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
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            arrays = {name: np.asarray(value) for name, value in summary._asdict().items()}
            np.savez(file, provenance=np.array(wanted), **arrays)
        temporary.replace(path)
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
        problem = "is of other pictures"
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        problem = f"is damaged ({error})"
    print(f"{path} {problem}; it is made anew")
    return None


# Figures --------------------------------------------------------------------------------------------------------------


def measure(network: Network, known: Summary, found: Summary, device: torch.device) -> list[dict[str, Any]]:
    """Return the figures: a name, the label it must be quoted with, the value, and its standard error if it has one."""
    real, drawn = known.features.to(device), found.features.to(device)
    few = min(len(real), len(drawn))  # of each: shares within a manifold depend on it
    frechet = frechet_distance(*(each.to(device) for each in (*known[1:3], *found[1:3])))
    kernel, error = kernel_distance(real[:few], drawn[:few])
    precision, recall = precision_recall(real[:few], drawn[:few], k=NEIGHBOUR)
    label, singular = frechet_label(network, found.count), ""
    if min(found.count, known.count) <= len(found.mean):
        singular = f", singular covariance: {min(found.count, known.count):,} pictures, {len(found.mean):,} features"
    share = f"k = {NEIGHBOUR}, {few:,} of each"
    own = "" if network.standard else f" ({network.name})"
    return [
        {"name": "frechet_distance", "label": label + singular, "value": frechet},
        {
            "name": "kernel_distance",
            "label": f"{'KID' if network.standard else 'kernel distance'}{own}",
            "value": kernel,
            "standard_error": error,
        },
        {"name": "precision", "label": f"precision{own}, {share}", "value": precision},
        {"name": "recall", "label": f"recall{own}, {share}", "value": recall},
    ]


def frechet_label(network: Network, count: int) -> str:
    """Return what a Fréchet distance may be called: "FID" is that of the original Inception and 50,000 samples."""
    if not network.standard:
        return f"Fréchet distance ({network.name})"
    if count == FULL:
        return "FID"
    return f"FID-{count // 1000}k" if count % 1000 == 0 else f"FID-{count}"


def describe(report: dict[str, Any]) -> str:
    """Return a report as a Markdown table, and a line each on samples, reference and features."""
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
            f"{name}: {what['source']} ({what['split']}), {what['count']:,} pictures of "
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
    add("--split", choices=("train", "test"), default="train", help="of a data set on the hub (%(default)s)")
    add("--features", default="inception", help="inception, or a .pt2 or .pt file; only one you trust (%(default)s)")
    add("--weights", type=Path, metavar="FILE", help="local weights of inception (default: download them)")
    add("--cache", type=Path, default=Path("outputs/statistics"), help="folder of statistics (%(default)s)")
    add("--batch-size", type=int, default=250, help="pictures at once (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write everything there")
    add("--allow", action="append", default=[], choices=FAULTS, help="evaluate in spite of this; may be repeated")
    add("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f"--batch-size must be 1 or more, got {args.batch_size}")
    if args.weights and args.features != "inception":
        parser.error("--weights belongs to --features inception")
    return args


if __name__ == "__main__":
    main()
