"""The sampling loop: one model call a step, for any solver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._checks import check_floating, check_has_values
from .._exact import as_dtype
from .._model import own
from ..corruptions import Point, Process
from ..solvers import Solver, Step, StepNumbers, check_step
from ._denoiser import Denoiser
from ._noise import Generators, white
from .edits import DenoisedCallback

_FEW = 256  # scales: finding more at once saves no time


class SampleStep(NamedTuple):
    """One step of a trajectory: `x_t` at time `t`, and the clean image `x_0_hat` that led to it."""

    t: float
    x_t: Tensor
    x_0_hat: Tensor


class Reverse:
    """The reverse process of one batch.

    Args:
        process: The corruption, on the device already.
        denoiser: Returns û_0.
        solver: Any solver.
        like: A tensor of the shape, type and device of the state.
        conditioning: Keyword arguments for the model.
        generator: Source of all random numbers.
        edit: Applied to the predicted clean images, or None.
    """

    def __init__(
        self,
        process: Process,
        denoiser: Denoiser,
        solver: Solver,
        like: Tensor,
        *,
        conditioning: Mapping[str, Any] | None,
        generator: Generators | None,
        edit: DenoisedCallback | None,
    ) -> None:
        self._process, self._denoiser, self._solver, self._like = process, denoiser, solver, like
        self._conditioning, self._generator, self._edit = conditioning or {}, generator, edit
        self._weights = StepNumbers(denoiser.weights, reach=1)

    @torch.no_grad()
    def start(self, x_1: Tensor | None, first: Point) -> Tensor:
        """Return the coefficients at the first time: those of `x_1`, or noise with the variance of the prior."""
        like = self._like
        if x_1 is None:
            check_has_values(like, "the images to sample")
            deviation = self._process.prior(first)
            return deviation.to(like.dtype) * self._noise()
        check_floating(x_1, "x_1")
        if not like.is_meta:  # where a run without values is a rehearsal
            check_has_values(x_1, "x_1")
        if x_1.shape != like.shape:
            raise ValueError(f"x_1 must have the shape asked for, {tuple(like.shape)}, got {tuple(x_1.shape)}")
        return own(self._process.analyze(x_1.to(like), first.signal), x_1)

    def steps(self, u_t: Tensor, first: Point, times: Tensor) -> Iterator[SampleStep]:
        """Yield every step along falling times, with its tensors in coefficients; never waits for the device."""

        def at(t: float) -> Point:
            return first.clean() if t == 0 else self.point(t)

        here, step, name = first, self._solver.start(self._process.power, at), type(self._solver).__name__
        later = times[1:].tolist()
        known, weights, no_grad = self._foresee(first, later, step), self._weights, torch.no_grad()
        for k, s in enumerate(later):
            there = known[k] if known else at(s)
            with no_grad:
                u_0 = self._denoiser(u_t, here, self._conditioning, self._edit, weights=weights)
                u_s = as_dtype(check_step(step(u_t, u_0, here, there, self._noise), u_t, name), u_t.dtype)
                if s == 0 and self._edit is not None and u_s is not u_0:  # extrapolated beyond the edited prediction
                    edited = self._edit(own(self._process.synthesize(u_s), u_s), 0.0)
                    u_s = own(self._process.analyze(edited.to(u_t.dtype)), edited)
            yield SampleStep(s, u_s, u_0)
            u_t, here = u_s, there

    @torch.no_grad()
    def _foresee(self, first: Point, later: list[float], step: Step) -> list[Point]:
        """Return the points at all later times, after finding what all steps need of them; none if these are not few.

        Scales of every coefficient are found step by step: all of them would take memory, and save no time.
        """
        sizes = [scale.numel() for scale in (first.signal, first.noise, self._process.power) if scale is not None]
        if len(later) < 2 or max(sizes) > _FEW or len(first.signal) > 1 or len(first.noise) > 1:
            return []
        points = self._process.along(later, self._like.shape, self._like.device)
        if later[-1] == 0:
            points[-1] = first.clean()
        dtype, path = self._like.dtype, [first, *points]
        self._weights.foresee(path[:-1], dtype)
        foresee = getattr(step, "foresee", None)
        if foresee is not None:
            foresee(path, dtype)
        return points

    def point(self, t: float) -> Point:
        """Return the scales at a time."""
        return self._process.at(t, self._like.shape, self._like.device)

    def _noise(self) -> Tensor:
        like = self._like
        return white(like.shape, like.device, like.dtype, self._generator)
