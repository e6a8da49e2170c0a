"""A base class of corruptions whose scales follow from each coefficient's own time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor
from typing_extensions import override

from .._checks import check_time
from .._exact import as_dtype, working_dtype
from ._diagonal import DiagonalCorruption
from ._scales import per_sample

Pick: TypeAlias = Callable[[Tensor], Tensor]
"""Takes what a tensor (..., C or 1, *spatial) holds for n coefficients, (..., 1, …, 1, n), or returns it whole."""


class ElementwiseCorruption(DiagonalCorruption):
    """Base class of corruptions whose scales are a function of time and of tables, coefficient by coefficient.

    A subclass defines `_scales`. Its coefficients may then have times of their own (`StaggeredCorruption`), and a
    part of them can be looked at alone, as time grids do for large images.
    """

    picks = True
    """Whether `_scales` takes a time for each picked coefficient, or of all coefficients and picks at the end."""

    @override
    def signal(self, t: Tensor) -> Tensor:
        return self.scales(t)[0]

    @override
    def noise(self, t: Tensor) -> Tensor:
        return self.scales(t)[1]

    @override
    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        check_time(t)
        time = as_dtype(t, working_dtype(t))
        signal, noise = self._scales(per_sample(time, self.basis.dims), everything)
        return as_dtype(signal, t.dtype), as_dtype(noise, t.dtype)

    def scales_of(self, t: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        """Return (signal(t), noise(t)) of some coefficients alone, broadcastable to (B, 1, …, 1, n).

        Args:
            t: Times, (B,).
            pick: Takes what a tensor holds for them; see `Pick`.
        """
        return self._scales(per_sample(t, self.basis.dims), pick)

    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        """Return (signal, noise) of the coefficients that `pick` takes, in the type of `time`.

        Args:
            time: A time for every coefficient, broadcastable to what the tables hold for them.
            pick: Applied to the tables, not to `time`.
        """
        raise NotImplementedError


def everything(table: Tensor) -> Tensor:
    """Return a table whole."""
    return table
