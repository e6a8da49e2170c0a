"""Child processes, forked from a server that has imported torch, so that they start at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_LONGEST = 120  # seconds until a child ends by itself, even without its parent
_context = multiprocessing.get_context("forkserver")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the server: forking is safe only from a single thread
_context.set_forkserver_preload(
    [name for name in ("torch._dynamo", "shortest_path", "pytest") if name != "pytest" or name in sys.modules]
)


def start(function: Callable[..., None], *arguments: Any, log: Path, longest: int = _LONGEST) -> ForkServerProcess:
    """Start a child; its output goes to `log`."""
    child = _context.Process(target=_run, args=(function, arguments, str(log), longest), daemon=True)
    child.start()
    return child


def finish(child: ForkServerProcess, timeout: float = _LONGEST) -> int | None:
    """Wait for a child and return its exit code; kill it if it takes too long, and return None."""
    child.join(timeout)
    if child.exitcode is None:
        child.kill()
        child.join()
        return None
    return child.exitcode


def pipe() -> Any:
    """Return the (reading, writing) ends of a pipe to hand to a child."""
    return _context.Pipe(duplex=False)


def _run(function: Callable[..., None], arguments: tuple[Any, ...], log: str, longest: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.alarm(longest)  # in case the thread fails
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    print(f"{time.time():.3f} {function.__name__} in process {os.getpid()}", flush=True)
    function(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
