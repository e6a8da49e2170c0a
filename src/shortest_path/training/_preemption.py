"""Stopping between two steps when a signal asks for it: preemption (SIGTERM) and Ctrl-C (SIGINT)."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn

from typing_extensions import Self

from ._ranks import Ranks

_EXIT_CODE = 75  # "try again later" in sysexits.h, on which a job script can requeue itself
_FORWARDED = 1.0  # seconds in which torchrun passes on a signal that its workers were also sent directly


class Preempted(SystemExit):
    """SIGTERM stopped training, and a checkpoint was written; ends a script with the code 75, "try again later".

    Processes that exchange by gloo may abort while they exit, with another code, unless the wrapped model is let go and
    `torch.distributed.destroy_process_group` called first.

    Args:
        message: Step after which training stopped, and checkpoint from which it continues.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_EXIT_CODE)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Stop:
    """Turns the first SIGTERM or SIGINT into a request that is checked between steps.

    A second signal, of either kind, acts at once, as without this class. torchrun passes signals on to workers that may
    have received them already: under it, signals within a second of the first count as the first. Handlers are
    restored at the end. Nothing is changed outside the main thread, where Python allows no handlers, nor for signals
    that are ignored.

    Args:
        ranks: Processes that must stop at the same step.
        active: Whether to handle signals; False changes nothing.
    """

    def __init__(self, ranks: Ranks, *, active: bool) -> None:
        self._ranks, self._active = ranks, active
        self._previous: dict[int, Any] = {}
        self._process = os.getpid()
        self._requested = self._agreed = 0
        self._since = 0.0

    def __enter__(self) -> Self:
        if self._active and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) not in (
                    None,
                    signal.SIG_IGN,
                ):  # None: not Python's, and could not be restored
                    self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()
        if self._requested and not self._agreed and kind is None:  # it came too late to be checked
            signal.raise_signal(self._requested)

    def read(self, stream: Iterator[object], count: int) -> list[object]:
        """Return the next batches, or an empty list if a signal came."""
        if self._requested:
            return []
        try:
            return [next(stream) for _ in range(count)]
        except Exception:
            if self._requested:  # which the processes that load data may have got too, and died of
                return []
            raise

    def agreed(self) -> bool:
        """Return whether any process was asked to stop; collective."""
        if self._active and not self._agreed:
            self._agreed = self._ranks.largest(self._requested)
        return bool(self._agreed)

    def leave(self, step: int, saved: object) -> NoReturn:
        """Raise `Preempted`, or KeyboardInterrupt if the only signal was SIGINT."""
        name = signal.Signals(self._agreed).name
        message = f"{name} stopped training after step {step}; run it again to continue from {saved}"
        if self._agreed == signal.SIGINT:
            raise KeyboardInterrupt(message)
        if self._ranks.own == 0:
            print(f"\n{message}", file=sys.stderr, flush=True)  # an exit code says nothing by itself
        raise Preempted(message)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a fork that loads data; its parent handles the signal
            return
        if not self._requested:
            self._requested, self._since = number, time.monotonic()
            if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is not None:
                # A DataLoader raises, in the middle of a step, when one of its processes dies, as they may of the
                # same signal.
                self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if "TORCHELASTIC_RUN_ID" not in os.environ:
                self._restore(signal.SIGTERM, signal.SIGINT)  # now, so that even a step that hangs can be ended
        elif time.monotonic() - self._since > _FORWARDED:
            self._restore(signal.SIGTERM, signal.SIGINT)
            signal.raise_signal(number)

    def _restore(self, *numbers: int) -> None:
        for number in numbers or tuple(self._previous):
            if number in self._previous:
                signal.signal(number, self._previous.pop(number))
