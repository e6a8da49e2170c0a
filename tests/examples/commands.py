"""Runs examples by their command lines, each in a process of its own.

To import torch and diffusers takes ten seconds. So a server process imports them once, and a command runs in a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.forks import preload

EXAMPLES = Path(__file__).parents[2] / "examples"
_FORKS = multiprocessing.get_context("forkserver")
preload(
    *("torch", "torch.utils.tensorboard", "diffusers.models.unets.unet_2d", "jsonargparse", "matplotlib.figure"),
    *("matplotlib.backends.backend_agg", "pyarrow.parquet", "safetensors.torch", "shortest_path", "tqdm"),
)


class Result(NamedTuple):
    """The exit status of a command, and the text that it wrote."""

    status: int
    out: str
    err: str


class Stop(NamedTuple):
    """A signal that a command gets in the middle of its work: after the n-th call of a function."""

    function: str
    call: int
    number: signal.Signals = signal.SIGINT


def run(script: str, *words: object, **options: Any) -> Result:
    """Run a command that succeeds."""
    result = start(script, *words, **options)
    assert result.status == 0, result
    return result


def refused(script: str, *words: object, **options: Any) -> str:
    """Run a command that ends with a message, not with a traceback, and return the message."""
    result = start(script, *words, **options)
    assert result.status in (1, 2), result
    assert "Process ForkServerProcess" not in result.err  # how multiprocessing begins to tell of an exception
    return result.err


def start(
    script: str,
    *words: object,
    processes: int = 1,
    path: Path | None = None,
    stop: Stop | None = None,
    patch: Mapping[str, object] | None = None,
) -> Result:
    """Run `python examples/<script>.py <words>`; several processes find each other as under torchrun.

    `path` is a folder of packages that the script finds before all others; `patch` replaces values, "module:NAME".
    """
    environments: list[dict[str, str]] = [{}]
    if processes > 1:
        with socket.create_server(("127.0.0.1", 0)) as free:
            shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        shared["WORLD_SIZE"] = str(processes)
        environments = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    file = str(EXAMPLES / f"{script}.py")
    words = tuple(map(str, words))
    return call(_script, file, words, path and str(path), stop, dict(patch or {}), environments=environments)


def call(function: Callable[..., None], *arguments: Any, environments: list[dict[str, str]] | None = None) -> Result:
    """Call a function in processes that have imported everything, one for each environment."""
    with tempfile.TemporaryDirectory() as folder:
        running = [
            _FORKS.Process(target=_child, args=(folder, number, environment, function, *arguments))
            for number, environment in enumerate(environments or [{}])
        ]
        for process in running:
            process.start()
        for process in running:
            process.join()
        texts = [
            "".join(path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob(f"*.{kind}")))
            for kind in ("out", "err")
        ]
    return Result(max(abs(process.exitcode or 0) for process in running), *texts)


def _child(
    folder: str, number: int, environment: Mapping[str, str], function: Callable[..., None], *arguments: Any
) -> None:
    import torch  # already there, in the server

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background, or by nohup
    os.environ.update(environment)
    for stream, kind in ((sys.stdout, "out"), (sys.stderr, "err")):
        file = os.open(f"{folder}/{number}.{kind}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, stream.fileno())
        stream.reconfigure(encoding="utf-8")
    function(*arguments)


def _script(
    path: str, words: tuple[str, ...], packages: str | None, stop: Stop | None, patch: Mapping[str, object]
) -> None:
    sys.argv = [path, *words]
    sys.path[0] = str(Path(path).parent)  # as python itself does for a script
    if packages is not None:
        sys.path[:0] = [packages]  # as PYTHONPATH would
    if stop is not None:
        _stop_at(*stop)
    for place, value in patch.items():
        module, name = place.split(":")
        setattr(pkgutil.resolve_name(module), name, value)
    runpy.run_path(path, run_name="__main__")


def _stop_at(function: str, call: int, number: signal.Signals) -> None:
    """Make a function, `module:Class.method`, raise a signal at the end of one of its calls."""
    owner, name = function.rsplit(".", 1)
    holder, calls = pkgutil.resolve_name(owner), iter(range(1, call + 1))
    original = getattr(holder, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if next(calls, None) == call:
            signal.raise_signal(number)
        return result

    setattr(holder, name, wrapped)
