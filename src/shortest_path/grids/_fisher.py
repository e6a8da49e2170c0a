"""Equal steps of Fisher length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._covariance import CovariancePath, covariance_path
from ..corruptions import Corruption
from ..spectra import PowerSpectrum
from ._interpolation import fine_times, times_at
from ._protocol import falling_fractions, strictly_falling

_NO_LENGTH = 1e-6  # nats^½; less is rounding
_AT_ONCE = 2**18  # numbers of covariances that are looked at together


@dataclass(frozen=True)
class Fisher:
    """Times at equal steps of Fisher length along the corruption's own path: every step changes the data as much.

    It follows the data and the path and not the corruption's clock, like `grids.Spectrum`, which divides the error of a
    second-order step evenly. On the shortest path these are the uniform times. Samples of trained networks on this grid
    are compared in docs/results.md.

    Args:
        corruption: Any corruption of images of the spectrum's shape.
        spectrum: The data, channel covariances included.

    Raises:
        TypeError: `corruption` does not implement `Corruption`, or `spectrum` is not a `PowerSpectrum`.
        ValueError: a basis or covariance as in `path_length`; when called, also a path without length.

    Source: docs/theory.md, "What it buys for Gaussian data".

    Example:
        >>> import shortest_path as sp
        >>> law = sp.PowerSpectrum.power_law((1, 8, 8), amplitude=3.0, offset=0.1, exponent=2.0)
        >>> corruption = sp.GaussianCorruption("cosine")
        >>> times = sp.grids.Fisher(corruption, law)(10)
        >>> [round(sp.gaussian_kl(corruption, law, times=each), 2) for each in (sp.grids.Uniform()(10), times)]
        [0.65, 0.41]
    """

    corruption: Corruption
    spectrum: PowerSpectrum

    def __post_init__(self) -> None:
        path = covariance_path(self.corruption, self.spectrum)  # raises where no path can be found
        object.__setattr__(self, "_path", path)

    def __getstate__(self) -> dict[str, Any]:  # not the path, which holds functions
        return {"corruption": self.corruption, "spectrum": self.spectrum}

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        return _even_times(self.path, self, steps, start)

    @property
    def path(self) -> CovariancePath:
        """The covariance of the data along the corruption's path."""
        path: CovariancePath | None = self.__dict__.get("_path")  # a copy has none
        return covariance_path(self.corruption, self.spectrum) if path is None else path


def _even_times(path: CovariancePath, grid: Fisher, steps: int, start: float) -> Tensor:
    falling, fine = falling_fractions(steps, start), fine_times(start, 0.0)
    part = max(1, _AT_ONCE // path.data.numel())
    arcs: list[float] = []
    for first in range(0, len(fine) - 1, part):
        along = path.along(fine[first : first + part + 1].tolist())
        arcs += path.lengths(along[:-1], along[1:]).tolist()
    length = torch.tensor([0.0, *arcs], dtype=torch.float64, device="cpu").cumsum(0)
    if length[-1] < _NO_LENGTH:
        raise ValueError(
            f"the path of {type(path.corruption).__name__} has no length, as its signal and noise do not change; "
            "use another grid"
        )
    times = times_at(falling * length[-1], length, fine)
    times[-1] = 0  # also where nothing happens near the data
    return strictly_falling(times, grid)
