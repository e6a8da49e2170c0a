"""How well a solver samples Gaussian data, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._covariance import CovariancePath, covariance_path, solve
from ..corruptions import Corruption, Point, known_power
from ..grids import GridName, TimeGrid, make_times
from ..solvers import Solver, SolverName, Step, make_solver
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
            or a solver whose memory is hidden.

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
    falling = make_times(times, steps, grid, solver=solver, corruption=corruption, power=power).tolist()
    if falling[-1] != 0:
        raise ValueError(f"times must fall to 0, where images are compared with the data, got {falling[-1]:g}")
    first = path.point(falling[0])
    data, prior = path.data, path.prior(first)
    covariance = path.corrupted(first) if prior is None else torch.diag_embed(prior**2).to(data.dtype)
    covariance = _propagated(covariance, solver, path, first, falling)
    ratio = solve(data, covariance)
    trace = ratio.diagonal(dim1=-2, dim2=-1).real.sum()
    return 0.5 * float(trace - data.shape[0] * data.shape[-1] - torch.linalg.slogdet(ratio).logabsdet.sum())


@dataclass
class _Response:
    """How a step answers to unit impulses: of every coefficient of the state, of the memory, and of the noise."""

    transition: Tensor
    """From (state, memory) to (state, memory), (F, m', m)."""
    noise: Tensor
    """From the noise to (state, memory), (F, m', n)."""


def _propagated(covariance: Tensor, solver: Solver, path: CovariancePath, first: Point, falling: list[float]) -> Tensor:
    """Return the covariance of the state at the last time, (F, n, n)."""

    def at(t: float) -> Point:
        return first.clean() if t == 0 else path.point(t)

    step, here, size = solver.start(path.power, at), first, path.data.shape[-1]
    for s in falling[1:]:
        there = at(s)
        response = _respond(step, path, here, there)
        if s == 0 and not hasattr(step, "memory"):
            again = _respond(solver.start(path.power, at), path, here, there)
            if not torch.equal(again.transition, response.transition):
                raise ValueError(
                    f"the step function of {type(solver).__name__} remembers earlier steps; keep what it remembers in "
                    "an attribute `memory`, a tuple of tensors like u_t (see shortest_path.solvers.Step)"
                )
        transition, noise = response.transition, response.noise
        covariance = transition @ covariance @ transition.mH + noise @ noise.mH
        here = there
    return covariance[..., :size, :size]


def _respond(step: Step, path: CovariancePath, here: Point, there: Point) -> _Response:
    """Take a step from unit impulses: column j of the batch is the answer to impulse j."""
    blocks, size = path.data.shape[:2]
    memory = getattr(step, "memory", ())
    known = size * (1 + len(memory))
    # (impulses, F, coefficients): the impulses of the state, of each remembered tensor, and of the noise.
    impulses = torch.eye(known + size, dtype=path.data.dtype, device="cpu")[:, None, :].expand(-1, blocks, -1)
    u_t, *remembered, white = torch.split(impulses, size, -1)
    if memory:
        step.memory = tuple(remembered)  # type: ignore[attr-defined]
    gain = solve(path.corrupted(here), here.signal[..., :, None] * path.data).mH
    u_0 = (gain @ u_t.movedim(0, -1)).movedim(-1, 0)
    u_s = step(u_t, u_0, here, there, lambda: white)
    answers = torch.cat([u_s, *getattr(step, "memory", ())], -1).permute(1, 2, 0)
    return _Response(answers[..., :known], answers[..., known:])
