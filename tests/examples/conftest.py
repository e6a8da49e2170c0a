"""What several tests of the examples begin with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from examples.recipe.dead_leaves import dead_leaves
from tests.examples.commands import Result, Stop, run, start

QUICKSTART = ("--size", 8, "--batch-size", 8, "--samples", 4, "--sample-steps", 2, "--images", 64)
QUICKSTART += ("--held-out", 8, "--likelihood-steps", 2)
STEPS = 12
LEAVES = dead_leaves(72, size=8, seed=5)


class Finished(NamedTuple):
    """A quickstart on 72 images, 8 held out, that Ctrl-C stopped in its second training, and that was run again."""

    folder: Path
    words: tuple[object, ...]
    stopped: Result
    continued: Result


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    data, out = tmp_path_factory.mktemp("data") / "leaves.npy", tmp_path_factory.mktemp("quickstart")
    np.save(data, LEAVES)
    words = ("--out", out, "--data", data, *QUICKSTART, "--steps", STEPS)
    stopped = start("quickstart", *words, stop=Stop("shortest_path:DiffusionTrainer.train_step", STEPS + 6))
    return Finished(out, words, stopped, run("quickstart", *words))


def assert_drawn(path: Path) -> None:
    """Check that a figure has paper and ink."""
    with Image.open(path) as image:
        assert min(image.size) >= 400
        grey = np.asarray(image.convert("L"))
    assert (grey > 250).mean() > 0.05
    assert (grey < 200).mean() > 0.01
