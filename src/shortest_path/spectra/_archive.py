"""Spectra as plain values and tensors, and as files of them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .._checks import check_count
from .._files import checked_file, replace_file
from ..bases import Basis, basis_from_state, basis_state

_FORMAT = "shortest_path.PowerSpectrum"
_VERSION = 1
_EXAMPLE = "spectrum.npz"
_reading = threading.Lock()  # numpy parses headers as Python, which CPython 3.11 does in one thread at a time only

Spectrum = TypeVar("Spectrum")


def pack(basis: Basis, tensors: Mapping[str, Tensor | None], counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the state of a spectrum; tensors are copies on the CPU."""
    of_basis = basis_state(basis)
    own = {"format": _FORMAT, "version": _VERSION, **counts}
    values = {**of_basis, **{name: tensor for name, tensor in tensors.items() if tensor is not None}}
    copies = {name: value.detach().to("cpu", copy=True) for name, value in values.items() if isinstance(value, Tensor)}
    return {**own, **of_basis, **copies}


def unpack(state: Mapping[str, Any], make: Callable[..., Spectrum]) -> Spectrum:
    """Return what `make` makes of the state of a spectrum."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be what state_dict() returned, got {type(state).__name__}")
    if state.get("format") != _FORMAT:
        raise ValueError(f"not the state of a power spectrum: format {state.get('format')!r}, expected {_FORMAT!r}")
    version = state.get("version")
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"an inconsistent power spectrum: version {version!r}, expected a number from 1 on")
    if version > _VERSION:
        raise ValueError(
            f"the power spectrum has format version {version}, this library reads up to {_VERSION}; "
            "update shortest_path"
        )
    try:
        counts = {name: check_count(name, state[name], least=0) for name in ("count", "floored")}
        tensors = {name: state.get(name) for name in ("cross", "mean")}
        return make(basis_from_state(state), state["power"], **tensors, **counts)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"an inconsistent power spectrum: {error}") from error


def write(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a state to an .npz archive; plain values become JSON."""
    arrays: dict[str, Any] = {name: value.numpy() for name, value in state.items() if isinstance(value, Tensor)}
    header = np.array(json.dumps({name: value for name, value in state.items() if name not in arrays}))
    path = checked_file("path", path, _EXAMPLE)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save to {path}: its folder does not exist; make it first")
    replace_file(path, lambda file: np.savez(file, header=header, **arrays))


def read(path: str | os.PathLike[str], make: Callable[..., Spectrum]) -> Spectrum:
    """Return what `make` makes of the state in an .npz archive."""
    path = checked_file("path", path, _EXAMPLE)
    try:
        with _reading, open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]) for name in archive.files if name != "header"}
            header = json.loads(str(archive["header"]))
        if header["format"] != _FORMAT:
            raise KeyError(header["format"])
    except FileNotFoundError:
        raise
    except Exception as error:  # what a damaged archive raises is anyone's guess: zlib.error, MemoryError, …
        raise ValueError(
            f"{path} is not a readable power spectrum ({type(error).__name__}: {error}); "
            "make one with PowerSpectrum.estimate(...).save(path)"
        ) from error
    try:
        return unpack({**header, **arrays}, make)
    except ValueError as error:
        raise ValueError(f"{path} holds {error}") from error
