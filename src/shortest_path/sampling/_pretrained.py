"""A sampler as a description and as a folder: JSON for what it is, arrays without pickle, and the model's weights."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from .. import solvers
from .._checks import check_choice
from .._described import as_plain, check_can_be_written, is_plain
from .._files import SAMPLER_FILE, check_entries, checked_path, naming, read_description
from .._folders import replace_folder
from .._model import network_of
from ..corruptions import Corruption, Process, corruption_from_state, corruption_state
from ..grids import falling_times
from ..prediction import Prediction
from ..solvers import Solver
from ..spectra import PowerSpectrum
from ._guidance import Guidance, make_guidance
from ._saved_models import check_can_be_saved, save_model

FORMAT, VERSION = "shortest_path.Sampler", 1
ARRAYS = "arrays.npz"
OWN_TIMES = "own_times"  # key of a description: whether its times were chosen, which another solver then keeps
GUIDANCE = ("guidance_scale", "guidance_interval", "null_conditioning")
_WITHOUT_NUMPY = {
    name: getattr(torch, name)
    for name in ("bfloat16", "complex32", *(name for name in dir(torch) if name.startswith("float8_")))
}
_BITS = {each: {1: torch.uint8, 2: torch.int16, 4: torch.int32}[each.itemsize] for each in _WITHOUT_NUMPY.values()}
_SOLVERS = {each.__name__: each for each in (solvers.Ancestral, solvers.DDIM, solvers.Multistep)}


def describe_sampler(
    corruption: Corruption,
    *,
    prediction: str,
    spectrum: PowerSpectrum | None,
    solver: Solver | None = None,
    times: Tensor | None = None,
    guidance: Guidance | None = None,
) -> dict[str, Any]:
    """Return all of a sampler but its model, as nested plain values and CPU tensors; see `Sampler.from_description`.

    Args:
        corruption: The corruption.
        prediction: What the model predicts.
        spectrum: The data's power, or None.
        solver: The solver; None leaves it to the default of `Sampler`, or to a later choice.
        times: The times; None as for the solver.
        guidance: The guidance, or None.

    Raises:
        TypeError: an option that can be neither written as JSON nor as an array.
        ValueError: a corruption or basis that is not registered, or a solver that is not the library's.
    """
    found: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "prediction": prediction,
        "corruption": corruption_state(corruption),
        "spectrum": None if spectrum is None else spectrum.state_dict(),
    }
    if solver is not None:
        found["solver"] = _of_solver(solver)
    if times is not None:
        found["times"] = times.detach().to("cpu", copy=True)
    if guidance is not None:
        found["guidance"] = _of_guidance(guidance)
    return found


def options_of(
    description: Mapping[str, Any], chosen: Mapping[str, Any], where: object = "the description"
) -> tuple[Corruption, dict[str, Any]]:
    """Return the corruption and the options of a sampler, of a description and of what the caller chose instead.

    Args:
        description: The description.
        chosen: Options that replace those of the description.
        where: What the description is called in an error, e.g. its file.

    Raises:
        ValueError: not a description, or a damaged one, or one of a later version, or of a corruption or basis that is
            not registered.
    """
    check_description(description, where)
    check_entries(where, description, prediction="a string", corruption="an object", spectrum="an object or null")
    with naming(where):
        corruption, options = _saved_options(description)
    times = options.pop("times", None)
    replaced = {"times", "grid", "steps", "start"} | (set() if has_own_times(description) else {"solver"})
    if times is not None and not chosen.keys() & replaced:
        options["times"] = times
    elif times is not None and "times" not in chosen:
        options |= {"steps": len(times) - 1, "start": float(times[0])}
    if "guidance_scale" in chosen and chosen["guidance_scale"] is None:
        options = {name: each for name, each in options.items() if name not in GUIDANCE}
    return corruption, options | dict(chosen)


def has_own_times(description: Mapping[str, Any]) -> bool:
    """Return whether a description has times that were chosen one by one."""
    return description.get(OWN_TIMES) is True


def _saved_options(description: Mapping[str, Any]) -> tuple[Corruption, dict[str, Any]]:
    """Return the corruption and the options that a description holds, each made or checked."""
    corruption = corruption_from_state(description["corruption"])
    prediction = check_choice("prediction", description["prediction"], get_args(Prediction))
    options: dict[str, Any] = {"prediction": prediction}
    if description["spectrum"] is not None:
        options["spectrum"] = PowerSpectrum.from_state_dict(description["spectrum"])
        Process(corruption, options["spectrum"])  # which tells if they do not fit
    if "solver" in description:
        saved = dict(description["solver"])
        kind = check_choice("solver", saved.pop("class"), sorted(_SOLVERS))
        options["solver"] = _SOLVERS[kind](**saved)
    if description.get("times") is not None:
        options["times"] = falling_times(description["times"])
    if description.get("guidance") is not None:
        saved = description["guidance"]
        make_guidance(saved["scale"], saved["interval"], saved["null"])
        options |= {"guidance_scale": saved["scale"], "guidance_interval": saved["interval"]}
        options |= {"null_conditioning": saved["null"]} if saved["null"] else {}
    return corruption, options


def write(folder: str | os.PathLike[str], description: Mapping[str, Any], model: object) -> None:
    """Write a description, and a model unless it is None, to a folder.

    The folder is made if missing. What a former save left there stays until all is written, and is then replaced.

    Raises:
        TypeError: a model that is neither a module nor has `save_pretrained`, or `folder` is not a path.
        ValueError: a description that could not be read again, or `folder` is empty.
        OSError: a file could not be written.
    """
    folder = checked_path("folder", folder, "'.' for the present folder")
    if model is not None:
        check_can_be_saved(network_of(model))

    arrays: dict[str, Tensor] = {}
    plain = _split(description, "", arrays)
    _check_can_be_read(plain, arrays)

    def write_all(new: Path) -> None:
        saved = None if model is None else save_model(new, model)
        values: dict[str, Any] = {name: _bits(each).numpy() for name, each in arrays.items()}
        np.savez(new / ARRAYS, **values)
        (new / SAMPLER_FILE).write_text(json.dumps({**plain, "model": saved}, allow_nan=False), encoding="utf-8")

    replace_folder(folder, write_all, SAMPLER_FILE)


def _check_can_be_read(plain: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> None:
    """Raise a ValueError for a description of which `read` and `options_of` could not make the same again."""
    written = json.loads(json.dumps(plain, allow_nan=False))
    try:
        _saved_options(_join(written, "", {name: each.clone() for name, each in arrays.items()}))
    except Exception as error:  # what the constructor of a registered class raises is anyone's guess
        kind = plain["corruption"]["class"]
        raise ValueError(
            f"cannot save this sampler of {kind}: what would be written cannot be read again ({type(error).__name__}: "
            f"{error}); the constructor of a registered class must take the values that argument_names lists, with "
            "tensors in place of parameters and tuples in place of lists"
        ) from error


def read(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the description in a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file that is damaged, of another format, or of a later version.
    """
    folder = Path(folder)
    file = folder / SAMPLER_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {SAMPLER_FILE}; pass a folder that save_pretrained wrote, downloaded whole"
        )
    plain = read_description(file, "the description of a sampler")
    check_description(plain, file)
    try:
        with np.load(folder / ARRAYS, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
        described: dict[str, Any] = _join(plain, "", arrays)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder / ARRAYS} is missing; download the folder whole") from error
    except Exception as error:  # what a damaged archive raises is anyone's guess: zlib.error, KeyError, …
        raise ValueError(
            f"{folder / ARRAYS} is damaged ({type(error).__name__}: {error}); download it again"
        ) from error
    return described


def check_description(described: object, where: object) -> None:
    """Raise a ValueError for what is no description of a sampler, or one of a later version."""
    known = described if isinstance(described, Mapping) else {}
    if known.get("format") != FORMAT:
        raise ValueError(
            f"{where} is not of a sampler: its format is {known.get('format')!r}, expected {FORMAT!r}; pass what "
            "Sampler.save_pretrained or a checkpoint of DiffusionTrainer holds"
        )
    version = known.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise ValueError(
            f"{where} has format version {version!r}, this library reads up to {VERSION}; update shortest_path"
        )


def _of_solver(solver: Solver) -> dict[str, Any]:
    kind = type(solver).__name__
    if type(solver) is not _SOLVERS.get(kind):
        raise ValueError(
            f"cannot save solver {solver!r}: only the library's own can be loaded again "
            f"({', '.join(sorted(_SOLVERS))}); save with one of these, and pass yours to from_pretrained"
        )
    return {"class": kind, **{name: as_plain(each) for name, each in dataclasses.asdict(solver).items()}}


def _of_guidance(guidance: Guidance) -> dict[str, Any]:
    null = None if guidance.null is None else {name: as_plain(value) for name, value in guidance.null.items()}
    for name, value in (null or {}).items():
        if not (isinstance(value, Tensor) or is_plain(value)):
            raise TypeError(
                f"cannot save null_conditioning[{name!r}], a {type(value).__name__}; use numbers, strings or tensors"
            )
        check_can_be_written(f"null_conditioning[{name!r}]", value)
    return {"scale": guidance.scale, "interval": guidance.interval, "null": null}


def _split(value: Any, path: str, arrays: dict[str, Tensor]) -> Any:
    """Return a nested value with marks `{"array": path}` in place of its tensors, which `arrays` then has by path.

    A mapping of the caller may have an entry `"array"` too, but not with the path of the mapping itself.
    """
    if isinstance(value, Tensor):
        arrays[path] = value.detach().cpu().resolve_conj().resolve_neg()
        mark = {"array": path}
        return mark if value.dtype not in _BITS else {**mark, "dtype": str(value.dtype).removeprefix("torch.")}
    if not isinstance(value, Mapping):
        return value
    if _is_mark(value, path):
        raise ValueError(f"cannot save {path} with the value {path!r} of 'array', which stands for a tensor; rename it")
    return {key: _split(each, _below(path, key), arrays) for key, each in value.items()}


def _join(value: Any, path: str, arrays: Mapping[str, Tensor]) -> Any:
    """Return what `_split` was given; lists are tuples."""
    if isinstance(value, list):
        return tuple(_join(each, path, arrays) for each in value)
    if not isinstance(value, dict):
        return value
    if not _is_mark(value, path):
        return {key: _join(each, _below(path, key), arrays) for key, each in value.items()}
    return arrays[path].view(_WITHOUT_NUMPY[value["dtype"]]) if "dtype" in value else arrays[path]


def _below(path: str, key: str) -> str:
    return f"{path}/{key}" if path else key


def _is_mark(value: Mapping[str, Any], path: str) -> bool:
    """Return whether a mapping stands for the tensor of this path."""
    return isinstance(value.get("array"), str) and value["array"] == path


def _bits(tensor: Tensor) -> Tensor:
    """Return a tensor of a type that numpy does not have as whole numbers of the same bits; another as it is."""
    return tensor.view(_BITS[tensor.dtype]) if tensor.dtype in _BITS else tensor
