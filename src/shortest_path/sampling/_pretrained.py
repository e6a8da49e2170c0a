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
from .._checks import check_choice, is_plain
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
    if times is not None and not chosen.keys() & {"times", "grid", "steps", "start", "solver"}:
        options["times"] = times
    elif times is not None and "times" not in chosen:
        options |= {"steps": len(times) - 1, "start": float(times[0])}
    return corruption, options | dict(chosen)


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
        options |= {} if saved["null"] is None else {"null_conditioning": saved["null"]}
    return corruption, options


def write(folder: str | os.PathLike[str], description: Mapping[str, Any], model: object) -> None:
    """Write a description, and a model unless it is None, to a folder.

    The folder is made if missing. What a former save left there stays until all is written, and is then replaced.

    Raises:
        TypeError: a model that is neither a module nor has `save_pretrained`, or `folder` is not a path.
        ValueError: `folder` is empty.
        OSError: a file could not be written.
    """
    folder = checked_path("folder", folder, "'.' for the present folder")
    if model is not None:
        check_can_be_saved(network_of(model))

    def write_all(new: Path) -> None:
        saved = None if model is None else save_model(new, model)
        arrays: dict[str, Tensor] = {}
        plain = _split({**description, "model": saved}, "", arrays)
        values: dict[str, Any] = {name: each.numpy() for name, each in arrays.items()}
        np.savez(new / ARRAYS, **values)
        (new / SAMPLER_FILE).write_text(json.dumps(plain, allow_nan=False), encoding="utf-8")

    replace_folder(folder, write_all, SAMPLER_FILE)


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
        described: dict[str, Any] = _join(plain, arrays)
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
    return {"class": kind, **dataclasses.asdict(solver)}


def _of_guidance(guidance: Guidance) -> dict[str, Any]:
    null = guidance.null
    for name, value in ({} if null is None else dict(null)).items():
        if not (isinstance(value, Tensor) or is_plain(value)):
            raise TypeError(
                f"cannot save null_conditioning[{name!r}], a {type(value).__name__}; use numbers, strings or tensors"
            )
    return {"scale": guidance.scale, "interval": guidance.interval, "null": None if null is None else dict(null)}


def _split(value: Any, name: str, arrays: dict[str, Tensor]) -> Any:
    """Return a nested value with its tensors replaced by the names under which `arrays` then has them."""
    if isinstance(value, Tensor):
        arrays[name] = value.detach().cpu()
        return {"array": name}
    if isinstance(value, Mapping):
        return {key: _split(each, f"{name}/{key}" if name else key, arrays) for key, each in value.items()}
    return value


def _join(value: Any, arrays: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"array"}:
            return arrays[value["array"]]
        return {key: _join(each, arrays) for key, each in value.items()}
    return tuple(_join(each, arrays) for each in value) if isinstance(value, list) else value
