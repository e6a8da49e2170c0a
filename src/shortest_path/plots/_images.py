"""Images in rows, with names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from .._checks import check_count, check_floating, check_has_values, kind_of
from ..corruptions import Corruption, corrupt
from ._axes import TIMES, as_list, check_some, checked_times, drawing

_MENDS = {
    "(N, C, H, W)": {
        "(N, H, W, C)": "x.permute(0, 3, 1, 2)",
        "(C, H, W)": "x[None]",
        "(H, W, C)": "x.permute(2, 0, 1)[None]",
        "(N, H, W)": "x[:, None]",
        "(H, W)": "x[None, None]",
    },
    "(C, H, W)": {
        "(N, C, H, W)": "x[0]",
        "(N, H, W, C)": "x[0].permute(2, 0, 1)",
        "(H, W, C)": "x.permute(2, 0, 1)",
        "(N, H, W)": "x[:1]",
        "(H, W)": "x[None]",
    },
}
"""How images of every other layout get the one of the key."""


def strip(
    image: Tensor,
    corruptions: Mapping[str, Corruption],
    axis: Axes | None = None,
    *,
    times: Sequence[float] = TIMES,
    seed: int = 0,
) -> Axes:
    """Show one image under several corruptions: a row for each corruption, a column for each time, the same noise.

    Args:
        image: (C, H, W), floating point, range [-1, 1], of one or three channels.
        corruptions: Corruptions by the names to show.
        axis: Where to draw; None makes a figure.
        times: Times in [0, 1].
        seed: Random seed for the noise.

    Raises:
        TypeError: an image that is not floating point, `corruptions` is not a mapping of corruptions, `times` not a
            sequence of numbers, `seed` not a whole number, or `axis` not an Axes.
        ValueError: an image of another shape, no corruptions, no times, times outside [0, 1], or a negative seed.
    """
    check_some(image, "image")
    _check_layout(image, "image", "(C, H, W)")
    if not isinstance(corruptions, Mapping):
        raise TypeError(
            f"corruptions must be a mapping of names to corruptions, got {kind_of(corruptions)}; pass e.g. "
            "corruptions={'Gaussian': GaussianCorruption()}"
        )
    if not corruptions:
        raise ValueError("corruptions must hold one corruption or more, got none")
    numbers = checked_times(times)
    generator = torch.Generator("cpu").manual_seed(check_count("seed", seed, least=0))
    eps = torch.randn(1, *image.shape, generator=generator, device="cpu").to(image)
    shown = {
        name: torch.cat([corrupt(corruption, image[None], t, eps) for t in numbers])
        for name, corruption in corruptions.items()
    }
    return rows(shown, axis, columns=[f"t = {t:g}" for t in numbers])


def rows(
    named: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    axis: Axes | None = None,
    *,
    columns: Sequence[str] = (),
) -> Axes:
    """Show rows of images, with a name beside each row and, if given, over each column.

    Args:
        named: Images (N, C, H, W) by the name of their row, or pairs of a name and images. All are of one size; a row
            may have fewer than the longest.
        axis: Where to draw; None makes a figure.
        columns: Names of the columns, from the left; no more than the longest row has images.

    Raises:
        TypeError: images that are not floating point, `named` is not a mapping or pairs, `columns` not a sequence, or
            `axis` not an Axes.
        ValueError: no images, images of different sizes, or more names of columns than columns.
    """
    pairs = _pairs(named)
    names = as_list("columns", columns, "names, one for each column", "('t = 0', 't = 1')")
    sizes = {tuple(each.shape[1:]) for _, each in pairs}
    if len(sizes) != 1:
        raise ValueError(f"rows must hold images (N, C, H, W) of one size, got {sorted(sizes) or 'none'}")
    (size,) = sizes
    count = max(len(each) for _, each in pairs)
    if len(names) > count:
        raise ValueError(f"columns has {len(names)} names, the longest row {count} images; pass a name for each column")
    filled = [torch.cat([each, each.new_full((count - len(each), *size), math.nan)]) for _, each in pairs]
    with drawing(axis) as axis:
        images(torch.cat(filled), axis, columns=count)
        height, width = size[1:]
        gap = _gap(height)
        axis.set_yticks([row * (height + gap) + height / 2 for row in range(len(pairs))], [name for name, _ in pairs])
        axis.set_xticks([column * (width + gap) + width / 2 for column in range(len(names))], names)
        axis.tick_params(length=0, labeltop=True, labelbottom=False)
        return axis


def _pairs(named: object) -> list[tuple[str, Tensor]]:
    """Return the names of rows and their images, on the CPU."""
    pairs = list(named.items() if isinstance(named, Mapping) else named if isinstance(named, Iterable) else [named])
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise TypeError(
            f"named must be a mapping of names to images (N, C, H, W), or pairs of both, got {kind_of(named)}; pass "
            "e.g. {'samples': samples}"
        )
    for name, each in pairs:
        check_floating(each, f"images of {name!r}")
        check_has_values(each, f"images of {name!r}")
        _check_layout(each, f"images of {name!r}")
    return [(str(name), each.detach().cpu()) for name, each in pairs]


def images(x: Tensor, axis: Axes | None = None, *, columns: int | None = None) -> Axes:
    """Show images in rows; values beyond [-1, 1] are cut, and NaN is transparent.

    Args:
        x: Images, (N, C, H, W), floating point, of one or three channels.
        axis: Where to draw; None makes a figure.
        columns: Number of images in a row; None makes a square.

    Raises:
        TypeError: images that are not floating point, `columns` is not a whole number, or `axis` not an Axes.
        ValueError: no images, another shape, or `columns` less than 1.
    """
    check_some(x, "images")
    _check_layout(x, "images")
    columns = _columns(columns, len(x))
    levels = (x.detach().float().cpu().clamp(-1, 1) + 1) / 2
    seen = levels.isfinite().all(1, keepdim=True).float()
    values = torch.cat([levels.nan_to_num().expand(-1, 3, -1, -1), seen], 1).permute(0, 2, 3, 1).numpy()
    count, height, width, _ = values.shape
    gap, rows = _gap(height), -(-count // columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4))  # gaps are transparent
    for index, image in enumerate(values):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    with drawing(axis) as axis:
        axis.set(xscale="linear", yscale="linear")
        axis.imshow(sheet, interpolation="nearest", extent=(0, sheet.shape[1], sheet.shape[0], 0))
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
        return axis


def side_by_side(samples: Tensor, data: Tensor, axis: Axes | None = None, *, columns: int | None = None) -> Axes:
    """Show samples beside as many images of the data, with their names above.

    Args:
        samples: Samples, (N, C, H, W), floating point.
        data: Images of the data, the same size, floating point in the range of the samples; the first N are shown.
        axis: Where to draw; None makes a figure.
        columns: Number of images in a row of either; None makes squares.

    Raises:
        TypeError: images that are not floating point, `columns` is not a whole number, or `axis` not an Axes.
        ValueError: no images, images of different sizes, or `columns` less than 1.
    """
    for name, each in (("samples", samples), ("data", data)):
        check_some(each, name)
        _check_layout(each, name)
    if samples.shape[1:] != data.shape[1:]:
        raise ValueError(
            f"samples and data must be (N, C, H, W) of one size, got {tuple(samples.shape)} and {tuple(data.shape)}"
        )
    count = min(len(samples), len(data))
    columns = _columns(columns, count)
    rows = -(-count // columns)
    both = []
    for row in range(rows):
        for part in (data, samples):
            own = part[:count][row * columns : (row + 1) * columns].to(samples)
            between = int(part is data)
            empty = own.new_full((columns - len(own) + between, *own.shape[1:]), math.nan)
            both += [own, empty]
    with drawing(axis) as axis:
        images(torch.cat(both), axis, columns=2 * columns + 1)
        width = samples.shape[-1] + _gap(samples.shape[-2])
        axis.set_xticks([columns * width / 2, (1.5 * columns + 1) * width], ["data", "samples"])
        axis.tick_params(length=0, labeltop=True, labelbottom=False)
        return axis


def _check_layout(x: Tensor, name: str, wanted: str = "(N, C, H, W)") -> None:
    """Raise a ValueError unless `x` has a layout, with one or three channels, and tell how to give it that."""
    found = _layout(x.shape)
    if found != wanted:
        mend = f"; if that is {found}, pass {_MENDS[wanted][found]}" if found else ""
        if len(x.shape) < 4 and "C" not in (found or ""):
            mend += "; this plot shows images: draw signals with matplotlib's plot"
        form = wanted if wanted.startswith("(N") else f"one image {wanted}"
        raise ValueError(f"{name} must be {form} with one or three channels, got {tuple(x.shape)}{mend}")


def _layout(shape: Sequence[int]) -> str | None:
    """Return the axes that a shape seems to have."""
    for layout in ("(N, C, H, W)", "(N, H, W, C)", "(C, H, W)", "(H, W, C)"):
        axes = layout.strip("()").split(", ")
        if len(axes) == len(shape) and shape[axes.index("C")] in (1, 3):
            return layout
    return {3: "(N, H, W)", 2: "(H, W)"}.get(len(shape))


def _columns(columns: int | None, count: int) -> int:
    return max(1, round(count**0.5)) if columns is None else check_count("columns", columns)


def _gap(height: int) -> int:
    return max(1, height // 16)
