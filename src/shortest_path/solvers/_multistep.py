"""A solver that remembers its last step: second order from one model call a step.

With slopes v and step lengths h of every coefficient (`Form`), the step from t_k on is that of Adams and Bashforth: its
slope is extrapolated to the middle of the step,

    v + h_k / (2 h_(k−1)) (v_k − v_(k−1))

and, once the model has been called where a step ended, that step is taken again with the mean of the slopes at its
two ends: a predictor and a corrector for the price of one call. In rotation form the correction gets a weight below 1
where it would magnify errors (`Rotation.correction_weight`). In the exponential form without the corrector this is
DPM-Solver++(2M); the corrector is the idea of UniPC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from .._checks import check_flag
from ..corruptions import Point
from ._coordinates import Exponential, Form, Rotation, extrapolation
from ._numbers import Number, StepNumbers, add_scaled
from ._options import check_eta
from ._protocol import Step
from ._transition import forward_weights


@dataclass(frozen=True)
class Multistep:
    """Second order from one model call a step: Adams–Bashforth with a trapezoidal corrector.

        u_s = move(u_t, v + h_k / (2 h_(k−1)) (v_k − v_(k−1)))

    In rotation form where the data's power is known, exact on Gaussian data at any number of steps; else in
    exponential form, where `corrector=False` is DPM-Solver++(2M).

    Args:
        order: Order of the method: 1 uses only the latest prediction, 2 (default) the last two.
        corrector: Whether to repeat each step once the next prediction is known. None (default) does where `eta` is 0.
        eta: Fraction of noise, in [0, 1]: 0 is deterministic. The solver steps beyond s by η² (t − s) and adds the
            noise that the corruption adds from there to s; η = 1 is the reverse stochastic equation in the limit of
            small steps. Any η keeps the marginals of Gaussian data.

    Raises:
        ValueError: an option out of range, or `corrector=True` with noise.

    Source: Hairer, Nørsett & Wanner 1993, sections III.1 and III.5; Lu et al. 2022, arXiv:2211.01095; Zhao et al. 2023,
        arXiv:2302.04867.

    Example:
        >>> Multistep()
        Multistep(order=2, corrector=True, eta=0.0)
    """

    order: Literal[1, 2] = 2
    corrector: bool | None = None
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.order not in (1, 2) or isinstance(self.order, bool):
            raise ValueError(f"order must be 1 or 2, got {self.order!r}")
        check_flag("corrector", self.corrector, optional=True)
        check_eta(self.eta)
        if self.corrector is None:
            object.__setattr__(self, "corrector", self.eta == 0)
        elif self.corrector and self.eta > 0:
            raise ValueError(f"corrector=True requires eta=0, got eta={self.eta:g}; omit one of them")

    elementwise = True

    @property
    def deterministic(self) -> bool:
        """Whether no step draws noise."""
        return self.eta == 0

    def default_grid(self, informed: bool) -> str:
        """Return the name of the best grid measured for the deterministic solver (studies/README.md)."""
        return "spectrum" if informed else "cosine"

    def start(self, power: Tensor | None, at: Callable[[float], Point]) -> Step:
        """Return the step function of one run; see `Solver`."""
        return _Run(self, Exponential() if power is None else Rotation(power), at)


class _Run:
    """The steps of one run, with what they remember of the step before."""

    def __init__(self, solver: Multistep, form: Form, at: Callable[[float], Point]) -> None:
        self._solver, self._at = solver, at
        # Not methods of this object, which would then be freed by the garbage collector alone, and all it holds.
        self._first = StepNumbers(partial(_numbers, form))
        self._later = StepNumbers(partial(_all_numbers, form, solver), reach=3)
        self.before: Point | None = None
        """The point at which the step before began."""
        self.memory: tuple[Tensor, ...] = ()
        """The estimate with which the step before was taken, and the slope at its start."""

    def foresee(self, points: Sequence[Point], dtype: torch.dtype) -> None:
        """Find the numbers of all steps along the points; see `Step`."""
        if self._solver.eta == 0:
            self._first.foresee(points[:2], dtype)
            self._later.foresee(points, dtype)

    def __call__(self, u_t: Tensor, u_0: Tensor, here: Point, there: Point, noise: Callable[[], Tensor]) -> Tensor:
        eta = self._solver.eta
        if eta == 0 or there.time == 0:
            return self._move(u_t, u_0, here, there)
        beyond = self._at(max(0.0, there.time - eta**2 * (here.time - there.time)))
        ratio, sigma = forward_weights(beyond, there)
        u_s = ratio.to(u_t.dtype) * self._move(u_t, u_0, here, beyond)
        return u_s.addcmul_(sigma.to(u_t.dtype), noise())

    def _move(self, u_t: Tensor, u_0: Tensor, here: Point, there: Point) -> Tensor:
        before, dtype = self.before, u_t.dtype
        if before is None:
            kept, gained, *of_slope = self._first(here, there, dtype=dtype)
            slope = estimate = _slope(u_t, u_0, of_slope)
            u_s = add_scaled(kept * u_t, gained, estimate)
        else:
            estimate_before, slope_before = self.memory
            count = 3 if self._solver.corrector else 1
            kept, ahead, *numbers = self._later(before, here, there, dtype=dtype)
            slope = estimate = _slope(u_t, u_0, numbers[count:])
            if self._solver.order == 2:
                estimate = torch.lerp(slope_before, slope, ahead)
            terms = (slope, slope_before, estimate_before) if self._solver.corrector else (estimate,)
            u_s = kept * u_t
            for number, term in zip(numbers[:count], terms, strict=True):
                u_s = add_scaled(u_s, number, term)
        self.before, self.memory = here, (estimate, slope)
        return u_s


def _numbers(form: Form, here: Point, there: Point) -> tuple[Tensor, ...]:
    """Return (k, g) of u_s = k u_t + g slope, and the weights with which the slope is found."""
    return *form.move_weights(here, there), *form.slope_weights(here)


def _all_numbers(form: Form, solver: Multistep, before: Point, here: Point, there: Point) -> tuple[Tensor, ...]:
    """Return k, the weight of v_k in an estimate v_(k−1) + weight (v_k − v_(k−1)), and the weights of the terms.

    With the corrector the state from which the step begins is first moved by w c times the mean of the slopes at the
    two ends of the step before, (1 − f) v_(k−1) + f v_k, less the estimate with which that step was taken:

        u_s = k (u_t + w c (mean − estimate before)) + g estimate
    """
    behind = form.length(before, here)
    later, again = form.later_fraction(behind), form.move_weights(before, here)[1]
    kept, gained, *of_slope = _numbers(form, here, there)
    ahead = torch.ones_like(gained)
    if solver.order == 2:
        ahead = ahead + extrapolation(form.length(here, there), behind, form.most)
    if not solver.corrector:
        return kept, ahead, gained, *of_slope
    # Where a coefficient's noise has ended, its slope here tells nothing, and its state stays.
    moved = torch.where(here.noise > 0, kept * again * form.correction_weight(before, here), 0.0)
    of_slopes = moved * later + gained * ahead, moved * (1 - later) + gained * (1 - ahead)
    return kept, ahead, *of_slopes, -moved, *of_slope


def _slope(u_t: Tensor, u_0: Tensor, weights: Sequence[Number]) -> Tensor:
    """Return the slope of a form, by its weights; see `Form`."""
    if not weights:
        return u_0
    of_state, of_data = weights
    return add_scaled(of_state * u_t, of_data, u_0)
