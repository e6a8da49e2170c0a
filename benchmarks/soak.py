"""Kill a training at hundreds of instants, fill its disk, and read ten thousand damaged files.

    python benchmarks/soak.py --out outputs/soak           # 200 kills, 10,000 files
    python benchmarks/soak.py --out outputs/quick --quick  # a sample of each

An interrupted soak continues: all results are in `results.jsonl` in the folder. The last lines are a Markdown table of
what was injected and what happened; the exit code is 1 if anything was not as docs/reliability.md promises.

(a) A small training is killed (SIGKILL) at instants that spread over its steps, over starting and loading, and over
the parts of saving, and begun again until it is at its end. Found after each death: the newest checkpoint that loads
is the last that was complete; the next life continues from it; torn files are gone after its first checkpoint.
At the end: weights, average, optimizer, place in the data and random states equal those of an undisturbed training
bit by bit. The same with SIGTERM, after which the newest checkpoint must be that of the last step.
SIGKILL leaves the system running, and with it what it had not yet flushed: a power cut is not tried.

(b) The same training on a file system of a few MB that is full (needs root; else left out), and under a limit on the
size of files: an OSError that says so, all earlier checkpoints as they were, and the same end once there is room.

(c) Checkpoints, spectra and pictures with damage at random (tests/mutations.py), some with their checksums made to fit,
some of them traps: pickles that make a folder if anything executes them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from faults import children, damage, disk, lives  # noqa: F401  (children sets the number of threads first)
from timing import describe_machine, one_thread

Line: TypeAlias = dict[str, Any]


class Record:
    """The results so far, each a line of a file."""

    def __init__(self, path: Path, settings: Line) -> None:
        self.lines: list[Line] = []
        if path.exists():
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            self.lines = [json.loads(line) for line in whole.splitlines()]
            path.write_text(whole, encoding="utf-8")  # the last line may be torn
        self._path = path
        begun = next((line for line in self.lines if line["part"] == "settings"), None)
        if begun is None:
            self.add({"part": "settings", **settings})
        elif begun["seed"] != settings["seed"]:
            raise ValueError(f"{path} is of seed {begun['seed']}, not {settings['seed']}; use another --out")

    def add(self, line: Line) -> None:
        self.lines.append(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def of(self, part: str, **fields: Any) -> list[Line]:
        wanted = {"part": part, **fields}
        return [line for line in self.lines if all(line.get(name) == value for name, value in wanted.items())]


class Clock:
    """Prints how much of a part is done, and how long the rest will take."""

    def __init__(self, what: str, total: int, done: int) -> None:
        self._what, self._total, self._first, self._begun, self._said = what, total, done, time.monotonic(), 0.0

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said < 5 and done != self._total:
            return
        self._said = now
        left = (self._total - done) * (now - self._begun) / max(done - self._first, 1)
        print(f"{self._what}: {done} of {self._total}, {max(left, 0) / 60:.1f} min left", flush=True)


def kill(out: Path, record: Record, whole: Line, *, kind: str, total: int, seed: int) -> None:
    """Kill trainings until `total` deaths are recorded and the last one has come to its end."""

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
            lives.training(out, number, whole, seed=seed, known=known, kind=kind, record=add)
        number += 1


def fill(out: Path, record: Record, whole: Line, *, cases: int, seed: int) -> None:
    """Fill the disk `cases` times in each way that is possible here."""
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
                print("no file system can be mounted here (needs root); left out", flush=True)


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


def table(record: Record) -> tuple[list[str], int]:
    """Return the results as lines of Markdown, and how many of them are not as promised."""
    rows, bad = ["| what was injected | how often | what happened |", "|---|---|---|"], 0
    for kind, name in (("kill", "SIGKILL"), ("terminate", "SIGTERM")):
        found = lives.summary(record.lines, kind)
        bad += found["problems"]
        checkpoints = "none lost, none damaged" if not found["problems"] else f"{found['problems']} PROBLEMS"
        more = f"; {found['torn']} left a torn file, later cleared" if kind == "kill" else ""
        stopped = f"{found['stopped']} ended with code 75 and the last step saved, the others before `fit` had begun; "
        stopped = "" if kind == "kill" else stopped
        rows.append(
            f"| {name} to a training | {found['died']}: {found['in saving']} while it saved, {found['starting']} "
            f"while it started or loaded, the rest between | {stopped}"
            f"checkpoints: {checkpoints}{more}; {found['identical']} of {found['trainings']} trainings ended "
            "bit-identical to the undisturbed one |"
        )
    for kind, name in (("file system", "file system full"), ("file size", "file size limit reached")):
        lines = record.of("disk", kind=kind)
        wrong = sum(bool(line["problems"]) for line in lines)
        bad += wrong
        rows.append(
            f"| {name} | {len(lines)} | {len(lines) - wrong}: OSError that names the file, earlier checkpoints "
            f"unchanged, bit-identical end once there was room; {wrong} otherwise |"
        )
    for name, wanted in _GROUPS.items():
        outcomes: Counter[str] = Counter()
        for line in record.of("damage"):
            if wanted(line["kind"]):
                outcomes.update(line["outcomes"])
        bad += sum(count for what, count in outcomes.items() if what not in _ALLOWED[name])
        said = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items(), key=lambda each: -each[1]))
        rows.append(f"| {name} | {sum(outcomes.values())} | {said} |")
    for line in record.of("control"):
        bad += line["of"] - line["sprung"]
        what = "control: the traps undamaged, read with pickles allowed"
        rows.append(f"| {what} | {line['of']} | {line['sprung']} executed |")
    return rows, bad


def _is(*words: str) -> Callable[[str], bool]:
    return lambda kind: any(kind.startswith(word) for word in words)


_GROUPS: dict[str, Callable[[str], bool]] = {
    "damaged checkpoint": lambda kind: kind == "checkpoint",
    "damaged checkpoint with a checksum made to fit": _is("checkpoint, sealed"),
    "damaged checkpoint without a checksum": _is("checkpoint without"),
    "damaged spectrum": _is("spectrum"),
    "trap: code in a checkpoint, spectrum or array, damaged": _is("trap"),
    "damaged PNG": lambda kind: kind == "png",
    "damaged PNG with checksums made to fit": lambda kind: "resealed" in kind,
    "damaged JPEG, WebP, GIF, BMP, TIFF": _is("jpeg", "webp", "gif", "bmp", "tif"),
    "damaged parquet file": _is("parquet"),
    "damaged .npz of pictures": _is("npz"),
    "damaged .npy of pictures": _is("npy"),
}
_SURE = ("refused", "right values")
_ALLOWED = {
    name: _SURE
    if name in ("damaged checkpoint", "damaged spectrum", "damaged PNG", "damaged .npz of pictures")
    else ("refused",)
    if name.startswith("trap")
    else (*_SURE, "other values")  # nothing in such a file could tell
    for name in _GROUPS
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for all files; results.jsonl in it")
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs (default 200)")
    parser.add_argument("--mutations", type=int, default=10_000, help="damaged files (default 10,000)")
    parser.add_argument("--seed", type=int, default=0, help="of instants and damage (default 0)")
    parser.add_argument("--quick", action="store_true", help="12 kills and 300 damaged files")
    options = parser.parse_args(arguments)
    kills, mutations, others = (12, 300, 2) if options.quick else (options.kills, options.mutations, 20)
    one_thread()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out / "results.jsonl", {"seed": options.seed, "machine": describe_machine(), "commit": _commit()})
    begun = time.monotonic()
    whole = lives.uninterrupted(out / "whole")
    kill(out, record, whole, kind="kill", total=kills, seed=options.seed)
    kill(out, record, whole, kind="terminate", total=2 * others, seed=options.seed)
    fill(out, record, whole, cases=others, seed=options.seed)
    read_damaged(out, record, total=mutations, seed=options.seed)
    rows, bad = table(record)
    print(f"\n{record.lines[0]['machine']}, commit {record.lines[0]['commit']}\n")
    print("\n".join(rows))
    print(f"\n{bad} not as promised; {(time.monotonic() - begun) / 60:.1f} min (of this run)")
    for problem in _problems(record.lines):
        print(f"- {problem}")
    return 1 if bad else 0


def _problems(lines: Iterable[Line]) -> Iterable[str]:
    for line in lines:
        for problem in [*line.get("problems", ()), *line.get("notes", ())]:
            yield f"{line['part']} {line.get('training', line.get('kind'))}: {problem}"


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
