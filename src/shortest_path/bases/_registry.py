"""Bases by name, so that what is saved in a basis can be read again: its class is looked up, and no code is run."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor

from .._checks import check_has_values
from .._described import as_plain, check_can_be_written, check_name_is_free, is_plain, same_class
from ._base import Basis

_REGISTERED: dict[str, type[Basis]] = {}
_TAKEN = {"basis", "channel_rotation", "count", "cross", "floored", "format", "header", "mean", "power", "version"}
"""Keys of a saved spectrum that stand beside the arguments of its basis."""
BasisClass = TypeVar("BasisClass", bound=type[Basis])


def register(basis: BasisClass) -> BasisClass:
    """Register a basis by the name of its class, so that spectra in it can be saved and loaded; a class decorator.

    A saved basis is rebuilt as `basis(**arguments)` from the attributes that `argument_names` lists, then given its
    channel rotation. Values may be numbers, strings, None, tensors, other registered bases, and sequences of them,
    which come back as tuples; numbers of numpy come back as Python's. A program that loads a spectrum must register
    its basis first.

    Args:
        basis: A subclass of `Basis`. Its `argument_names` lists the arguments of its constructor, which are
            attributes of the same names; `("dims",)` by default.

    Returns:
        The class.

    Raises:
        TypeError: `basis` is not a subclass of `Basis`, or `argument_names` does not fit its constructor.
        ValueError: another basis has this name, or an argument has the name of a spectrum's own value, e.g. `power`.

    Example:
        >>> from shortest_path.bases import Basis, register
        >>> @register
        ... class Reversed(Basis):
        ...     def spatial_coefficients(self, x):
        ...         return x.flip(-1)
        ...     def spatial_inverse(self, u):
        ...         return u.flip(-1)
    """
    if not (isinstance(basis, type) and issubclass(basis, Basis)):
        raise TypeError(f"register requires a subclass of Basis, got {basis!r}")
    check_name_is_free(_REGISTERED, basis, "basis")
    _check_arguments(basis)
    _REGISTERED[basis.__name__] = basis
    return basis


def basis_state(basis: Basis) -> dict[str, Any]:
    """Return a basis as plain values and CPU tensors, under the keys `basis`, its arguments and `channel_rotation`.

    The values of a nested basis have the name of the argument in front of their keys, e.g. `axes.1.matrix`. The tensors
    are copies.

    Raises:
        ValueError: the basis, or a basis inside it, is not registered, is on the meta device, or lacks an attribute;
            or a number is not finite.
        TypeError: an argument can be neither written as JSON nor as an array.
    """
    kind = type(basis).__name__
    if not (kind in _REGISTERED and same_class(_REGISTERED[kind], type(basis))):
        raise ValueError(
            f"cannot save {kind}: it is not a registered basis; decorate its class with @shortest_path.bases.register"
        )
    for name, tensor in (*basis.named_buffers(), *basis.named_parameters()):
        check_has_values(tensor, f"{kind}.{name}")
    basis = copy.deepcopy(basis).cpu()  # in its full precision, also from a device without float64
    state: dict[str, Any] = {"basis": kind}
    for name, value in basis.arguments().items():
        state.update(_written(name, value, kind))
    if basis.channel_rotation is not None:
        state["channel_rotation"] = basis.channel_rotation
    return state


def basis_from_state(state: Mapping[str, Any]) -> Basis:
    """Return the basis that `basis_state` described; other keys are ignored.

    Raises:
        KeyError: a value is missing.
        ValueError: its class is not registered.
    """
    kind = state["basis"]
    if kind not in _REGISTERED:
        raise ValueError(
            f"the basis {kind!r} is not registered (registered: {', '.join(sorted(_REGISTERED))}); first import the "
            "module that registers it with shortest_path.bases.register"
        )
    known = _REGISTERED[kind]
    basis = known(**{name: _read(name, state) for name in known.argument_names})
    rotation = state.get("channel_rotation")
    return basis if rotation is None else basis.with_channel_rotation(rotation)


def _check_arguments(basis: type[Basis]) -> None:
    parameters = list(inspect.signature(basis).parameters.values())
    accepted = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    flexible = any(each.kind == each.VAR_KEYWORD for each in parameters)
    required = {each.name for each in parameters if each.name in accepted and each.default is each.empty}
    listed = set(basis.argument_names)
    if not required <= listed or not (flexible or listed <= accepted):
        raise TypeError(
            f"argument_names of {basis.__name__} must list the arguments of its constructor, "
            f"{sorted(accepted - {'channel_rotation'})}, got {basis.argument_names!r}; "
            "set argument_names in the class, and give channel_rotation a default of None"
        )
    taken = sorted(listed & _TAKEN)
    if taken:
        raise ValueError(
            f"argument {taken[0]!r} of {basis.__name__} has the name of a value that spectra save themselves "
            f"({', '.join(sorted(_TAKEN))}); rename the argument"
        )


def _written(name: str, value: object, kind: str) -> Iterator[tuple[str, Any]]:
    value = as_plain(value)
    check_can_be_written(f"{kind}.{name}", value)
    if isinstance(value, Basis):
        yield from ((f"{name}.{key}", each) for key, each in basis_state(value).items())
    elif isinstance(value, (list, tuple)) and any(isinstance(each, (Basis, Tensor)) for each in value):
        for index, each in enumerate(value):
            yield from _written(f"{name}.{index}", each, kind)
    elif isinstance(value, Tensor):
        yield name, value.detach().cpu()
    elif is_plain(value):
        yield name, value
    else:
        raise TypeError(
            f"cannot save {kind}: its argument {name} is a {type(value).__name__}; arguments must be numbers, strings, "
            "None, tensors, bases, or sequences of them"
        )


def _read(name: str, state: Mapping[str, Any]) -> Any:
    if name in state:
        return state[name]
    inside = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
    if "basis" in inside:
        return basis_from_state(inside)
    count = len({key.split(".")[0] for key in inside})
    if not count:
        raise KeyError(name)
    return tuple(_read(str(index), inside) for index in range(count))
