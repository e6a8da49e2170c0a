"""Samples of all networks from the same noise, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from shortest_path import plots

KEPT = 10  # samples of each solver and number of calls


def read(file: Path) -> Tensor:
    """Return the samples that a run kept, as floats in [-1, 1]."""
    return torch.from_numpy(np.load(file)).float() / 127.5 - 1


def draw(path: Path, rows: Mapping[str, Tensor]) -> None:
    """Plot a row of images, (N, C, H, W), for each title."""
    count = min(len(row) for row in rows.values())
    figure = Figure(figsize=(0.62 * count + 3.6, 0.66 * len(rows)), layout="constrained")
    axis = plots.images(torch.cat([row[:count] for row in rows.values()]), figure.subplots(), columns=count)
    height = axis.get_ylim()[0] / len(rows)
    axis.set_yticks([(row + 0.5) * height for row in range(len(rows))], list(rows))
    axis.tick_params(length=0)
    figure.savefig(path, dpi=130, bbox_inches="tight")
