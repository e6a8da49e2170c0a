"""Loading weights into a model: all of them, without loss, or none."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .._checks import kind_of
from .._model import network_of


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Load weights into a model, in place.

    Args:
        model: The model; wrappers such as `torch.compile` may be around it.
        weights: The state dict of the model without wrappers.
        what: What the weights are called in an error.

    Raises:
        ValueError: weights that do not fit, or that lose more than precision in the types of the model, which is then
            unchanged.

    Warns:
        RuntimeWarning: weights lose precision in the types of the model.
    """
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise ValueError(f"{what} must be a mapping of names to tensors, got {kind_of(weights)}; save them again")
    inside = network_of(model)
    kind, own = type(inside).__name__, inside.state_dict()
    names = {_without_compilation(name): name for name in own}
    plain = {_without_compilation(name): each for name, each in weights.items()}
    new = {names.get(name, name): each for name, each in plain.items()}
    common = {name: own[name] for name in new.keys() & own.keys() if isinstance(own[name], Tensor)}
    rounded = [name for name in new if name in common and _is_rounded(new[name], common[name], f"{name} in {what}")]
    fits = new.keys() == own.keys() and all(
        getattr(new[name], "shape", None) == each.shape for name, each in common.items()
    )
    before = {} if fits else {name: each.clone() for name, each in common.items()}
    try:
        inside.load_state_dict(new)
    except RuntimeError as error:
        with torch.no_grad():
            for name, each in before.items():
                common[name].copy_(each)
        raise ValueError(f"{what} do not fit this {kind}: {error}") from error
    if rounded:
        name = rounded[0]
        warnings.warn(
            f"{what} are rounded in {len(rounded)} of {len(new)} tensors, e.g. {name} from {new[name].dtype} to "
            f"{own[name].dtype}; to load them exactly, make the {kind} of {new[name].dtype}",
            RuntimeWarning,
            stacklevel=2,
        )


def _is_rounded(new: object, own: Tensor, what: str) -> bool:
    """Return whether a weight loses precision in the type of the model's own.

    Raises:
        ValueError: it loses more than precision.
    """
    if not isinstance(new, Tensor) or new.dtype == own.dtype or own.is_meta or new.is_meta:
        return False
    if own.is_complex() or not new.is_complex():
        cast = new.to(own.dtype)
        there, back = _exact(new), _exact(cast.to(new.dtype))
        if bool(((there == back) | (there.isnan() & back.isnan())).all()):
            return False
        if _has_digits(new) and _has_digits(own) and bool((_exact(cast).isfinite() | ~there.isfinite()).all()):
            return True
    raise ValueError(
        f"{what} is of {new.dtype}, with values that {own.dtype}, the type of the model's own, cannot hold; make the "
        f"model's own of {new.dtype}"
    )


def _has_digits(tensor: Tensor) -> bool:
    """Return whether numbers have digits that rounding may take, as whole numbers do not."""
    return tensor.is_floating_point() or tensor.is_complex()


def _exact(tensor: Tensor) -> Tensor:
    """Return real and complex numbers in double precision, in which all can be compared, and whole ones as they are."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


def _without_compilation(name: str) -> str:
    """Return the name of a weight without what `torch.compile` adds to it, e.g. inside a wrapper."""
    return name.replace("_orig_mod.", "")
