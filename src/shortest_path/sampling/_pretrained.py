"""A sampler as a folder: JSON for what it is, arrays without pickle, and the model's weights."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .. import solvers
from .._checks import check_name_is_free, is_plain
from .._files import replace_file
from ..corruptions import Corruption, corruption_from_state, corruption_state
from ..solvers import Solver
from ..spectra import PowerSpectrum
from ._guidance import Guidance

FORMAT, VERSION = "shortest_path.Sampler", 1
DESCRIPTION, ARRAYS, MODEL = "sampler.json", "arrays.npz", "model"
SAFE, PICKLED = f"{MODEL}.safetensors", f"{MODEL}.pt"
_SOLVERS = {each.__name__: each for each in (solvers.Ancestral, solvers.DDIM, solvers.Multistep)}
_MODELS: dict[str, Any] = {}
ModelClass = TypeVar("ModelClass", bound=type)


def register_model(model: ModelClass) -> ModelClass:
    """Register a class of models by its name, so that `Sampler.from_pretrained` can load one; a class decorator.

    Args:
        model: A class with the method `save_pretrained(folder)` and the class method `from_pretrained(folder)`.

    Returns:
        The class.

    Raises:
        TypeError: not such a class.
        ValueError: another class has this name.
    """
    needed = ("save_pretrained", "from_pretrained")
    if not isinstance(model, type) or any(not callable(getattr(model, name, None)) for name in needed):
        raise TypeError(f"register_model requires a class with save_pretrained and from_pretrained, got {model!r}")
    check_name_is_free(_MODELS, model, "model")
    _MODELS[model.__name__] = model
    return model


def describe(
    corruption: Corruption,
    *,
    prediction: str,
    spectrum: PowerSpectrum | None,
    solver: Solver | None = None,
    times: Tensor | None = None,
    guidance: Guidance | None = None,
) -> dict[str, Any]:
    """Return all of a sampler but its model, as nested plain values and CPU tensors.

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


def options_of(description: Mapping[str, Any], chosen: Mapping[str, Any]) -> tuple[Corruption, dict[str, Any]]:
    """Return the corruption and the options of a sampler, of a description and of what the caller chose instead."""
    corruption = corruption_from_state(description["corruption"])
    spectrum = description["spectrum"]
    options: dict[str, Any] = {"prediction": description["prediction"]}
    if spectrum is not None:
        options["spectrum"] = PowerSpectrum.from_state_dict(spectrum)
    if "solver" in description:
        saved = dict(description["solver"])
        options["solver"] = _SOLVERS[saved.pop("class")](**saved)
    times = description.get("times")
    if times is not None and not chosen.keys() & {"times", "grid", "steps", "solver"}:
        options["times"] = times
    elif times is not None and "times" not in chosen:
        options["steps"] = len(times) - 1
    options |= {f"guidance_{name}": value for name, value in description.get("guidance", {}).items() if name != "null"}
    if "guidance" in description and description["guidance"]["null"] is not None:
        options["null_conditioning"] = description["guidance"]["null"]
    return corruption, options | dict(chosen)


def write(folder: str | os.PathLike[str], description: Mapping[str, Any], model: object) -> None:
    """Write a description, and a model unless it is None, to a folder.

    The folder is made if missing. The description is written last, as it marks a whole folder.

    Raises:
        TypeError: a model that is neither a module nor has `save_pretrained`.
        OSError: a file could not be written.
    """
    folder = Path(folder)
    if model is not None and not (isinstance(model, nn.Module) or callable(getattr(model, "save_pretrained", None))):
        raise TypeError(
            f"only an nn.Module, or an object with save_pretrained, can be saved, got {type(model).__name__}; "
            "make the model a module"
        )
    folder.mkdir(parents=True, exist_ok=True)
    saved = None if model is None else _write_model(folder, getattr(model, "_orig_mod", model))
    arrays: dict[str, Tensor] = {}
    plain = _split({**description, "model": saved}, "", arrays)
    values: dict[str, Any] = {name: each.numpy() for name, each in arrays.items()}
    replace_file(folder / ARRAYS, lambda file: np.savez(file, **values))
    text = json.dumps(plain, indent=1, allow_nan=False) + "\n"
    replace_file(folder / DESCRIPTION, lambda file: file.write(text.encode()))


def read(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the description in a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file that is damaged, of another format, or of a later version.
    """
    folder = Path(folder)
    file = folder / DESCRIPTION
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {DESCRIPTION}; pass a folder that save_pretrained wrote, downloaded whole"
        )
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            raise ValueError(f"its format is {plain['format']!r}, expected {FORMAT!r}")
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not the description of a sampler ({type(error).__name__}: {error})") from error
    if not isinstance(plain["version"], int) or plain["version"] > VERSION:
        raise ValueError(
            f"{file} has format version {plain['version']!r}, this library reads up to {VERSION}; update shortest_path"
        )
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


def load_model(folder: str | os.PathLike[str], saved: Mapping[str, Any] | None, model: object) -> Callable[..., Tensor]:
    """Return the model in a folder.

    Args:
        folder: The folder.
        saved: What the description says of the model; None if none was saved.
        model: A module that takes the weights, a class with `from_pretrained`, or None for a registered class.

    Raises:
        FileNotFoundError: the weights are missing.
        TypeError: `model` is of another kind.
        ValueError: a class that is not registered, or weights that do not fit.
    """
    folder = Path(folder)
    if saved is None:
        if not callable(model) or isinstance(model, type):
            raise TypeError(f"{folder} holds no model; pass one, called as model(x_t, t), got {model!r}")
        return model
    kind = saved["class"]
    if model is None:
        if kind not in _MODELS:
            raise ValueError(
                f"the model in {folder} is a {kind}, which no registered class can load (registered: "
                f"{', '.join(sorted(_MODELS)) or 'none'}); pass model={kind}(...), made as for training"
                + (", or import the module that registers it" if saved["by"] == "save_pretrained" else "")
            )
        model = _MODELS[kind]
    if saved["by"] == "save_pretrained":
        loader: Any = model if isinstance(model, type) else type(model)
        if not callable(getattr(loader, "from_pretrained", None)):
            raise TypeError(
                f"the model in {folder} was written by save_pretrained of {kind}; pass model={kind}, the class, "
                f"got {loader.__name__}"
            )
        loaded: Callable[..., Tensor] = loader.from_pretrained(folder / MODEL)
        return loaded.eval() if isinstance(loaded, nn.Module) else loaded
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a module that takes the saved weights, got {type(model).__name__}")
    try:
        model.load_state_dict(_read_weights(folder, saved["file"]))
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} do not fit this {type(model).__name__}: {error}") from error
    return model.eval()


def _write_model(folder: Path, model: Any) -> dict[str, Any]:
    kind = type(model).__name__
    if callable(getattr(model, "save_pretrained", None)):
        model.save_pretrained(folder / MODEL)
        return {"by": "save_pretrained", "class": kind}
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if importlib.util.find_spec("safetensors") is not None:
        data = importlib.import_module("safetensors.torch").save({name: each.clone() for name, each in weights.items()})
        replace_file(folder / SAFE, lambda file: file.write(data))
        return {"by": "state_dict", "class": kind, "file": SAFE}
    replace_file(folder / PICKLED, lambda file: torch.save(weights, file))
    return {"by": "state_dict", "class": kind, "file": PICKLED}


def _read_weights(folder: Path, name: str) -> dict[str, Tensor]:
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
