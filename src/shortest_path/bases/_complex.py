"""Complex tensors from two real ones."""

from __future__ import annotations

import torch
from torch import Tensor


def complex_of(real: Tensor, imaginary: Tensor) -> Tensor:
    """Return a complex tensor."""
    if torch.compiler.is_compiling():  # torch 2.4 compiles torch.complex wrongly if one part is not contiguous
        return torch.view_as_complex(torch.stack([real, imaginary], -1))
    return torch.complex(real, imaginary)


def complex_type(dtype: torch.dtype) -> torch.dtype:
    """Return the complex type of the same precision; unlike `dtype.to_complex()`, also in a compiled graph."""
    return torch.complex128 if dtype == torch.float64 else torch.complex64
