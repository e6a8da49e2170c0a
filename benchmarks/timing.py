"""Fair timing of two or more contenders: one thread, a warm heap, and interleaved repeats.

Load and clock frequency drift over seconds, so contenders timed one after the other run under different conditions.
Here every repeat times all contenders, in an order that is reversed each time. The result is the median over repeats
of the ratio *within* a repeat.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

from examples.recipe.arguments import output_file

Contender: TypeAlias = Callable[[], object]
Clock: TypeAlias = Literal["wall", "cpu"]
_CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
_END_OF_HEAP: list[torch.Tensor] = []  # what `warm_heap` keeps


class Ratio(NamedTuple):
    """The median ratio of two contenders' times over repeats, and its quartiles."""

    median: float
    low: float
    high: float


class Timings:
    """Seconds of each contender in each repeat.

    Args:
        samples: Seconds per call, one list per contender, equal lengths.
    """

    def __init__(self, samples: Mapping[str, Sequence[float]]) -> None:
        self.samples = {name: list(seconds) for name, seconds in samples.items()}

    def median(self, name: str) -> float:
        return statistics.median(self.samples[name])

    def ratio(self, name: str, base: str) -> Ratio:
        """Return how long `name` takes relative to `base`, within repeats."""
        ratios = [ours / theirs for ours, theirs in zip(self.samples[name], self.samples[base], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        return Ratio(middle, low, high)


class Row(NamedTuple):
    """One row of a report: a measurement of the reference and of this library, and its bound.

    The bound is on `value` if it is given, else on `ratio`.
    """

    what: str
    reference: str
    ours: str
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    bound: float | None = None
    bound_text: str = ""
    value: float | None = None

    @property
    def reached(self) -> bool | None:
        measured = self.ratio if self.value is None else self.value
        return None if self.bound is None or measured is None else measured <= self.bound


def one_thread() -> None:
    """Use one thread, as two threads on shared cores stall at random."""
    torch.set_num_threads(1)


def warm_heap(blocks: int = 16) -> None:
    """Allocate and free large tensors, so that no contender pays for memory of the kernel.

    At first glibc takes every block above 128 KiB from the kernel and returns it, which costs a page fault per 4 KiB at
    each use, more than the arithmetic. The threshold rises with the first large block that is freed, to at most 32 MiB.
    It also returns the end of the heap, if more than twice as much is free there: a contender of few temporaries would
    not pay for this and one of many would. So the last block stays, and what is freed lies below it.

    Args:
        blocks: How many blocks of 24 MiB stay free.
    """
    block = torch.ones(28 * 2**18)
    del block
    freed = [torch.ones(24 * 2**18) for _ in range(blocks)]
    _END_OF_HEAP.append(torch.ones(24 * 2**18))
    del freed


def interleaved(
    contenders: Mapping[str, Contender],
    *,
    repeats: int = 30,
    warmup: int = 3,
    shortest: float = 2e-3,
    clock: Clock = "wall",
) -> Timings:
    """Time the contenders side by side.

    Args:
        contenders: Functions to call, by name.
        repeats: Number of timings of each contender.
        warmup: Number of untimed calls of each contender before.
        shortest: Seconds; a faster contender is called several times per repeat.
        clock: `"wall"`, or `"cpu"` for the processor time of this process, for machines with other load. Other
            processes still affect caches and clock frequency.
    """
    now = _CLOCKS[clock]
    counts = {}
    for name, call in contenders.items():
        for _ in range(max(warmup, 1)):
            begin = now()
            call()
            elapsed = now() - begin
        counts[name] = max(1, math.ceil(shortest / max(elapsed, 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    gc.collect()
    gc.disable()  # a collection would be attributed to the contender that happens to run
    try:
        for _ in range(repeats):
            for name in order:
                call, count = contenders[name], counts[name]
                begin = now()
                for _ in range(count):
                    call()
                samples[name].append((now() - begin) / count)
            order.reverse()
    finally:
        gc.enable()
    return Timings(samples)


def time_row(what: str, timings: Timings, ours: str, reference: str, bound: float | None) -> Row:
    """Return the report row of two contenders."""
    ratio = timings.ratio(ours, reference)
    return Row(
        what,
        duration(timings.median(reference)),
        duration(timings.median(ours)),
        ratio.median,
        (ratio.low, ratio.high),
        bound,
        "" if bound is None else f"≤ {bound:g}×",
    )


def duration(seconds: float) -> str:
    """Return a time as text, in a suitable unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def print_report(title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Print the machine, the rows as a Markdown table, and the notes."""
    print(f"\n{title}\n{describe_machine()}\n")
    print("| what | reference | ours | ratio (quartiles) | bound | reached |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        ratio = "–" if row.ratio is None else f"{row.ratio:.3g}"
        if row.spread is not None:
            ratio += f" ({row.spread[0]:.3g}–{row.spread[1]:.3g})"
        reached = {True: "yes", False: "NO", None: "–"}[row.reached]
        print(f"| {row.what} | {row.reference} | {row.ours} | {ratio} | {row.bound_text or '–'} | {reached} |")
    for note in notes:
        print(f"\n{note}", end="")
    print(flush=True)


def save_report(path: Path | None, rows: Sequence[Row], **extra: object) -> None:
    """Write the rows and `extra` as JSON, unless the path is None."""
    if path is None:
        return
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "rows": [row._asdict() | {"reached": row.reached} for row in rows],
        **extra,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nwrote {path}")


def describe_machine() -> str:
    """Return date, processor, versions and load, as text."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{date.today().isoformat()}, {processor}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) used, "
        f"torch {torch.__version__}, Python {platform.python_version()}{load}"
    )


def parser(module: str, description: str | None, *, repeats: int | None) -> argparse.ArgumentParser:
    """Return an argument parser with the options that benchmarks and studies share.

    Args:
        module: The module that `python -m` runs.
        description: Its docstring.
        repeats: Default number of repeats; None if nothing is timed.
    """
    result = argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--json", type=output_file, metavar="FILE", help="also write the results to this file")
    if repeats is not None:
        result.add_argument(
            "--repeats", type=int, default=repeats, help=f"number of interleaved repeats (default {repeats})"
        )
        result.add_argument(
            "--clock",
            choices=tuple(_CLOCKS),
            default="wall",
            help="cpu: exclude the time of other processes",
        )
    return result
