"""A model as files, and as a description from which it is made again: without pickle, and without running a file."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from .._checks import check_has_values, check_name_is_free, kind_of
from .._files import check_entries, replace_file
from .._model import network_of
from ._weights import load_weights

MODEL = "model"
SAFE, PICKLED = f"{MODEL}.safetensors", f"{MODEL}.pt"
_MODELS: dict[str, Any] = {}
ModelClass = TypeVar("ModelClass", bound=type)


def register_model(model: ModelClass) -> ModelClass:
    """Register a class of models by its name, so that `Sampler.from_pretrained` can load one; a class decorator.

    A class may have more. `load_pretrained(folder)` loads weights into an instance. With `description()`, which returns
    plain values and tensors, and the class method `from_description(values)`, the checkpoints of a trainer tell how the
    model is made; see `training.share_checkpoint`. A class of wrappers has an argument `network` of `from_pretrained`
    and `from_description`, which gets the network that a caller passes.

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


class OnlyWeights(nn.Module):
    """Stands for a model of which only the weights are known: it can be saved, not called.

    Any state dict can be loaded into it.

    Args:
        kind: Name of the model's class.

    Raises:
        TypeError: it is called.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weights: dict[str, Tensor] = {}

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise TypeError(
            f"only the weights of the {self.kind} are known, so it cannot be called; pass model={self.kind}(...), made "
            "as for training"
        )

    @override
    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
        self.weights = {name.removeprefix(prefix): each for name, each in state_dict.items() if name.startswith(prefix)}


def describe_model(model: object) -> dict[str, Any]:
    """Return the class of a model, and how it is made, if it tells, as plain values and tensors.

    Args:
        model: The model; wrappers such as `DistributedDataParallel` and `torch.compile` are left out.
    """
    model = network_of(model)
    tell = getattr(model, "description", None)
    made = tell() if callable(tell) and type(model).__name__ in _MODELS else None
    return {"class": type(model).__name__, "made": made}


def model_from_description(description: Mapping[str, Any], network: object = None) -> nn.Module:
    """Return a model of the description that `describe_model` returned; its weights are arbitrary.

    Args:
        description: The description.
        network: The model itself, or for a wrapper the network in it, made as for training. None makes the model if its
            class is registered and tells how it is made; otherwise returns `OnlyWeights`.

    Raises:
        TypeError: `network` is no module.
    """
    check_entries("the description of the model", description, **{"class": "a string", "made": "an object or null"})
    kind, made = description["class"], description["made"]
    known = None if made is None else _MODELS.get(kind)
    if network is None:
        new: nn.Module = OnlyWeights(kind) if known is None else known.from_description(made)
        return new
    if not isinstance(network, nn.Module):
        raise TypeError(f"model must be a module that takes the weights, got {kind_of(network)}; pass an instance")
    if known is None or isinstance(network_of(network), known) or not _takes_network(known.from_description):
        return network
    wrapper: nn.Module = known.from_description(made, network)
    return wrapper


def model_with_weights(description: Mapping[str, Any], weights: Mapping[str, Tensor], network: object) -> nn.Module:
    """Return the model of `model_from_description`, with these weights and in eval mode.

    Args:
        description: The description of the model.
        weights: The state dict of the model.
        network: As there.

    Raises:
        TypeError: `network` is no module.
        ValueError: weights that do not fit.
    """
    model = model_from_description(description, network)
    load_weights(model, weights, f"the weights of the {description['class']}")
    return model.eval()


def save_model(folder: str | os.PathLike[str], model: object) -> dict[str, Any]:
    """Write a model to a folder, and return what `load_model` needs to know of it, as plain values.

    Args:
        folder: The folder, which exists.
        model: A module, or an object with `save_pretrained`; wrappers such as `torch.compile` are left out.

    Raises:
        TypeError: a model that is neither a module nor has `save_pretrained`, or whose state dict holds anything but
            tensors.
        ValueError: a model on the meta device.
        OSError: a file could not be written.
    """
    folder, inside = Path(folder), network_of(model)
    check_can_be_saved(inside)
    only = isinstance(inside, OnlyWeights)
    kind = inside.kind if only else type(inside).__name__
    if callable(getattr(inside, "save_pretrained", None)):
        inside.save_pretrained(folder / MODEL)
        return {"by": "save_pretrained", "class": kind, "module": _public_module(type(inside))}
    tensors = inside.weights if only else inside.state_dict()
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"cannot save {name} of {kind}, a {type(value).__name__}: weights are written as tensors alone; return "
                "a tensor from get_extra_state, or give the class save_pretrained"
            )
        check_has_values(value, f"{kind}.{name}")
    weights = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    if importlib.util.find_spec("safetensors") is not None:
        data = importlib.import_module("safetensors.torch").save({name: each.clone() for name, each in weights.items()})
        replace_file(folder / SAFE, lambda file: file.write(data))
        return {"by": "state_dict", "class": kind, "file": SAFE}
    replace_file(folder / PICKLED, lambda file: torch.save(weights, file))
    return {"by": "state_dict", "class": kind, "file": PICKLED}


def check_can_be_saved(model: object) -> None:
    """Raise a TypeError for a model that is neither a module nor has `save_pretrained`."""
    if not (isinstance(model, nn.Module) or callable(getattr(model, "save_pretrained", None))):
        raise TypeError(
            f"only an nn.Module, or an object with save_pretrained, can be saved, got {type(model).__name__}; "
            "make the model a module"
        )


def load_model(folder: str | os.PathLike[str], saved: Mapping[str, Any] | None, model: object) -> Callable[..., Tensor]:
    """Return the model in a folder.

    Args:
        folder: The folder.
        saved: What `save_model` returned; None if no model was saved.
        model: A module that takes the weights, a class with `from_pretrained`, a network for a wrapper that was saved,
            or None for a registered class.

    Raises:
        FileNotFoundError: the weights are missing.
        TypeError: `model` is of another kind.
        ValueError: a damaged description, a class that is not registered, or weights that do not fit.
    """
    if saved is None:
        if not callable(model) or isinstance(model, type):
            raise TypeError(f"{folder} holds no model; pass one, called as model(x_t, t), got {model!r}")
        return model
    folder, where = Path(folder), f"the description of the model in {folder}"
    check_entries(where, saved, **{"class": "a string", "by": "a string"})
    kind, whole = saved["class"], saved["by"] == "save_pretrained"
    if not whole:
        check_entries(where, saved, file="a string")
    if model is None and not (whole and kind in _MODELS):
        raise ValueError(
            f"the model in {folder} is a {kind}, which no registered class can load (registered: "
            f"{', '.join(sorted(_MODELS)) or 'none'}); pass model={kind}(...), made as for training"
            + (f", or first import {saved.get('module') or 'the module that registers it'}" if whole else "")
        )
    if whole:
        loaded: Callable[..., Tensor] = _load_whole(folder, kind, model)
        return loaded.eval() if isinstance(loaded, nn.Module) else loaded
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a module that takes the saved weights, got {type(model).__name__}")
    load_weights(model, _read_weights(folder, saved["file"]), f"the weights in {folder}")
    return model.eval()


def _public_module(kind: type) -> str | None:
    """Return the module from which a class is imported; None for one of a program or a notebook."""
    parts = kind.__module__.split(".")
    private = next((place for place, part in enumerate(parts) if part.startswith("_")), len(parts))
    return ".".join(parts[:private]) or None


def _load_whole(folder: Path, kind: str, given: object) -> Any:
    """Return a model that wrote itself to a folder: the given one, with these weights, or one that its class makes."""
    inside = network_of(given)
    known = _MODELS.get(kind)
    is_class = isinstance(inside, type)
    own: Any = known if inside is None else inside if is_class else type(inside)
    if known is not None and _takes_network(known.from_pretrained) and not issubclass(own, known):
        return known.from_pretrained(folder / MODEL, inside if is_class else given)
    if not callable(getattr(own, "from_pretrained", None)):
        raise TypeError(
            f"the model in {folder} was written by save_pretrained of {kind}; pass model={kind}, the class, "
            f"got {own.__name__}"
        )
    if inside is None or is_class:
        return own.from_pretrained(folder / MODEL)
    if callable(getattr(inside, "load_pretrained", None)):
        inside.load_pretrained(folder / MODEL)
        return given
    loaded = own.from_pretrained(folder / MODEL)
    if not isinstance(inside, nn.Module):
        return loaded
    load_weights(inside, loaded.state_dict(), f"the weights in {folder}")
    return given


def _takes_network(make: Any) -> bool:
    """Return whether a method of a class makes wrappers of a network that the caller passes."""
    return "network" in inspect.signature(make).parameters


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
