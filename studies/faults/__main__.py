"""Kill trainings at hundreds of instants, fill their disk, and read ten thousand damaged files.

    python -m studies.faults --out outputs/soak           # 300 kills, 10,000 files
    python -m studies.faults --out outputs/quick --quick  # a few of each

An interrupted soak continues: all results are in `results.jsonl` in the folder. The output ends with a Markdown table
of faults and outcomes. The exit code is 1 if any outcome is not as docs/reliability.md promises.

(a) Kills. Small trainings with several optimizers, precisions and kinds of data (`recipes.py`) receive SIGKILL at
instants spread over their steps, over starting and loading, and over the parts of saving, and are started again until
they have reached their end. Checked after each death: the newest checkpoint that loads is the last complete one; the
next life continues from it; torn files are gone after its first checkpoint. Checked at the end: weights, moving
average, optimizer, schedule, scale of the loss, place in the data and random states are bit-identical to those of an
undisturbed training. The same is done with SIGTERM, after which the newest checkpoint must be that of the last step.
SIGKILL leaves the system running, which still writes what it had not yet flushed: a power cut is not tested.

(b) Full disks. A training runs on a full file system of a few MB, or one that is filled meanwhile (both require root,
else omitted), and under a limit on the size of files. Checked: an OSError that names the file, unchanged earlier
checkpoints, and a bit-identical end once there is room.

(c) Folders. A second training is started in the folder of a first one; newer damaged files, folders and links have the
names of checkpoints.

(d) Two processes that exchange by gloo, of which one is stopped for a while or killed.

(e) Damaged files. Checkpoints, spectra and images with random damage (`mutations.py`) are read, some with corrected
checksums. Some are traps: pickles that create a folder if anything executes them.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from benchmarks.timing import describe_machine, one_thread
from examples.recipe.arguments import output_folder
from studies.faults import damage, disk, lives, ranks, rivals, strays
from studies.faults.recipes import RECIPES
from studies.faults.results import Line, Record, problems, table

Whole: TypeAlias = Callable[[str], Line]
"""Returns the last state of the undisturbed training of a recipe, or of two processes."""


class Clock:
    """Prints the progress of a part and the time that the rest will take."""

    def __init__(self, what: str, total: int, done: int) -> None:
        self._what, self._total, self._first, self._begun, self._said = what, total, done, time.monotonic(), 0.0

    def __call__(self, done: int) -> None:
        """Print the progress, at most every 5 seconds."""
        now = time.monotonic()
        if now - self._said < 5 and done != self._total:
            return
        self._said = now
        left = (self._total - done) * (now - self._begun) / max(done - self._first, 1)
        print(f"{self._what}: {done} of {self._total}, {max(left, 0) / 60:.1f} min left", flush=True)


def kill(out: Path, record: Record, whole: Whole, *, kind: str, total: int, seed: int) -> None:
    """Kill trainings until `total` deaths are recorded and the last training has reached its end."""

    def died() -> int:
        return sum(line["died"] for line in record.of(kind))

    clock, number = Clock(kind, total, died()), 0

    def add(line: Line) -> None:
        record.add(line)
        clock(died())

    while True:
        known = record.of(kind, training=number)
        if not record.of(f"{kind} end", training=number):
            if not known and died() >= total:
                return
            deaths = min(total, lives.PER_TRAINING)
            recipe = list(RECIPES)[number % len(RECIPES)]
            lives.training(
                out, number, whole(recipe), seed=seed, known=known, deaths=deaths, kind=kind, recipe=recipe, record=add
            )
        number += 1


def fill(out: Path, record: Record, whole: Whole, *, total: int, seed: int) -> None:
    """Fill the disk `total` times in each way that is possible on this machine."""
    for kind in disk.KINDS:
        case = functools.partial(disk.full, kind=kind, seed=seed)
        if kind == "file size":
            (out / "limited").mkdir(exist_ok=True)
            each(out / "limited", record, whole, case, part="disk", kind=kind, total=total)
            continue
        with disk.small_file_system(out / "full") as mounted:
            if mounted:
                each(out / "full", record, whole, case, part="disk", kind=kind, total=total)
            else:
                print("no file system can be mounted (requires root); omitted", flush=True)


def each(
    out: Path,
    record: Record,
    whole: Whole,
    case: Callable[..., Line],
    *,
    part: str,
    kind: str | None = None,
    recipe: str = "adamw",
    total: int,
) -> None:
    """Record the cases of a part, and of a kind of it, that are not yet recorded."""
    clock = Clock(f"{part} {kind or ''}".strip(), total, len(record.of(part, kind=kind)))
    for number in range(total):
        if not record.of(part, kind=kind, number=number):
            record.add(case(out, whole(recipe), number=number))
            clock(number + 1)


def read_damaged(out: Path, record: Record, *, total: int, seed: int) -> None:
    """Read at least `total` damaged files, as many of each kind."""
    names = list(damage.kinds(out / "none"))
    each = -(-total // len(names))
    chunks = [(chunk, min(damage.CHUNK, each - chunk * damage.CHUNK)) for chunk in range(-(-each // damage.CHUNK))]
    known = {(line["kind"], line["chunk"]) for line in record.of("damage")}
    jobs = [damage.Job(name, *chunk) for chunk in chunks for name in names if (name, chunk[0]) not in known]
    if not record.of("control"):
        record.add({"part": "control", "sprung": damage.control(out), "of": sum(n.startswith("trap") for n in names)})
    clock = Clock("damaged files", each * len(names), _count(record))
    for found in damage.read_damaged(out, jobs, seed=seed):
        record.add(found)
        clock(_count(record))


def _count(record: Record) -> int:
    return sum(sum(line["outcomes"].values()) for line in record.of("damage"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak, or continue it; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m studies.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=output_folder, required=True, help="folder for all files, with results.jsonl")
    parser.add_argument("--kills", type=int, default=300, help="number of SIGKILLs (default 300)")
    parser.add_argument("--terminations", type=int, default=60, help="number of SIGTERMs (default 60)")
    parser.add_argument("--cases", type=int, default=20, help="number of cases of (b), (c) and (d) each (default 20)")
    parser.add_argument("--mutations", type=int, default=10_000, help="number of damaged files (default 10,000)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of instants and damage (default 0)")
    parser.add_argument("--quick", action="store_true", help="a few of each")
    options = parser.parse_args(arguments)
    if options.quick:
        options.kills, options.terminations, options.cases, options.mutations = 12, 4, 2, 300
    one_thread()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out / "results.jsonl", {"seed": options.seed, "machine": describe_machine(), "commit": _commit()})
    begun = time.monotonic()
    seed, cases = options.seed, options.cases

    @functools.cache
    def whole(recipe: str) -> Line:
        if recipe == ranks.RECIPE:
            return ranks.uninterrupted(out / "whole-ranks")
        return lives.uninterrupted(out / f"whole-{recipe}", recipe)

    kill(out, record, whole, kind="kill", total=options.kills, seed=seed)
    kill(out, record, whole, kind="terminate", total=options.terminations, seed=seed)
    fill(out, record, whole, total=cases, seed=seed)
    each(out, record, whole, functools.partial(rivals.meet, seed=seed), part="rivals", total=cases)
    each(out, record, whole, functools.partial(strays.resume, seed=seed), part="strays", total=cases)
    for kind in ranks.KINDS:
        case = functools.partial(ranks.strike, kind=kind, seed=seed)
        each(out, record, whole, case, part="ranks", kind=kind, recipe=ranks.RECIPE, total=cases)
    read_damaged(out, record, total=options.mutations, seed=options.seed)
    rows, bad = table(record)
    print(f"\n{record.lines[0]['machine']}, commit {record.lines[0]['commit']}\n")
    print("\n".join(rows))
    print(f"\n{bad} not as promised; {(time.monotonic() - begun) / 60:.1f} min (of this run)")
    for problem in problems(record.lines):
        print(f"- {problem}")
    return 1 if bad else 0


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
