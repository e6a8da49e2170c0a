"""A trainer's sampler as a description in every checkpoint, from which a checkpoint can be shared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._files import check_entries, checked_path
from ..corruptions import Corruption
from ..sampling import Sampler, describe_model, describe_sampler
from ..spectra import PowerSpectrum
from ._checkpoint import load_checkpoint, load_latest
from ._plain import plain

SAMPLER = "sampler"  # its key in a state; a state without it can be continued from
_UNKNOWN = "it was written without one, e.g. by an earlier version"


def described_sampler(
    model: nn.Module,
    corruption: Corruption,
    *,
    prediction: str,
    spectrum: PowerSpectrum | None,
    null: Mapping[str, Any],
) -> dict[str, Any] | str:
    """Return the sampler of a trainer as plain values and CPU tensors, or the reason in words why it has none."""
    try:
        described = describe_sampler(corruption, prediction=prediction, spectrum=spectrum)
        described |= {"null_conditioning": dict(null), "model": describe_model(model)}
        found: dict[str, Any] = _once(plain(described, SAMPLER), [])
    except Exception as error:  # a corruption or network of the user's may raise anything, which must not stop training
        return str(error)
    return found


def share_checkpoint(
    checkpoint: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    model: nn.Module | None = None,
    *,
    ema_decay: float | None = None,
    **options: Any,
) -> Sampler:
    """Write a sampler of the averaged weights in a checkpoint to a folder, for `Sampler.from_pretrained`.

    It writes what `trainer.save_pretrained` would, without the trainer, its data or its program.

    Args:
        checkpoint: A checkpoint of `DiffusionTrainer`, or a folder, for the newest undamaged one in it.
        folder: The folder to write, made if missing; not that of the checkpoint.
        model: The module, made as for training; where a wrapper of this library was trained, also the network in it.
            None is enough: models of registered classes that tell how they are made are loaded without one, and the
            weights of any other are written for the module that the user of the folder passes.
        ema_decay: Decay of the average, of several; None (default) is the first. Without averages, the weights
            themselves.
        **options: Arguments of `Sampler`: what a user of the folder gets by default, e.g. `steps=20`.

    Returns:
        The sampler that was written. It can be used if the model was given or could be made.

    Raises:
        FileNotFoundError: there is no such file, or no checkpoint in the folder.
        TypeError: a `model` that is no module, an argument that `Sampler` does not have, or what is not a path.
        ValueError: a file that is no checkpoint of a trainer, a corruption that could not be described, an average that
            the checkpoint does not have, weights that do not fit the model, or a folder that is that of the checkpoint
            or empty.
        OSError: a file could not be written.

    Example:
        >>> import tempfile, torch, shortest_path as sp
        >>> model = torch.nn.Conv2d(3, 3, 1)
        >>> _ = model.register_forward_pre_hook(lambda module, inputs: inputs[:1])
        >>> trainer = sp.DiffusionTrainer(model, sp.GaussianCorruption("flow"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer.fit([torch.zeros(2, 3, 8, 8)], steps=1, checkpoint_dir=folder)
        ...     _ = sp.training.share_checkpoint(folder, f"{folder}/shared", steps=20)
        ...     sp.Sampler.from_pretrained(f"{folder}/shared", model).steps
        20
    """
    folder = checked_path("folder", folder, "'.' for the present folder")
    path, state = _read(checked_path("checkpoint", checkpoint, "the checkpoint_dir of fit"))
    if folder.resolve() == path.parent.resolve():
        raise ValueError(f"{folder} holds the checkpoints that are shared; pass another folder, e.g. 'my-model'")
    if state.keys().isdisjoint(("model", "ema")):
        raise ValueError(
            f"{path} is not a checkpoint of DiffusionTrainer: expected 'model' or 'ema', got "
            f"{', '.join(map(repr, list(state)[:5])) or 'nothing'}; pass the checkpoint_dir of fit, or a file in it"
        )
    description = state.get(SAMPLER, _UNKNOWN)
    if not isinstance(description, Mapping):
        raise ValueError(
            f"{path} has no description of its sampler: {description}. Make its trainer again, continue from the "
            "checkpoint with load_state_dict, and call trainer.save_pretrained"
        )
    sampler = Sampler.from_description(description, _averaged(state, ema_decay, path), model, **options)
    sampler.save_pretrained(folder)
    return sampler


def _read(path: Path) -> tuple[Path, dict[str, Any]]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; pass the checkpoint_dir of fit, or a file in it")
    if not path.is_dir():
        return path, load_checkpoint(path)
    found = load_latest(path)
    if found is None:
        raise FileNotFoundError(
            f"{path} holds no checkpoint-<step>.pt; pass the checkpoint_dir of fit, or a file in it"
        )
    return found


def _averaged(state: Mapping[str, Any], decay: float | None, path: Path) -> Mapping[str, Tensor]:
    """Return the averaged weights of a decay, or the first."""
    if decay is None:
        found = state.get("ema")
        averaged: Mapping[str, Tensor] = state.get("model") if found is None else found  # type: ignore[assignment]
        return averaged
    parts = {name: state.get(name, {}) for name in ("config", "average")}
    check_entries(path, parts, config="an object", average="an object")
    first = parts["config"].get("ema_decay")
    first = first[0] if isinstance(first, (tuple, list)) else first
    others = parts["average"].get("others", {})
    known: dict[float, Mapping[str, Tensor]] = {} if first is None else {first: state["ema"]}
    known |= {each: average["model"] for each, average in others.items()}
    if decay not in known:
        names = ", ".join(f"{each:g}" for each in known) or "none"
        raise ValueError(f"{path} has no average of decay {decay!r}, it has {names}; choose one, or omit ema_decay")
    return known[decay]


def _once(value: Any, seen: list[Tensor]) -> Any:
    """Return a nested value in which equal tensors are one tensor, which a checkpoint holds once."""
    if isinstance(value, dict):
        return {name: _once(each, seen) for name, each in value.items()}
    if not isinstance(value, Tensor):
        return value
    for other in seen:
        if (other.shape, other.dtype) == (value.shape, value.dtype) and torch.equal(other, value):
            return other
    seen.append(value)
    return value
