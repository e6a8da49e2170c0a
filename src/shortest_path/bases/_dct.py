"""The orthonormal cosine transform: the matrix of one axis, and of several axes by the FFT of real numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ._complex import complex_type
from ._tables import kept, table

_TOGETHER = 2**17  # values of a part of a batch, per thread; its temporaries then stay in the cache


@table(lambda n: (n, n))
def cosine_matrix(n: int) -> Tensor:
    """Return the orthonormal DCT-II matrix, (n, n), float64; rows are the cosines."""
    k = torch.arange(n, dtype=torch.float64, device="cpu")
    matrix = torch.cos(math.pi / (2 * n) * k[:, None] * (2 * k + 1)) * math.sqrt(2 / n)
    matrix[0] *= math.sqrt(0.5)
    return matrix


@table(lambda n, times: (n,))
def twiddles(n: int, times: int) -> Tensor:
    """Return w_0 = √(1/N), w_k = `times` √(1/2N) exp(iπk / 2N), complex128, (n,)."""
    size = torch.full((n,), times * math.sqrt(0.5 / n), dtype=torch.float64, device="cpu")
    size[0] = math.sqrt(1 / n)
    return torch.polar(size, torch.arange(n, dtype=torch.float64, device="cpu") * (math.pi / (2 * n)))


@table(lambda n: (n,))
def fold(n: int) -> Tensor:
    """Return the order 0, 1, 3, 5, …, 6, 4, 2 of the samples of an axis, (n,)."""
    places = torch.arange(n, device="cpu")
    return torch.cat([places[:1], places[1::2], places[2::2].flip(0)])


@table(lambda n: (n,))
def unfold(n: int) -> Tensor:
    """Return the inverse permutation of `fold`, (n,)."""
    return fold(n).argsort()


@table(lambda n: (n,))
def part_of(n: int) -> Tensor:
    """Return where C_k is in the pairs (Re A_k, Im A_k), k ≤ N/2, of a line, (n,): at Re A_k, or at Im A_(N−k)."""
    k = torch.arange(n, device="cpu")
    return torch.where(k <= n // 2, 2 * k, 2 * (n - k) + 1)


@table(lambda n: (n // 2 * 2 + 2,))
def parts(n: int) -> Tensor:
    """Return where the pairs (Re A_k, Im A_k) = (C_k, C_(N−k)), k ≤ N/2, are in a line, (2 (N/2 + 1),)."""
    k = torch.arange(n // 2 + 1, device="cpu")
    return torch.stack([k, (n - k) % n], 1).flatten()


class Tables(NamedTuple):
    """What the transform needs: `fold`, `unfold` and `twiddles(n, 1)` of every axis, and more of the last."""

    fold: tuple[Tensor, ...]
    unfold: tuple[Tensor, ...]
    twiddles: tuple[Tensor, ...]
    twice: Tensor
    part_of: Tensor
    parts: Tensor


def tables_for(sizes: Sequence[int], make: Callable[..., Tensor]) -> Tables:
    """Return the tables of axes of some sizes; `make(build, *numbers)` returns one where it is needed."""
    return Tables(
        fold=tuple(make(fold, n) for n in sizes),
        unfold=tuple(make(unfold, n) for n in sizes),
        twiddles=tuple(make(twiddles, n, 1) for n in sizes),
        twice=make(twiddles, sizes[-1], 2),
        part_of=make(part_of, sizes[-1]),
        parts=make(parts, sizes[-1]),
    )


def table_type(build: Callable[..., Tensor], dtype: torch.dtype) -> torch.dtype:
    """Return the type of one of `Tables` for images of a type."""
    return complex_type(dtype) if build is twiddles else torch.int64


def compiled_cosine(x: Tensor, inverse: bool) -> Tensor:
    """Return `fft_cosine` or its inverse, as one operation of a compiled graph."""
    result: Tensor = _compiled(x.contiguous(), inverse)
    return result


def fft_cosine(x: Tensor, tables: Tables) -> Tensor:
    """Return the DCT-II of every axis but the first, by one FFT of real numbers for each item of the first.

    With the samples of every axis in the order of `fold` (Makhoul 1980, reversed), Z* their transform and Y = w Z, the
    transform along an axis of N is

        C_k = Y_k − i Y_(N−k),    C_0 = Y_0

    Along the last axis the FFT of real numbers gives half of Z. With A what the other axes give, the rest follows from

        C_k = 2 Re A_k,    C_(N−k) = 2 Im A_k,    C_0 = Re A_0

    Args:
        x: (M, *sizes), real.
        tables: `Tables` for the sizes, in the precision of `x`.
    """
    return _apply(x, tables, False)


def fft_inverse_cosine(u: Tensor, tables: Tables) -> Tensor:
    """Return the inverse of `fft_cosine`, its transpose: the inverse steps in the opposite order."""
    return _apply(u, tables, True)


class _Transform(torch.autograd.Function):
    """The transform whose derivative is its transpose, at the same cost: that of an FFT of real numbers costs twice."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, tables: Tables, inverse: bool) -> Tensor:
        return _in_parts(x, tables, inverse)

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, ctx.tables, ctx.inverse = inputs

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _apply(grad, ctx.tables, not ctx.inverse), None, None

    @staticmethod
    @override
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _apply(tangent, ctx.tables, ctx.inverse)


# A graph gains nothing from the steps around an FFT, which it takes less well than the eager functions.
@torch.library.custom_op("shortest_path::fft_cosine", mutates_args=(), schema="(Tensor x, bool inverse) -> Tensor")
def _compiled(x: Tensor, inverse: bool) -> Tensor:
    def make(build: Callable[..., Tensor], *numbers: int) -> Tensor:
        return kept(build.__name__, numbers, x.device, table_type(build, x.dtype))

    return _in_parts(x, tables_for(x.shape[1:], make), inverse)


@_compiled.register_fake
def _(x: Tensor, inverse: bool) -> Tensor:
    return x.new_empty(x.shape)


def _keep_direction(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.inverse = inputs[1]


def _transposed(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return _compiled(grad, not ctx.inverse), None


_compiled.register_autograd(_transposed, setup_context=_keep_direction)


def _apply(x: Tensor, tables: Tables, inverse: bool) -> Tensor:
    if x.requires_grad and torch.is_grad_enabled():
        result: Tensor = _Transform.apply(x, tables, inverse)  # type: ignore[no-untyped-call]
        return result
    return _in_parts(x, tables, inverse)


def _in_parts(x: Tensor, tables: Tables, inverse: bool) -> Tensor:
    transform = _inverse if inverse else _forward
    part = max(1, _TOGETHER * torch.get_num_threads() // x[:1].numel())
    if x.device.type != "cpu" or len(x) <= part:
        return transform(x, tables)
    result = x.new_empty(x.shape)
    for first in range(0, len(x), part):
        result[first : first + part] = transform(x[first : first + part], tables)
    return result


def _forward(x: Tensor, tables: Tables) -> Tensor:
    for axis, order in enumerate(tables.fold, 1):
        x = _ordered(x, axis, order)
    ndim, half = x.ndim, x.shape[-1] // 2 + 1
    z = torch.fft.rfftn(x, dim=list(range(1, ndim)))
    del x
    for axis, factor in enumerate(tables.twiddles[:-1], 1):
        z = _add_mirrored(z.mul_(_along(factor, axis, z.ndim)), axis, -1j)
    pairs = torch.view_as_real(z.mul_(tables.twice[:half])).flatten(-2)
    return _ordered(pairs, ndim - 1, tables.part_of)


def _inverse(u: Tensor, tables: Tables) -> Tensor:
    sizes, half = u.shape[1:], u.shape[-1] // 2 + 1
    pairs = _ordered(u, u.ndim - 1, tables.parts).reshape(*u.shape[:-1], half, 2)
    pairs[..., 0, 1] = 0
    # `conj` would only mark its result, and an operation of a compiled graph does not see the mark.
    z = torch.view_as_complex(pairs).mul_(tables.twiddles[-1][:half].conj_physical())
    for axis, factor in enumerate(tables.twiddles[:-1], 1):
        z = _add_mirrored(z, axis, 1j).mul_(_along(factor, axis, z.ndim).conj_physical())
    x: Tensor = torch.fft.irfftn(z, s=list(sizes), dim=list(range(1, u.ndim)), norm="forward")
    for axis, order in reversed(list(enumerate(tables.unfold, 1))):
        x = _ordered(x, axis, order)
    return x


def _ordered(x: Tensor, axis: int, order: Tensor) -> Tensor:
    """Return x at places along an axis: each in the way that is fast there."""
    if axis < x.ndim - 1:
        return x.index_select(axis, order)
    return x.gather(axis, order.expand(*x.shape[:-1], len(order)))


def _along(factor: Tensor, axis: int, ndim: int) -> Tensor:
    shaped: Tensor = factor.reshape(-1, *[1] * (ndim - 1 - axis))
    return shaped


def _add_mirrored(z: Tensor, axis: int, factor: complex) -> Tensor:
    """Return z_k + factor · z_(N−k) along an axis, z_0 alone; in the memory of `z`, which autograd does not need."""
    rest = z.narrow(axis, 1, z.shape[axis] - 1)
    rest.add_(rest.flip(axis), alpha=factor)
    return z
