"""Memory to hold a process: of the reference code or of this library, in a fresh Python process."""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import torch

from benchmarks.reference import SHAPE, build_ours, build_reference

MORE = 100  # processes of ours, for the memory of one more


def in_fresh_process(arguments: argparse.Namespace, side: str) -> dict[str, float]:
    """Measure the memory of one side in a new Python process."""
    options = ["--reference", str(arguments.reference), "--steps", str(arguments.steps), "--child", side]
    command = [sys.executable, "-m", "benchmarks.compare_reference", *options]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"measuring the memory of {side} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def memory_of(side: str, fourier: types.ModuleType, steps: int) -> dict[str, float]:
    """Build and use the process of one side; return the bytes of its tables, and the growth of the resident set."""
    x_0 = torch.randn(1, *SHAPE)  # one image, as the temporaries of a batch do not count
    if side == "reference":  # first use of FFT plans, random number generator and code
        build_reference(fourier, 3).q_sample(x_0, torch.randint(0, 3, (1,)))
    else:
        build_ours().corrupt(x_0, torch.rand(1), torch.randn_like(x_0))
    gc.collect()
    before = resident()
    if side == "reference":
        process = build_reference(fourier, steps)
        process.q_sample(x_0, torch.randint(0, steps, (1,)))
        tables = sum(value.nbytes for value in vars(process).values() if isinstance(value, np.ndarray))
    else:
        process = build_ours()
        process.corrupt(x_0, torch.rand(1), torch.randn_like(x_0))
        tables = sum(buffer.nbytes for buffer in process.buffers())
    gc.collect()
    result = {"resident": resident() - before, "tables": tables, "peak": peak_resident()}
    if side == "ours":
        before = resident()
        more = [build_ours() for _ in range(MORE)]
        for process in more:
            process.corrupt(x_0, torch.rand(1), torch.randn_like(x_0))
        result["another"] = (resident() - before) / MORE
    return result


def resident() -> float:
    """Return the resident set size in bytes; NaN if the system does not report it."""
    return _status("VmRSS")


def peak_resident() -> float:
    """Return the largest resident set size so far in bytes; NaN if the system does not report it."""
    return _status("VmHWM")


def _status(field: str) -> float:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(field)), float("nan"))


def size(count: float) -> str:
    """Return a number of bytes as text."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count / 1e3:.1f} kB"
