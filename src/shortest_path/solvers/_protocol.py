"""What a solver is: a value that makes a step function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from ..corruptions import Point

Step: TypeAlias = Callable[[Tensor, Tensor, Point, Point, Callable[[], Tensor]], Tensor]
"""`step(u_t, u_0, here, there, noise)` returns u_s, in coefficients.

- `u_t`: coefficients at time t, (B, C, *spatial). Not to be changed in place.
- `u_0`: the clean coefficients that the model predicts from them, same shape. The same.
- `here`, `there`: the points at t and at s < t; `there` is the clean image's, signal 1 and noise 0, at time 0.
- `noise()`: draws white noise like `u_t`. Call it at most once a step, and not where the step is deterministic.

A step function that remembers earlier steps has an attribute `memory`, a tuple of tensors like `u_t`, empty at the
start, which can be read and set: `gaussian_kl` propagates its covariance. If it also needs the point at which the step
before began, it has it as `before`, None at the start, which can be set too.

A step function may have a method `foresee(points, dtype)`. If the scales are few numbers, the sampler calls it before
the first step, and again whenever the points that it passed are used up, with consecutive points of the run, each with
a first axis of size 1, and the type of the state. They are the points of the step before, if any, and those of the next
steps: what follows from the times alone can then be found for many steps at once (`StepNumbers`).
"""


@runtime_checkable
class Solver(Protocol):
    """The protocol of solvers: a value with its options, and one method.

    A solver may also have `deterministic`, False if its steps draw noise, and `default_grid(informed)`, the name of
    its default time grid where the data's power is known (`informed`) or not; without them it is taken for
    deterministic, and its default grid is `"uniform"`. With `elementwise`, True, it says that a step treats every
    coefficient by itself and remembers nothing but `memory` and `before`: the sampler then takes the steps of large
    images in parts, each with a step function of its own, which takes much less memory.
    """

    def start(self, power: Tensor | None, at: Callable[[float], Point]) -> Step:
        """Return the step function of one run, which begins without memory.

        Args:
            power: S, the data's power, broadcastable to coefficients and on their device, or None if it is not known.
            at: Returns the point at any other time.
        """
        ...
