"""Trainings that are killed repeatedly, and the checks of the disk after each death."""

from __future__ import annotations

import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from shortest_path.training import load_checkpoint, load_latest
from studies.faults import children
from studies.faults.training import STEPS, Board, final_state, same, train

PER_TRAINING = 10  # deaths in a training
_LAST = {"kill": (-9,), "terminate": (75, -15)}  # exit codes; -15: before training had begun
_SAVING = ("copying", *Board.WRITER[1:])


class Plan(NamedTuple):
    """When a process dies: `delay` seconds after birth, start of loading, a step, or start of a phase of saving.

    `held`: where it waits to be killed, at the start of a phase of saving the checkpoint of a step.
    """

    how: str
    step: int
    phase: str
    delay: float


Life: TypeAlias = Callable[[Path, Plan | None, str], None]


def live(folder: Path, when: Plan | None, recipe: str = "adamw") -> None:
    """Train to the end, or to where the plan holds it; the work of a child."""
    train(folder, board_of(folder, when), recipe=recipe)


def board_of(folder: Path, when: Plan | None) -> Board:
    """Return the board of a child whose death is planned."""
    hold = (when.step, when.phase) if when is not None and when.how == "held" else None
    return Board(folder.with_suffix(".board"), hold=hold)


def plan(seed: int, training: int, life: int) -> Plan:
    """Return an instant; instants of a training spread over its steps, instants of saving over its phases."""
    rng = random.Random(f"{seed} {training} {life}")
    part = STEPS // PER_TRAINING
    step = life % PER_TRAINING * part + rng.randrange(part)
    how = rng.choices(("birth", "loading", "step", "saving"), (1, 1, 3, 5))[0]
    phase = rng.choice(_SAVING) if how == "saving" else ""
    longest = {"birth": 0.4, "loading": 0.03, "step": 0.02, "saving": 0.003}[how]
    at_once = how == "saving" and rng.random() < 0.5  # some phases are short
    return Plan(how, step, phase, 0.0 if at_once else rng.random() * longest)


def uninterrupted(folder: Path, recipe: str = "adamw") -> dict[str, Any]:
    """Return the last state of an undisturbed training."""
    if folder.exists():
        shutil.rmtree(folder)
    code = children.finish(children.start(_undisturbed, folder, recipe, log=folder.with_suffix(".log")))
    if code != 0:
        raise RuntimeError(f"the undisturbed training ended with {code}; see {folder.with_suffix('.log')}")
    return final_state(folder)


def _undisturbed(folder: Path, recipe: str) -> None:
    train(folder, recipe=recipe)


def training(
    out: Path,
    number: int,
    whole: dict[str, Any],
    *,
    seed: int,
    known: Sequence[dict[str, Any]] = (),
    deaths: int = PER_TRAINING,
    kind: str = "kill",
    recipe: str = "adamw",
    life: Life = live,
    planned: Callable[[int, int, int], Plan] = plan,
    record: Callable[[dict[str, Any]], None],
) -> None:
    """Kill a training `deaths` times, let it end, and compare it with an undisturbed one.

    Args:
        out: A folder for the checkpoints and logs.
        number: Number of the training, part of its folder's name.
        whole: Last state of the undisturbed training.
        seed: Random seed of the instants.
        known: Results of this training from an interrupted run, which continues.
        deaths: Number of kills.
        kind: `kill` for SIGKILL, `terminate` for SIGTERM.
        recipe: Name of the kind of training.
        life: Work of a child, with the plan of its death or None, and the recipe.
        planned: Returns the plan of a death for a seed, a training and a life.
        record: Called with each result.
    """
    folder = out / f"{kind}-{number}"
    if not known and folder.exists():
        shutil.rmtree(folder)
    newest, _ = newest_in(folder)  # an interrupted run may not have recorded its last life
    lost = max((line["newest"] for line in known), default=0) > newest
    done = sum(line["died"] for line in known)
    torn: dict[str, int] = {}
    for index in range(len(known), 10 * deaths):
        if done >= deaths:
            break
        found = _end(folder, planned(seed, number, index), kind, newest, torn, life, recipe)
        newest = found["newest"]
        done += found["died"]
        record({"part": kind, "training": number, "recipe": recipe, "life": index, **found})
        if found["code"] == 0:
            break  # it reached its end before
    board = Board(folder.with_suffix(".board"), fresh=True)
    code = children.finish(children.start(life, folder, None, recipe, log=folder.with_suffix(".log")))
    problems = [] if code == 0 else [f"the last life ended with {code}"]
    if lost:
        problems.append("what an interrupted run had found was no longer there")
    if list(folder.glob("*.tmp")) and board["cleared"]:
        problems.append("torn files are left")
    identical = code == 0 and same(final_state(folder), whole)
    if not identical:
        problems.append("the last state is not that of the undisturbed training")
    end = {"part": f"{kind} end", "training": number, "recipe": recipe, "identical": identical, "problems": problems}
    record(end)
    if not problems:
        shutil.rmtree(folder)


def _end(
    folder: Path, when: Plan, kind: str, newest: int, torn: dict[str, int], life: Life, recipe: str
) -> dict[str, Any]:
    """Start a life, end it as planned, and check the disk."""
    board = Board(folder.with_suffix(".board"), fresh=True)
    child = children.start(life, folder, when, recipe, log=folder.with_suffix(".log"))
    begun = time.monotonic()
    try:
        while child.is_alive() and not _reached(board, when) and time.monotonic() < begun + 60:
            time.sleep(5e-5)
        time.sleep(when.delay)
        struck = board["main"], board["writer"]
        if kind == "terminate":
            child.terminate()
        else:
            child.kill()
        code = children.finish(child, 60)
    finally:
        child.kill()
        child.join()
    if kind == "kill":  # which acts at once, on a process that has continued since the last look
        struck = board["main"], board["writer"]
    main, writer = Board.MAIN[struck[0]], Board.WRITER[struck[1]]
    died = code in _LAST[kind]
    problems = [] if died or code == 0 else [f"it ended with {code}"]
    if board["threads"] > 1:
        problems.append(f"the process it was forked from had {board['threads']} threads")
    if board["step"] and board["resumed"] != newest:
        problems.append(f"it continued from step {board['resumed']}, not {newest}")
    left = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tmp")}
    if board["cleared"] and torn.items() & left.items():
        problems.append(f"torn files of an earlier life are left: {sorted(torn)}")
    torn.clear()
    torn.update(left)
    found, more = newest_in(folder)
    least = max(newest, board["renamed"])
    if found < least:
        problems.append(f"step {least} was complete, but {found} is the newest found")
    if found > board["step"] and found > newest:
        problems.append(f"the newest found is of step {found}, but only {board['step']} was reached")
    if code == 75 and found != max(board["step"], newest):
        problems.append(f"it stopped at step {board['step']}, but {found} is the newest found")
    return {
        **when._asdict(),
        "died": died,
        "code": code,
        "step": board["step"],
        "newest": found,
        "phase_main": main,
        "phase_writer": writer,
        "saving": died and (main == "copying" or writer != "idle"),
        "torn": len(left),
        "problems": problems + more,
    }


def _reached(board: Board, when: Plan) -> bool:
    if when.how == "birth":
        return True
    if when.how == "held":
        return board["held"] > 0
    if when.how == "loading":
        return board["main"] > 0
    if when.how == "step" or board["step"] < when.step:
        return board["step"] >= max(when.step, 1)
    if when.phase == "copying":
        return board["main"] == Board.MAIN.index("copying")
    return board["writer"] == Board.WRITER.index(when.phase)


def newest_in(folder: Path) -> tuple[int, list[str]]:
    """Return the step of the newest checkpoint that loads, and all problems of checkpoints."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = load_latest(folder)
        except Exception as error:
            return 0, [f"no checkpoint loads: {error}"]
    problems = [str(each.message) for each in said]
    if found is None:
        return 0, problems
    step = int(found[1]["step"])
    if found[0].name != f"checkpoint-{step:08d}.pt":
        problems.append(f"{found[0].name} holds step {step}")
    return step, problems


def whole_in(folder: Path) -> list[int]:
    """Return the steps of the checkpoints that load, in order; links are not among them."""
    found = []
    for path in sorted(folder.glob("checkpoint-*.pt")):
        if path.is_file() and not path.is_symlink():
            with suppress(ValueError):
                found.append(int(load_checkpoint(path)["step"]))
    return found


def summary(lines: Iterable[dict[str, Any]], kind: str) -> dict[str, int]:
    """Return counts over the results of a kind."""
    lines = list(lines)
    lives = [line for line in lines if line["part"] == kind]
    ends = [line for line in lines if line["part"] == f"{kind} end"]
    died = [line for line in lives if line["died"]]
    return {
        "died": len(died),
        "in saving": sum(line["saving"] for line in died),
        "starting": sum(line["phase_main"] in ("starting", "loading") for line in died),
        "torn": sum(line["torn"] > 0 for line in died),
        "trainings": len(ends),
        "stopped": sum(line["code"] == 75 for line in died),
        "identical": sum(line["identical"] for line in ends),
        "problems": sum(bool(line["problems"]) for line in lives + ends),
    }
