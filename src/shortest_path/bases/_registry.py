"""Bases by name, so that what is saved in a basis can be read again: its class is looked up, and no code is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ._base import Basis
from ._cosine import CosineBasis
from ._fourier import FourierBasis
from ._pixel import PixelBasis
from ._principal import PrincipalBasis

_REGISTERED: dict[str, type[Basis]] = {
    basis.__name__: basis for basis in (CosineBasis, FourierBasis, PixelBasis, PrincipalBasis)
}
BasisClass = TypeVar("BasisClass", bound=type[Basis])


def register(basis: BasisClass) -> BasisClass:
    """Make a basis of your own known by its name, so that spectra in it can be saved and loaded; a class decorator.

    A basis is made again as `basis(**arguments)` from the attributes that `argument_names` lists, then given its channel rotation.
    Register it before loading, in every program that does.

    Args:
        basis: A subclass of `Basis`; `argument_names` lists the arguments of its constructor, which are
            attributes of the same names: `("dims",)` unless you set it.

    Returns:
        The class.

    Raises:
        TypeError: `basis` is not a subclass of `Basis`.
        ValueError: another basis has that name.

    Example:
        >>> @register
        ... class Reversed(PixelBasis):
        ...     def spatial_coefficients(self, x):
        ...         return x.flip(-1)
        ...     def spatial_inverse(self, u):
        ...         return u.flip(-1)
    """
    if not (isinstance(basis, type) and issubclass(basis, Basis)):
        raise TypeError(f"register takes a subclass of Basis, got {basis!r}")
    known = _REGISTERED.get(basis.__name__)
    # A notebook that runs a cell again makes the class again.
    if known is not None and (known.__module__, known.__qualname__) != (basis.__module__, basis.__qualname__):
        raise ValueError(f"a basis named {basis.__name__} is registered already, of {known.__module__}; rename yours")
    _REGISTERED[basis.__name__] = basis
    return basis


def basis_state(basis: Basis) -> dict[str, Any]:
    """Return a basis as plain values and tensors, under the keys `basis`, its arguments and `channel_rotation`.

    Raises:
        ValueError: its class is not registered.
    """
    kind = type(basis).__name__
    if _REGISTERED.get(kind) is not type(basis):
        raise ValueError(
            f"cannot save {kind}: it is not a registered basis; decorate its class with @shortest_path.bases.register"
        )
    rotation = {} if basis.channel_rotation is None else {"channel_rotation": basis.channel_rotation.cpu()}
    return {"basis": kind, **basis.arguments(), **rotation}


def basis_from_state(state: Mapping[str, Any]) -> Basis:
    """Return the basis that `basis_state` described; keys of other things are left alone.

    Raises:
        KeyError: a value is missing.
        ValueError: its class is not registered.
    """
    kind = state["basis"]
    if kind not in _REGISTERED:
        raise ValueError(
            f"its basis is {kind!r}, which is none of {', '.join(sorted(_REGISTERED))}; import the module that "
            "registers it first (shortest_path.bases.register)"
        )
    known = _REGISTERED[kind]
    basis = known(**{name: state[name] for name in known.argument_names})
    rotation = state.get("channel_rotation")
    return basis if rotation is None else basis.with_channel_rotation(rotation)
