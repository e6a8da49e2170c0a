"""Child processes, forked from a server that has imported torch, so that they start at once."""

from __future__ import annotations

import hashlib
import multiprocessing
import multiprocessing.popen_forkserver as popen_forkserver
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
_looking = threading.Lock()
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the server: forking is safe only from a single thread
_context.set_forkserver_preload(
    [name for name in ("torch._dynamo", "shortest_path", "pytest") if name != "pytest" or name in sys.modules]
)


class _Popen(popen_forkserver.Popen):
    """A handle of a child at which several threads may look: the server says its exit code once, to one of them."""

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        with _looking:
            if self.returncode is not None or not wait([self.sentinel], 0):
                return self.returncode
            return super().poll(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        if self.returncode is None:
            wait([self.sentinel], timeout)
        return self.poll()


class _Child(ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 -- the name that multiprocessing calls
        return _Popen(process_obj)


def start(function: Callable[..., None], *arguments: Any, log: Path, longest: int = _LONGEST) -> ForkServerProcess:
    """Start a child; its output goes to `log`."""
    child = _Child(target=_run, args=(function, arguments, str(log), longest), daemon=True)
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


def said(function: Callable[..., None], *arguments: Any, log: Path) -> str:
    """Return what a function does in a child: "finished", or its error with the kind."""
    reader, writer = pipe()
    child = start(_report, function, arguments, writer, log=log)
    writer.close()
    try:
        return str(reader.recv()) if reader.poll(60) else "nothing"
    except EOFError:
        return "nothing"
    finally:
        finish(child, 10)


def stop(child: ForkServerProcess) -> None:
    """Send SIGSTOP and wait until it has acted."""
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(0.05)


def go_on(child: ForkServerProcess) -> None:
    """Send SIGCONT."""
    assert child.pid is not None
    os.kill(child.pid, signal.SIGCONT)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file under a folder, or what a link points to."""
    return {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*"))}


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    return "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def _report(function: Callable[..., None], arguments: tuple[Any, ...], writer: Any) -> None:
    try:
        function(*arguments)
        writer.send("finished")
    except BaseException as error:  # any error is the result
        kind = "OSError" if isinstance(error, OSError) else type(error).__name__
        writer.send(f"{kind}: {error}")


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
