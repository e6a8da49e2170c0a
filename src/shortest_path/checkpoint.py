"""Checkpoint files: written whole or not at all, read without running anything in them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch

_PATTERN = re.compile(r"checkpoint-(\d+)\.pt")


def save_checkpoint(directory: str | os.PathLike[str], step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write `state` as the checkpoint of `step`, then delete all but the newest `keep` checkpoints."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint-{step:08d}.pt"
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for old in _checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def latest_checkpoint(directory: str | os.PathLike[str]) -> Path | None:
    """Return the checkpoint of the largest step in a folder, or None."""
    return next(reversed(_checkpoints(Path(directory))), None)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values are accepted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds anything else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch.load raises many kinds for a damaged file; each means the same here
        raise ValueError(f"{os.fspath(path)} is not a readable checkpoint ({type(error).__name__}: {error})") from error
    if not isinstance(state, dict):
        raise ValueError(f"{os.fspath(path)} is not a checkpoint: it holds {type(state).__name__}, expected a dict")
    return state


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("checkpoint-*.pt") if _PATTERN.fullmatch(path.name))
