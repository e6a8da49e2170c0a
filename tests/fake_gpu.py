"""A GPU that is not there: the device "gpu", whose tensors keep their values on the CPU.

What a GPU refuses is refused: tensors of two devices in one operation. Waits of the host for the device, and copies
between them, are counted. A process cannot give this device back, and autocast does nothing on it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.utils.backend_registration
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "gpu"
_READING = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2")


class FakeGPU(TorchDispatchMode):
    """While it is entered, the device "gpu" works.

    Args:
        float64: Whether the device has float64; Apple's have not.
    """

    def __init__(self, *, float64: bool = True) -> None:
        super().__init__()
        if not hasattr(torch, NAME):
            torch.utils.backend_registration._setup_privateuseone_for_python_backend(NAME, _Module)
            torch.Generator = _Generator  # type: ignore[misc]
        self._float64 = float64
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self.waits: list[str] = []
        """The operations in which the host read a value of the device, and where."""
        self.copies: list[str] = []
        """The copies, "up" to the device or "down" from it, and where."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        mine = [each for each in tensors if isinstance(each, _OnDevice)]
        target, name = kwargs.get("device"), func.overloadpacket.__name__
        there = bool(mine) if target is None else torch.device(target).type == NAME
        if not (mine or there):
            return func(*args, **kwargs)
        if name in _READING:
            self.waits.append(f"{name} in {_place()}")
        if name in ("_to_copy", "copy_"):
            up, down = not isinstance(args[-1], _OnDevice) and there, bool(mine) and not there
            if name == "copy_":
                down = not isinstance(args[0], _OnDevice)
                up = not isinstance(args[1], _OnDevice)
            self.copies += [f"up in {_place()}"] * up + [f"down in {_place()}"] * down
        elif any(each.ndim > 0 for each in tensors if not isinstance(each, _OnDevice)) and mine:
            raise RuntimeError(f"{name}: expected all tensors on one device, got some on {NAME} and some on the CPU")
        if target is not None:
            kwargs = {**kwargs, "device": "cpu"}
        plain_args, plain_kwargs = tree_map(_inside, (args, kwargs))
        # A wrapper hides that the values inside are to be conjugated, so they are conjugated now.
        result = tree_map(_conjugated, func(*plain_args, **plain_kwargs))
        if not there or name in _READING[:-3]:
            return result
        if name == "copy_":
            return args[0]
        for each in tree_leaves(result):
            if not self._float64 and isinstance(each, Tensor) and each.dtype in (torch.float64, torch.complex128):
                raise TypeError(f"the device has no {each.dtype} ({name} in {_place()})")
        wrapped = tree_map(lambda each: _OnDevice(each) if isinstance(each, Tensor) else each, result)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)


class _OnDevice(Tensor):
    """A tensor of the device; its values are in `inside`."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> Any:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inside.size(),
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=torch.device(NAME, 0),
            requires_grad=False,
        )
        made.inside = inside
        return made

    def __init__(self, inside: Tensor) -> None:
        pass

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} outside FakeGPU")

    __torch_function__ = torch._C._disabled_torch_function_impl


class _Module:
    """What torch asks of the module of a kind of device."""

    is_available = staticmethod(lambda: True)
    is_initialized = staticmethod(lambda: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    manual_seed_all = staticmethod(lambda seed: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.float16, torch.bfloat16])


_Real = torch.Generator


class _Generator(_Real):
    """A generator that says that it is on the device where it was asked for; it draws on the CPU."""

    def __new__(cls, device: Any = "cpu") -> Any:
        made = _Real.__new__(cls, "cpu")
        made._where = torch.device(device)
        return made

    def __init__(self, device: Any = "cpu") -> None:
        pass

    device = property(lambda self: self._where)  # type: ignore[assignment]


def _inside(value: Any) -> Any:
    return value.inside if isinstance(value, _OnDevice) else value


def _conjugated(value: Any) -> Any:
    return value.resolve_conj().resolve_neg() if isinstance(value, Tensor) else value


def _place() -> str:
    """Return where the library is, as file and function."""
    frame = sys._getframe()
    while frame.f_back is not None and "shortest_path/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"


def exists() -> bool:
    """Whether this version of torch can have such a device."""
    return hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend")
