"""Time grids: at which falling times a sampler calls the model.

A grid is a value: called with a number of steps, it returns the times. `Sampler(grid=...)` takes one of these, the name
of one, or any function of the same form.

**The spectrum's grid.** In the rotation form (`shortest_path.forms`) a step turns the whitened coefficient f by the
angle Δθ_f, and a solver of second order errs by a multiple of Δθ_f³ ∂²v̂_f/∂θ². Taking the unknown derivative as of one
size for all f, and the error of pixels as the root mean square over coefficients, each with its power S_f, a step of
length Δt errs by

    e(t) Δt³,    e(t) = ( Σ_f S_f θ'_f(t)⁶ )^½

and the sum over a given number of steps is least if every step has the same share of it: equal steps of ∫ e^⅓ dt. That
follows the data and the corruption alone; a change of the corruption's clock changes the times and not the images.

Source: the equidistribution of local errors, de Boor 1973, "Good approximation by splines with variable knots";
Kingma et al. 2021, arXiv:2107.00630 (log signal-to-noise ratio).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

import torch
from torch import Tensor

from .checks import check_choice, check_count, check_floating, check_has_values
from .corruption import Corruption, both_scales, check_corruption, device_of, known_power
from .forms import Rotation, Scales

GridName: TypeAlias = Literal["uniform", "cosine", "power", "log-snr", "spectrum", "reference"]
_CELLS = 256  # pieces of [0, 1] in which a density of times is taken as constant
_MEMORY = 2**20  # coefficients looked at together
_FAR = 15.0  # logarithms beyond are those of nothing left


class TimeGrid(Protocol):
    """A grid: any function of this form."""

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return strictly falling times from `start`, in (0, 1], to 0: (steps + 1,), float64, on the CPU.

        Raises:
            TypeError: `steps` is not a whole number.
            ValueError: `steps` below 1, `start` outside (0, 1], or a grid that would repeat a time.
        """
        ...


@dataclass(frozen=True)
class UniformGrid:
    """Equal steps of time."""

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        return strictly_falling(start * falling_shares(steps, start), self)


@dataclass(frozen=True)
class CosineGrid:
    """Equal steps of the angle arccos(1 − 2t): closer together at both ends."""

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        return strictly_falling(start * (1 - torch.cos(math.pi * falling_shares(steps, start))) / 2, self)


@dataclass(frozen=True)
class PowerGrid:
    """Closer together at either end, as a power.

        t = start (1 − (1 − r^q)^p),    r falling from 1 to 0 in equal steps

    Args:
        at_noise: p, for the end at noise; 1 is even.
        at_data: q, for the end at the data; 1 is even.

    Raises:
        ValueError: a power that is not positive.
    """

    at_noise: float = 2.5
    at_data: float = 1.5

    def __post_init__(self) -> None:
        if not (0 < self.at_noise < math.inf and 0 < self.at_data < math.inf):
            raise ValueError(f"powers must be positive, got at_noise={self.at_noise}, at_data={self.at_data}")

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        return strictly_falling(start * (1 - (1 - falling_shares(steps, start) ** self.at_data) ** self.at_noise), self)


@dataclass(frozen=True)
class ReferenceGrid:
    """The chain of the paper's code; it has a start of its own."""

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid` and `reference_times`."""
        return reference_times(steps)


@dataclass(frozen=True)
class LogSnrGrid:
    """Equal steps of log(signal / noise), averaged over coefficients, and a last step to 0.

    Args:
        corruption: Any corruption.
        end: The last time before 0, where the ratio may grow without bound; the first is at most 1 − `end`.

    Raises:
        TypeError: `corruption` is none.
        ValueError: `end` not in (0, 0.5); when called, also a start that is not above `end`, or a ratio that does
            not change.
    """

    corruption: Corruption
    end: float = 1e-3

    def __post_init__(self) -> None:
        check_corruption(self.corruption)
        if not 0 < self.end < 0.5:
            raise ValueError(f"end must lie in (0, 0.5), got {self.end}")

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        falling_shares(steps, start)
        if not start > self.end:
            raise ValueError(f"start must be above end={self.end}, the last time before 0, got {start}")
        fine = fine_times(min(start, 1 - self.end), self.end)
        signal, noise = _scales_at(self.corruption, fine)
        ratio = (noise / signal).log().clamp(-_FAR, _FAR).flatten(1).mean(1)
        equal = torch.linspace(float(ratio[-1]), float(ratio[0]), steps, dtype=torch.float64)
        return strictly_falling(torch.cat([times_at(equal, ratio, fine), torch.zeros(1, dtype=torch.float64)]), self)


@dataclass(frozen=True)
class SpectrumGrid:
    """Equal shares of the error of a second-order step, as the data's power spectrum predicts it; see above.

    Args:
        corruption: The corruption to sample.
        power: S, broadcastable to its coefficients (C, *spatial); None takes what the corruption knows.

    Raises:
        TypeError: `corruption` is none, or `power` not a floating-point tensor.
        ValueError: no power is given, and the corruption knows none; or it is not positive and finite, or does not
            broadcast to the coefficients.
    """

    corruption: Corruption
    power: Tensor | None = None

    def __post_init__(self) -> None:
        check_corruption(self.corruption)
        if self.power is not None:
            check_floating(self.power, "power")
            check_has_values(self.power, "power")
            if not self.power.numel() or not bool(((self.power > 0) & self.power.isfinite()).all()):
                raise ValueError("power must be positive and finite, as a PowerSpectrum is; pass spectrum.power")
        if self.power is None and known_power(self.corruption) is None:
            raise ValueError(
                f"{type(self.corruption).__name__} does not know the data's power; pass the spectrum, or grid='cosine'"
            )

    def __call__(self, steps: int, *, start: float = 1.0) -> Tensor:
        """Return the times; see `TimeGrid`."""
        falling = falling_shares(steps, start)
        fine, share = self._shares(start)
        times = times_at(falling * share[-1], share, fine)
        times[-1] = 0  # also where nothing happens near the data
        return strictly_falling(times, self)

    def _shares(self, start: float) -> tuple[Tensor, Tensor]:
        """Return rising times, and ∫ e^⅓ dt up to each of them."""
        power = self.power if self.power is not None else known_power(self.corruption)
        assert power is not None  # looked at when the grid was made
        form = Rotation(power.detach().cpu())
        weight = power.detach().cpu().to(torch.float64)
        fine = fine_times(start, 0.0)
        at_once = max(1, _MEMORY // weight.numel())  # 256 large images at once would be too much in float64
        parts = []
        for first in range(0, _CELLS, at_once):
            scales = _scales_at(self.corruption, fine[first : first + at_once + 1])
            try:
                angle = form.whitened(scales).angle
                error = weight * angle.diff(dim=0) ** 6
            except RuntimeError as reason:
                raise ValueError(
                    f"power of shape {tuple(weight.shape)} does not broadcast against the coefficients of "
                    f"{type(self.corruption).__name__}, {tuple(scales[0].shape[1:])}"
                ) from reason
            parts.append(error.flatten(1).sum(1) ** (1 / 6))  # e^⅓ Δt
        return fine, torch.cat([torch.zeros(1, dtype=torch.float64), torch.cat(parts).cumsum(0)])


def make_grid(
    name: GridName, steps: int, *, corruption: Corruption, power: Tensor | None = None, start: float = 1.0
) -> Tensor:
    """Return the times of a grid by its name.

    Args:
        name: `"uniform"`, `"cosine"`, `"power"`, `"log-snr"`, `"spectrum"` or `"reference"`, with their defaults.
        steps: Number of steps, 1 or more.
        corruption: What is to be sampled.
        power: The data's power in its coefficients, for `"spectrum"`.
        start: First time, in (0, 1].

    Raises:
        ValueError: an unknown name, too few steps, or no power for `"spectrum"`.
    """
    check_choice("grid", name, get_args(GridName))
    grids: dict[str, TimeGrid] = {
        "uniform": UniformGrid(),
        "cosine": CosineGrid(),
        "power": PowerGrid(),
        "log-snr": LogSnrGrid(corruption),
        "reference": ReferenceGrid(),
    }
    grid = grids[name] if name in grids else SpectrumGrid(corruption, power)
    return grid(steps, start=start)


def reference_times(steps: int) -> Tensor:
    """Return the falling times of the paper's code, t_k = τ_k / T with τ = linspace(1, T − 1, T), then 0.

    Args:
        steps: T, 3 or more.

    Returns:
        Times (T + 1,), float64.
    """
    if check_count("steps", steps, least=0) < 3:
        raise ValueError(f"the reference grid needs 3 steps or more, got {steps}")
    rising = torch.linspace(1, steps - 1, steps, dtype=torch.float64) / steps
    return torch.cat([rising.flip(0), torch.zeros(1, dtype=torch.float64)])


def falling_shares(steps: int, start: float) -> Tensor:
    """Return equal steps from 1 to 0, for a grid that begins at `start`."""
    if not 0 < start <= 1:
        raise ValueError(f"start must lie in (0, 1], got {start}")
    return torch.linspace(1, 0, check_count("steps", steps) + 1, dtype=torch.float64)


def strictly_falling(times: Tensor, grid: TimeGrid) -> Tensor:
    """Return `times`, sure that no two are the same."""
    if not bool((times[1:] < times[:-1]).all()):
        raise ValueError(
            f"{type(grid).__name__} of {len(times) - 1} steps from {float(times[0]):g} repeats a time; take fewer "
            "steps, or a more even grid, such as grid='uniform'"
        )
    return times


def fine_times(start: float, end: float) -> Tensor:
    """Return rising times from `end` to `start`, closest together at both: (257,), float64."""
    rising = (1 - torch.cos(math.pi * torch.linspace(0, 1, _CELLS + 1, dtype=torch.float64))) / 2
    return end + (start - end) * rising


def _scales_at(corruption: Corruption, times: Tensor) -> Scales:
    """Return (signal, noise) at times, float64, on the CPU."""
    signal, noise = both_scales(corruption, times.to(device_of(corruption)))
    return signal.detach().cpu().double(), noise.detach().cpu().double()


def times_at(values: Tensor, rising: Tensor, times: Tensor) -> Tensor:
    """Return the times at which a function with the given rising values at `times` takes `values`.

    Interpolated by monotone cubics, as a kink in the density of times would show in the error of a solver.

    Source: Fritsch & Butland 1984, "A method for constructing local monotone piecewise cubic interpolants".
    """
    if not bool(torch.isfinite(rising).all()) or float(rising[0]) == float(rising[-1]):
        raise ValueError(
            "this grid follows the corruption's scales, but they do not change or are not finite; use another"
        )
    rising, kept = torch.unique_consecutive(rising.cummax(0).values, return_inverse=True)
    times = torch.zeros_like(rising).index_copy_(0, kept, times)  # of equal values, the last
    width = rising.diff()
    slope = times.diff() / width
    inner = 2 / (1 / slope[1:] + 1 / slope[:-1])
    tangent = torch.cat([slope[:1], inner, slope[-1:]])
    index = torch.searchsorted(rising, values).clamp(1, len(rising) - 1)
    h, left, right = width[index - 1], tangent[index - 1], tangent[index]
    x = (values - rising[index - 1]) / h
    low, high = times[index - 1], times[index]
    return low + (high - low) * x**2 * (3 - 2 * x) + h * x * (1 - x) * (left * (1 - x) - right * x)
