"""Networks of the study."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import shortest_path as sp
from examples.recipe.runs import make_network
from examples.recipe.settings import Settings
from shortest_path.models import WhitenedInput
from studies.trained_networks.cases import Scale

_FREQUENCIES = 32


class ResidualMLP(nn.Module):
    """A residual network on all values of an image at once; time scales and shifts every block.

    Args:
        shape: Shape of an image, (C, H, W).
        width: Width of the hidden layers.
        blocks: Number of residual blocks of two layers each.
    """

    frequencies: Tensor

    def __init__(self, shape: Sequence[int], *, width: int, blocks: int) -> None:
        super().__init__()
        values = math.prod(shape)
        steps = torch.arange(_FREQUENCIES) / (_FREQUENCIES - 1)
        self.register_buffer("frequencies", 1000 * (1e-3) ** steps)
        self.time = nn.Sequential(nn.Linear(2 * _FREQUENCIES, 64), nn.SiLU())
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
        self.norm = nn.LayerNorm(width)
        self.time = nn.Linear(64, 2 * width)
        self.inner = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, hidden: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time).chunk(2, 1)
        return hidden + self.inner(self.norm(hidden) * (1 + scale) + shift)


class WhitenedAlone(WhitenedInput):
    """Shows a network the whitened image alone; cheaper where all times are equal, as in sampling."""

    def whiten(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the whitened images."""
        return super().whiten(x_t, t[:1] if bool((t == t[0]).all()) else t)


def make(scale: Scale, corruption: sp.Corruption, spectrum: sp.PowerSpectrum, *, whitened: bool) -> nn.Module:
    """Return a new network; its initial weights depend on torch's random state alone."""
    if "widths" in scale.network:
        plain = Settings(size=scale.size, whitened_input=False, **scale.network)
        network = make_network(plain, corruption, spectrum, classes=0)
    else:
        network = ResidualMLP((3, scale.size, scale.size), **scale.network)
    return WhitenedAlone(network, corruption, spectrum, alone=True) if whitened else network
