"""This library against diffusers, azula, flow_matching and k-diffusion for white noise, in one run.

    python -m benchmarks.alternatives --clock cpu
    python -m benchmarks.alternatives --clock cpu --reference PATH   # and the authors' code for the path

Libraries that are not installed are left out and named. A row compares our time with the fastest of the others in the
same repeats. One thread.

- **corrupt**: a batch at given times with given noise, by the call of each library (azula has only a line in its
  losses; k-diffusion has none).
- **step**: a chain of steps from the public entry of each library, divided by its model calls, with a network that
  returns its input. Each library predicts what its sampler integrates: clean images, of flow_matching velocities.
- **training step**: see `training`.
- **path**: corruption and a reverse step of the shortest path, against the authors' code; `compare_reference` has more.

Before anything is timed, each chain must give what ours gives with the same noise and a network that returns half its
input, and each corruption the same images. Heun's method has no counterpart here: ours is the default solver with as
many model calls, which must agree on the solution of the equation that both integrate.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

import shortest_path as sp
from benchmarks.agreement import check_same, largest_corrupt_difference, largest_step_difference
from benchmarks.alternatives import corrupting, stepping, training
from benchmarks.alternatives.libraries import available
from benchmarks.compare_reference import time_corrupt, time_steps
from benchmarks.generated_images import generated_images
from benchmarks.reference import build_ours, build_reference, import_reference
from benchmarks.timing import (
    Row,
    Timings,
    duration,
    interleaved,
    one_thread,
    parser,
    print_report,
    save_report,
    time_row,
    warm_heap,
)

BOUND, SAME = 1.05, 2e-5
BATCHES = ((8, 3, 32, 32), (128, 3, 32, 32), (8, 3, 256, 256))  # to corrupt
STATES = ((1, 3, 32, 32), (64, 3, 32, 32), (4, 3, 256, 256))  # to sample
STEPS = {32: 50, 256: 20}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the report."""
    options = parser("benchmarks.alternatives", __doc__, repeats=15)
    options.add_argument("--reference", type=Path, default=None, help="a clone of the authors' code, for the path")
    options.add_argument("--steps", type=int, default=4000, help="T of the authors' chain (default 4000)")
    options.add_argument("--only", default="", metavar="TEXT", help="only rows whose name contains this")
    arguments = options.parse_args(argv)
    one_thread()
    warm_heap()
    found, notes = available()
    print(f"comparing with {', '.join(sorted(found)) or 'nothing'}", *notes, sep="\n", flush=True)
    report = Report(arguments)
    with torch.no_grad():
        for shape in BATCHES:
            time_corruptions(report, shape, found)
        for method in stepping.METHODS:
            for shape in STATES:
                time_chains(report, method, shape, found)
    for batch, width in ((32, 16), (128, 32)):
        what = f"training step, {width} channels, batch {batch}"
        report.time(what, lambda batch=batch, width=width: training.steps(batch, width, found))
    if arguments.reference is not None:
        time_path(report, arguments)
    notes.append(f"All results agree to {report.difference:.1e} (tolerance {SAME:g}).")
    title = "Against alternatives (reference = the others, fastest first; ratio to the fastest)"
    print_report(title, report.rows, notes)
    save_report(arguments.json, report.rows, seconds=report.seconds, notes=notes)


class Report:
    """The rows so far."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self.rows: list[Row] = []
        self.seconds: dict[str, Mapping[str, Sequence[float]]] = {}
        self.difference = 0.0

    def wants(self, what: str) -> bool:
        return self._arguments.only in what

    def time(self, what: str, contenders: Callable[[], Mapping[str, Callable[[], object]]], calls: int = 1) -> None:
        """Time contenders, of which "ours" is compared with the fastest that does not begin with it, per call."""
        if not self.wants(what):
            return
        timings = interleaved(
            contenders(), repeats=self._arguments.repeats, warmup=2, shortest=2e-2, clock=self._arguments.clock
        )
        timings = Timings({name: [each / calls for each in seconds] for name, seconds in timings.samples.items()})
        self.seconds[what] = timings.samples
        others = sorted((name for name in timings.samples if not name.startswith("ours")), key=timings.median)
        for name in timings.samples:
            if name.startswith("ours") and others:
                row = time_row(what + name.removeprefix("ours"), timings, name, others[0], BOUND)
                found = ", ".join(f"{other} {duration(timings.median(other))}" for other in others)
                self.rows.append(row._replace(reference=found))

    def agree(self, what: str, difference: float) -> None:
        """Stop unless two results are the same."""
        if not difference <= SAME:
            raise SystemExit(f"{what}: results differ by {difference:.2g} (tolerance {SAME:g}); nothing was compared")
        self.difference = max(self.difference, difference)


def time_corruptions(report: Report, shape: tuple[int, ...], found: set[str]) -> None:
    """Time the corruption of a batch of white noise."""
    for case in corrupting.cases(shape, found):
        what = f"{case.name}, {'×'.join(map(str, shape))}"
        for library, theirs in case.others.items():
            report.agree(f"{what}, {library}", corrupting.largest_difference(case.ours, theirs))
        report.time(what, lambda case=case: {**case.others, "ours": case.ours})


def time_chains(report: Report, method: stepping.Method, shape: tuple[int, ...], found: set[str]) -> None:
    """Time whole chains of a solver, per call of the model."""
    what, steps = f"{method.name}, {'×'.join(map(str, shape))}", STEPS[shape[-1]]
    libraries = [library for library in method.others if library in found]
    if not report.wants(what):
        return
    for library in libraries:
        report.agree(f"{what}, {library}", stepping.largest_difference(library, method, 10))
    x_1, times = torch.randn(shape, generator=torch.Generator().manual_seed(0)), stepping.falling(steps)
    theirs = {library: stepping.counterpart(library, method, stepping.identity, times)[0] for library in libraries}
    ours = stepping.ours(
        method, sp.GaussianCorruption("linear"), stepping.identity, stepping.falling(steps * method.calls)
    )
    chains = {**theirs, "ours": ours}
    contenders = {name: lambda chain=chain: chain(x_1) for name, chain in chains.items()}
    report.time(what, lambda: contenders, calls=steps * method.calls)


def time_path(report: Report, arguments: argparse.Namespace) -> None:
    """Time corruption and a reverse step of the shortest path against the authors' code."""
    fourier = import_reference(arguments.reference)
    measured = sp.PowerSpectrum.estimate(generated_images(1000).split(250))
    with torch.no_grad():
        reference, ours = build_reference(fourier, arguments.steps), build_ours()
        cosine = sp.ShortestPathCorruption(measured)
        check_same(
            largest_corrupt_difference(reference, ours, arguments.steps),
            largest_step_difference(fourier, reference, ours, arguments.steps),
        )
        for what, measure in (("corrupt", time_corrupt), ("reverse step", time_steps)):
            timings = measure(reference, ours, cosine, arguments)
            name = f"path, {what}, 128×3×32×32"
            report.rows.append(time_row(f"{name}; same spectrum", timings, "ours", "reference", BOUND))
            report.rows.append(time_row(f"{name}; cosine basis, three spectra", timings, "cosine", "reference", None))
            report.seconds[name] = timings.samples


if __name__ == "__main__":
    main()
