"""A network for small images, which a CPU trains in a minute."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_FREQUENCIES = 16


class ResidualMLP(nn.Module):
    """A residual network on all values of an image at once; time scales, shifts and gates every block.

    Args:
        shape: Shape of an image, (C, H, W).
        width: Width of the hidden layers.
        blocks: Number of residual blocks of two layers each.
    """

    frequencies: Tensor

    def __init__(self, shape: Sequence[int], *, width: int = 384, blocks: int = 3) -> None:
        super().__init__()
        values = math.prod(shape)
        self.register_buffer("frequencies", math.pi * torch.arange(1, _FREQUENCIES + 1), persistent=False)
        self.time = nn.Sequential(nn.Linear(2 * _FREQUENCIES, 128), nn.SiLU())
        self.first = nn.Linear(values, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.last = nn.Linear(width, values)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return values of the shape of x, (B, C, H, W), at times (B,)."""
        angles = t[:, None] * self.frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        hidden = self.first(x.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, time)
        return self.last(hidden).view(x.shape)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.time = nn.Linear(128, 2 * width)
        self.inner = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, hidden: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time).chunk(2, 1)
        return hidden + self.inner(self.norm(hidden) * (1 + scale) + shift)
