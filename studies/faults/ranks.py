"""Trainings of two processes that exchange gradients by gloo, of which one is stopped for a while, or killed."""

from __future__ import annotations

import random
import shutil
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from studies.faults import children
from studies.faults.lives import newest_in
from studies.faults.training import Board, final_state, same, train

KINDS = ("stop", "kill")
RECIPE = "two processes"
STOPS = 2  # of a training


def uninterrupted(folder: Path) -> dict[str, Any]:
    """Return the last state of an undisturbed training of two processes."""
    if folder.exists():
        shutil.rmtree(folder)
    codes = [children.finish(child) for child in _both(folder)]
    if any(codes):
        raise RuntimeError(f"the undisturbed training of two processes ended with {codes}; see {_log(folder)}")
    return final_state(folder)


def strike(out: Path, whole: dict[str, Any], kind: str, *, seed: int, number: int) -> dict[str, Any]:
    """Strike one of two processes at random instants, and compare the end with an undisturbed training's.

    Args:
        out: Folder for the checkpoints and logs.
        whole: The last state of an undisturbed training of two processes.
        kind: `stop` sends SIGSTOP twice, each time with SIGCONT after 1 to 2 seconds; `kill` sends SIGKILL once, after
            which both are started again.
        seed: Random seed of the instants.
        number: Number of the case.
    """
    rng = random.Random(f"{seed} ranks {kind} {number}")
    folder = out / "ranks"
    if folder.exists():
        shutil.rmtree(folder)
    pair, problems, waited = _both(folder), [], 0.0
    try:
        for part in range(STOPS if kind == "stop" else 1):
            struck, step = rng.randrange(2), rng.randrange(1, 25) + 28 * part
            _reach(folder, pair, struck, step, rng.random() * 0.02)
            if kind == "stop":
                problems += _stop(folder, pair, struck, 1 + rng.random())
            else:
                begun = time.monotonic()
                pair[struck].kill()
                code = children.finish(pair[1 - struck], 60)
                waited = time.monotonic() - begun
                if code in (None, 0):
                    problems.append(f"after the death of rank {struck} the other ended with {code}")
                pair[struck].join()
        if kind == "kill":
            newest, found = newest_in(folder)
            problems += found
            pair = _both(folder)
        codes = [children.finish(child) for child in pair]
        if any(codes):
            problems.append(f"the ranks ended with {codes}")
        elif not same(final_state(folder), whole):
            problems.append("the last state is not that of the undisturbed training")
        if kind == "kill" and any(_board(folder, rank)["resumed"] != newest for rank in range(2)):
            problems.append(f"it did not continue from step {newest}")
    finally:
        for child in pair:
            child.kill()
            child.join()
    return {"part": "ranks", "kind": kind, "number": number, "waited": round(waited, 1), "problems": problems}


def _stop(folder: Path, pair: list[ForkServerProcess], struck: int, seconds: float) -> list[str]:
    """Stop a rank for some seconds; return problems if the other does not wait for it."""
    children.stop(pair[struck])
    time.sleep(seconds / 2)
    steps = [_board(folder, rank)["step"] for rank in range(2)]
    time.sleep(seconds / 2)
    later = [_board(folder, rank)["step"] for rank in range(2)]
    alive = pair[1 - struck].is_alive()
    children.go_on(pair[struck])
    if later != steps or abs(steps[0] - steps[1]) > 1 or not alive:
        return [f"rank {struck} was stopped at steps {steps}, then they were at {later}, the other alive: {alive}"]
    return []


def _both(folder: Path) -> list[ForkServerProcess]:
    rendezvous = folder.with_suffix(".rendezvous")
    rendezvous.unlink(missing_ok=True)
    for rank in range(2):
        _board(folder, rank, fresh=True)
    return [children.start(_train, folder, rank, rendezvous, log=_log(folder)) for rank in range(2)]


def _reach(folder: Path, pair: list[ForkServerProcess], rank: int, step: int, delay: float) -> None:
    board = _board(folder, rank)
    while pair[rank].is_alive() and board["step"] < step:
        time.sleep(0.001)
    time.sleep(delay)


def _board(folder: Path, rank: int, *, fresh: bool = False) -> Board:
    return Board(folder.with_suffix(f".board{rank}"), fresh=fresh)


def _log(folder: Path) -> Path:
    return folder.with_suffix(".log")


def _train(folder: Path, rank: int, rendezvous: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    try:
        train(folder, _board(folder, rank), rank=rank, wrap=DistributedDataParallel)
    finally:
        dist.destroy_process_group()
