"""The stages of a program: announced, and timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stage(title: str, seconds: dict[str, float], name: str) -> Iterator[None]:
    """Print the title of a stage, and put its duration into `seconds[name]`."""
    print(f"{title} …", flush=True)
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
