"""Kill a training at hundreds of instants, fill its disk, and read ten thousand damaged files.

    python -m studies.faults --out outputs/soak           # 200 kills, 10,000 files
    python -m studies.faults --out outputs/quick --quick  # a few of each

An interrupted soak continues: all results are in `results.jsonl` in the folder. The output ends with a Markdown table
of faults and outcomes. The exit code is 1 if any outcome is not as docs/reliability.md promises.

(a) Kills. A small training receives SIGKILL at instants spread over its steps, over starting and loading, and over the
parts of saving, and is started again until it has reached its end. Checked after each death: the newest checkpoint
that loads is the last complete one; the next life continues from it; torn files are gone after its first checkpoint.
Checked at the end: weights, moving average, optimizer, place in the data and random states are bit-identical to those
of an undisturbed training. The same is done with SIGTERM, after which the newest checkpoint must be that of the last
step. SIGKILL leaves the system running, which still writes what it had not yet flushed: a power cut is not tested.

(b) Full disks. The same training runs on a full file system of a few MB (requires root, else omitted), and under a
limit on the size of files. Checked: an OSError that names the file, unchanged earlier checkpoints, and a bit-identical
end once there is room.

(c) Damaged files. Checkpoints, spectra and images with random damage (`mutations.py`) are read, some with corrected
checksums. Some are traps: pickles that create a folder if anything executes them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.timing import describe_machine, one_thread
from studies.faults import damage, disk, lives
from studies.faults.results import Line, Record, problems, table


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


def kill(out: Path, record: Record, whole: Line, *, kind: str, total: int, seed: int) -> None:
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
            lives.training(out, number, whole, seed=seed, known=known, deaths=deaths, kind=kind, record=add)
        number += 1


def fill(out: Path, record: Record, whole: Line, *, cases: int, seed: int) -> None:
    """Fill the disk `cases` times in each way that is possible on this machine."""
    for kind in ("file system", "file size"):
        folder, clock = out / "full", Clock(f"full {kind}", cases, len(record.of("disk", kind=kind)))
        if kind == "file size":
            folder = out / "limited"
            folder.mkdir(exist_ok=True)
            _fill(folder, record, whole, kind, cases, seed, clock)
            continue
        with disk.small_file_system(folder) as mounted:
            if mounted:
                _fill(folder, record, whole, kind, cases, seed, clock)
            else:
                print("no file system can be mounted (requires root); omitted", flush=True)


def _fill(folder: Path, record: Record, whole: Line, kind: str, cases: int, seed: int, clock: Clock) -> None:
    for number in range(cases):
        if not record.of("disk", kind=kind, number=number):
            record.add(disk.full(folder, whole, kind, seed=seed, number=number))
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
    parser.add_argument("--out", type=Path, required=True, help="folder for all files, with results.jsonl")
    parser.add_argument("--kills", type=int, default=200, help="number of SIGKILLs (default 200)")
    parser.add_argument("--terminations", type=int, default=40, help="number of SIGTERMs (default 40)")
    parser.add_argument("--disks", type=int, default=20, help="number of full disks of each kind (default 20)")
    parser.add_argument("--mutations", type=int, default=10_000, help="number of damaged files (default 10,000)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of instants and damage (default 0)")
    parser.add_argument("--quick", action="store_true", help="a few of each")
    options = parser.parse_args(arguments)
    if options.quick:
        options.kills, options.terminations, options.disks, options.mutations = 12, 4, 2, 300
    one_thread()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out / "results.jsonl", {"seed": options.seed, "machine": describe_machine(), "commit": _commit()})
    begun = time.monotonic()
    whole = lives.uninterrupted(out / "whole")
    kill(out, record, whole, kind="kill", total=options.kills, seed=options.seed)
    kill(out, record, whole, kind="terminate", total=options.terminations, seed=options.seed)
    fill(out, record, whole, cases=options.disks, seed=options.seed)
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
