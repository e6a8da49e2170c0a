"""The random state of this process: that of torch, numpy and Python, and of generators that a data loader owns."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_NORMAL = struct.Struct("<?d")  # whether a second normal number is kept, and which
_OWNERS = ("sampler", "batch_sampler", "dataset")


def global_state() -> dict[str, Tensor]:
    """Return the state of the generators that a process has once: tensors of bytes."""
    _, python, normal = random.getstate()
    state = {"cpu": torch.get_rng_state(), "python": _packed(python, normal is not None, normal or 0.0)}
    numpy = np.random.get_state()
    if isinstance(numpy, tuple) and numpy[0] == "MT19937":  # else the program has put another in its place
        state["numpy"] = _packed(np.append(numpy[1], numpy[2]), bool(numpy[3]), numpy[4])
    return state


def set_global_state(state: Mapping[str, Tensor]) -> None:
    """Continue from what `global_state` returned; generators that it does not name stay as they are."""
    if "cpu" in state:
        torch.set_rng_state(state["cpu"].clone())  # torch 2.13 reads past the end of a view, and dies
    if "numpy" in state:
        words, has_normal, normal = _unpacked(state["numpy"])
        np.random.set_state(("MT19937", np.array(words[:-1], dtype=np.uint32), words[-1], int(has_normal), normal))
    if "python" in state:
        words, has_normal, normal = _unpacked(state["python"])
        random.setstate((3, tuple(words), normal if has_normal else None))


def own_state(batches: object) -> dict[str, Tensor]:
    """Return the states of the generators that a data loader, its samplers or its data set own."""
    return {name: _state_of(generator) for name, generator in _generators(batches).items()}


def set_own_state(batches: object, state: Mapping[str, Tensor]) -> None:
    """Continue from what `own_state` returned."""
    for name, generator in _generators(batches).items():
        if name in state:
            _set_state_of(generator, state[name])


def _state_of(generator: torch.Generator | np.random.Generator) -> Tensor:
    """Return the state of a generator; of numpy's as JSON, in bytes."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    text = json.dumps(generator.bit_generator.state, default=np.ndarray.tolist)
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def _set_state_of(generator: torch.Generator | np.random.Generator, state: Tensor) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state.clone())
    else:
        generator.bit_generator.state = json.loads(state.cpu().numpy().tobytes())


def _generators(batches: object) -> dict[str, torch.Generator | np.random.Generator]:
    """Return generators by where they were found, each once."""
    found: dict[str, torch.Generator | np.random.Generator] = {}
    owners = [("", batches)]
    for path, owner in owners:
        generator = getattr(owner, "generator", None)
        is_new = all(generator is not other for other in found.values())
        if is_new and isinstance(generator, (torch.Generator, np.random.Generator)):
            kind = "" if isinstance(generator, torch.Generator) else f".{type(generator.bit_generator).__name__}"
            found[f"{path}generator{kind}"] = generator  # one of another kind has no use for the state of this
        inner = ((name, getattr(owner, name, None)) for name in _OWNERS)
        owners += [(f"{path}{name}.", each) for name, each in inner if each is not None and path.count(".") < 2]
    return found


def _packed(words: object, has_normal: bool, normal: float) -> Tensor:
    words_and_normal = np.asarray(words, dtype="<u4").tobytes() + _NORMAL.pack(has_normal, normal)
    return torch.frombuffer(bytearray(words_and_normal), dtype=torch.uint8)


def _unpacked(packed: Tensor) -> tuple[list[int], bool, float]:
    data = packed.cpu().numpy().tobytes()
    has_normal, normal = _NORMAL.unpack(data[-_NORMAL.size :])
    return np.frombuffer(data[: -_NORMAL.size], dtype="<u4").tolist(), has_normal, normal
