"""Weights as files: safetensors or, where these are not installed or lack a type, archives that torch reads safely."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .._checks import check_has_values
from .._described import check_can_be_written
from .._files import replace_file

MODEL = "model"
SAFE, PICKLED = f"{MODEL}.safetensors", f"{MODEL}.pt"
_IN_SAFE = {  # types of every version of safetensors
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
}  # fmt: skip


def write_weights(folder: Path, weights: Mapping[str, object], kind: str) -> str:
    """Write a state dict to a folder, and return the name of the file.

    Args:
        folder: The folder.
        weights: The state dict.
        kind: The class of its model, in an error.

    Raises:
        TypeError: a state dict that holds anything but tensors.
        ValueError: a weight without values, as on the meta device or in a lazy module, or one that is no dense array.
        OSError: the file could not be written.
    """
    plain = {name: _plain(value, name, kind) for name, value in weights.items()}
    if importlib.util.find_spec("safetensors") is not None and {each.dtype for each in plain.values()} <= _IN_SAFE:
        data = importlib.import_module("safetensors.torch").save({name: each.clone() for name, each in plain.items()})
        replace_file(folder / SAFE, lambda file: file.write(data))
        return SAFE
    replace_file(folder / PICKLED, lambda file: torch.save(plain, file))
    return PICKLED


def _plain(value: object, name: str, kind: str) -> Tensor:
    """Return a weight as a contiguous tensor on the CPU."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"cannot save {name} of {kind}, a {type(value).__name__}: weights are written as tensors alone; return a "
            "tensor from get_extra_state, or give the class save_pretrained and from_pretrained"
        )
    if torch.nn.parameter.is_lazy(value):
        raise ValueError(f"cannot save {name} of {kind}, which has no shape yet; call the model once before")
    check_has_values(value, f"{kind}.{name}")
    check_can_be_written(f"{kind}.{name}", value)
    return value.detach().cpu().resolve_conj().resolve_neg().contiguous()


def read_weights(folder: Path, name: str) -> dict[str, Tensor]:
    """Return the state dict that `write_weights` wrote.

    Args:
        folder: The folder.
        name: What it returned.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is damaged, or safetensors is not installed.
    """
    file = folder / (SAFE if name == SAFE else PICKLED)  # not another file that the description may name
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; download the folder whole")
    try:
        if name == SAFE:
            loaded: dict[str, Tensor] = importlib.import_module("safetensors.torch").load(file.read_bytes())
            return loaded
        if file.read_bytes()[:4] != b"PK\x03\x04":
            raise ValueError("it is no zip archive")
        weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return weights
    except ModuleNotFoundError as error:
        raise ValueError(f"{file} requires safetensors to be read; pip install safetensors") from error
    except Exception as error:
        raise ValueError(f"{file} is damaged ({type(error).__name__}: {error}); download it again") from error


def own_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights in the safetensors of a model that wrote itself, mapped from the files.

    Returns:
        The weights by name; empty if there are no such files, as in other formats, or two of them hold one name.
    """
    found: dict[str, Tensor] = {}
    if importlib.util.find_spec("safetensors") is None:
        return found
    for file in sorted(folder.glob("*.safetensors")):
        try:
            weights = importlib.import_module("safetensors.torch").load_file(file)
        except Exception as error:  # what a damaged file raises is anyone's guess
            raise ValueError(f"{file} is damaged ({type(error).__name__}: {error}); download it again") from error
        if not found.keys().isdisjoint(weights):
            return {}
        found |= weights
    return found
