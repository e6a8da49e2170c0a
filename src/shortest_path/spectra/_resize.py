"""A spectrum measured at one size, used at another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import einsum
from torch import Tensor

from .._checks import check_sizes
from ..bases import Basis, CosineBasis, FourierBasis


def new_sizes(basis: Basis, spatial: Sequence[int]) -> tuple[int, ...]:
    """Return `spatial` as whole numbers after checking that a spectrum in this basis can have that size."""
    if not isinstance(basis, (CosineBasis, FourierBasis)):
        raise ValueError(
            f"resized requires a CosineBasis or a FourierBasis, got {type(basis).__name__}; "
            "estimate the spectrum at the new size"
        )
    sizes = check_sizes("spatial", spatial, "(one size per axis)")
    if len(sizes) != basis.dims or min(sizes, default=1) < 1:
        raise ValueError(f"spatial must be {basis.dims} sizes of 1 or more for {basis!r}, got {sizes}")
    return sizes


def resize_moments(
    basis: Basis, power: Tensor, cross: Tensor | None, sizes: Sequence[int]
) -> tuple[Tensor, Tensor | None]:
    """Return power and cross at another size by the rules of `PowerSpectrum.resized`."""
    old = power.shape[1:]
    orders = [_orders(basis, n) for n in sizes]
    fits = [_fits(basis, order, n) for order, n in zip(orders, old, strict=True)]
    places = [_places(order, fit, n) for order, fit, n in zip(orders, fits, old, strict=True)]
    ratio = math.prod(sizes) / math.prod(old)
    inside = torch.ones((), dtype=torch.bool, device="cpu")
    border = torch.zeros((), dtype=torch.bool, device="cpu")
    for order, fit in zip(orders, fits, strict=True):
        last = order.abs() == order.abs()[fit].max()
        inside = inside[..., None] & fit
        border = border[..., None] | (last & ~fit.all())
    scaled = _gather(power, places) * ratio
    power = scaled
    if not bool(inside.all()):
        frequency = _frequencies(basis, orders, old)
        power = torch.where(inside, scaled, _continued(frequency, scaled, inside, inside & border))
    if cross is not None:
        rotation = torch.eye(len(power), dtype=torch.float64, device="cpu")
        rotation = rotation if basis.channel_rotation is None else basis.channel_rotation.to(rotation)
        outside = einsum(rotation, power, rotation, "c i, c ..., c j -> i j ...").to(cross.dtype)
        cross = torch.where(inside, _gather(cross, places) * ratio, outside)
    return power, cross


def resize_mean(mean: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return an image at another size: its cosine coefficients, without those that do not fit."""
    basis = CosineBasis(mean.ndim - 1)
    resized = torch.zeros((mean.shape[0], *sizes), dtype=mean.dtype, device=mean.device)
    shared = (slice(None), *(slice(min(pair)) for pair in zip(mean.shape[1:], sizes, strict=True)))
    resized[shared] = basis.analyze(mean)[shared] * math.sqrt(math.prod(sizes) / math.prod(mean.shape[1:]))
    return basis.synthesize(resized)


def _orders(basis: Basis, n: int) -> Tensor:
    """Return the number of cycles per side of every coefficient of an axis, or of half cycles in the cosine basis."""
    order = torch.arange(n, device="cpu")
    return (order + n // 2) % n - n // 2 if isinstance(basis, FourierBasis) else order


def _frequencies(basis: Basis, orders: Sequence[Tensor], old: Sequence[int]) -> Tensor:
    """Return |f| as it is in images of the old size, where the data are isotropic if they are."""
    cycles = 1.0 if isinstance(basis, FourierBasis) else 0.5
    total = torch.zeros((), dtype=torch.float64, device="cpu")
    for order, n in zip(orders, old, strict=True):
        total = total[..., None] + (order.double() * (cycles * max(old) / n)) ** 2
    return total.sqrt()


def _fits(basis: Basis, order: Tensor, n: int) -> Tensor:
    # Of an even size, the Nyquist coefficient stands for both signs of its frequency.
    return 2 * order.abs() <= n if isinstance(basis, FourierBasis) else order < n


def _places(order: Tensor, fit: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return where the coefficients of an axis are among the old ones, with either sign of a new Nyquist frequency."""
    other = torch.where(2 * order == -len(order), -order, order)
    return torch.where(fit, order, 0) % n, torch.where(fit, other, 0) % n


def _gather(values: Tensor, places: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    for axis, (place, other) in zip(range(-len(places), 0), places, strict=True):
        values = (values.index_select(axis, place) + values.index_select(axis, other)) / 2
    return values


def _continued(frequency: Tensor, power: Tensor, inside: Tensor, border: Tensor) -> Tensor:
    """Return the power law that continues each channel, (C, *spatial); its values inside are not used."""
    known = inside & (frequency > 0)
    outer = known & (frequency >= frequency[inside].max() / 2)
    if _kinds(frequency[outer]) < 2:
        outer = known
    if _kinds(frequency[outer]) < 2:
        raise ValueError(
            "a larger size requires at least two different frequencies above 0 to continue the power law from, "
            "estimate the spectrum on larger images"
        )
    log_f, log_power = frequency.clamp(min=frequency[known].min()).log(), power.log()
    away = log_f[outer] - log_f[outer].mean()
    slope = (log_power[:, outer] @ away) / (away @ away)
    border = border & known
    level = log_power[:, border].mean(1) - slope * log_f[border].mean()
    shape = (-1, *(1,) * frequency.ndim)
    return (level.reshape(shape) + slope.reshape(shape) * log_f).exp()


def _kinds(frequency: Tensor) -> int:
    return len(set(frequency.mul(1e6).round().tolist()))
