"""Processes that begin at once: forked from a server that has imported torch and computed nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.forks import preload

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
preload("pytest", "shortest_path", "torch.distributed", "torch._dynamo")  # the last for the first optimizer


def together(function: Callable[..., None], folder: Path, *arguments: object, ranks: int = 2) -> None:
    """Run `function(rank, ranks, folder, *arguments)` in several processes, and return when all have ended."""
    arguments = (ranks, str(folder), *arguments)
    mp.start_processes(function, arguments, nprocs=ranks, start_method=METHOD)


@contextlib.contextmanager
def group(rank: int, ranks: int, rendezvous: str) -> Iterator[None]:
    """Hold a gloo process group."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
    try:
        yield
    finally:
        dist.destroy_process_group()


class Run:
    """A process of its own session that runs a function, and what it prints.

    It ends as a script does: with the code of a SystemExit, or by SIGINT after a KeyboardInterrupt.
    """

    def __init__(self, log: Path, function: Callable[..., None], **arguments: object) -> None:
        self._log = log
        log.write_text("")
        context = multiprocessing.get_context(METHOD)
        self._process = context.Process(target=_as_script, args=(str(log), function, arguments))
        self._process.start()

    def reach(self, line: str) -> None:
        """Return when a line has been printed."""
        while line not in self._log.read_text().splitlines():
            assert self._process.exitcode is None, self._log.read_text()
            time.sleep(0.005)

    def send(self, number: int, *, to_all: bool = False) -> None:
        """Send a signal to the process, or also to the processes that it started."""
        assert self._process.pid is not None
        (os.killpg if to_all else os.kill)(self._process.pid, number)

    def finish(self, timeout: float = 60) -> tuple[int | None, str]:
        """Return the exit code, and what was printed."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
        return code, self._log.read_text()


def _as_script(log: str, function: Callable[..., None], arguments: dict[str, object]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background, or by nohup
    os.setsid()
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # the processes that load data begin as in any script
    try:
        function(**arguments)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
