"""Tables of the transforms, made once on the CPU: kept in a compiled graph too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

Shape = tuple[int, ...]
_TABLES: dict[str, tuple[Callable[..., Tensor], Callable[..., Shape]]] = {}


def table(shape: Callable[..., Shape]) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorate a function of whole numbers that makes a table on the CPU; `shape` is that of the table for them."""

    def add(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
        _TABLES[build.__name__] = (build, shape)
        return build

    return add


def built(build: Callable[..., Tensor], numbers: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return a table on a device, in a type; one call of an operation in a compiled graph."""
    if torch.compiler.is_compiling():
        made: Tensor = _compiled(build.__name__, list(numbers), device, dtype)
        return made
    return build(*numbers).to(device, dtype)


# A graph that made the table itself would do so on the CPU, and copy it, in every call.
# torch 2.4 cannot tell the schema from annotations that are not evaluated.
@torch.library.custom_op(
    "shortest_path::table",
    mutates_args=(),
    schema="(str name, int[] numbers, Device device, ScalarType dtype) -> Tensor",
)
def _compiled(name: str, numbers: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    return kept(name, tuple(numbers), device, dtype).clone()  # a graph may write to what an operation returns


@_compiled.register_fake
def _(name: str, numbers: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.empty(_TABLES[name][1](*numbers), device=device, dtype=dtype)


@lru_cache(maxsize=64)
def kept(name: str, numbers: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return a table on a device, in a type, as it was made before; not to be written to."""
    return _TABLES[name][0](*numbers).to(device, dtype)
