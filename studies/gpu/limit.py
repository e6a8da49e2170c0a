"""The time of a call, and its division among cases that must have equal seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

_LEAST = 0.05  # seconds: a difference that is not worth a slice


class TimeUp(Exception):  # noqa: N818
    """The call has no time for the next piece of work; the same command continues with it."""


class Limit:
    """A soft limit: work that would not end in time is not begun.

    Args:
        minutes: Length of the call, from now on.
        clock: Returns seconds.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + 60 * minutes

    def left(self) -> float:
        """Return the seconds that are left, 0 or more."""
        return max(0.0, self._end - self._clock())

    def require(self, seconds: float = 0.0) -> None:
        """Raise `TimeUp` unless more than this many seconds are left."""
        if self.left() <= seconds:
            raise TimeUp


def next_round(trained: Mapping[str, float], *, left: float, slice_seconds: float, goal: float) -> dict[str, float]:
    """Return for how many seconds each case trains next, in order, so that all have the same total afterwards.

        level = min(goal, least + slice),  or lower, so that Σ max(0, level − trained) ≤ left

    The case with the least goes first. After an interruption at any instant two cases therefore differ by one slice at
    most, and the next round makes them equal again.

    Args:
        trained: Seconds of training so far, by case.
        left: Seconds that the round may take in total.
        slice_seconds: Longest time of a case in a round, if all are equal.
        goal: Total for each case; empty rounds mean that it is reached, or that no time is left.
    """
    order = sorted(trained, key=lambda name: trained[name])
    level = min(goal, trained[order[0]] + slice_seconds)
    for count in range(1, len(order) + 1):  # the highest level that the first `count` cases can reach together
        rises = trained[order[count]] if count < len(order) else float("inf")
        affordable = (left + sum(trained[name] for name in order[:count])) / count
        if affordable <= rises:
            level = min(level, affordable)
            break
    return {name: level - trained[name] for name in order if level - trained[name] > _LEAST}
