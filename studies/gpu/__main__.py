"""Checks, speed and a comparison on a lent GPU, in calls of a few minutes that continue each other.

    python -m studies.gpu check                                            # results, compilation, waits, checkpoints
    python -m studies.gpu speed                                            # images per second, memory, overhead
    python -m studies.gpu compare --data TRAIN --held-out TEST             # five cases, equal minutes, FID and bits/dim
    python -m studies.gpu winner --data TRAIN --held-out TEST              # the best of them, larger and longer
    python -m studies.gpu report --to FOLDER                               # tables, and copies of the small files
    python -m studies.gpu split FILE                                       # for transfers of limited size
    python -m studies.gpu join FILE

Each call stops by itself after about `--minutes` with what it has, and the same command continues. All files are in
`--out`. README.md in studies/gpu has the order of calls, and what to carry.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from examples.recipe.arguments import output_folder, positive, two_or_more
from studies.gpu.cases import CASES
from studies.gpu.check import check
from studies.gpu.compare import compare, winner
from studies.gpu.limit import Limit, TimeUp
from studies.gpu.parts import join, split
from studies.gpu.records import show
from studies.gpu.report import report
from studies.gpu.speed import speed

CALLS = {"check": check, "speed": speed, "compare": compare, "winner": winner, "report": report}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one call."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parse(words)
    try:
        if args.call == "split":
            show("\n".join(f"{part}: {part.stat().st_size:,} bytes" for part in split(args.file, args.parts)))
        elif args.call == "join":
            join(args.file)
            show(f"{args.file}: {args.file.stat().st_size:,} bytes, of the SHA-256 that was written with its parts")
        else:
            CALLS[args.call](args, words, Limit(args.minutes))
    except TimeUp:
        show("The time is up: the same command continues.")
    except (OSError, ValueError) as error:
        raise SystemExit(f"gpu: {error}") from error


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    calls = parser.add_subparsers(dest="call", required=True, metavar="CALL")
    for name, function in CALLS.items():
        own = calls.add_parser(name, help=(function.__doc__ or "").split(".")[0], allow_abbrev=False)
        _shared(own)
        if name in ("compare", "winner"):
            _of_trainings(own, goal=3.0 if name == "compare" else 600.0, measures=0.0 if name == "compare" else 2.5)
    check_options, speed_options, winner_options, report_options = (
        calls.choices[name] for name in ("check", "speed", "winner", "report")
    )
    add = check_options.add_argument
    add("--backend", default="inductor", help="of torch.compile; eager only traces (%(default)s)")
    add("--only", nargs="+", default=[], metavar="TEXT", help="only checks with one of these in their names")
    add("--again", action="store_true", help="repeat checks that are in the record")
    add = speed_options.add_argument
    add("--repeats", type=positive, default=15, help="interleaved repeats (%(default)s)")
    add("--no-compile", dest="compile", action="store_false", help="leave out the compiled network")
    winner_options.add_argument("--case", choices=list(CASES), help="instead of the best of the comparison")
    report_options.add_argument(
        "--to", type=output_folder, metavar="FOLDER", help="copy JSON, Markdown and PNG files there"
    )
    for name, words in (("split", "cut a file into parts, with its SHA-256"), ("join", "join them and compare it")):
        own = calls.add_parser(name, help=words, allow_abbrev=False)
        own.add_argument("file", type=Path, metavar="FILE")
        if name == "split":
            own.add_argument("--parts", type=two_or_more, default=2, help="number of parts (%(default)s)")
    args = parser.parse_args(argv)
    if getattr(args, "minutes", 1.0) <= 0:
        parser.error(f"--minutes must be positive, got {args.minutes}")
    return args


def _shared(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=output_folder, default="outputs/gpu", help="folder for everything (%(default)s)")
    add("--size", choices=("toy", "full"), default="full", help="toy shows that everything works (%(default)s)")
    add("--minutes", type=float, default=8.0, help="soft limit of the call (%(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="device (%(default)s)")


def _of_trainings(parser: argparse.ArgumentParser, *, goal: float, measures: float) -> None:
    add = parser.add_argument
    add("--data", metavar="TRAIN", help="training images, as for examples/train_cifar10.py")
    add("--held-out", metavar="TEST", help="test images, likewise")
    add("--data-note", metavar="TEXT", help="name of the images beside each figure, e.g. 'JPEG copies'")
    add("--train-minutes", type=float, default=goal, help="minutes of training of each case, in total (%(default)s)")
    add("--measure-minutes", type=float, default=measures, help="minutes of the call kept for measures (%(default)s)")
    add("--slice-seconds", type=float, default=20.0, help="longest slice of a case (%(default)s)")
    add("--features", default="inception", help="inception (extra fid), a .pt or .pt2 file, or none (%(default)s)")
    add("--samples", type=two_or_more, default=None, help="samples for a FID (default: 10,000 at full size)")
    add("--judged", type=positive, default=None, help="test images for bits/dim (default: 1,000 at full size)")
    add("--precision", choices=("bf16", "fp32"), default="bf16", help="of training and sampling (%(default)s)")
    add("--compile", action="store_true", help="compile the networks: a minute for each in every call")


if __name__ == "__main__":
    main()
