"""Plot docs/figures/outlines.png: the outline of a leaf under two corruptions, a real signal of one dimension.

    pip install --no-deps aeon    # for its file of OSULeaf alone
    python -m docs.figures.outlines

OSULeaf has 442 outlines of 427 values, the distance of the edge from the centre at even steps along it; the spectrum is
that of the 200 for training. A value x is drawn at the radius 1 + x / 4. Both rows have the same white noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import shortest_path as sp
from docs.figures.style import BLUE, GREY, WIDTH, parser, save

TIMES = (0.0, 0.15, 0.4, 0.7, 0.95)
CHOSEN = 24  # among the outlines for training


def outlines(part: str) -> Tensor:
    """Return the outlines of `part`, "TRAIN" or "TEST", (N, 1, 427).

    Raises:
        FileNotFoundError: aeon is not installed.
    """
    found = find_spec("aeon")
    if found is None or found.origin is None:
        raise FileNotFoundError("OSULeaf is a file of aeon; pip install --no-deps aeon")
    file = Path(found.origin).parent / "datasets/data/OSULeaf" / f"OSULeaf_{part}.ts"
    rows = file.read_text(encoding="utf-8").split("@data")[1].split()
    return torch.tensor([[float(x) for x in row.split(":")[0].split(",")] for row in rows]).double()[:, None]


def generated(count: int, size: int) -> Tensor:
    """Return smooth closed curves, to check that the program runs without the file."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((count, 1, size), generator=generator, dtype=torch.float64)
    basis = sp.FourierBasis(1)
    x_0 = basis.synthesize(noise / (1 + basis.frequencies((size,))) ** 1.5)
    return x_0 / x_0.std()


def draw(x_0: Tensor, corruptions: dict[str, sp.Corruption], times: Sequence[float], path: Path) -> None:
    """Plot a row for each corruption and a column for each time."""
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1), dtype=x_0.dtype)
    angle = torch.linspace(0, 2 * math.pi, x_0.shape[-1] + 1, dtype=x_0.dtype)
    figure, axes = plt.subplots(
        len(corruptions), len(times), figsize=(WIDTH, 2.5), sharex=True, sharey=True, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    for line, (name, corruption) in zip(axes, corruptions.items(), strict=True):
        for axis, t in zip(line, times, strict=True):
            x_t = sp.corrupt(corruption, x_0[None], t, eps[None])[0, 0]
            radius = 1 + torch.cat([x_t, x_t[:1]]) / 4
            axis.plot(radius * angle.cos(), radius * angle.sin(), linewidth=0.7, color=BLUE if t == 0 else GREY)
            axis.set(aspect="equal", xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name)
    for axis, t in zip(axes[0], times, strict=True):
        axis.set_title(f"t = {t:g}")
    save(figure, path, colours=64)


def main(arguments: Sequence[str] | None = None) -> None:
    """Plot the figure."""
    options = parser(__doc__, "outlines.png").parse_args(arguments)
    x_0 = generated(64, 50) if options.quick else outlines("TRAIN")
    spectrum = sp.PowerSpectrum.estimate([x_0], "fourier", check_range=False)
    corruptions = {
        "Gaussian": sp.GaussianCorruption("cosine", dims=1),
        "shortest path": sp.ShortestPathCorruption(spectrum),
    }
    draw(x_0[CHOSEN], corruptions, TIMES, options.out)


if __name__ == "__main__":
    main()
