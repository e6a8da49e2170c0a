"""The largest memory of a training task and of sampling, in batches; counted, so the same in every run."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import shortest_path as sp
from benchmarks.live_bytes import LiveBytes
from benchmarks.peak_memory import corruption_for, step, still, task

BATCH = (128, 3, 32, 32)


def test_memory_is_counted_while_it_is_held() -> None:
    with LiveBytes() as live:
        first = torch.ones(1000)
        view = (first * 2).view(10, 100)
        assert (live.now, live.peak) == (8000, 8000)
        del view
        assert (live.now, live.peak) == (4000, 8000)


def test_a_training_task_holds_few_batches() -> None:
    assert task(BATCH) < 6.5


@pytest.mark.parametrize(("solver", "bound"), [("multistep", 7.5), ("ddim", 4.5), ("ancestral", 4.5)])
def test_sampling_holds_few_batches(solver: str, bound: float) -> None:
    assert step(BATCH, solver) < bound


def test_making_what_samples_large_images_holds_few_tables() -> None:
    shape = (3, 512, 512)
    with LiveBytes() as live:
        law = sp.PowerSpectrum.power_law(shape, amplitude=1.0, offset=0.1, exponent=2.0)
    assert live.peak < 3 * law.power.nbytes
    corruption = corruption_for((1, *shape))
    with LiveBytes() as live:
        sp.Sampler(still, corruption, steps=3)
    assert live.peak < 2.3 * law.power.nbytes


def test_making_a_sampler_of_large_images_imports_no_symbolic_algebra() -> None:
    """As `torch.unravel_index` does: 34 MB and half a second, once in a process."""
    program = (
        "import sys, shortest_path as sp\n"
        "law = sp.PowerSpectrum.power_law((3, 64, 64), amplitude=1.0, offset=0.1, exponent=2.0)\n"
        "before = set(sys.modules)\n"
        "sp.Sampler(lambda x_t, t: x_t, sp.ShortestPathCorruption(law), steps=3).sample((1, 3, 64, 64))\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules.keys() - before}))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "sympy" not in result.stdout.split()


def test_scales_of_large_images_hold_little_more_than_what_they_return() -> None:
    corruption, time = corruption_for((1, 3, 512, 512)), torch.tensor([0.5], dtype=torch.float64)
    with LiveBytes() as live:
        returned = corruption.scales(time)
    assert live.peak < 1.5 * sum(scale.nbytes for scale in returned)
