r"""Measure the networks of a finished study again, with more samples and more test images.

    python -m studies.trained_networks.more --scale 16 --data TRAIN --held-out TEST \
        --classifier classifier16 --study outputs/trained --processes 2

The kernel distance of a thousand samples has an error as large as the differences between corruptions, and three
hundred test images leave a hundredth of a bit. More of either tell about these networks, and nothing about other seeds.
Each measure is kept in its run's folder, so the same command continues, and one with other measures adds to them.
Writes all that is known of these networks to `more.json` and `more.md`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.timing import describe_machine
from examples.recipe.arguments import output_folder
from studies.trained_networks.cases import CASES, ODE_STEPS, OUTPUTS, PRIMARY
from studies.trained_networks.report import BITS, MEASURES, MISSING, table
from studies.trained_networks.runs import Run, bits_of, execute, finished, samples_of, trained
from studies.trained_networks.study import Study, add_choice, classifier_facts, parser, test_images, write

_BASELINE = "gaussian-cosine"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write both files."""
    args = parse(argv)
    study = Study(args.scale, args.data, args.held_out, args.classifier, args.study)
    runs = finished(study, args.cases, args.outputs, args.seeds)
    if not runs:
        raise SystemExit(f"more: {args.study} has no finished runs of {', '.join(args.cases)}")
    if BITS in args.measures and args.images > (count := len(test_images(study).levels)):
        raise SystemExit(f"more: --images {args.images} of {count} test images")
    measured = [name for name in MEASURES if name in args.measures]
    work = partial(measure, study, measures=measured, samples=args.samples, images=args.images, compiled=args.compile)
    try:
        found = execute(work, runs, args.processes)
    except (OSError, ValueError) as error:
        raise SystemExit(f"more: {error}") from error
    for row in found:
        if (difference := paired(study, row, args.images)) is not None:
            row["difference"] = difference
    values = {
        "scale": args.scale,
        "samples": args.samples,
        "images": args.images,
        "machine": describe_machine(),
        "classifier": classifier_facts(study),
        "runs": found,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write(args.out / "more.json", values)
    (args.out / "more.md").write_text(tables(values))
    print(f"{args.out}/more.md, more.json: {len(runs)} networks")


def measure(
    study: Study, run: Run, *, measures: Iterable[str], samples: int, images: int, compiled: bool = False
) -> dict[str, Any]:
    """Return all known measures of a finished run from so many samples and images, after taking those named.

    Networks are compiled for sampling alone: a likelihood needs their derivatives.

    Raises:
        ValueError: the measures that are kept are of other test images or of another classifier.
    """
    folder = study.out / run.folder
    kept, start = folder / "more.json", json.loads((folder / "record.json").read_text())["start"]
    known = json.loads(kept.read_text()) if kept.exists() else {}
    facts = {
        "test images": test_images(study).provenance["sha256"],
        "classifier": classifier_facts(study)["weights_sha256"],
    }
    if others := [name for name, value in facts.items() if known.setdefault(name, value) != value]:
        raise ValueError(f"{kept} has measures with other {' and '.join(others)}; move it away to measure with these")
    write(kept, known)
    held = test_images(study).first(images).dequantised()
    every = {BITS: (bits_of(ODE_STEPS[0], held, bits_file(images)), f"{BITS} of {images}")}
    for solver, calls in PRIMARY:
        name = f"{solver}_{calls}"
        every[name] = (samples_of(study, run, solver, calls, samples), f"{name} of {samples}")
    trainer = None
    for name in measures:
        take, key = every[name]
        if key not in known:
            trainer = trainer or trained(study, run)
            if compiled and name != BITS:  # which is taken first
                trainer.ema_model.compile()
            known[key] = take(trainer, folder, start)
            write(kept, known)
            print(f"{run.folder}: {key}: {known[key].get('mean', known[key].get('kernel'))}", flush=True)
    chosen = {name: known[key] for name, (_, key) in every.items() if key in known}
    return {"case": run.case, "output": run.output, "seed": run.seed, "start": start, **chosen}


def bits_file(images: int) -> str:
    """Return the name of the file with the bits per dimension of each of so many images."""
    return f"bits-{ODE_STEPS[0]}-of-{images}.npy"


def tables(values: Mapping[str, Any]) -> str:
    """Return a table for each output; differences in bits are paired over images, of networks of one seed."""
    parts = []
    for output, described in OUTPUTS.items():
        rows = [run for run in values["runs"] if run["output"] == output]
        if not rows:
            continue
        heads = ["corruption", "seed", "bits/dim", f"− {CASES[_BASELINE].title}"]
        heads += [f"{MEASURES[f'{solver}_{calls}']}" for solver, calls in PRIMARY] + ["AUC, multistep 50"]
        lines = []
        for row in rows:
            bits, kernels = row.get(BITS), [row.get(f"{solver}_{calls}") for solver, calls in PRIMARY]
            line = [CASES[row["case"]].title, str(row["seed"]), MISSING if bits is None else f"{bits['mean']:.4f}"]
            line.append("{mean:+.4f} ± {error:.4f}".format(**row["difference"]) if "difference" in row else MISSING)
            line += [_kernel(each) for each in kernels]
            line.append(MISSING if not kernels[0] or "auc" not in kernels[0] else f"{kernels[0]['auc']:.3f}")
            lines.append(line)
        parts.append(f"**{described.title}**\n\n{table(heads, lines)}")
    parts.append(f"*KID of {values['samples']} samples, bits/dim of {values['images']} test images; standard errors.*")
    return "\n\n".join(parts) + "\n"


def _kernel(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return MISSING
    return "not finite" if found["kernel"] is None else f"{found['kernel']:.3f} ± {found['error']:.3f}"


def paired(study: Study, row: Mapping[str, Any], images: int) -> dict[str, float] | None:
    """Return the mean difference in bits from isotropic noise of the same seed, and its standard error over images."""
    cases = (row["case"], _BASELINE)
    files = [study.out / Run(case, row["output"], row["seed"], 0.0).folder / bits_file(images) for case in cases]
    if cases[0] == cases[1] or not all(file.exists() for file in files):
        return None
    found = np.subtract(*(np.load(file).astype(float) for file in files))
    return {"mean": float(found.mean()), "error": float(found.std(ddof=1) / len(found) ** 0.5)}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = parser("studies.trained_networks.more", __doc__)
    add = options.add_argument
    add_choice(options, list(CASES), finished=True)
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3], help="seeds of the networks (%(default)s)")
    add("--measures", nargs="+", choices=list(MEASURES), default=list(MEASURES), help="what to measure (%(default)s)")
    add("--samples", type=int, default=10_000, help="number of samples (%(default)s)")
    add("--images", type=int, default=2000, help="number of test images (%(default)s)")
    add("--compile", action="store_true", help="compile the networks for sampling, with other roundings")
    add("--processes", type=int, default=1, help="number of networks measured at once (%(default)s)")
    add("--out", type=output_folder, default="outputs/more", help="folder to write (%(default)s)")
    return options.parse_args(argv)


if __name__ == "__main__":
    main()
