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
from typing import NamedTuple

import numpy as np
import torch
from einops import einsum, rearrange
from torch import Tensor

from .basis import Basis, FourierBasis, PrincipalBasis
from .checks import check_count, check_has_values
from .corruption import Corruption, check_corruption, device_of, known_power, scales
from .spectrum import PowerSpectrum, mirror
from .transition import Solver, Variance, check_solver, check_times, final_step, prior_deviation, step_weights

DENSE_LIMIT = 1024
"""Largest sample size (C · Π spatial) for which covariances are treated as full matrices."""

_HALVINGS = 20_000
_LinAlgError: type[Exception] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
_ILL_CONDITIONED = (
    "a covariance is singular to the rounding of float64 in the corruption's basis; estimate the spectrum with a "
    "higher floor, or in the corruption's basis"
)


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
        rotated = _rotate_blocks(channel_blocks(p), p.basis.channel_rotation)
        return _chord(rotated, torch.diag_embed(rearrange(variances, "c ... -> (...) c")).to(rotated.dtype))
    first, second = _variances(p), _variances(q)
    if _broadcast(first.shape, second.shape) is None:
        raise ValueError(
            f"variances must broadcast to each other, got shapes {tuple(first.shape)} and {tuple(second.shape)}"
        )
    return math.sqrt(0.5 * float((_log_ratio(first, second) ** 2).sum()))


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
            larger than `DENSE_LIMIT`, a covariance is too ill-conditioned for float64, or the sum does not settle.
    """
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must lie in (0, 1), got {rtol}")
    model = _model(corruption, spectrum)
    times = torch.linspace(0, 1, 17, dtype=torch.float64).tolist()
    points = [model.at(t) for t in times]
    chords = [_chord(*pair) for pair in itertools.pairwise(points)]
    return _sum_of_arcs(model, times, points, chords, rtol)


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
    model = _model(corruption, spectrum)
    data = model.data
    identity = torch.eye(data.shape[-1], dtype=data.dtype)
    at_t = model.scales(times[0])
    prior = model.prior(at_t)
    covariance = model.corrupted(*at_t) if prior is None else torch.diag_embed(prior**2).to(data.dtype)
    for t_next in times[1:]:
        last = float(t_next) == 0.0
        at_s = model.scales(t_next)
        weights = final_step(at_t) if last else step_weights(at_t, at_s, solver=solver, variance=variance, eta=eta)
        gain = _solve(model.corrupted(*at_t), at_t[0][..., :, None] * data).mH
        step = weights.w_t[..., :, None] * identity + weights.w_0[..., :, None] * gain
        covariance = step @ covariance @ step.mH + torch.diag_embed(weights.sigma**2).to(data.dtype)
        at_t = at_s
    ratio = _solve(data, covariance)
    trace = ratio.diagonal(dim1=-2, dim2=-1).real.sum()
    return 0.5 * float(trace - data.shape[0] * data.shape[-1] - torch.linalg.slogdet(ratio).logabsdet.sum())


class _GaussianModel(NamedTuple):
    """The data's covariance and a corruption's scales, in one frame in which both are block diagonal.

    `data` is (F, n, n): F independent blocks of n coefficients.
    """

    corruption: Corruption
    shape: tuple[int, ...]
    data: Tensor

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (signal, noise) at one time, each (F, n), float64."""
        time = t.reshape(1).to(device_of(self.corruption), torch.float64)
        pair = scales(self.corruption, time, (1, *self.shape))
        signal, noise = (self._layout(scale.detach().cpu()) for scale in pair)
        return signal, noise

    def prior(self, at_t: tuple[Tensor, Tensor]) -> Tensor | None:
        """Return the deviations that the sampler starts from, (F, n); None if from corrupted images."""
        power = known_power(self.corruption)
        return prior_deviation(at_t, None if power is None else self._layout(power.cpu()[None]))

    def corrupted(self, signal: Tensor, noise: Tensor) -> Tensor:
        """Return Σ_t = A Σ_0 A + N², (F, n, n)."""
        scaled = signal[..., :, None] * self.data * signal[..., None, :]
        return scaled + torch.diag_embed(noise**2).to(self.data.dtype)

    def at(self, t: float) -> Tensor:
        """Return Σ_t at a time, (F, n, n)."""
        return self.corrupted(*self.scales(torch.tensor(t, dtype=torch.float64)))

    def _layout(self, scale: Tensor) -> Tensor:
        blocks, size = self.data.shape[:2]
        full = scale[0].expand(self.shape)
        if blocks * size == full.numel() and size == self.shape[0]:
            return rearrange(full, "c ... -> (...) c")
        return full.reshape(blocks, size)


def _model(corruption: Corruption, spectrum: PowerSpectrum) -> _GaussianModel:
    """Choose the cheapest frame in which the answer is exact."""
    check_corruption(corruption)
    if not isinstance(spectrum, PowerSpectrum):
        raise TypeError(f"spectrum must be a PowerSpectrum, got {type(spectrum).__name__}")
    model = _frame(corruption, spectrum)
    _check_condition(model.data)
    return model


def _frame(corruption: Corruption, spectrum: PowerSpectrum) -> _GaussianModel:
    shape, basis = spectrum.shape, corruption.basis
    middle = torch.tensor([0.5], dtype=torch.float64, device=device_of(corruption))
    probe = [scale.detach().cpu() for scale in scales(corruption, middle, (1, *shape))]
    isotropic = all(scale.numel() == 1 for scale in probe)
    if isinstance(spectrum.basis, PrincipalBasis):
        if isotropic or basis.shares_transform(spectrum.basis):
            return _GaussianModel(corruption, shape, spectrum.power.reshape(-1, 1, 1))
    elif isotropic:  # a multiple of the identity is one in every basis
        return _GaussianModel(corruption, shape, channel_blocks(spectrum))
    elif basis.shares_transform(spectrum.basis) and (
        not isinstance(basis, FourierBasis) or all(_is_even(scale, basis.dims) for scale in probe)
    ):
        blocks = _rotate_blocks(channel_blocks(spectrum), basis.channel_rotation)
        return _GaussianModel(corruption, shape, blocks)
    return _GaussianModel(corruption, shape, _dense(spectrum, basis)[None])


def channel_blocks(spectrum: PowerSpectrum) -> Tensor:
    """Return the covariance between unrotated channels at each frequency, (F, C, C)."""
    if isinstance(spectrum.basis, PrincipalBasis):
        raise ValueError("a spectrum in PrincipalBasis mixes channels with pixels and has no channel blocks")
    if spectrum.cross is not None:
        return rearrange(spectrum.cross, "i j ... -> (...) i j")
    blocks = torch.diag_embed(rearrange(spectrum.power, "c ... -> (...) c"))
    rotation = spectrum.basis.channel_rotation
    return blocks if rotation is None else _rotate_blocks(blocks, rotation.T)


def _rotate_blocks(blocks: Tensor, rotation: Tensor | None) -> Tensor:
    if rotation is None:
        return blocks
    matrix: Tensor = rotation.to("cpu", blocks.dtype)
    return torch.matmul(matrix @ blocks, matrix.mT)


def _is_even(scale: Tensor, dims: int) -> bool:
    """Whether a Fourier scale is the same at k and −k, as one that broadcasts over an axis is along it."""
    return torch.allclose(scale, mirror(scale, dims), rtol=1e-9, atol=0)


def _dense(spectrum: PowerSpectrum, frame: Basis | None = None) -> Tensor:
    """Return the data's covariance as a full matrix (D, D), in pixels or in the coefficients of `frame`."""
    size = torch.Size(spectrum.shape).numel()
    if size > DENSE_LIMIT:
        name = "pixels" if frame is None else repr(frame)
        raise ValueError(
            f"the spectrum is in {spectrum.basis!r}, the other side in {name}: exact for up to {DENSE_LIMIT} values "
            f"a sample, got {size}; estimate the spectrum in the corruption's basis, or use smaller images"
        )
    images = torch.eye(size, dtype=torch.float64).reshape(size, *spectrum.shape)
    basis = spectrum.basis
    if isinstance(basis, PrincipalBasis):
        images = basis.synthesize(basis.analyze(images) * spectrum.power)
    else:
        blocks = channel_blocks(spectrum).reshape(*spectrum.shape[1:], spectrum.shape[0], spectrum.shape[0])
        coefficients = basis.spatial_coefficients(images)
        mixed = einsum(blocks.to(coefficients.dtype), coefficients, "... i j, b j ... -> b i ...")
        images = basis.spatial_inverse(mixed)
    if frame is None:
        return images.flatten(1)
    half = frame.analyze(images).flatten(1).T  # B Σ, for Σ symmetric
    return frame.analyze(half.reshape(size, *spectrum.shape)).flatten(1).T


def _between_spectra(p: PowerSpectrum, q: PowerSpectrum) -> float:
    if p.shape != q.shape:
        raise ValueError(f"the spectra are of images of different shapes, {p.shape} and {q.shape}")
    if not p.basis.shares_transform(q.basis):
        return _chord(_dense(p)[None], _dense(q)[None])
    if isinstance(p.basis, PrincipalBasis):
        return fisher_distance(p.power, q.power)
    return _chord(channel_blocks(p), channel_blocks(q))


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


def _chord(p: Tensor, q: Tensor) -> float:
    """Return the geodesic distance between block-diagonal covariances (F, n, n)."""
    return math.sqrt(0.5 * float(_squared_logs(p, q).sum()))


def _broadcast(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """Return the shape that both broadcast to, or None."""
    try:
        return np.broadcast_shapes(tuple(a), tuple(b))
    except ValueError:
        return None


def _log_ratio(p: Tensor, q: Tensor) -> Tensor:
    """Return log(p / q), also where the quotient is beyond float64."""
    ratio = p / q
    inside = torch.isfinite(ratio) & (ratio > torch.finfo(ratio.dtype).tiny)
    return torch.where(inside, ratio.log(), p.log() - q.log())


def _squared_logs(p: Tensor, q: Tensor) -> Tensor:
    if p.shape[-1] == 1:
        return _log_ratio(q.real if q.is_complex() else q, p.real if p.is_complex() else p) ** 2
    try:
        return _squared_log_eigenvalues(p, q)
    except _LinAlgError as error:
        raise ValueError(_ILL_CONDITIONED) from error


def _solve(a: Tensor, b: Tensor) -> Tensor:
    try:
        answer: Tensor = torch.linalg.solve(a, b)
    except _LinAlgError as error:
        raise ValueError(_ILL_CONDITIONED) from error
    return answer


def _check_condition(data: Tensor) -> None:
    """Raise a ValueError if blocks of correlations (F, n, n) are singular to rounding."""
    if data.shape[-1] == 1:
        return
    deviation = data.diagonal(dim1=-2, dim2=-1).real.sqrt()
    scaled = data / (deviation[..., :, None] * deviation[..., None, :])  # the accuracy of a Cholesky factor follows it
    if not bool(torch.isfinite(torch.view_as_real(scaled) if scaled.is_complex() else scaled).all()):
        raise ValueError(_ILL_CONDITIONED)
    if not float(torch.linalg.eigvalsh(scaled).min()) > 1e-12:
        raise ValueError(_ILL_CONDITIONED)


def _squared_log_eigenvalues(p: Tensor, q: Tensor) -> Tensor:
    factor = torch.linalg.cholesky(p)
    half = torch.linalg.solve_triangular(factor, q, upper=False)
    ratio = torch.linalg.solve_triangular(factor, half.mH, upper=False)
    eigenvalues: Tensor = torch.linalg.eigvalsh((ratio + ratio.mH) / 2)
    return eigenvalues.log() ** 2


def _sum_of_arcs(
    model: _GaussianModel, times: list[float], points: list[Tensor], chords: list[float], rtol: float
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
        point = model.at(middle)
        left, right = _chord(ends[0], point), _chord(point, ends[1])
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
