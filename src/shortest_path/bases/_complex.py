"""Types of complex tensors."""

from __future__ import annotations

import torch


def use_own_threads() -> None:
    """Have torch apply its number of threads to this thread of Python, as it does when first asked for it.

    Until then an FFT runs with that of the environment, and rounds differently.
    """
    if not torch.compiler.is_compiling():
        torch.get_num_threads()


def complex_type(dtype: torch.dtype) -> torch.dtype:
    """Return the complex type of the same precision; unlike `dtype.to_complex()`, also in a compiled graph."""
    return torch.complex128 if dtype == torch.float64 else torch.complex64
