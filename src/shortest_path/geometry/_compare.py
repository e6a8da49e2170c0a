"""Which process for which data? What can be said before any training, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import check_count, check_mapping
from .._html import grid
from .._progress import Progress
from ..corruptions import Corruption, Point
from ..grids import Fisher, Uniform, falling_times
from ..solvers import Solver, SolverName, make_solver
from ..spectra import PowerSpectrum
from ._fisher import length_of
from ._gaussian_kl import kl_along

_NO_LENGTH = 1e-4  # nats^½: less has no direction to divide evenly
_LIMITS = """
KL in nats, exact for Gaussian data and a perfect network. Lengths compare paths between the same two ends only.
No number here tells how well a network learns a process: that needs training."""


@dataclass(frozen=True)
class Compared:
    """One corruption of a comparison."""

    name: str
    length: float
    """Fisher length of its path, in nats^½."""
    distance: float
    """Fisher distance between the two ends of its path; the length is never less."""
    kl: dict[int, float]
    """KL(generated ‖ data) in nats by number of steps of equal time."""
    kl_even: dict[int, float]
    """The same by number of steps of equal Fisher length; empty for a path without length."""
    stiffness: float
    """Range of the clocks: the largest tan θ_f over the smallest at t = ½, tan θ = s / (a √S)."""
    input_power: tuple[float, float, float]
    """Mean variance of what the network sees at t = ½, from the strongest to the weakest third of coefficients."""


@dataclass(frozen=True)
class Comparison:
    """Corruptions side by side; printed as a table, and shown as one in a notebook."""

    rows: tuple[Compared, ...]

    def _table(self) -> list[list[str]]:
        steps = " / ".join(map(str, self.rows[0].kl)) if self.rows else ""
        return [[title.format(steps=steps) for title in _HEADER], *map(_cells, self.rows)]

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return grid(self._table(), _LIMITS)

    def __str__(self) -> str:
        cells = self._table()
        widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADER))]
        lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([lines[0], rule, *lines[1:], _LIMITS])


_HEADER = [
    "corruption",
    "length / distance",
    "stiffness",
    "input power",
    "KL, even time, {steps}",
    "KL, even length, {steps}",
]


def compare(
    spectrum: PowerSpectrum,
    corruptions: Mapping[str, Corruption],
    *,
    steps: Sequence[int] = (10, 50),
    solver: SolverName | Solver = "ancestral",
    progress: bool | None = None,
) -> Comparison:
    """Compare corruptions on the data's spectrum, before any training.

    - **length / distance**: Fisher length of the path, and the distance between its own two ends.
    - **KL**: divergence of samples in `steps` steps with the optimal denoiser, at even times and at even length.
    - **stiffness**: how far apart in noise the coefficients are at t = ½, the largest s / (a √S) over the smallest; 1
      if all lose their signal together. The larger it is, the more steps a solver needs that knows no spectrum.
    - **input power**: what the network sees at t = ½, from the strongest to the weakest third of the coefficients.

    What it cannot tell: whether a network learns one process better than another. Two corruptions with the same clock
    θ_f(t) set the same learning problem, whatever their lengths; and the divergence is of perfect networks and Gaussian
    data, no bound of a trained sampler's error (docs/theory.md).

    Args:
        spectrum: The data, channel covariances included.
        corruptions: Corruptions of images of the spectrum's shape, by name.
        steps: Numbers of sampling steps.
        solver: As `gaussian_kl` takes it.
        progress: True or False; None shows progress on a terminal if the work is long.

    Raises:
        TypeError: `corruptions` is not a mapping, or a value does not implement `Corruption`.
        ValueError: no number of steps; and as in `path_length` and `gaussian_kl`.

    Example:
        >>> import shortest_path as sp
        >>> law = sp.PowerSpectrum.power_law((1, 8, 8), amplitude=3.0, offset=0.1, exponent=2.0)
        >>> both = {"Gaussian": sp.GaussianCorruption(), "path": sp.ShortestPathCorruption(law)}
        >>> print(compare(law, both, steps=[20]))
        | corruption | length / distance | stiffness | input power      | KL, even time, 20 | KL, even length, 20 |
        |------------|-------------------|-----------|------------------|-------------------|---------------------|
        | Gaussian   | 10.27 / 8.73      | 57.6      | 7.75 0.644 0.582 | 0.24              | 0.118               |
        | path       | 8.73 / 8.73       | 7.59      | 1.73 0.527 0.39  | 0.0378            | 0.0378              |
        ...
    """
    if corruptions is None:
        raise TypeError("corruptions must be a mapping, got None; pass e.g. corruptions={'Gaussian': corruption}")
    check_mapping("corruptions", corruptions, "{'Gaussian': corruption}")
    if not isinstance(steps, Sequence):
        raise TypeError(f"steps must be a sequence of numbers of steps, got {steps!r}; pass e.g. [10, 50]")
    if not len(steps):
        raise ValueError("steps must hold one number of steps or more, got none; pass e.g. [10, 50]")
    for count in steps:
        check_count("every number of steps", count)
    solver, rows = make_solver(solver), []
    with Progress("comparing", total=len(corruptions), unit="corruptions", show=progress) as bar:
        for name, each in corruptions.items():
            rows.append(_compared(name, each, spectrum, steps, solver))
            bar.advance()
    return Comparison(tuple(rows))


def _compared(
    name: str, corruption: Corruption, spectrum: PowerSpectrum, steps: Sequence[int], solver: Solver
) -> Compared:
    grid = Fisher(corruption, spectrum)
    path = grid.path
    length = length_of(path)
    kl = {count: kl_along(path, falling_times(Uniform()(count)), solver) for count in steps}
    even = {}
    if length > _NO_LENGTH:
        even = {count: kl_along(path, falling_times(grid(count)), solver) for count in steps}
    half = path.point(0.5)
    power = _variances(path.data, half).flatten()
    signal, noise = half.signal.flatten(), half.noise.flatten()
    weight = torch.ones_like(half.signal) if path.weight is None else path.weight[:, None].expand_as(half.signal)
    tangent = noise / (signal * power.sqrt())
    return Compared(
        name,
        length,
        path.length(path.at(0.0), path.at(1.0)),
        kl,
        even,
        1.0 if float(tangent.max()) == float(tangent.min()) else float(tangent.max() / tangent.min()),
        _by_thirds(power, signal**2 * power + noise**2, weight),
    )


def _variances(blocks: Tensor, point: Point) -> Tensor:
    """Return the variances of coefficients, (F, n): independent ones, where the scales do not tell them apart."""
    if all(bool((scale == scale[:, :1]).all()) for scale in (point.signal, point.noise)):
        variances: Tensor = torch.linalg.eigvalsh(blocks)
        return variances
    return blocks.diagonal(dim1=-2, dim2=-1).real


def _by_thirds(power: Tensor, values: Tensor, count: Tensor) -> tuple[float, float, float]:
    """Return the mean of values, each `count` times, in three equal parts, from the strongest to the weakest."""
    order = power.argsort(descending=True)
    values, count = values[order], count.flatten()[order]
    if len(values) < 3:
        values, count = values.repeat_interleave(3), count.repeat_interleave(3)
    third = (3 * (count.cumsum(0) - count) / count.sum()).floor().clamp(max=2)  # in which a value begins
    strong, middle, weak = (float((count * values)[third == i].sum() / count[third == i].sum()) for i in range(3))
    return strong, middle, weak


def _cells(row: Compared) -> list[str]:
    return [
        row.name,
        " / ".join(f"{0.0 if length < _NO_LENGTH else length:.4g}" for length in (row.length, row.distance)),
        f"{row.stiffness:.3g}",
        " ".join(f"{power:.3g}" for power in row.input_power),
        " / ".join(f"{kl:.3g}" for kl in row.kl.values()),
        " / ".join(f"{kl:.3g}" for kl in row.kl_even.values()) or "—",
    ]
