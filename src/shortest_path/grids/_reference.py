"""The chain of the paper's code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import check_count


@dataclass(frozen=True)
class Reference:
    """The chain of the paper's code, t_k = τ_k / T with τ = linspace(1, T − 1, T), then 0; it has a start of its own.

    Source: the code of Das et al. 2023, arXiv:2306.00501.
    """

    own_start = True

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`. `steps` is T, 3 or more; `start` is not used."""
        if check_count("steps", steps, least=0) < 3:
            raise ValueError(f"the reference grid needs 3 steps or more, got {steps}")
        rising = torch.linspace(1, steps - 1, steps, dtype=torch.float64, device="cpu") / steps
        return torch.cat([rising.flip(0), torch.zeros(1, dtype=torch.float64, device="cpu")])
