"""Fisher distances between Gaussians, and the Fisher length of a corruption's path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._blocks import geodesic_length, log_ratio
from .._checks import check_has_values, check_numbers, is_true_or_false
from .._covariance import (
    CovariancePath,
    channel_blocks,
    chosen_places,
    covariance_path,
    dense,
    is_even,
    places,
    rotate_blocks,
)
from ..bases import FourierBasis, PrincipalBasis
from ..corruptions import Corruption, same_rotation
from ..spectra import PowerSpectrum

_HALVINGS = 20_000
_AT_ONCE = 2**18  # numbers of covariances that are looked at together


def fisher_distance(p: PowerSpectrum | Tensor | float, q: PowerSpectrum | Tensor | float) -> float:
    """Return the length of the geodesic between two zero-mean Gaussians.

        d(p, q) = √(½ Σ log² λ),    λ the eigenvalues of Σ_p⁻¹ Σ_q

    Args:
        p: One Gaussian: a spectrum, or a tensor of variances in a common orthonormal basis, or 1.0 for white noise.
        q: The other Gaussian, in the same forms.

    Returns:
        The distance in nats^½, independent of the basis. Of images with more than 7936 frequencies whose spectrum has
        channel covariances, chosen ones stand for all, to 1 %.

    Raises:
        TypeError: variances that are not real numbers.
        ValueError: two spectra of different shape, in different bases and too large for full matrices, variances that
            differ at k and −k of such a spectrum, or that are not positive or do not broadcast.

    Source: Atkinson & Mitchell 1981; Das et al. 2023, arXiv:2306.00501, equation 9.

    Example:
        >>> import torch, math
        >>> round(fisher_distance(torch.tensor([math.e**2, 1.0]), 1.0), 6)
        1.414214
    """
    if isinstance(q, PowerSpectrum):
        return _between_spectra(p, q) if isinstance(p, PowerSpectrum) else fisher_distance(q, p)
    if isinstance(p, PowerSpectrum):
        variances = _variances(q)
        if _broadcast(variances.shape, p.shape) != p.shape:
            raise ValueError(
                f"variances must broadcast to the spectrum's shape {p.shape}, got {tuple(variances.shape)}"
            )
        variances = variances.expand(p.shape)
        if p.cross is None:
            return fisher_distance(p.power, variances)
        if isinstance(p.basis, FourierBasis) and not is_even(variances, p.basis):  # blocks are of k and −k together
            return geodesic_length(dense(p, p.basis)[None], torch.diag(variances.flatten())[None])
        chosen = chosen_places(p.power, variances)
        rotated = rotate_blocks(channel_blocks(p, chosen), p.basis.channel_rotation)
        theirs = torch.diag_embed(places(variances, chosen).T).to(rotated.dtype)
        return geodesic_length(rotated, theirs, None if chosen is None else chosen.weight)
    first, second = _variances(p), _variances(q)
    if _broadcast(first.shape, second.shape) is None:
        raise ValueError(
            f"variances must broadcast to each other, got shapes {tuple(first.shape)} and {tuple(second.shape)}"
        )
    return math.sqrt(0.5 * float((log_ratio(first, second) ** 2).sum()))


def path_length(corruption: Corruption, spectrum: PowerSpectrum, *, rtol: float = 1e-4) -> float:
    """Return the Fisher length of the path that `corruption` takes from the data to t = 1.

        ∫₀¹ √(½ tr((Σ_t⁻¹ dΣ_t/dt)²)) dt

    Summed from geodesic chords. An interval is halved until its chord agrees with those of its halves, so a
    schedule whose speed is unbounded at an end, e.g. a square root of t, costs a few more halvings there. A
    jump counts as the geodesic across it.

    Args:
        corruption: Any corruption of images of the spectrum's shape.
        spectrum: The data, channel covariances included.
        rtol: Largest relative disagreement between a chord and its halves; the result is more accurate than that.
            In (0, 1), and well above rounding.

    Returns:
        The length; never less than `fisher_distance` between the two ends, but for the error of chosen coefficients:
        of images with more than 4096 coefficients, some stand for all, to 0.1 % where the power tells them apart, to
        4 % for measured covariances of channels.

    Raises:
        TypeError: `corruption` does not implement `Corruption`, `spectrum` is not a `PowerSpectrum`, or `rtol` not a
            number.
        ValueError: shapes differ, the corruption's basis differs from the spectrum's and the sample is
            larger than 1024 values, a covariance is too ill-conditioned for float64, or the sum does not settle.
    """
    check_numbers(rtol=rtol)
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must lie in (0, 1), got {rtol}")
    return length_of(covariance_path(corruption, spectrum), rtol=rtol)


def length_of(path: CovariancePath, *, rtol: float = 1e-4) -> float:
    """Return the Fisher length of a path; see `path_length`."""
    times = torch.linspace(0, 1, 17, dtype=torch.float64, device="cpu").tolist()
    ends = path.along(times)
    chords = path.lengths(ends[:-1], ends[1:]).tolist()
    tolerance = rtol * sum(chords) / len(chords)
    arcs = [_Arc(*each, tolerance) for each in zip(times, times[1:], ends, ends[1:], chords, strict=False)]
    return _sum_of_arcs(path, arcs, rtol)


def _between_spectra(p: PowerSpectrum, q: PowerSpectrum) -> float:
    if p.shape != q.shape:
        raise ValueError(f"the spectra are of images of different shapes, {p.shape} and {q.shape}")
    if not p.basis.shares_transform(q.basis):
        return geodesic_length(dense(p)[None], dense(q)[None])
    if isinstance(p.basis, PrincipalBasis) or (
        p.cross is q.cross is None and same_rotation(p.basis, q.basis, exactly=True)
    ):
        return fisher_distance(p.power, q.power)
    chosen = chosen_places(p.power, q.power)
    count = None if chosen is None else chosen.weight
    return geodesic_length(channel_blocks(p, chosen), channel_blocks(q, chosen), count)


def _variances(value: Tensor | float) -> Tensor:
    try:
        if is_true_or_false(value):
            raise TypeError
        variances = (value if isinstance(value, Tensor) else torch.as_tensor(value, device="cpu")).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"expected a PowerSpectrum, variances or a number, got {value!r}") from error
    if variances.is_complex():
        raise TypeError(f"variances must be real, got {variances.dtype}")
    check_has_values(variances, "variances")
    variances = variances.to("cpu", torch.float64)
    if not bool(((variances > 0) & torch.isfinite(variances)).all()):
        raise ValueError(f"variances must be positive and finite, got a minimum of {float(variances.min())}")
    return variances


def _broadcast(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """Return the shape that both broadcast to, or None."""
    try:
        return np.broadcast_shapes(tuple(a), tuple(b))
    except ValueError:
        return None


class _Arc(NamedTuple):
    """A part of a path."""

    start: float
    stop: float
    first: Tensor
    """Σ at the start, (F, n, n)."""
    last: Tensor
    chord: float
    tolerance: float

    @property
    def middle(self) -> float:
        """The time halfway."""
        return (self.start + self.stop) / 2

    @property
    def is_a_jump(self) -> bool:
        """Whether no time is between the two ends."""
        return not self.start < self.middle < self.stop


def _sum_of_arcs(path: CovariancePath, arcs: list[_Arc], rtol: float) -> float:
    """Return the length of all arcs; each is halved until two half chords agree with the whole one."""
    count, rounding = len(arcs), 1e-12 * math.sqrt(math.prod(path.shape))
    together = max(1, _AT_ONCE // path.data.numel())
    total, halvings = 0.0, 0
    while arcs:
        these, arcs = arcs[-together:], arcs[:-together]
        total += sum(arc.chord for arc in these if arc.is_a_jump)
        these = [arc for arc in these if not arc.is_a_jump]
        if not these:
            continue
        middles = path.along([arc.middle for arc in these])
        lefts = path.lengths(torch.stack([arc.first for arc in these]), middles).tolist()
        rights = path.lengths(middles, torch.stack([arc.last for arc in these])).tolist()
        for arc, point, left, right in zip(these, middles, lefts, rights, strict=True):
            defect = left + right - arc.chord
            # A fraction of the arc's own length is enough: where an end of the path takes many halvings, the tolerance,
            # halved with each of them, would soon be below rounding.
            if defect <= max(arc.tolerance, rtol / count * (left + right), rounding):
                total += left + right + defect / 3  # Richardson: chords err by the square of the interval
                continue
            halvings += 1
            middle, tolerance = arc.middle, arc.tolerance / 2
            if halvings > _HALVINGS:
                raise ValueError(
                    f"the length did not settle to rtol={rtol:g} in {_HALVINGS} halvings, near t = {middle:.4g}; pass "
                    "a larger rtol, and see that signal and noise have no NaN"
                )
            arcs.append(_Arc(arc.start, middle, arc.first, point, left, tolerance))
            arcs.append(_Arc(middle, arc.stop, point, arc.last, right, tolerance))
    return total
