"""A model as files, and as a description from which it is made again: without pickle, and without running a file."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn
from typing_extensions import override

from .._checks import kind_of
from .._described import check_name_is_free
from .._files import check_entries
from .._model import network_of
from ._weight_files import MODEL, own_weights, read_weights, write_weights
from ._weights import are_weights_of, load_weights, restore_types, type_of_most_digits, warn_if_rounded

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
    load_weights(model, weights, f"the weights of the {description['class']}", take_types=network is None)
    return model.eval()


def save_model(folder: str | os.PathLike[str], model: object) -> dict[str, Any]:
    """Write a model to a folder, and return what `load_model` needs to know of it, as plain values.

    Args:
        folder: The folder, which exists.
        model: A module, or an object with `save_pretrained` and `from_pretrained` or `load_pretrained`; wrappers such
            as `torch.compile` are left out.

    Raises:
        TypeError: a model that is neither a module nor can write itself and be loaded, or whose state dict holds
            anything but tensors.
        ValueError: weights without values, as on the meta device or in a lazy module, or that are no dense arrays.
        OSError: a file could not be written.
    """
    folder, inside = Path(folder), network_of(model)
    check_can_be_saved(inside)
    only = isinstance(inside, OnlyWeights)
    kind = inside.kind if only else type(inside).__name__
    if _saves_itself(inside):
        inside.save_pretrained(folder / MODEL)
        precision = type_of_most_digits(inside) if isinstance(inside, nn.Module) else None
        own = {"module": _public_module(type(inside)), "precision": precision and str(precision)}
        return {"by": "save_pretrained", "class": kind, **own}
    file = write_weights(folder, inside.weights if only else inside.state_dict(), kind)
    return {"by": "state_dict", "class": kind, "file": file}


def check_can_be_saved(model: object) -> None:
    """Raise a TypeError for a model that is neither a module nor can write itself and be loaded again."""
    if not (isinstance(model, nn.Module) or _saves_itself(model)):
        raise TypeError(
            "only an nn.Module, or an object with save_pretrained and from_pretrained, can be saved, got "
            f"{type(model).__name__}; make the model a module"
        )


def _saves_itself(model: object) -> bool:
    """Return whether a model can write itself, and what it writes can be loaded."""
    has = (callable(getattr(model, f"{what}_pretrained", None)) for what in ("save", "from", "load"))
    return next(has) and any(has)


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
        loaded: Callable[..., Tensor] = _load_whole(folder, saved, model)
        return loaded.eval() if isinstance(loaded, nn.Module) else loaded
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a module that takes the saved weights, got {kind_of(model)}; pass model={kind}(...), made "
            "as for training"
        )
    load_weights(model, read_weights(folder, saved["file"]), f"the weights in {folder}")
    return model.eval()


def _public_module(kind: type) -> str | None:
    """Return the module from which a class is imported; None for one of a program or a notebook."""
    parts = kind.__module__.split(".")
    private = next((place for place, part in enumerate(parts) if part.startswith("_")), len(parts))
    return ".".join(parts[:private]) or None


def _load_whole(folder: Path, saved: Mapping[str, Any], given: object) -> Any:
    """Return a model that wrote itself to a folder: the given one, with these weights, or one that its class makes."""
    inside, what = network_of(given), f"the weights in {folder}"
    known = _MODELS.get(saved["class"])
    is_class = isinstance(inside, type)
    own: Any = known if inside is None else inside if is_class else type(inside)
    if known is not None and _takes_network(known.from_pretrained) and not issubclass(own, known):
        return known.from_pretrained(folder / MODEL, inside if is_class else given)
    instance: Any = None if is_class else inside
    if callable(getattr(instance, "load_pretrained", None)):
        instance.load_pretrained(folder / MODEL)
        return given
    try:
        made = _made(own, folder, saved["class"], instance)
    except TypeError:
        weights = own_weights(folder / MODEL)
        if isinstance(instance, nn.Module) and are_weights_of(instance, weights):
            load_weights(instance, weights, what)
            return given
        raise
    if isinstance(made, nn.Module):
        restore_types(made, folder / MODEL)
        warn_if_rounded(made, saved.get("precision"), what, own.__name__)
    if not isinstance(instance, nn.Module):
        return made
    load_weights(instance, made.state_dict(), what)
    return given


def _made(own: Any, folder: Path, kind: str, instance: object) -> Any:
    """Return the model that a class makes of the files in a folder."""
    if not callable(getattr(own, "from_pretrained", None)):
        raise TypeError(
            f"the model in {folder} was written by save_pretrained of {kind}; pass a class with from_pretrained, or an "
            f"instance of {kind}, got {own.__name__}"
        )
    try:
        return own.from_pretrained(folder / MODEL)
    except TypeError as error:  # that of a constructor whose arguments the files do not have
        mend = f"pass model={own.__name__}(...), made as for training"
        if instance is not None:
            mend = f"give {own.__name__} a method load_pretrained(folder), which loads into an instance"
        raise TypeError(
            f"{own.__name__}.from_pretrained could not make the model in {folder} ({error}); {mend}"
        ) from error


def _takes_network(make: Any) -> bool:
    """Return whether a method of a class makes wrappers of a network that the caller passes."""
    return "network" in inspect.signature(make).parameters
