r"""Where should sampling begin for a network that predicts noise? From networks of a finished study, seed 0.

    python -m studies.trained_networks.starts --data TRAIN --held-out TEST \
        --classifier classifier8 --study outputs/trained

Where the data's power is known, sampling begins from noise with the variance of the state. So it may begin at any time
at which little of the image is left. The error of predicted noise is divided by the signal, and so is the smaller, the
more of the image is left. For each network and several fractions of the noise's power: the time at which this much of
the strongest coefficient is left, held-out bits per dimension from there, and the kernel distance of samples. Networks
that predict whitened velocity are the control: for them, the start should not matter. Writes `starts.json` and
`starts.md`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import shortest_path as sp
from benchmarks.timing import describe_machine
from examples.recipe.arguments import output_folder
from shortest_path.sampling import first_time
from studies.trained_networks import measures
from studies.trained_networks.cases import CASES, OUTPUTS, TELLING
from studies.trained_networks.runs import Run, finished, trained
from studies.trained_networks.study import (
    Study,
    add_choice,
    kernel_of,
    parser,
    sampled,
    validation_images,
    write,
)

FRACTIONS = (0.99, 0.5, 0.25, 0.1, 0.03, 0.01, None)  # None: the latest time, 0.999
CHOSEN = (*TELLING, "gaussian-flow", "path-constants")
CALLS = (("multistep", 5), ("multistep", 10), ("multistep", 50), ("ancestral", 50))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every network that is there, and write both files."""
    args = parse(argv)
    study = Study(args.scale, args.data, args.held_out, args.classifier, args.study)
    rows = []
    try:
        for run in finished(study, args.cases, args.outputs, [0]):
            rows += starts(study, run, count=args.samples, held=args.images)
    except ValueError as error:
        raise SystemExit(f"starts: {error}") from error
    if not rows:
        raise SystemExit(f"starts: {args.study} has no finished runs of seed 0 of {', '.join(args.cases)}")
    settings = {"samples": args.samples, "images": args.images, "machine": describe_machine()}
    args.out.mkdir(parents=True, exist_ok=True)
    write(args.out / "starts.json", {**settings, "rows": rows})
    (args.out / "starts.md").write_text(table(rows))
    print(f"{args.out}/starts.md, starts.json")


def starts(study: Study, run: Run, *, count: int, held: int) -> list[dict[str, Any]]:
    """Return what was found of one network, a row for each fraction."""
    trainer, rows = trained(study, run), []
    for fraction in FRACTIONS:
        power = sp.corruptions.Process(trainer.corruption, trainer.spectrum).power
        row: dict[str, Any] = {"case": run.case, "output": run.output, "fraction": fraction}
        known = {"power": None} if fraction is None else {"power": power, "left": fraction}
        row["start"] = first_time(trainer.corruption, "noise", **known)
        sampler = trainer.sampler(solver="multistep", steps=50, start=row["start"])
        row["bits"] = measures.held_out_bits(sampler, validation_images(study).first(held).dequantised()).mean().item()
        for solver, calls in CALLS:
            row[f"{solver}_{calls}"] = distance(
                study, trainer.sampler(solver=solver, steps=calls, start=row["start"]), count
            )
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def distance(study: Study, sampler: sp.Sampler, count: int) -> float | None:
    """Return the kernel distance of samples, or None if they are not finite."""
    samples = sampled(study, sampler, count)
    return kernel_of(study, samples)[0] if samples.isfinite().all() else None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table for each output."""
    lines = []
    for output, described in OUTPUTS.items():
        some = [row for row in rows if row["output"] == output]
        if not some:
            continue
        titles = ["corruption", "left", "start", "bits/dim", *(f"KID, {solver} {calls}" for solver, calls in CALLS)]
        lines += [f"**{described.title}**", "", f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
        for row in some:
            values = [
                CASES[row["case"]].title,
                "–" if row["fraction"] is None else f"{row['fraction']:g}",
                f"{row['start']:.3f}",
                f"{row['bits']:.3f}",
            ]
            kernels = [row[f"{solver}_{calls}"] for solver, calls in CALLS]
            values += ["not finite" if kernel is None else f"{kernel:.2f}" for kernel in kernels]
            lines.append(f"| {' | '.join(values)} |")
        lines.append("")
    return "\n".join(lines)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = parser("studies.trained_networks.starts", __doc__)
    add = options.add_argument
    add_choice(options, CHOSEN, finished=True)
    add("--samples", type=int, default=2000, help="number of samples (%(default)s)")
    add("--images", type=int, default=250, help="number of held-out training images (%(default)s)")
    add("--out", type=output_folder, default="outputs/starts", help="folder to write (%(default)s)")
    return options.parse_args(argv)


if __name__ == "__main__":
    main()
