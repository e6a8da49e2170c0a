"""A progress line on standard error, for work that may take long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from typing_extensions import Self

from ._checks import check_flag


class Progress:
    """Shows how far a piece of work has come and how long it will still take.

    By default it shows itself on a terminal and in a notebook, once the work has taken `patience` seconds.

    Args:
        label: What is being done.
        total: How many units there are; None if unknown.
        unit: What is counted.
        show: True: always, also in a log file; False: never; None: on a terminal and in a notebook.
        patience: Seconds before the first line.
    """

    def __init__(
        self,
        label: str,
        *,
        total: int | None = None,
        unit: str = "steps",
        show: bool | None = None,
        patience: float = 2.0,
    ) -> None:
        check_flag("progress", show, optional=True)
        self._label, self._total, self._unit = label, total, unit
        self._terminal = sys.stderr.isatty() or _in_a_notebook()
        self._show = self._terminal if show is None else show
        self._interval = 0.2 if self._terminal else 10.0
        self._start = time.monotonic()
        self._next = self._start + (0.0 if show else patience)
        self._done = 0
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._drawn:
            self._draw("")
            if self._terminal:
                print(file=sys.stderr)

    def advance(self, count: int = 1, note: Callable[[], str] | None = None) -> None:
        """Count `count` more units as done; `note` is called for words to show, only when they are shown."""
        self._done += count
        if self._show and (now := time.monotonic()) >= self._next:
            self._next = now + self._interval
            self._draw(note() if note else "")

    def _draw(self, note: str) -> None:
        self._drawn = True
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = self._done / elapsed
        amount = f"{self._done}" if self._total is None else f"{self._done}/{self._total}"
        left = "" if self._total is None or not rate else f", {(self._total - self._done) / rate:.0f} s left"
        line = f"{self._label}: {amount} {self._unit}, {rate:.3g}/s{left}{'  ' + note if note else ''}"
        if self._terminal:
            print(f"\r{line:<79}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _in_a_notebook() -> bool:
    """Return whether standard error is a notebook's, which follows carriage returns as a terminal does."""
    return type(sys.stderr).__module__.startswith("ipykernel")
