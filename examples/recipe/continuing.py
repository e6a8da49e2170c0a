"""Where a CIFAR-10 run continues, whether it is the same run, and what follows from the number of a step alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shortest_path.training import latest_checkpoint, load_latest

from . import runs
from .ranks import Ranks
from .settings import FREE, Settings, from_dict, to_dict


def newest(folder: Path, settings: Settings, me: Ranks) -> dict[str, Any] | None:
    """Return the state to continue from, if there is one, of the same step in all processes. Collective.

    Raises:
        OSError: the file that `resume` names does not exist.
        ValueError: there are checkpoints, but `resume` is false; a file that cannot be continued from; or a problem of
            another process, or processes that find different checkpoints.
    """
    problem, found, step, place = None, None, None, "no checkpoint"
    try:
        found = _found(folder, settings)
    except (OSError, ValueError) as error:
        problem = error
    if found is not None:
        step = found[1].get("step")
        place = f"{found[0]} of step {step}"
    problems, steps, places = zip(*me.gather((problem and str(problem), step, place)), strict=True)
    if problem is not None:
        raise problem
    for rank, text in enumerate(problems):
        if text is not None:
            raise ValueError(f"rank {rank} cannot read its checkpoint to continue from: {text}")
    if any(each != step for each in steps):
        listed = ", ".join(f"rank {rank} from {place}" for rank, place in enumerate(places))
        raise ValueError(
            f"the processes would continue from different checkpoints, {listed}; let --out be a folder that all of "
            "them share, as rank 0 alone writes"
        )
    return None if found is None else found[1]


def _found(folder: Path, settings: Settings) -> tuple[Path, dict[str, Any]] | None:
    """Return the checkpoint that this process would continue from."""
    if latest_checkpoint(folder) is not None and settings.resume is False:
        raise ValueError(f"{folder} holds checkpoints, but resume is false; choose another --out, or delete the folder")
    return load_latest(folder, otherwise=None if isinstance(settings.resume, bool) else settings.resume)


def check_same(
    settings: Settings, provenance: Mapping[str, Any], kept: Mapping[str, Any], state: Mapping[str, Any] | None
) -> None:
    """Raise a ValueError that lists the differences from the run to continue."""
    if state is None:
        return
    before, where = state.get("metadata", {}), settings.out
    if not isinstance(settings.resume, bool) and latest_checkpoint(Path(settings.out) / "checkpoints") is None:
        where = settings.resume
    if before.get("format") != runs.FORMAT:
        raise ValueError(f"the checkpoints in {where} are of another program; choose another --out")
    free = FREE if settings.decay == "none" else FREE - {"steps"}  # the learning rate depends on the last step then
    ours = {name: value for name, value in to_dict(settings).items() if name not in free}
    theirs = to_dict(from_dict(before["settings"]))
    pairs = [(name, theirs[name], value) for name, value in ours.items()]
    data = before["provenance"]
    pairs += [("pixels", data["sha256"][:8], provenance["sha256"][:8])]
    if "labels_sha256" in data and "labels_sha256" in provenance:  # of class-conditional runs, but for old ones
        pairs += [("labels", data["labels_sha256"][:8], provenance["labels_sha256"][:8])]
    if "class_names" in data and "class_names" in provenance:  # not every source has them
        pairs += [("class_names", data["class_names"], provenance["class_names"])]
    pairs += [(f"the global {name}" if name == "batch" else name, before.get(name), kept[name]) for name in kept]
    if different := [f"{name} was {was}, is {value}" for name, was, value in pairs if was != value]:
        raise ValueError(f"{where} holds another run: {'; '.join(different)}. Use the same settings, or another --out")


def learning_rate(settings: Settings, step: int) -> float:
    """Return the learning rate of the step after `step` steps: up to its full height, and down to 0 if it decays."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    passed = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    factor = {"none": 1.0, "linear": 1 - passed, "cosine": (1 + math.cos(math.pi * passed)) / 2}[settings.decay]
    return settings.learning_rate * max(0.0, factor)
