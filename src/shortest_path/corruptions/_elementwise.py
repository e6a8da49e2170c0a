"""A base class of corruptions whose scales follow from each coefficient's own time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import Tensor
from typing_extensions import override

from .._checks import check_time
from .._exact import as_dtype, working_dtype
from ._diagonal import DiagonalCorruption
from ._rows import Rows, divided, in_parts
from ._scales import both_scales, checked_scales, per_sample

Pick: TypeAlias = Callable[[Tensor], Tensor]
"""Takes what a tensor (..., C or 1, *spatial) holds for n coefficients, (..., 1, …, 1, n), or returns it whole."""

_PART = 2**16  # coefficients whose scales are computed together


class ElementwiseCorruption(DiagonalCorruption):
    """Base class of corruptions whose scales are a function of time and of tables, coefficient by coefficient.

    A subclass defines `_scales`; one of a library's corruption may override `scales(t)`, and not `signal` or `noise`
    alone. Its coefficients may then have times of their own (`StaggeredCorruption`), and a
    part of them can be looked at alone, as time grids do for large images.
    """

    picks = True
    """Whether `_scales` takes a time for each picked coefficient, or of all coefficients and picks at the end."""

    _parts: list[Rows] | None = None  # found at the first call

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = [name for name in ("signal", "noise") if name in vars(cls)]
        if own and "scales" not in vars(cls):
            raise TypeError(
                f"{cls.__name__} overrides {' and '.join(own)}, but images are corrupted with `scales(t)`, which it "
                "inherits; override scales alone, e.g. signal, noise = super().scales(t); return signal, 2 * noise"
            )

    @override
    def signal(self, t: Tensor) -> Tensor:
        return self.scales(t)[0]

    @override
    def noise(self, t: Tensor) -> Tensor:
        return self.scales(t)[1]

    @override
    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        check_time(t)
        time = per_sample(as_dtype(t, working_dtype(t)), self.basis.dims)
        parts = self._split(time)
        if parts:
            signal, noise = in_parts(lambda rows: self._scales(time, rows), parts, time.dtype)
        else:
            signal, noise = self._scales(time, everything)
        return as_dtype(signal, t.dtype), as_dtype(noise, t.dtype)

    def _split(self, time: Tensor) -> list[Rows]:
        """Return the parts in which scales are computed, whose temporaries stay in the cache; none for all at once."""
        if torch.compiler.is_compiling() or time.device.type != "cpu":
            return []
        if self._parts is None:
            self._parts = self._rows()
        if not self._parts or not torch.is_grad_enabled():
            return self._parts
        needs_graph = time.requires_grad or any(each.requires_grad for each in self.parameters())
        return [] if needs_graph else self._parts

    def _rows(self) -> list[Rows]:
        dims = self.basis.dims
        if not dims or not computes_picked(self):
            return []
        named = ((name.split("."), table) for name, table in self.named_buffers())
        tables = [table for path, table in named if "basis" not in path and table.ndim == dims + 1]
        rows = max((table.shape[-dims] for table in tables), default=1)
        largest = max((table.numel() for table in tables), default=0)
        parts = min(rows // 2, largest // _PART)  # two rows at least: one row is a scale of all rows
        return divided(rows, parts, dims) if parts > 1 else []

    def scales_of(self, t: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        """Return (signal(t), noise(t)) of some coefficients alone, broadcastable to (B, 1, …, 1, n).

        Args:
            t: Times, (B,).
            pick: Takes what a tensor holds for them; see `Pick`.

        Raises:
            ValueError: scales with another number of axes than coefficients (B, C, *spatial), or of other times.
        """
        if not _has_own_scales(self):
            return checked_scales(self, self._scales(per_sample(t, self.basis.dims), pick), t)
        signal, noise = both_scales(self, t)
        return pick(signal), pick(noise)

    def _keeps_scales_of(self, author: type[ElementwiseCorruption]) -> bool:
        """Whether the scales are those that a class defines, and no subclass has others."""
        return all(getattr(type(self), name) is getattr(author, name) for name in ("scales", "_scales"))

    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        """Return (signal, noise) of the coefficients that `pick` takes, in the type of `time`.

        Args:
            time: A time for every coefficient, broadcastable to what the tables hold for them.
            pick: Applied to the tables, not to `time`.
        """
        raise NotImplementedError


def computes_picked(corruption: object) -> TypeGuard[ElementwiseCorruption]:
    """Whether a corruption, and each inside it, computes the scales of picked coefficients alone."""
    inner = getattr(corruption, "corruption", None)
    return takes_own_times(corruption) and corruption.picks and (inner is None or computes_picked(inner))


def takes_own_times(corruption: object) -> TypeGuard[ElementwiseCorruption]:
    """Whether `_scales` of a corruption, and of each inside it, tells the scales and takes a time per coefficient."""
    inner = getattr(corruption, "corruption", None)
    if not isinstance(corruption, ElementwiseCorruption) or _has_own_scales(corruption):
        return False
    return inner is None or takes_own_times(inner)


def _has_own_scales(corruption: ElementwiseCorruption) -> bool:
    """Whether a subclass overrides `scales`, of which `_scales` knows nothing."""
    return type(corruption).scales is not ElementwiseCorruption.scales


def everything(table: Tensor) -> Tensor:
    """Return a table whole."""
    return table
