"""Which corruption for my data? What can be said before any training, in words, a table and one figure.

    python examples/which_corruption.py PATH

PATH is a folder of images, a parquet file, an .npy or .npz array, or the name of a data set on the Hugging Face hub.
Images are cropped and resized to `--size`; large sizes take minutes. Smaller images are not enlarged, as the finest
detail would be that of the interpolation: choose a smaller size for them. The figure goes to `--out`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import shortest_path as sp
from recipe.arguments import add_on_error, four_or_more, in_flags, output_figure, positive, two_or_more
from recipe.cifar10 import load
from recipe.figures import share_legend
from recipe.images import check_several, to_grey, to_unit
from shortest_path import plots

TIMES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the images, print what they say, and draw the figure."""
    args = parse(argv)
    try:
        found = load(args.data, size=args.size, count=args.images, on_error=args.on_error, enlarge=False)
        images = to_unit(to_grey(found.images) if args.grey else found.images)
        check_several(images, args.data)
        if not 0 <= args.show < len(images):
            raise ValueError(
                f"--show must be the index of one of {len(images)} images, 0 to {len(images) - 1}, got {args.show}"
            )
        spectrum = sp.PowerSpectrum.estimate(images.split(500))
    except (OSError, ValueError) as error:
        raise SystemExit(f"which_corruption: {in_flags(error)}") from error
    corruptions = choices(spectrum)
    compared = sp.geometry.compare(spectrum, corruptions, steps=(args.steps,))
    print(about(images, spectrum), "", table(compared, args.steps), "", advice(compared, args.steps), sep="\n")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(args.out, images[args.show], spectrum, corruptions)
    print(f"\nFigure: {args.out}")


def choices(spectrum: sp.PowerSpectrum) -> dict[str, sp.Corruption]:
    """Return the corruptions that are compared."""
    return {
        "Gaussian, cosine": sp.GaussianCorruption("cosine"),
        "blur and noise": sp.BlurCorruption(4.0 * spectrum.shape[1] / 32, spatial=spectrum.shape[1:]),
        "shortest path": sp.ShortestPathCorruption(spectrum),
        "equal SNR": sp.GaussianCorruption("cosine", noise=spectrum),
    }


def about(images: Tensor, spectrum: sp.PowerSpectrum) -> str:
    """Return what the images are, in a few sentences."""
    shape = "×".join(map(str, images.shape[1:]))
    frequency, rings = spectrum.radial_average()
    low, high = rings[:, 1].mean().item(), rings[:, -1].mean().item()
    enough = "" if len(images) >= 1000 else " Fewer than 1,000 images: the spectrum itself is uncertain."
    return (
        f"{len(images)} images of {shape}. From frequency 1 to {int(frequency[-1])}, power falls from {low:.3g} to "
        f"{high:.3g}: by a factor of {low / high:.3g}.{enough}{constant(images, spectrum)}"
    )


def constant(images: Tensor, spectrum: sp.PowerSpectrum) -> str:
    """Return how many coefficients do not vary, and what to do about them; nothing if all vary."""
    if not spectrum.floored:
        return ""
    count, channels = images.shape[:2]
    mend = "use images that vary in every direction"
    if count <= channels:
        mend = f"{count} images of {channels} channels are too few: pass more"
    elif channels > 1:
        mend = "if these are grey images stored as RGB, pass --grey to read their brightness alone"
    percent = 100 * spectrum.floored / spectrum.power.numel()
    return f" {percent:.3g} % of the coefficients do not vary at all, which makes the table misleading; {mend}."


def table(found: sp.geometry.Comparison, steps: int) -> str:
    """Return a row for each corruption."""
    heads = ("corruption", "detour", f"KL in {steps} steps", "with even steps", "spread of half-times")
    lines = [heads, tuple("-" * len(head) for head in heads)]
    for row in found.rows:
        detour = "none" if row.distance < 1e-3 else f"{100 * max(0.0, row.length / row.distance - 1):.1f} %"
        even = f"{row.kl_even[steps]:.3g}" if steps in row.kl_even else "the same"
        lines.append((row.name, detour, f"{row.kl[steps]:.3g}", even, f"{row.stiffness:.3g}"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def advice(found: sp.geometry.Comparison, steps: int) -> str:
    """Return how to read the table, with its own numbers."""
    best = min(found.rows, key=lambda row: row.kl[steps])
    worst = max(found.rows, key=lambda row: row.kl[steps])
    return (
        "How to read it:\n"
        "- detour: how much longer the path is than the shortest one between its two ends.\n"
        f"- KL: what {steps} ancestral steps with a perfect network leave, in nats; 0 is perfect. Here\n"
        f"  {best.name} leaves {best.kl[steps]:.3g} and {worst.name} {worst.kl[steps]:.3g}.\n"
        "- with even steps: the same with steps of equal length along the path (grids.Fisher). Most of a gap that\n"
        "  vanishes here comes from the time grid, not from the path.\n"
        "- spread of half-times: the largest ratio of noise to signal over the smallest, in the middle. 1 means that\n"
        "  all frequencies are corrupted at once; a large number, that fine detail goes long before coarse shapes.\n"
        "No number here says how well a network learns: for that, train with two of them and compare\n"
        "(examples/quickstart.py --data PATH)."
    )


def draw(path: Path, image: Tensor, spectrum: sp.PowerSpectrum, corruptions: dict[str, sp.Corruption]) -> None:
    """Draw the spectrum, an image under every corruption, and when frequencies are lost."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.2, 1))
    first, second = upper.subplots(1, 2, width_ratios=(1, 1.6))
    plots.spectrum(spectrum, first, law=False).set_title("power of the data")
    plots.strip(image, corruptions, second, times=TIMES)
    axes = lower.subplots(1, len(corruptions), sharey=True)
    for axis, (name, corruption) in zip(axes, corruptions.items(), strict=True):
        plots.scales(corruption, spectrum, axis).set_title(name)
        axis.set_ylabel("signal —, noise - -")
    share_legend(axes)
    figure.savefig(path, dpi=130)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="which_corruption.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="images, or the name of a data set on the hub")
    parser.add_argument("--size", type=four_or_more, default=32, help="height and width to fit images to (%(default)s)")
    parser.add_argument("--grey", action="store_true", help="read the brightness of the images alone, one channel")
    parser.add_argument("--images", type=two_or_more, default=10_000, help="largest number of images (%(default)s)")
    parser.add_argument("--steps", type=positive, default=50, help="number of steps of the KL (%(default)s)")
    parser.add_argument("--show", type=int, default=0, help="index of the image in the figure (%(default)s)")
    add_on_error(parser)
    parser.add_argument(
        "--out", type=output_figure, default="outputs/which_corruption.png", help="file of the figure (%(default)s)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    with torch.no_grad():
        main()
