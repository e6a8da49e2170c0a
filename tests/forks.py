"""What the server of forks imports once: a process has one server, whose list any later call replaces."""

from __future__ import annotations

import multiprocessing

_MODULES: list[str] = []


def preload(*modules: str) -> None:
    """Add modules to those that the server imports before it forks."""
    _MODULES.extend(module for module in modules if module not in _MODULES)
    if "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.set_forkserver_preload(_MODULES)
