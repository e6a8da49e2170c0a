"""Checks of what a caller passes in, and the words of their errors.

Every message names what was expected, what arrived, and how to mend it.
Checks that must read tensor values run on CPU tensors only: on an accelerator they would make the
host wait for the device, and inside `torch.compile` they would break the graph.
"""

from __future__ import annotations

import inspect
import math
import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

_MANY_CHANNELS = 4
_LARGEST = 2**63  # what torch takes as a whole number is below
_FEW = 32  # times that are compared one by one, which takes less time than two operations

Choice = TypeVar("Choice", bound=str)

ELSEWHERE: dict[str, Literal["noise", "data", "velocity"]] = {
    **dict.fromkeys(("epsilon", "eps"), "noise"),
    **dict.fromkeys(("sample", "x0", "x_0", "x_start"), "data"),
    **dict.fromkeys(("v_prediction", "v"), "velocity"),
}
"""Predictions by what other libraries call them."""


def check_choice(name: str, value: Choice, options: Sequence[str]) -> Choice:
    """Return `value` if it is one of `options`, else raise a ValueError that names them all."""
    if value not in options:
        valid = ", ".join(repr(option) for option in options)
        here = ELSEWHERE.get(value) if isinstance(value, str) else None
        known = f"; {value!r} of other libraries is {here!r} here" if here in options else ""
        raise ValueError(f"unknown {name} {value!r}; choose one of {valid}{known}")
    return value


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return `value` if it is a whole number of at least `least`, else raise a TypeError or ValueError."""
    try:
        count = _whole(value)
    except (TypeError, RuntimeError):  # the latter from tensors on the meta device
        raise TypeError(f"{name} must be a whole number of {least} or more, got {value!r}") from None
    if count < least:
        raise ValueError(f"{name} must be {least} or more, got {count}")
    if count >= _LARGEST:
        raise ValueError(f"{name} must be less than 2**63, got {count}")
    return count


def check_flag(name: str, value: object, *, optional: bool = False) -> None:
    """Raise a TypeError unless `value` is True or False, or None if it is optional."""
    if not (isinstance(value, bool) or (optional and value is None)):
        kinds = "True, False or None" if optional else "True or False"
        mend = f"; pass bool({name})" if is_true_or_false(value) else ""  # numpy's, or a tensor
        raise TypeError(f"{name} must be {kinds}, got {value!r}{mend}")


def check_sizes(name: str, sizes: Any, form: str = "(C, *spatial)") -> tuple[int, ...]:
    """Return `sizes` as a tuple of whole numbers, else raise a TypeError that tells the form, or a ValueError."""
    try:
        found = tuple(_whole(size) for size in sizes)
    except (TypeError, RuntimeError):
        raise TypeError(f"{name} must be a sequence of whole numbers {form}, got {sizes!r}") from None
    if max(found, default=0) >= _LARGEST:
        raise ValueError(f"{name} must have sizes less than 2**63, got {found}")
    return found


def check_numbers(**values: Any) -> None:
    """Raise a TypeError unless every value is a real number, or a tensor or array of one."""
    for name, value in values.items():
        if isinstance(value, str) or not _is_number(value):
            raise TypeError(f"{name} must be a number, got {value!r}")


def check_finite(**values: Any) -> None:
    """Raise unless every value is a real number that is neither infinite nor NaN."""
    check_numbers(**values)
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return not is_true_or_false(value)


def _whole(value: Any) -> int:
    """Return a whole number as Python's own, else raise a TypeError."""
    if is_true_or_false(value):
        raise TypeError
    return operator.index(value)


def is_true_or_false(value: Any) -> bool:
    """Return whether a value, or one of a tensor, array or sequence, is True or False, for Python 1 and 0."""
    if isinstance(value, (list, tuple)):
        return any(is_true_or_false(each) for each in value)
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def kind_of(value: object) -> str:
    """Return what a value is, for an error: its type, or that it is a class itself, as one without its () is."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def check_network(name: str, network: object) -> None:
    """Raise a TypeError unless a network can be called as (x_t, t): it is no class, number, or path."""
    if isinstance(network, type) or not callable(network):
        raise TypeError(f"{name} must be a network, called as {name}(x_t, t), got {kind_of(network)}; pass an instance")
    check_takes(name, network, "(x_t, t)")


def check_takes(name: str, function: Any, form: str) -> None:
    """Raise a TypeError if a function certainly takes fewer arguments than its form, e.g. `"(x_t, t)"`, has.

    Nothing is known of a module whose hooks may change its arguments, nor of what has no signature.
    """
    if torch.compiler.is_compiling():
        return
    called = function
    if isinstance(function, nn.Module) and type(function).__call__ is nn.Module.__call__:
        if function._forward_pre_hooks or torch.nn.modules.module._global_forward_pre_hooks:
            return
        called = function.forward
    try:  # not that of what a decorator wraps, whose arguments may differ
        signature = inspect.signature(called, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    count = form.count(",") + 1
    try:
        signature.bind_partial(*range(count))
    except TypeError:
        taken = ", ".join(signature.parameters)
        mend = f"wrap it in a function or module that takes {count} arguments"
        raise TypeError(f"{name} is called with {form}, got {kind_of(function)} of ({taken}); {mend}") from None


def check_mapping(name: str, value: object, example: str) -> None:
    """Raise a TypeError unless `value` is a mapping or None."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, got {type(value).__name__}; pass e.g. {name}={example}")


def check_keywords(name: str, value: object, example: str) -> None:
    """Raise a TypeError unless `value` is a mapping whose names can be keyword arguments of a model, or None."""
    check_mapping(name, value, example)
    for key in value if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            raise TypeError(f"{name} must have strings as names, got {key!r}; pass e.g. {name}={example}")


def check_function(name: str, value: object, form: str) -> None:
    """Raise a TypeError unless `value` can be called, and is no class; with (…, …) as its form, on that many."""
    if isinstance(value, type) or not callable(value):
        raise TypeError(f"{name} must be a function of {form}, got {kind_of(value)}")
    if form.startswith("("):
        check_takes(name, value, form)


def check_fraction(name: str, value: float) -> None:
    """Raise a ValueError unless `value` lies in [0, 1]."""
    check_numbers(**{name: value})
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def check_batches(batches: object) -> None:
    """Raise if `batches` cannot be iterated, or is one tensor, whose iteration would take every image for a batch."""
    if not (isinstance(batches, Iterable) or hasattr(batches, "__getitem__")):
        raise TypeError(
            f"batches must be an iterable of batches (B, C, *spatial), got {type(batches).__name__}; "
            "pass a list of tensors, or a DataLoader"
        )
    if isinstance(batches, Tensor):
        raise TypeError(
            f"batches must be an iterable of batches, got one tensor of shape {tuple(batches.shape)}; "
            "pass batches.split(256), or a DataLoader"
        )


def images_of(batch: object, image_key: str | None = None) -> Tensor:
    """Return the images of a batch: the batch itself, the first element of a tuple or list, or a mapping's entry."""
    if isinstance(batch, Mapping):
        if image_key not in batch:
            found = "none is named" if image_key is None else f"image_key={image_key!r} is not among them"
            raise TypeError(
                f"batches are mappings with the keys {', '.join(map(repr, batch))}, and {found}; "
                "pass image_key, the key of the images"
            )
        batch = batch[image_key]
    images = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(images, Tensor):
        raise TypeError(
            "batches must yield tensors (B, C, *spatial) or tuples that begin with one, "
            f"got {type(images).__name__}; convert arrays with torch.as_tensor"
        )
    return images


def check_floating(x: Tensor, name: str = "x") -> None:
    """Raise unless `x` is a real floating-point tensor, and dense."""
    check_dense(x, name)
    if not x.is_floating_point() or x.element_size() == 1:  # 8-bit floats have no arithmetic
        it = _variable(name)
        mend = f"convert it with {it}.float()"
        if x.is_complex():
            mend = f"pass its parts as channels, torch.cat([{it}.real, {it}.imag], 1)"
        if x.dtype == torch.uint8:
            mend = f"convert 8-bit images with {it}.float() / 127.5 - 1"
        raise TypeError(f"{name} must be a floating-point tensor, got {x.dtype}; {mend}")


def check_dense(x: object, name: str = "x") -> None:
    """Raise a TypeError unless `x` is a tensor, or a ValueError if it is sparse."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {kind_of(x)}; convert it with torch.as_tensor")
    if x.layout is not torch.strided:
        raise ValueError(f"{name} is sparse; pass {_variable(name)}.to_dense()")


def _variable(name: str) -> str:
    """Return how code can call an argument: by its name, or as x if that is a phrase."""
    return name if name.replace(".", "").isidentifier() else "x"


def check_has_values(x: Tensor, name: str = "x") -> None:
    """Raise a ValueError if `x` is on the meta device, where tensors have a shape and nothing else."""
    if x.is_meta:
        raise ValueError(f"{name} is on the meta device, without values; pass a tensor on the CPU or an accelerator")


def broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Whether a tensor of a shape broadcasts to another of as many axes, which stays as it is.

    Sizes are compared one by one: inside `torch.compile`, an unknown size that is equal to another is not `in` a tuple.
    """
    return len(shape) == len(to) and all(ours == 1 or ours == theirs for ours, theirs in zip(shape, to, strict=True))


def channels_last(shape: Sequence[int], wanted: Sequence[int]) -> str:
    """Return how else to mend images of a shape that have their channels last, to fit what is wanted; or nothing."""
    order = (0, len(shape) - 1, *range(1, len(shape) - 1))
    if len(shape) < 3 or broadcasts(wanted, shape) or not broadcasts(wanted, [shape[axis] for axis in order]):
        return ""
    return f", or, as channels come second, pass x.permute({', '.join(map(str, order))})"


def values_are_readable(x: Tensor) -> bool:
    """Whether looking at the values of `x` costs nothing: on the CPU, outside `torch.compile` and `torch.func`."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    return not in_torch_func(x)


def in_torch_func(*tensors: Tensor) -> bool:
    """Return whether `torch.func` maps over one of the tensors or derives it: then no other holds its result."""
    if torch.compiler.is_compiling():
        return False
    return any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in tensors)


def check_time(t: Tensor) -> None:
    """Raise unless `t` is floating point, scalar or (B,), with every value in [0, 1].

    Values are checked on the CPU only; the type and shape everywhere.
    """
    if not isinstance(t, Tensor) or not t.is_floating_point():
        kind = str(t.dtype) if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(
            f"t must be a floating-point tensor of times in [0, 1], got {kind}; divide a step index by the step count"
        )
    if t.ndim > 1:
        raise ValueError(f"t must be a scalar or have shape (B,), got shape {tuple(t.shape)}; flatten it first")
    if values_are_readable(t) and not _within_0_and_1(t):
        bad = t.detach().reshape(-1)[~((t >= 0) & (t <= 1)).reshape(-1)][0].item()
        raise ValueError(f"t must lie in [0, 1] (0 = data, 1 = noise), got {bad}; divide a step index by the steps")


def _within_0_and_1(t: Tensor) -> bool:
    if t.numel() <= _FEW:
        values = t.tolist() if t.ndim else [t.item()]
        return all(0 <= value <= 1 for value in values)
    low, high = torch.aminmax(t.detach())  # NaN if any time is
    return low.item() >= 0 and high.item() <= 1


def check_images(x: Tensor, *, check_range: bool = True) -> None:
    """Raise if `x` is not floating point or not finite, or looks like images left in [0, 255].

    Args:
        x: A batch, (B, C, *spatial).
        check_range: Also refuse values that no image in [-1, 1] has. Latents or audio may need False.
    """
    check_floating(x, "images")
    check_has_values(x, "images")
    if x.ndim == 3 and x.shape[1] == x.shape[2] > _MANY_CHANNELS:
        warnings.warn(
            f"a batch of shape {tuple(x.shape)} is read as signals of {x.shape[1]} channels; "
            "if these are images of one channel, add its axis with images[:, None]",
            RuntimeWarning,
            stacklevel=4,
        )
    if x.numel() == 0:
        raise ValueError(f"got an empty batch of shape {tuple(x.shape)}; expected (B, C, *spatial) with every size > 0")
    low, high = (value.item() for value in torch.aminmax(x.detach()))
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise ValueError("images hold NaN or infinite values; remove or repair those images before passing them")
    if check_range and (high > 16 or (low >= 0 and high > 2)):
        raise ValueError(
            f"images span [{low:.4g}, {high:.4g}], expected about [-1, 1]; "
            "scale 8-bit images with x / 127.5 - 1, or pass check_range=False if this data is meant to be so large"
        )


def warn_of_unit_range(images: Tensor) -> None:
    """Warn if a batch of two or more images, (B, C, *spatial), reaches from 0 to 1, as unscaled images do.

    Data in [-1, 1] seldom do: a batch of them has a value below 0, or none near 0.
    """
    if len(images) < 2 or images.ndim < 3:
        return
    low, high = (value.item() for value in torch.aminmax(images.detach()))
    if 0 <= low < 0.1 and 0.9 < high <= 1:
        warnings.warn(
            f"images span [{low:.4g}, {high:.4g}], expected about [-1, 1]; scale images in [0, 1] with x * 2 - 1, "
            "or pass check_range=False if this data is meant to be so",
            RuntimeWarning,
            stacklevel=4,
        )


def missing_extra(module: str, extra: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """Return the error of an optional module whose extra is not installed, for the error of its import."""
    return ModuleNotFoundError(
        f'{module} requires the extra `{extra}` ({error}); from a clone of the repository: pip install -e ".[{extra}]"',
        name=error.name,
    )
