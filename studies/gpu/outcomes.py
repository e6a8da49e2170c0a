"""What a check found: right, wrong, or not possible here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

State: TypeAlias = Literal["right", "wrong", "not possible here"]


class Outcome(NamedTuple):
    """The state of a check, a line about it, and its figure if it has one."""

    state: State
    text: str
    figure: float | None = None


Check: TypeAlias = Callable[[], Outcome]


def right(text: str, figure: float | None = None) -> Outcome:
    """Return an outcome as it should be."""
    return Outcome("right", text, _finite(figure))


def wrong(text: str, figure: float | None = None) -> Outcome:
    """Return an outcome that shows a fault."""
    return Outcome("wrong", text, _finite(figure))


def judged(good: bool, text: str, figure: float | None = None) -> Outcome:
    """Return `right` or `wrong`."""
    return right(text, figure) if good else wrong(text, figure)


def impossible(reason: str) -> Outcome:
    """Return that the machine cannot show it."""
    return Outcome("not possible here", reason)


def _finite(figure: float | None) -> float | None:
    return figure if figure is None or abs(figure) < float("inf") else None
