"""Whether a tensor may be overwritten: new memory costs as much as arithmetic, but derivatives need some of the old."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ._checks import in_torch_func


def has_derivative(x: Tensor) -> bool:
    """Return whether a derivative is taken through `x`, backward, forward or by `torch.func`."""
    if x.requires_grad or torch.compiler.is_compiling():
        return x.requires_grad
    return in_torch_func(x) or forward_ad.unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def add_product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return x + a b, in the memory of x where that can be, which nothing else may need."""
    return torch.addcmul(x, a, b) if in_torch_func(x, a, b) else x.addcmul_(a, b)
