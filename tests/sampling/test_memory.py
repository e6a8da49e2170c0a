"""The largest memory of a training task and of sampling, in batches; counted, so the same in every run."""

from __future__ import annotations

import pytest
import torch

from benchmarks.live_bytes import LiveBytes
from benchmarks.peak_memory import corruption_for, step, task

BATCH = (128, 3, 32, 32)


def test_memory_is_counted_while_it_is_held() -> None:
    with LiveBytes() as live:
        first = torch.ones(1000)
        view = (first * 2).view(10, 100)
        assert (live.now, live.peak) == (8000, 8000)
        del view
        assert (live.now, live.peak) == (4000, 8000)


def test_a_training_task_holds_few_batches() -> None:
    assert task(BATCH) < 7.5


@pytest.mark.parametrize(("solver", "bound"), [("multistep", 12.0), ("ddim", 7.5), ("ancestral", 7.5)])
def test_sampling_holds_few_batches(solver: str, bound: float) -> None:
    assert step(BATCH, solver) < bound


def test_scales_of_large_images_hold_little_more_than_what_they_return() -> None:
    corruption, time = corruption_for((1, 3, 512, 512)), torch.tensor([0.5], dtype=torch.float64)
    with LiveBytes() as live:
        returned = corruption.scales(time)
    assert live.peak < 1.5 * sum(scale.nbytes for scale in returned)
