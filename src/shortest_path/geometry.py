"""Exact geometry of corruptions: how long a path is, and how well it can be sampled.

The data are N(0, Σ_0) with the covariance that a `PowerSpectrum` holds, between the channels at every
frequency (C×C blocks), not only its diagonal. A corruption moves it along

    Σ_t = A_t Σ_0 A_t + N_t²,    A_t = diag(signal), N_t = diag(noise)

and the Fisher metric of zero-mean Gaussians is ds² = ½ tr((Σ⁻¹ dΣ)²) (equation 2 of docs/theory.md). No network, no
training, no sampling error: what is computed here is a property of the process and the spectrum alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .basis import PrincipalBasis
from .checks import check_count, check_has_values
from .corruption import Corruption
from .covariance import (
    CovariancePath,
    channel_blocks,
    covariance_path,
    dense,
    geodesic_length,
    log_ratio,
    rotate_blocks,
    solve,
)
from .grids import falling_shares, fine_times, strictly_falling, times_at
from .spectrum import PowerSpectrum
from .transition import Solver, Variance, check_solver, check_times, final_step, step_weights

_HALVINGS = 20_000
_NO_LENGTH = 1e-6  # nats^½; less is rounding


def fisher_distance(p: PowerSpectrum | Tensor | float, q: PowerSpectrum | Tensor | float) -> float:
    """Return the length of the geodesic between two zero-mean Gaussians.

        d(p, q) = √(½ Σ log² λ),    λ the eigenvalues of Σ_p⁻¹ Σ_q

    Args:
        p: A spectrum, or a tensor of variances in a common orthonormal basis, or 1.0 for white noise.
        q: Likewise.

    Returns:
        The distance in nats^½, independent of the basis.

    Raises:
        TypeError: variances that are not real numbers.
        ValueError: two spectra of different shape, in different bases and too large for full matrices,
            or variances that are not positive or do not broadcast.

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
        if isinstance(p.basis, PrincipalBasis):
            return fisher_distance(p.power, variances)
        rotated = rotate_blocks(channel_blocks(p), p.basis.channel_rotation)
        return geodesic_length(rotated, torch.diag_embed(rearrange(variances, "c ... -> (...) c")).to(rotated.dtype))
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
    schedule whose speed is unbounded at an end (a square root of t, say) costs a few more halvings there. A
    jump counts as the geodesic across it.

    Args:
        corruption: Any corruption of images of the spectrum's shape.
        spectrum: The data, channel covariances included.
        rtol: Largest relative disagreement between a chord and its halves; the result is more accurate than that.
            In (0, 1), and well above rounding.

    Returns:
        The length; never less than `fisher_distance` between the two ends.

    Raises:
        TypeError: `corruption` or `spectrum` is none.
        ValueError: shapes differ, the corruption's basis differs from the spectrum's and the sample is
            larger than 1024 values, a covariance is too ill-conditioned for float64, or the sum does not settle.
    """
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must lie in (0, 1), got {rtol}")
    path = covariance_path(corruption, spectrum)
    times = torch.linspace(0, 1, 17, dtype=torch.float64).tolist()
    points = [path.at(t) for t in times]
    chords = [geodesic_length(*pair) for pair in itertools.pairwise(points)]
    return _sum_of_arcs(path, times, points, chords, rtol)


def gaussian_kl(
    corruption: Corruption,
    spectrum: PowerSpectrum,
    *,
    steps: int = 50,
    solver: Solver = "ancestral",
    variance: Variance = "large",
    eta: float = 0.0,
    times: Tensor | None = None,
) -> float:
    """Return KL(generated ‖ data) in nats for Gaussian data and the optimal denoiser, exactly.

    The covariance that the sampler starts from is propagated through the sampler's own steps
    with the optimal linear denoiser û_0 = Σ_0 A_t (A_t Σ_0 A_t + N_t²)⁻¹ u_t, then compared with Σ_0:

        KL = ½ [tr(Σ_0⁻¹ P) − D − log det(Σ_0⁻¹ P)]

    Args:
        corruption: Any corruption of images of the spectrum's shape.
        spectrum: The data, channel covariances included.
        steps: Number of steps T, on the uniform grid from 1 to 0.
        solver: `"ancestral"` or `"ddim"`.
        variance: `"large"` or `"small"`, for the ancestral solver.
        eta: For DDIM.
        times: Strictly falling times to 0, (T + 1,), instead of the uniform grid.

    Returns:
        KL in nats, summed over all coefficients; 0 is perfect, and infinite if a coefficient is generated without
        variance, as by one step from pure noise.

    Raises:
        TypeError: as in `path_length`, or `steps` or `times` of another type.
        ValueError: unknown solver, a wrong grid, or a basis or covariance as in `path_length`.
    """
    check_solver(solver, variance, eta)
    if times is None:
        times = torch.linspace(1, 0, check_count("steps", steps) + 1, dtype=torch.float64)
    check_times(times)
    if float(times[-1]) != 0:
        raise ValueError(f"times must fall to 0, where images are compared with the data, got {float(times[-1]):g}")
    path = covariance_path(corruption, spectrum)
    data = path.data
    identity = torch.eye(data.shape[-1], dtype=data.dtype)
    at_t = path.scales(times[0])
    prior = path.prior(at_t)
    covariance = path.corrupted(*at_t) if prior is None else torch.diag_embed(prior**2).to(data.dtype)
    for t_next in times[1:]:
        last = float(t_next) == 0.0
        at_s = path.scales(t_next)
        weights = final_step(at_t) if last else step_weights(at_t, at_s, solver=solver, variance=variance, eta=eta)
        gain = solve(path.corrupted(*at_t), at_t[0][..., :, None] * data).mH
        step = weights.w_t[..., :, None] * identity + weights.w_0[..., :, None] * gain
        covariance = step @ covariance @ step.mH + torch.diag_embed(weights.sigma**2).to(data.dtype)
        at_t = at_s
    ratio = solve(data, covariance)
    trace = ratio.diagonal(dim1=-2, dim2=-1).real.sum()
    return 0.5 * float(trace - data.shape[0] * data.shape[-1] - torch.linalg.slogdet(ratio).logabsdet.sum())


@dataclass(frozen=True)
class FisherGrid:
    """Times at equal steps of Fisher length along the corruption's own path: every step changes the data as much.

    It follows the data and the path and not the corruption's clock, as `SpectrumGrid` does, which divides the error of
    a second-order step. On the shortest path these are the uniform times. Ancestral steps at these times lose the
    least by `gaussian_kl`, which counts every coefficient alike. Pictures do not: those of trained networks were worse
    than on uniform times with 20 and 50 calls, under Gaussian noise and blur (docs/results.md).

    Args:
        corruption: Any corruption of images of the spectrum's shape.
        spectrum: The data, channel covariances included.

    Raises:
        TypeError: `corruption` or `spectrum` is none.
        ValueError: a basis or covariance as in `path_length`; when called, also a path without length.

    Source: docs/theory.md, "What it buys for Gaussian data".

    Example:
        >>> import shortest_path as sp
        >>> law = sp.PowerSpectrum.power_law((1, 8, 8), amplitude=3.0, offset=0.1, exponent=2.0)
        >>> corruption = sp.GaussianCorruption("cosine")
        >>> times = sp.FisherGrid(corruption, law)(10)
        >>> [round(sp.gaussian_kl(corruption, law, times=each), 2) for each in (sp.UniformGrid()(10), times)]
        [0.65, 0.41]
    """

    corruption: Corruption
    spectrum: PowerSpectrum

    def __post_init__(self) -> None:
        covariance_path(self.corruption, self.spectrum)  # raises if there is none

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        falling = falling_shares(steps, start)
        path, fine = covariance_path(self.corruption, self.spectrum), fine_times(start, 0.0)
        arcs = [geodesic_length(*pair) for pair in itertools.pairwise(map(path.at, fine.tolist()))]
        length = torch.tensor([0.0, *arcs], dtype=torch.float64).cumsum(0)
        if length[-1] < _NO_LENGTH:
            raise ValueError(
                f"the path of {type(self.corruption).__name__} has no length, as its signal and noise do not change; "
                "use another grid"
            )
        times = times_at(falling * length[-1], length, fine)
        times[-1] = 0  # also where nothing happens near the data
        return strictly_falling(times, self)


def _between_spectra(p: PowerSpectrum, q: PowerSpectrum) -> float:
    if p.shape != q.shape:
        raise ValueError(f"the spectra are of images of different shapes, {p.shape} and {q.shape}")
    if not p.basis.shares_transform(q.basis):
        return geodesic_length(dense(p)[None], dense(q)[None])
    if isinstance(p.basis, PrincipalBasis):
        return fisher_distance(p.power, q.power)
    return geodesic_length(channel_blocks(p), channel_blocks(q))


def _variances(value: Tensor | float) -> Tensor:
    try:
        variances = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"expected a PowerSpectrum, variances or a number, got {type(value).__name__}") from error
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


def _sum_of_arcs(
    path: CovariancePath, times: list[float], points: list[Tensor], chords: list[float], rtol: float
) -> float:
    """Return the length of all arcs; each is halved until two half chords agree with the whole one."""
    share = rtol * sum(chords) / len(chords)
    rounding = 1e-12 * math.sqrt(points[0].shape[0] * points[0].shape[-1])
    arcs = [
        (pair, ends, chord, share)
        for pair, ends, chord in zip(itertools.pairwise(times), itertools.pairwise(points), chords, strict=True)
    ]
    total, halvings = 0.0, 0
    while arcs:
        (start, stop), ends, chord, tolerance = arcs.pop()
        middle = (start + stop) / 2
        if not start < middle < stop:
            total += chord
            continue
        point = path.at(middle)
        left, right = geodesic_length(ends[0], point), geodesic_length(point, ends[1])
        defect = left + right - chord
        # A share of the arc's own length will do: where an end of the path takes many halvings, the tolerance, halved
        # with each of them, would soon be below rounding.
        if defect <= max(tolerance, rtol / len(chords) * (left + right), rounding):
            total += left + right + defect / 3  # Richardson: chords err by the square of the interval
            continue
        halvings += 1
        if halvings > _HALVINGS:
            raise ValueError(
                f"the length did not settle to rtol={rtol:g} in {_HALVINGS} halvings, near t = {middle:.4g}; pass a "
                "larger rtol, and see that signal and noise have no NaN"
            )
        arcs.append(((start, middle), (ends[0], point), left, tolerance / 2))
        arcs.append(((middle, stop), (point, ends[1]), right, tolerance / 2))
    return total
