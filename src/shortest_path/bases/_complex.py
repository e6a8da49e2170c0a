"""Types of complex tensors."""

from __future__ import annotations

import torch


def complex_type(dtype: torch.dtype) -> torch.dtype:
    """Return the complex type of the same precision; unlike `dtype.to_complex()`, also in a compiled graph."""
    return torch.complex128 if dtype == torch.float64 else torch.complex64
