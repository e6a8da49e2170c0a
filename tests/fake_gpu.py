"""A GPU that is not there: tensors on "gpu" have shapes and no values, so that reading one or mixing devices raises.

    with FakeGpu() as gpu:
        ...
    gpu.waits, gpu.copies   # reads of values by the host, and copies between devices

To be used in a process of its own: torch registers the device once for all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend


class _Module:
    """What torch asks of a device's module."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        pass

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend("gpu", _Module)


class FakeGpu(TorchDispatchMode):
    """Keeps tensors on the CPU real, and makes those on "gpu" fake; counts what a real GPU would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits: list[str] = []
        self.copies: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        values = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        fake = any(isinstance(value, FakeTensor) for value in values)
        target = kwargs.get("device")
        if not fake and (target is None or torch.device(target).type != "gpu"):
            return function(*args, **kwargs)
        name = function.name()
        if "_local_scalar_dense" in name or "nonzero" in name or "is_nonzero" in name:
            self.waits.append(name)
        devices = {value.device.type for value in values if value.ndim} | ({torch.device(target).type} if target else set())
        if ("copy" in name or "_to_copy" in name) and len(devices) > 1:
            self.copies.append(name)
        with self._mode:
            if function is torch.ops.aten._to_copy.default and not fake:  # of a real tensor: its values stay behind
                like = values[0]
                return torch.empty_like(like.to("meta"), dtype=kwargs.get("dtype") or like.dtype, device=target)
            return function(*args, **kwargs)


def on_gpu(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor on the device, without values."""
    return torch.empty(*shape, dtype=dtype, device="gpu")
