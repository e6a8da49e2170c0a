"""Steps of large images, part by part of their coefficients.

A step is elementwise in coefficients, and takes about thirty float64 numbers for each of them: the scales at three
times, and what a solver's formulas make of them. Of a 3×1024×1024 image they are 0.8 GB. Here they are found of some
rows at a time, for the clean image and the step together, and not kept: a run holds nothing but tensors like its state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._checks import broadcasts
from ..corruptions import Point, Process, Rows, computes_picked, divided, in_parts, one_time
from ..grids import coefficients_shape
from ..prediction import data_weights
from ..solvers import Solver, check_step
from ._denoiser import Denoiser
from .edits import DenoisedCallback

_AT_ONCE = {"cpu": 2**15}
"""Coefficients that are stepped together, by type of device: on a CPU their numbers, 8 MB, stay near the cache."""
_AT_ONCE_ELSEWHERE = 2**20  # a device is not busy with fewer; their numbers are 0.25 GB
_SMALL = 2**18  # coefficients that are stepped at once anywhere: their numbers are 60 MB, and parts would take longer
_TIMES = 3  # a step looks at the time before, t and s


class Part(NamedTuple):
    """Some rows of the coefficients, and what is known of them."""

    rows: Rows
    power: Tensor | None
    shift: Tensor | None


class PartwiseScales:
    """The scales of some rows of coefficients at a time.

    Args:
        process: The corruption, on the device already.
        like: A tensor of the shape and device of the state.
    """

    def __init__(self, process: Process, like: Tensor) -> None:
        self._process, self._like = process, like
        self._whole: dict[float, Point] = {}  # of all coefficients at the last times, for corruptions that need all

    def at(self, rows: Rows, t: float) -> Point:
        """Return the scales of some rows at a time, those of the clean image at time 0."""
        corruption, like = self._process.corruption, self._like
        if t == 0:
            one = one_time(1.0, like.device).reshape((1,) * like.ndim)
            return Point(0.0, one, torch.zeros_like(one))
        if computes_picked(corruption):
            return Point(t, *corruption.scales_of(one_time(t, like.device), rows))
        if t not in self._whole:
            last = list(self._whole.items())[1 - _TIMES :]
            self._whole = {**dict(last), t: self._process.at(t, like.shape, like.device)}
        _, signal, noise = self._whole[t]
        return Point(t, rows(signal), rows(noise))


class Numbers:
    """Numbers of all coefficients at some times, in the type of the state; of large images found part by part.

    Args:
        process: The corruption, on the device already.
        power: What `find` is given, broadcastable to coefficients.
        like: A tensor of the shape, type and device of the state.
        times: The times.
    """

    def __init__(self, process: Process, power: Tensor, like: Tensor, times: Sequence[float]) -> None:
        self._process, self._power, self._like, self._times = process, power, like, times
        self.parts = rows_of(process, like.shape, like.device)
        self._scales = PartwiseScales(process, like)
        self._points: dict[int, Point] = {}

    def point(self, k: int) -> Point:
        """Return the scales of all coefficients at the k-th time; the last ones are kept."""
        if k not in self._points:
            t = self._times[k]
            found = self._process.at(t, self._like.shape, self._like.device)
            self._points = {**dict(list(self._points.items())[1 - _TIMES :]), k: found.clean() if t == 0 else found}
        return self._points[k]

    def __call__(self, find: Callable[..., Sequence[Tensor]], *ks: int) -> list[Tensor]:
        """Return what `find(power, *points)` makes of the scales at the times k; it is elementwise."""
        dtype, scales = self._like.dtype, self._scales
        if not self.parts:
            return [each.to(dtype) for each in find(self._power, *map(self.point, ks))]

        def of_rows(rows: Rows) -> Sequence[Tensor]:
            return find(rows(self._power), *(scales.at(rows, self._times[k]) for k in ks))

        return in_parts(of_rows, self.parts, dtype)

    def denoise(self, denoiser: Denoiser, u_t: Tensor, k: int, conditioning: Mapping[str, Any]) -> Tensor:
        """Return û_0 at the k-th time."""
        if not self.parts or self._process.shift is not None:
            return denoiser(u_t, self.point(k), conditioning)

        def weights(power: Tensor, here: Point) -> tuple[Tensor, Tensor]:
            return data_weights(denoiser.prediction, here.signal, here.noise, power)

        predicted = denoiser.predict(u_t, self._times[k], None, conditioning)
        of_state, of_output = self(weights, k)
        return (of_state * u_t).addcmul_(of_output, predicted)


class PartwiseSteps:
    """The steps of one run, part by part.

    Args:
        process: The corruption, on the device already.
        denoiser: Returns û_0.
        solver: A solver that is `elementwise`.
        like: A tensor of the shape, type and device of the state.
        rows: The parts.
    """

    def __init__(
        self, process: Process, denoiser: Denoiser, solver: Solver, like: Tensor, rows: Sequence[Rows]
    ) -> None:
        self._process, self._denoiser, self._solver = process, denoiser, solver
        self._at = PartwiseScales(process, like).at
        known = process.power, process.shift
        self._parts = [Part(each, *(None if table is None else each(table) for table in known)) for each in rows]
        self._memory: dict[Rows, tuple[Tensor, ...]] = {}
        self._before = 0.0

    def prior(self, t: float, noise: Callable[[], Tensor]) -> Tensor:
        """Return noise with the variance that coefficients have at the time where sampling starts."""
        u_t: Tensor | None = None
        for rows, power, _ in self._parts:
            end = self._at(rows, 1.0) if power is None else None
            deviation = self._process.prior(self._at(rows, t), power, end)
            u_t = noise() if u_t is None else u_t
            rows(u_t).mul_(deviation.to(u_t.dtype))
        assert u_t is not None
        return u_t

    def __call__(
        self,
        u_t: Tensor,
        t: float,
        s: float,
        conditioning: Mapping[str, Any],
        edit: DenoisedCallback | None,
        noise: Callable[[], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return û_0 and u_s."""
        process, denoiser = self._process, self._denoiser
        signal = None if process.shift is None else process.at(t, u_t.shape, u_t.device).signal
        predicted = denoiser.predict(u_t, t, signal, conditioning, owned=True)
        u_0, step = predicted, _Step(u_t, t, s, noise)  # each part of û_0 is found from the same part alone
        for part in self._parts:
            here, rows = self._at(part.rows, t), part.rows
            numbers = [each.to(u_t.dtype) for each in denoiser.weights(here, part.power)]
            rows(u_0).copy_(denoiser.clean(rows(u_t), rows(predicted), here, numbers, part.shift))
            if edit is None:
                self._step(part, step, u_0, here)
        if edit is not None:
            u_0 = denoiser.edited(u_0, t, edit)
            for part in self._parts:
                self._step(part, step, u_0, self._at(part.rows, t))
        self._before = t
        return u_0, u_0 if step.ended else step.u_s

    def _step(self, part: Part, step: _Step, u_0: Tensor, here: Point) -> None:
        """Take the step of one part, with a step function that holds what it finds no longer than that."""
        rows = part.rows

        def at(t: float) -> Point:
            return self._at(rows, t)

        take, memory = self._solver.start(part.power, at), self._memory.get(rows)
        if memory:
            take.memory, take.before = memory, at(self._before)  # type: ignore[attr-defined]
        u_t, clean = rows(step.u_t), rows(u_0)
        found = check_step(take(u_t, clean, here, at(step.s), step.noise(rows)), u_t, type(self._solver).__name__)
        step.ended = step.ended and found is clean
        rows(step.u_s).copy_(found)
        self._memory[rows] = getattr(take, "memory", ())


class _Step:
    """What the parts of one step share."""

    def __init__(self, u_t: Tensor, t: float, s: float, noise: Callable[[], Tensor]) -> None:
        self.u_t, self.t, self.s = u_t, t, s
        self.u_s = torch.empty_like(u_t)
        self.ended = True
        """Whether u_s is û_0 itself, as the last step of some solvers returns."""
        self._draw = noise
        self._drawn: list[Tensor] = []

    def noise(self, rows: Rows) -> Callable[[], Tensor]:
        """Return a function that returns new noise of some rows at every call; each is drawn once, of all rows."""
        places = count()

        def draw() -> Tensor:
            place = next(places)
            if place == len(self._drawn):
                self._drawn.append(self._draw())
            return rows(self._drawn[place])

        return draw


def rows_of(process: Process, shape: Sequence[int], device: torch.device) -> list[Rows]:
    """Return the parts in which images of a shape (B, C, *spatial) are stepped; none for all coefficients at once.

    These are small images, and coefficients that share their scales.
    """
    dims, sizes = process.basis.dims, tuple(shape[1:])
    at_once = _AT_ONCE.get(device.type, _AT_ONCE_ELSEWHERE)
    if math.prod(sizes) < _SMALL or not dims or len(sizes) != dims + 1:
        return []
    power = () if process.power is None else tuple(process.power.shape)
    scales = coefficients_shape(process.corruption)
    if not broadcasts(scales, sizes):
        return []  # an error, which is told where the scales are used
    largest = max(math.prod(scales), math.prod(power))
    parts = min(sizes[-dims] // 2, largest // at_once)
    return divided(sizes[-dims], parts, dims) if parts > 1 else []
