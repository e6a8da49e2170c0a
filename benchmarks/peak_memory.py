"""Largest memory of a training task and of a sampling step, in batches, and of sampling large images.

    python -m benchmarks.peak_memory

Tensors are counted at every operation (`benchmarks/live_bytes.py`), so the numbers of the first table are the same in
every run and on every machine; a test bounds them. What exists before does not count: the batch, the corruption, the
sampler. The second table is the growth of the largest resident set of a new process that samples 3×1024×1024 images one
at a time with a model that costs nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

import shortest_path as sp
from benchmarks.live_bytes import LiveBytes
from benchmarks.memory import peak_resident, resident, size
from benchmarks.timing import Row, one_thread, parser, print_report, save_report

BATCHES = ((128, 3, 32, 32), (8, 3, 256, 256))
SOLVERS = ("multistep", "ddim", "ancestral")
BOUNDS = {"task": 8.0, "step, multistep": 16.0, "step, ddim": 10.0, "step, ancestral": 10.0}
"""Largest memory of a training task, and of sampling with a solver, in batches."""
LARGE, LARGE_BOUND = (1, 3, 1024, 1024), 200e6


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the report."""
    options = parser("benchmarks.peak_memory", __doc__, repeats=None)
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = options.parse_args(argv)
    one_thread()
    if arguments.child:
        print(growth())
        return
    rows = []
    for shape in BATCHES:
        name = "×".join(map(str, shape))
        works = {"task": task(shape), **{f"step, {solver}": step(shape, solver) for solver in SOLVERS}}
        for what, found in works.items():
            bound = BOUNDS[what]
            rows.append(Row(f"{name}: {what}", "1 batch", f"{found:.2f}", found, None, bound, f"≤ {bound:g} batches"))
    command = [sys.executable, "-m", "benchmarks.peak_memory", "--child"]
    grown = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    limit = f"< {size(LARGE_BOUND)}"
    rows.append(Row("sample 1×3×1024×1024", "–", size(grown), None, None, LARGE_BOUND, limit, grown))
    print_report("Largest memory (reference = the batch)", rows)
    save_report(arguments.json, rows)


def corruption_for(shape: Sequence[int]) -> sp.ShortestPathCorruption:
    """Return the default process for images of a shape: rotated channels, another spectrum in each."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    basis = sp.CosineBasis().with_channel_rotation(rotation)
    law = sp.PowerSpectrum.power_law(tuple(shape[1:]), amplitude=300.0, offset=0.5, exponent=2.5, basis=basis)
    powers = law.power * torch.logspace(0, -1, 3, dtype=torch.float64).view(3, 1, 1)
    return sp.ShortestPathCorruption(sp.PowerSpectrum(basis, powers))


def task(shape: Sequence[int]) -> float:
    """Return the largest memory of a training task, its noise included, in batches."""
    loss, x_0, t = sp.DiffusionLoss(corruption_for(shape)), torch.randn(*shape), torch.rand(shape[0])
    loss.task(x_0, t, torch.randn_like(x_0))  # with the tables that are made once
    with LiveBytes() as live:
        loss.task(x_0, t, torch.randn_like(x_0))
    return live.peak / x_0.nbytes


def step(shape: Sequence[int], solver: str) -> float:
    """Return the largest memory of sampling in three steps, the state and the noise included, in batches."""
    sampler = sp.Sampler(still, corruption_for(shape), prediction="data", solver=solver, steps=3)
    x_1 = torch.randn(*shape)
    sampler.sample(tuple(shape), x_1=x_1)
    with LiveBytes() as live:
        sampler.sample(tuple(shape), x_1=x_1)
    return live.peak / x_1.nbytes


def growth() -> float:
    """Return by how many bytes this process grows when it samples large images one at a time."""
    small = corruption_for((1, 3, 32, 32))
    sp.Sampler(still, small, steps=3).sample((1, 3, 32, 32))  # first use of code and random numbers
    before = resident()
    sampler = sp.Sampler(still, corruption_for(LARGE), steps=3)
    for _ in range(3):
        sampler.sample(LARGE)
    return peak_resident() - before


def still(x_t: Tensor, t: Tensor) -> Tensor:
    """Return a model's output that costs one batch."""
    return torch.zeros_like(x_t)


if __name__ == "__main__":
    main()
