"""Loading weights into a model: all of them, without loss, or none."""

from __future__ import annotations

import copy
import itertools
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .._checks import check_has_values, kind_of
from .._model import network_of
from ._weight_files import own_weights


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], what: str, *, take_types: bool = False) -> None:
    """Load weights into a model, in place.

    Args:
        model: The model; wrappers such as `torch.compile` may be around it.
        weights: The state dict of the model without wrappers.
        what: What the weights are called in an error.
        take_types: Whether the model takes the types of the weights; else these are converted to its own types.

    Raises:
        ValueError: weights that do not fit, or that lose more than precision in the types of the model, or a model on
            the meta device; the model is then unchanged, but for its types.

    Warns:
        RuntimeWarning: weights lose precision in the types of the model.
    """
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise ValueError(f"{what} must be a mapping of names to tensors, got {kind_of(weights)}; save them again")
    inside = network_of(model)
    _check_holds_values(inside)
    for name, each in weights.items():
        if isinstance(each, Tensor):
            check_has_values(each, f"{name} in {what}")
    kind, own = type(inside).__name__, inside.state_dict()
    new = _complete(weights, own)
    if take_types:
        _take_types(inside, new)
        own = inside.state_dict()
    common = {name: own[name] for name in new.keys() & own.keys() if isinstance(own[name], Tensor)}
    rounded = [name for name in new if name in common and _is_rounded(new[name], common[name], f"{name} in {what}")]
    shaped = {name: each for name, each in common.items() if not is_lazy(each)}  # a lazy weight takes any shape
    fits = new.keys() == own.keys() and all(
        getattr(new[name], "shape", None) == each.shape for name, each in shaped.items()
    )
    before = {} if fits else {name: each.clone() for name, each in shaped.items()}
    try:
        if not fits and len(shaped) < len(common):
            copy.deepcopy(inside).load_state_dict(new)  # as the shape of a lazy weight cannot be taken back
        inside.load_state_dict(new)
    except RuntimeError as error:
        with torch.no_grad():
            for name, each in before.items():
                shaped[name].copy_(each)
        raise ValueError(f"{what} do not fit this {kind}: {error}") from error
    if rounded:
        name = rounded[0]
        warnings.warn(
            f"{what} are rounded in {len(rounded)} of {len(new)} tensors, e.g. {name} from {new[name].dtype} to "
            f"{own[name].dtype}; to load them exactly, make the {kind} of {new[name].dtype}",
            RuntimeWarning,
            stacklevel=2,
        )


def are_weights_of(model: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Return whether weights have the names of a model's; of tensors that share memory, one name is enough."""
    own = network_of(model).state_dict()
    return bool(weights) and _complete(weights, own).keys() == own.keys()


def restore_types(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Let a model that its class made of a folder take the types of the weights there, and so all their digits.

    Nothing is changed if the folder holds no safetensors, or if these, rounded, are not the weights of the model.

    Args:
        model: The model.
        folder: The folder, which the `save_pretrained` of the model's class wrote.

    Raises:
        ValueError: a damaged file.
    """
    own = network_of(model).state_dict()
    new = _complete(own_weights(Path(folder)), own)
    if new.keys() != own.keys() or all(new[name].dtype == each.dtype for name, each in own.items()):
        return
    if all(_are_equal(_exact(new[name].to(each)), _exact(each)) for name, each in own.items()):
        load_weights(model, new, f"the weights in {folder}", take_types=True)


def type_of_most_digits(model: nn.Module) -> torch.dtype | None:
    """Return the floating-point or complex type of a model's weights that has most digits, or None without any."""
    types = {each.dtype for each in model.state_dict().values() if isinstance(each, Tensor) and _has_digits(each)}
    return min(types, key=lambda each: torch.finfo(each).eps, default=None)


def warn_if_rounded(model: nn.Module, saved: object, what: str, kind: str) -> None:
    """Warn if the weights that a class made have fewer digits than those that were saved.

    Args:
        model: The model that the class made.
        saved: Name of the type of most digits of the saved model; anything else is unknown.
        what: What the weights are called.
        kind: Name of the class.
    """
    before = getattr(torch, saved.removeprefix("torch."), None) if isinstance(saved, str) else None
    now = type_of_most_digits(model)
    if not isinstance(before, torch.dtype) or not (before.is_floating_point or before.is_complex) or now is None:
        return
    if torch.finfo(now).eps > torch.finfo(before).eps:
        warnings.warn(
            f"{what} are rounded from {before} to {now} by {kind}.from_pretrained; let it make a model of {before}, or "
            f"give {kind} load_pretrained(folder), and pass an instance of {before}",
            RuntimeWarning,
            stacklevel=2,
        )


def _check_holds_values(model: nn.Module) -> None:
    """Raise a ValueError for a model with a tensor on the meta device, which takes no values."""
    for name, each in itertools.chain(model.named_parameters(), model.named_buffers()):
        if each.is_meta:
            raise ValueError(
                f"{name} of the {type(model).__name__} is on the meta device, which holds no weights; make the model "
                "on another, i.e. outside torch.device('meta'), or first call model.to_empty(device='cpu') and set the "
                "buffers that are not saved"
            )


def _complete(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by the names of a model's own, also where those of several that share memory have one name."""
    names = {_without_compilation(name): name for name in own}
    plain = {_without_compilation(name): each for name, each in weights.items()}
    new = {names.get(name, name): each for name, each in plain.items()}
    if len(new) >= len(own):
        return new
    known = {_place(own[name]): each for name, each in new.items() if name in own}
    missing = {name: known.get(_place(each)) for name, each in own.items() if name not in new}
    return new | {name: each for name, each in missing.items() if each is not None}


def _place(own: object) -> object:
    """Return what is equal for tensors that are the same numbers in memory."""
    if not isinstance(own, Tensor) or is_lazy(own) or own.layout is not torch.strided or not own.numel():
        return id(own)
    return own.device, own.dtype, own.data_ptr(), own.shape, own.stride()


def _take_types(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give every tensor of a model the type of its weight, and all others the type of the weights if it is one."""
    types = {each.dtype for each in weights.values() if isinstance(each, Tensor) and each.is_floating_point()}
    common = types.pop() if len(types) == 1 else None
    named = (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    for name, own in itertools.chain(*named):
        rest = common if own.is_floating_point() else None
        dtype = getattr(weights.get(name), "dtype", rest)
        if dtype is not None:
            own.data = own.data.to(dtype)


def _is_rounded(new: object, own: Tensor, what: str) -> bool:
    """Return whether a weight loses precision in the type of the model's own.

    Raises:
        ValueError: it loses more than precision.
    """
    if not isinstance(new, Tensor) or new.dtype == own.dtype:
        return False
    if own.is_complex() or not new.is_complex():
        cast = new.to(own.dtype)
        there, back = _exact(new), _exact(cast.to(new.dtype))
        if _are_equal(there, back):
            return False
        if _has_digits(new) and _has_digits(own) and bool((_exact(cast).isfinite() | ~there.isfinite()).all()):
            return True
    raise ValueError(
        f"{what} is of {new.dtype}, with values that {own.dtype}, the type of the model's own, cannot hold; make the "
        f"model's own of {new.dtype}"
    )


def _are_equal(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have one shape and equal numbers, NaN among them."""
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())


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
