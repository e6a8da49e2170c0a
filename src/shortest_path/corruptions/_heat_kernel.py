"""The heat equation in the cosine basis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_numbers

_LARGEST = 1e12


def laplacian_eigenvalues(spatial: Sequence[int]) -> Tensor:
    """Return λ_k = Σ_axes (π k / N)², the eigenvalues of −∇² in the cosine basis, (1, *spatial), float64."""
    if not spatial or min(spatial) < 1:
        raise ValueError(f"spatial must hold at least one size, each 1 or more, got {tuple(spatial)}")
    axes = [(math.pi / n * torch.arange(n, dtype=torch.float64, device="cpu")) ** 2 for n in spatial]
    grid = torch.meshgrid(*axes, indexing="ij")
    return torch.stack(grid).sum(0, keepdim=True)


def heat_kernel(eigenvalues: Tensor, blur: Tensor) -> Tensor:
    """Return exp(−λ σ²/2) for a blur of standard deviation σ."""
    return torch.exp(-eigenvalues * blur**2 / 2)


def check_positive(**parameters: float) -> None:
    """Raise a ValueError unless every parameter is positive and its square is within float32."""
    check_numbers(**parameters)
    for name, value in parameters.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
        if value > _LARGEST:  # its square would leave the range of float32
            raise ValueError(f"{name} must be {_LARGEST:g} at most, got {value}")
