"""Largest memory of a training task and of a sampling step, in batches, and of sampling large images.

    python -m benchmarks.peak_memory

Tensors are counted at every operation (`benchmarks/live_bytes.py`), so the numbers of the first table are the same in
every run and on every machine; tests bound them. What exists before does not count: the batch, the corruption, the
sampler. The last rows are the growth of the largest resident set of a new process that makes a corruption and a sampler
of 3×1024×1024 images, and then samples three, one at a time, with a model that costs nothing. What the allocator keeps
of freed memory counts too, but for the rows "nothing kept".
"""

from __future__ import annotations

import argparse
import os
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
BOUNDS = {"task": 7.0, "step, multistep": 12.0, "step, ddim": 6.0, "step, ancestral": 6.5}
"""Largest memory of a training task, and of sampling with a solver, in batches."""
LARGE, LARGE_BOUND = (1, 3, 1024, 1024), 200e6
LARGE_BOUNDS = {"task": 8.0, "step, multistep": 7.0, "step, ddim": 5.0, "step, ancestral": 5.0}
"""The same as `BOUNDS`, of one large image, whose steps are taken in parts."""
BASES = ("cosine", "fourier")
KEEP_NOTHING = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
"""Environment in which glibc returns every large tensor to the system when it is freed."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the report."""
    options = parser("benchmarks.peak_memory", __doc__, repeats=None)
    options.add_argument("--child", choices=BASES, help=argparse.SUPPRESS)
    arguments = options.parse_args(argv)
    one_thread()
    if arguments.child:
        print(*growth(arguments.child))
        return
    rows = []
    for shape in (*BATCHES, LARGE):
        name, bounds = "×".join(map(str, shape)), LARGE_BOUNDS if shape == LARGE else BOUNDS
        works = {"task": task(shape), **{f"step, {solver}": step(shape, solver) for solver in SOLVERS}}
        for what, found in works.items():
            bound = bounds[what]
            rows.append(Row(f"{name}: {what}", "1 batch", f"{found:.2f}", found, None, bound, f"≤ {bound:g} batches"))
    for basis in BASES:
        made, sampled = in_fresh_process(basis)
        _, needed = in_fresh_process(basis, **KEEP_NOTHING)
        works = {"make": made, "make and sample": sampled, "make and sample, nothing kept": needed}
        for what, grown in works.items():
            limit = f"< {size(LARGE_BOUND)}"
            rows.append(Row(f"1×3×1024×1024, {basis}: {what}", "–", size(grown), None, None, LARGE_BOUND, limit, grown))
    print_report("Largest memory (reference = the batch)", rows)
    save_report(arguments.json, rows)


def corruption_for(shape: Sequence[int]) -> sp.ShortestPathCorruption:
    """Return the default process for images of a shape: rotated channels, another spectrum in each."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    basis = sp.CosineBasis().with_channel_rotation(rotation)
    one = (1, *shape[2:])
    law = sp.PowerSpectrum.power_law(one, amplitude=300.0, offset=0.5, exponent=2.5, basis=sp.CosineBasis())
    strength = torch.logspace(0, -1, 3, dtype=torch.float64).view(3, 1, 1)
    return sp.ShortestPathCorruption(sp.PowerSpectrum(basis, law.power * strength))


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


def in_fresh_process(basis: str, **environment: str) -> tuple[float, float]:
    """Return what `growth` does in a new Python process."""
    command = [sys.executable, "-m", "benchmarks.peak_memory", "--child", basis]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    made, sampled = map(float, result.stdout.split()[-2:])
    return made, sampled


def growth(basis: str) -> tuple[float, float]:
    """Return by how many bytes this process grows while a large process is made, and in all, sampling included."""

    def make(shape: Sequence[int]) -> sp.Corruption:
        if basis == "cosine":
            return corruption_for(shape)
        law = sp.PowerSpectrum.power_law(tuple(shape[1:]), amplitude=300.0, offset=0.5, exponent=2.5)
        return sp.ShortestPathCorruption(law)

    sp.Sampler(still, make((1, 3, 32, 32)), steps=3).sample((1, 3, 32, 32))  # first use of code and random numbers
    before = resident()
    sampler = sp.Sampler(still, make(LARGE), steps=3)
    made = peak_resident() - before
    for _ in range(3):
        sampler.sample(LARGE)
    return made, peak_resident() - before


def still(x_t: Tensor, t: Tensor) -> Tensor:
    """Return a model's output that costs one batch."""
    return torch.zeros_like(x_t)


if __name__ == "__main__":
    main()
