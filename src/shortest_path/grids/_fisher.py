"""Equal steps of Fisher length."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from .._covariance import covariance_path
from ..corruptions import Corruption
from ..spectra import PowerSpectrum
from ._interpolation import fine_times, times_at
from ._protocol import falling_fractions, strictly_falling

_NO_LENGTH = 1e-6  # nats^½; less is rounding


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
        covariance_path(self.corruption, self.spectrum)  # raises if there is none

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        falling = falling_fractions(steps, start)
        path, fine = covariance_path(self.corruption, self.spectrum), fine_times(start, 0.0)
        arcs = [path.length(*pair) for pair in itertools.pairwise(map(path.corrupted, path.points(fine.tolist())))]
        length = torch.tensor([0.0, *arcs], dtype=torch.float64, device="cpu").cumsum(0)
        if length[-1] < _NO_LENGTH:
            raise ValueError(
                f"the path of {type(self.corruption).__name__} has no length, as its signal and noise do not change; "
                "use another grid"
            )
        times = times_at(falling * length[-1], length, fine)
        times[-1] = 0  # also where nothing happens near the data
        return strictly_falling(times, self)
