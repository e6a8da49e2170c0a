"""How well a solver samples Gaussian data, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._blocks import solve
from .._covariance import CovariancePath, covariance_path
from ..corruptions import Corruption, Point, known_power
from ..grids import GridName, TimeGrid, make_times
from ..solvers import Solver, SolverName, Step, check_step, make_solver
from ..spectra import PowerSpectrum


def gaussian_kl(
    corruption: Corruption,
    spectrum: PowerSpectrum,
    *,
    steps: int | None = None,
    solver: SolverName | Solver = "ancestral",
    grid: GridName | TimeGrid | None = None,
    times: Tensor | Sequence[float] | None = None,
    sampler_spectrum: PowerSpectrum | None = None,
) -> float:
    """Return KL(generated ‖ data) in nats for Gaussian data and the optimal denoiser, exactly.

    The joint covariance of the state and of what the solver remembers is propagated through the solver's own steps,
    with the optimal linear denoiser û_0 = Σ_0 A_t (A_t Σ_0 A_t + N_t²)⁻¹ u_t, and compared with Σ_0 at the end:

        KL = ½ [tr(Σ_0⁻¹ P) − D − log det(Σ_0⁻¹ P)]

    Of images with more than 4096 coefficients, chosen ones stand for all: to 0.5 % where the power tells them
    apart, to 3 % for measured covariances of channels.

    Args:
        corruption: Any corruption of images of the spectrum's shape.
        spectrum: The data, channel covariances included.
        steps: Number of steps; None (default) is 50.
        solver: As `Sampler` takes it; `"ancestral"` by default.
        grid: As `Sampler` takes it; None (default) is the solver's own default.
        times: Explicit times falling to 0, (steps + 1,), instead of `steps` and `grid`.
        sampler_spectrum: The spectrum that the sampler is told, as in `Sampler(spectrum=...)`; None (default) takes
            the corruption's own power, if it has one.

    Returns:
        KL in nats, summed over all coefficients; 0 is perfect, and infinite if a coefficient is generated without
        variance, as by one step from pure noise.

    Raises:
        TypeError: as in `path_length`, or an option of another type.
        ValueError: an unknown solver or grid, times that do not fall to 0, a basis or covariance as in `path_length`,
            or a solver whose steps are not linear or hide their memory.

    Source: docs/theory.md, "What it buys for Gaussian data".

    Example:
        >>> import shortest_path as sp
        >>> law = sp.PowerSpectrum.power_law((1, 8, 8), amplitude=3.0, offset=0.1, exponent=2.0)
        >>> round(sp.gaussian_kl(sp.GaussianCorruption("flow"), law, steps=10), 2)
        0.4
    """
    solver = make_solver(solver)
    path = covariance_path(corruption, spectrum, known=sampler_spectrum)
    power = known_power(corruption) if sampler_spectrum is None else sampler_spectrum.power
    return kl_along(path, make_times(times, steps, grid, solver=solver, corruption=corruption, power=power), solver)


def kl_along(path: CovariancePath, times: Tensor, solver: Solver) -> float:
    """Return KL(generated ‖ data) for a path and the times of a sampler; see `gaussian_kl`."""
    falling = times.tolist()
    if falling[-1] != 0:
        raise ValueError(f"times must fall to 0, where images are compared with the data, got {falling[-1]:g}")
    first = path.point(falling[0])
    data, prior = path.data, path.prior(first)
    covariance = path.corrupted(first) if prior is None else torch.diag_embed(prior**2).to(data.dtype)
    covariance = _propagated(covariance, solver, path, first, falling)
    ratio = solve(data, covariance)
    trace = ratio.diagonal(dim1=-2, dim2=-1).real.sum(-1)
    divergence = 0.5 * float(path.over_all(trace - data.shape[-1] - torch.linalg.slogdet(ratio).logabsdet))
    return 0.0 if divergence < 0 else divergence  # of rounding


class _Response(NamedTuple):
    """How a step answers to unit impulses: of every coefficient of the state, of the memory, and of the noise."""

    transition: Tensor
    """From (state, memory) to (state, memory), (F, m', m)."""
    noise: Tensor
    """From the noise to (state, memory), (F, m', n)."""


def _propagated(covariance: Tensor, solver: Solver, path: CovariancePath, first: Point, falling: list[float]) -> Tensor:
    """Return the covariance of the state at the last time, (F, n, n)."""

    def at(t: float) -> Point:
        return first.clean() if t == 0 else path.point(t)

    def start() -> Step:
        return solver.start(path.power, at)

    step, here, size, name = start(), first, path.data.shape[-1], type(solver).__name__
    may_hide = not hasattr(step, "memory") and start() != step  # a method of the solver itself cannot
    for index, s in enumerate(falling[1:]):
        there = at(s)
        response = _respond(step, path, here, there, name)
        if may_hide and index and not _same(_respond(start(), path, here, there, name), response):
            raise ValueError(
                f"the step function of {name} remembers earlier steps; keep what it remembers in an attribute "
                "`memory`, a tuple of tensors like u_t (see shortest_path.solvers.Step)"
            )
        covariance = response.transition @ covariance @ response.transition.mH + response.noise @ response.noise.mH
        here = there
    return covariance[..., :size, :size]


def _same(one: _Response, other: _Response) -> bool:
    return torch.equal(one.transition, other.transition) and torch.equal(one.noise, other.noise)


def _respond(step: Step, path: CovariancePath, here: Point, there: Point, name: str) -> _Response:
    """Take a step from unit impulses: column j of the batch is the answer to impulse j."""
    blocks, size = path.data.shape[:2]
    memory = getattr(step, "memory", ())
    known = size * (1 + len(memory))
    # (impulses, F, coefficients): of the state, of each remembered tensor, and of the noise; the last is all together.
    impulses = torch.eye(known + size, dtype=path.data.dtype, device="cpu")
    impulses = torch.cat([impulses, 3 * impulses.sum(0, keepdim=True)])[:, None, :].expand(-1, blocks, -1)
    u_t, *remembered, white = torch.split(impulses, size, -1)
    if memory:
        step.memory = tuple(remembered)  # type: ignore[attr-defined]
    gain = solve(path.corrupted(here), here.signal[..., :, None] * path.data).mH
    u_0 = (gain @ u_t.movedim(0, -1)).movedim(-1, 0)
    drawn: list[Tensor] = []

    def noise() -> Tensor:
        if drawn:
            raise ValueError(f"{name} calls noise() more than once in a step; call it once, and scale what it returns")
        drawn.append(white)
        return white

    u_s = check_step(step(u_t, u_0, here, there, noise), u_t, name)
    answers = torch.cat([u_s, *getattr(step, "memory", ())], -1).permute(1, 2, 0)
    single, together = answers[..., :-1], answers[..., -1]
    if not bool(torch.view_as_real(answers).isfinite().all() if answers.is_complex() else answers.isfinite().all()):
        raise ValueError(
            f"{name} returns values that are not finite in the step from t = {here.time:.4g} to {there.time:.4g}"
        )
    largest = float(single.abs().sum(-1).max())
    if float((3 * single.sum(-1) - together).abs().max()) > 1e-6 * largest:
        raise ValueError(
            f"gaussian_kl requires steps that are linear in u_t, u_0 and noise(), which those of {name} are not (at "
            f"t = {here.time:.4g}): they clip, add a constant, or draw other random numbers than noise()"
        )
    return _Response(single[..., :known], single[..., known:])
