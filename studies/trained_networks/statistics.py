"""Intervals for paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import mean, stdev
from typing import NamedTuple

from scipy.stats import t as student


class Difference(NamedTuple):
    """A mean and the half-width of its interval; None where there are fewer than two values."""

    mean: float
    half: float | None
    count: int

    @property
    def told(self) -> bool:
        """Whether the interval excludes zero."""
        return self.half is not None and abs(self.mean) > self.half


def interval(values: Mapping[int, float], *, contrasts: int = 1, level: float = 0.95) -> Difference | None:
    """Return the mean of values by seed with Student's interval; None without values.

    Args:
        values: Values by seed, independent of each other.
        contrasts: Number of intervals that are to hold all together (Bonferroni).
        level: Probability that all of them hold.
    """
    numbers = list(values.values())
    if not numbers:
        return None
    if len(numbers) < 2:
        return Difference(numbers[0], None, 1)
    quantile = float(student.ppf(1 - (1 - level) / (2 * contrasts), len(numbers) - 1))
    return Difference(mean(numbers), quantile * stdev(numbers) / math.sqrt(len(numbers)), len(numbers))


def paired(a: Mapping[int, float], b: Mapping[int, float], *, contrasts: int, level: float = 0.95) -> Difference | None:
    """Return the mean of a − b over the seeds that both have, with its interval; arguments as for `interval`."""
    differences = {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}
    return interval(differences, contrasts=contrasts, level=level)


def seeds_to_tell(difference: float, deviation: float, *, contrasts: int, level: float = 0.95) -> int | None:
    """Return the number of seeds from which an interval would exclude zero; None beyond 10,000.

    Args:
        difference: Mean of the paired differences.
        deviation: Their standard deviation.
        contrasts: As for `interval`.
        level: As for `interval`.
    """
    for count in range(2, 10_001):
        quantile = float(student.ppf(1 - (1 - level) / (2 * contrasts), count - 1))
        if quantile * deviation / math.sqrt(count) < abs(difference):
            return count
    return None
