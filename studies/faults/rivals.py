"""A second training in the folder of a first one, which is stopped meanwhile so that the two meet at any instant."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studies.faults import children
from studies.faults.lives import live
from studies.faults.training import STEPS, Board, final_state, same, train


def attempt(folder: Path) -> None:
    """Train in the folder of another training; the work of a child."""
    train(folder, Board(folder.with_suffix(".second")))


def meet(
    out: Path, whole: dict[str, Any], *, seed: int, number: int, second: Callable[[Path], None] = attempt
) -> dict[str, Any]:
    """Start a second training beside a first one; then let the first end, or kill it and let the second continue.

    Args:
        out: Folder for the checkpoints and logs.
        whole: The last state of an undisturbed training.
        seed: Random seed of the instant.
        number: Number of the case; in odd ones the first training is killed.
        second: Work of the child that trains in the folder of the first.
    """
    rng = random.Random(f"{seed} rivals {number}")
    step, delay, killed = rng.randrange(1, STEPS - 10), rng.random() * 0.02, number % 2 == 1
    folder = out / "rivals"
    if folder.exists():
        shutil.rmtree(folder)
    log, problems = folder.with_suffix(".log"), list[str]()
    board, other = Board(folder.with_suffix(".board"), fresh=True), Board(folder.with_suffix(".second"), fresh=True)
    first = children.start(live, folder, None, log=log)
    try:
        while first.is_alive() and board["step"] < step:
            time.sleep(0.001)
        time.sleep(delay)
        children.stop(first)
        before = children.digests(folder)
        said = children.said(second, folder, log=log)
        if not said.startswith(f"ValueError: another training writes checkpoints to {folder}") or other["step"]:
            problems.append(f"the second took {other['step']} steps and said {said!r}")
        if children.digests(folder) != before:
            problems.append("the second changed the folder of the first")
        if killed:
            first.kill()
            first.join()
            first = children.start(live, folder, None, log=log)
        else:
            children.go_on(first)
        if (code := children.finish(first)) != 0:
            problems.append(f"the training that was left ended with {code}")
        elif not same(final_state(folder), whole):
            problems.append("the last state is not that of the undisturbed training")
    finally:
        first.kill()
        first.join()
    return {"part": "rivals", "number": number, "step": step, "killed": killed, "problems": problems}
