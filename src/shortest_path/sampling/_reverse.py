"""The sampling loop: one model call a step, for any solver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from .._checks import check_floating, check_has_values
from .._exact import as_dtype
from .._model import own
from ..corruptions import Point, Process
from ..solvers import Solver, Step, StepNumbers, check_step
from ._denoiser import Denoiser
from ._noise import Generators, check_generator, white
from ._parts import PartwiseSteps, rows_of
from .edits import DenoisedCallback

_Take: TypeAlias = Callable[[Tensor, float, float], tuple[Tensor, Tensor]]  # (u_t, t, s) gives û_0 and u_s
_FEW = 256  # scales: finding more at once saves no time
_AHEAD = 64  # steps whose numbers are found together: a run that is left early has found few for nothing


_AS_IT_IS = nullcontext()


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

    Raises:
        TypeError: `generator` is not made of generators.
        ValueError: another number of generators than of images.
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
        check_generator(generator, like.shape)
        self._process, self._denoiser, self._solver, self._like = process, denoiser, solver, like
        self._conditioning, self._generator, self._edit = conditioning or {}, generator, edit
        self._weights = StepNumbers(denoiser.weights, reach=1)
        rows = rows_of(process, like.shape, like.device) if getattr(solver, "elementwise", False) else []
        self._parts = PartwiseSteps(process, denoiser, solver, like, rows) if rows else None

    @torch.no_grad()
    def run(self, x_1: Tensor | None, times: Tensor) -> Iterator[SampleStep]:
        """Return an iterator over every step along falling times, with its tensors in coefficients.

        Never waits for the device.

        Args:
            x_1: Images at the first time; None samples them.
            times: The times, the first one included.
        """
        t, *later = times.tolist()
        first = self.point(t) if self._parts is None else None
        return self._steps(self._start(x_1, t, first), t, first, later)

    def _start(self, x_1: Tensor | None, t: float, first: Point | None) -> Tensor:
        """Return the coefficients at the first time: those of `x_1`, or noise with the variance of the prior."""
        like = self._like
        if x_1 is None:
            check_has_values(like, "the images to sample")
            if self._parts is not None:
                return self._parts.prior(t, self._noise)
            assert first is not None
            deviation = self._process.prior(first)
            return deviation.to(like.dtype) * self._noise()
        check_floating(x_1, "x_1")
        if not like.is_meta:  # where a run without values is a rehearsal
            check_has_values(x_1, "x_1")
        if x_1.shape != like.shape:
            raise ValueError(f"x_1 must have the shape asked for, {tuple(like.shape)}, got {tuple(x_1.shape)}")
        signal = None if self._process.shift is None else (first or self.point(t)).signal
        return own(self._process.analyze(x_1.to(like), signal), x_1)

    def _steps(self, u_t: Tensor, t: float, first: Point | None, later: list[float]) -> Iterator[SampleStep]:
        take, no_grad = self._in_parts() if first is None else self._at_once(first, later), torch.no_grad()
        for s in later:
            with no_grad if torch.is_grad_enabled() else _AS_IT_IS:
                u_0, u_s = take(u_t, t, s)
                if s == 0 and self._edit is not None and u_s is not u_0:  # extrapolated beyond the edited prediction
                    u_s = self._denoiser.edited(u_s, 0.0, self._edit)
            found, t, u_t = SampleStep(s, u_s, u_0), s, u_s
            del u_0, u_s  # not held here while the next step is taken
            yield found
            del found

    def _at_once(self, first: Point, later: list[float]) -> _Take:
        """Return a function that steps all coefficients together."""

        def at(t: float) -> Point:
            return first.clean() if t == 0 else self.point(t)

        step, name = self._solver.start(self._process.power, at), type(self._solver).__name__
        foresees, last, ahead, taken = self._foresees(first, len(later)), [first], list[Point](), 0

        def take(u_t: Tensor, t: float, s: float) -> tuple[Tensor, Tensor]:
            nonlocal last, ahead, taken
            if foresees and not ahead:
                ahead = self._foresee(last, later[taken : taken + _AHEAD], step)
            here, there = last[-1], ahead.pop(0) if ahead else at(s)
            u_0 = self._denoiser(u_t, here, self._conditioning, self._edit, weights=self._weights)
            u_s = as_dtype(check_step(step(u_t, u_0, here, there, self._noise), u_t, name), u_t.dtype)
            last, taken = [here, there], taken + 1
            return u_0, u_s

        return take

    def _in_parts(self) -> _Take:
        parts = self._parts
        assert parts is not None
        return lambda u_t, t, s: parts(u_t, t, s, self._conditioning, self._edit, self._noise)

    def _foresees(self, first: Point, steps: int) -> bool:
        """Whether the numbers of many steps are found at once: where they are few, and not one of every coefficient.

        All those of every coefficient would take memory, and save no time.
        """
        sizes = [scale.numel() for scale in (first.signal, first.noise, self._process.power) if scale is not None]
        return steps > 1 and max(sizes) <= _FEW and len(first.signal) == 1 and len(first.noise) == 1

    @torch.no_grad()
    def _foresee(self, last: list[Point], later: list[float], step: Step) -> list[Point]:
        """Return the points at the next times, after finding what their steps need; `last` are those before."""
        points = self._process.along(later, self._like.shape, self._like.device)
        if later[-1] == 0:
            points[-1] = points[-1].clean()
        dtype, path = self._like.dtype, [*last, *points]
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
