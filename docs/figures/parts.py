"""Plot docs/figures/parts.png: the shortest path's effect on the image, on the noise, and on their sum.

    python -m docs.figures.parts

The image part Bᵀ(a_t ⊙ B x_0), the noise part Bᵀ(s_t ⊙ B ε), and their sum. Both parts are scaled to equal contrast, so
that their frequencies are visible. The spectrum is that of 512 dead leaves of 64×64 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import shortest_path as sp
from docs.figures.style import make_images, measure, parser, print_table, save, sheet
from shortest_path import plots

TIMES = (0.02, 0.3, 0.6, 0.9)


def compute(x_0: Tensor, corruption: sp.Corruption, eps: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
    """Return the image part, the noise part and their sum of one image (C, H, W), each (time, C, H, W)."""
    t, basis = torch.tensor(times, dtype=x_0.dtype), corruption.basis
    image = basis.synthesize(corruption.signal(t) * basis.analyze(x_0[None]))
    noise = basis.synthesize(corruption.noise(t) * basis.analyze(eps[None]))
    return {"image": image, "noise": noise, "both": image + noise}


def slope(images: Tensor, spectrum: sp.PowerSpectrum) -> float:
    """Return the exponent p of the power law f^−p that best fits the power of one image, over all coefficients."""
    frequency = spectrum.basis.frequencies(spectrum.shape[1:]).flatten()
    power = spectrum.basis.analyze(images[None])[0].square().mean(0).flatten()
    x, y = frequency[1:].log(), power[1:].log()
    return -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def draw(found: dict[str, Tensor], times: Sequence[float], path: Path) -> None:
    """Plot a row for each part and a column for each time."""
    shown = {
        name: images if name == "both" else torch.stack([(each - each.mean()) / (2.2 * each.std()) for each in images])
        for name, images in found.items()
    }
    figure, axis = sheet(len(found), len(times), found["both"].shape[-1], scale=1.5, left=52, top=24)
    plots.rows(shown, axis, columns=[f"t = {t:g}" for t in times])
    save(figure, path, colours=256)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and plot."""
    options = parser(__doc__, "parts.png").parse_args(arguments)
    count, size = (32, 16) if options.quick else (512, 64)
    images = make_images(count, size).double()
    spectrum = measure(images).spectrum("rotate")
    corruption = sp.ShortestPathCorruption(spectrum)
    eps = torch.randn((3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = compute(images[3], corruption, eps, TIMES)
    rows = {name: [f"{slope(image, spectrum):.2f}" for image in part] for name, part in found.items()}
    print_table("power falls as f to the minus", [f"t = {t:g}" for t in TIMES], rows)
    draw(found, TIMES, options.out)


if __name__ == "__main__":
    main()
