"""Corruptions by name, so that a saved one can be read again: its class is looked up, and no code is run."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .._checks import check_has_values
from .._described import as_plain, check_can_be_written, check_name_is_free, is_plain, same_class
from ..bases import Basis, basis_from_state, basis_state
from ..spectra import PowerSpectrum
from ._protocol import Corruption, attributes
from ._schedules import LinearSchedule

_REGISTERED: dict[str, Any] = {}
_TENSORS = "tensors."  # before the names of a module's own tensors, which its arguments give only to rounding
CorruptionClass = TypeVar("CorruptionClass", bound=type)


def register(corruption: CorruptionClass) -> CorruptionClass:
    """Register a corruption by the name of its class, so that it can be saved and loaded; a class decorator.

    A saved corruption is rebuilt as `corruption(**arguments)` from the attributes that `argument_names` lists; the
    tensors of a module are then restored exactly. Values may be numbers, strings, None, tensors, spectra, registered
    bases and other registered corruptions; a list comes back as a tuple, and a number of numpy as Python's. A program
    that loads it must register the class first.

    Args:
        corruption: A class that implements `Corruption`. Its `argument_names` lists the arguments of its constructor,
            which are attributes of the same names.

    Returns:
        The class.

    Raises:
        TypeError: not a class, or `argument_names` does not fit its constructor.
        ValueError: another corruption has this name, or an argument is called `tensors`.

    Example:
        >>> import torch, shortest_path as sp
        >>> @register
        ... class Dimming(sp.DiagonalCorruption):
        ...     argument_names = ("power_of_t",)
        ...     def __init__(self, power_of_t):
        ...         super().__init__(sp.PixelBasis(2))
        ...         self.power_of_t = power_of_t
        ...     def signal(self, t):
        ...         return (1 - t ** self.power_of_t).view(-1, 1, 1, 1)
        ...     def noise(self, t):
        ...         return (t ** self.power_of_t).view(-1, 1, 1, 1)
    """
    if not isinstance(corruption, type):
        raise TypeError(f"register requires a class, got {corruption!r}")
    check_name_is_free(_REGISTERED, corruption, "corruption")
    _check_arguments(corruption)
    _REGISTERED[corruption.__name__] = corruption
    return corruption


def corruption_state(corruption: Corruption) -> dict[str, Any]:
    """Return a corruption as plain values and CPU tensors, which are copies.

    The keys are `class` and the names of its arguments; the values of an argument that is a spectrum,
    a basis or a corruption have its name in front, e.g. `spectrum.power`. A module's own tensors follow as `tensors.…`.

    Raises:
        ValueError: the corruption, or one inside it, is not registered, is on the meta device, or lacks an attribute;
            or a tensor has NaN, or a number is not finite.
        TypeError: an argument can be neither written as JSON nor as an array, e.g. a function.
    """
    kind = type(corruption).__name__
    if not (kind in _REGISTERED and same_class(_REGISTERED[kind], type(corruption))):
        raise ValueError(
            f"cannot save {kind}: it is not a registered corruption; decorate its class with "
            "@shortest_path.corruptions.register"
        )
    if isinstance(corruption, nn.Module):
        for name, tensor in (*corruption.named_buffers(), *corruption.named_parameters()):
            check_has_values(tensor, f"{kind}.{name}")
        corruption = copy.deepcopy(corruption).cpu()  # in its full precision, also from a device without float64
    state: dict[str, Any] = {"class": kind}
    for name, value in _arguments(corruption).items():
        state.update(_written(name, value, kind))
    if isinstance(corruption, nn.Module):
        state.update({f"{_TENSORS}{name}": value.clone() for name, value in corruption.state_dict().items()})
    for name, value in state.items():
        if _has_nan(value):
            raise ValueError(f"cannot save {kind}: its {name} has NaN, which stands for damage; use another value")
    return state


def corruption_from_state(state: Mapping[str, Any]) -> Corruption:
    """Return the corruption that `corruption_state` described.

    Raises:
        KeyError: a value is missing.
        ValueError: its class is not registered, its values do not fit the class, or a tensor has NaN.
    """
    kind = state["class"]
    if kind not in _REGISTERED:
        raise ValueError(
            f"the corruption {kind!r} is not registered (registered: {', '.join(sorted(_REGISTERED))}); first import "
            "the module that registers it with shortest_path.corruptions.register"
        )
    known = _REGISTERED[kind]
    for name, value in state.items():
        if _has_nan(value):
            raise ValueError(f"the saved {name} of {kind} has NaN: it is damaged; download it again, or save it again")
    made: Corruption = known(**{name: _read(name, state) for name in known.argument_names})
    tensors = _inside(_TENSORS.removesuffix("."), state)
    if isinstance(made, nn.Module):
        _check_tensors(kind, tensors, made.state_dict())
        for name, own in (*made.named_buffers(), *made.named_parameters()):
            if name in tensors and own.dtype != tensors[name].dtype:
                own.data = own.data.to(tensors[name].dtype)  # as it was saved, e.g. after corruption.double()
        try:
            made.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"the saved tensors of {kind} do not fit its class: {error}") from error
    return made


def _check_tensors(kind: str, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise a ValueError for saved tensors of another form, or that are infinite where the class's own are not."""
    for name in saved.keys() & own.keys():
        new, old = saved[name], own[name]
        if not (isinstance(new, Tensor) and isinstance(old, Tensor)):
            continue
        if new.is_floating_point() != old.is_floating_point() or new.is_complex() != old.is_complex():
            raise ValueError(f"the saved {name} of {kind} is of {new.dtype}, expected {old.dtype}; save it again")
        if bool(old.isfinite().all()) and not bool(new.isfinite().all()):
            raise ValueError(f"the saved {name} of {kind} is not finite: it is damaged; download it again")


def _has_nan(value: object) -> bool:
    return isinstance(value, Tensor) and bool(value.isnan().any())


def _arguments(corruption: Any) -> dict[str, Any]:
    if callable(getattr(corruption, "arguments", None)):
        with torch.no_grad():  # what is learned is written as it is
            return dict(corruption.arguments())
    return attributes(corruption, corruption.argument_names)


def _check_arguments(corruption: type) -> None:
    listed = getattr(corruption, "argument_names", None)
    parameters = list(inspect.signature(corruption).parameters.values())
    accepted = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    required = {each.name for each in parameters if each.name in accepted and each.default is each.empty}
    if isinstance(listed, tuple) and "tensors" in listed:
        raise ValueError(f"argument 'tensors' of {corruption.__name__} has the name of what is saved beside; rename it")
    if not isinstance(listed, tuple) or not required <= set(listed) <= accepted:
        raise TypeError(
            f"argument_names of {corruption.__name__} must be a tuple of the arguments of its constructor, "
            f"{sorted(accepted)}, got {listed!r}; set argument_names in the class"
        )


def _written(name: str, value: object, kind: str) -> Iterator[tuple[str, Any]]:
    inside: Mapping[str, Any] | None = None
    value = as_plain(value)
    check_can_be_written(f"{kind}.{name}", value)
    if isinstance(value, Basis):
        inside = basis_state(value)
    elif isinstance(value, PowerSpectrum):
        inside = value.state_dict()
    elif isinstance(value, Corruption):
        inside = corruption_state(value)
    elif isinstance(value, LinearSchedule):
        inside = {"schedule": "linear", "steps": value.steps}
    if inside is not None:
        yield from ((f"{name}.{key}", each) for key, each in inside.items())
    elif isinstance(value, Tensor):
        yield name, value.detach().to("cpu", copy=True)
    elif is_plain(value):
        yield name, value
    else:
        raise TypeError(
            f"cannot save {kind}: its argument {name} is a {type(value).__name__}; arguments must be numbers, strings, "
            "None, tensors, spectra, bases or corruptions. Write a subclass that makes this value itself, and "
            "register it"
        )


def _read(name: str, state: Mapping[str, Any]) -> Any:
    if name in state:
        return state[name]
    inside = _inside(name, state)
    if "class" in inside:
        return corruption_from_state(inside)
    if "format" in inside:
        return PowerSpectrum.from_state_dict(inside)
    if "basis" in inside:  # whose arguments may have any other name, e.g. "schedule"
        return basis_from_state(inside)
    if "schedule" in inside:
        return LinearSchedule(inside["steps"])
    raise KeyError(name)


def _inside(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
