"""What the library asks of a model, and how it handles one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

_lock = threading.Lock()
_held: dict[nn.Module, int] = {}  # by how many threads each part in training mode is held in eval mode


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Hold a module in eval mode, and restore the mode of each of its parts afterwards.

    Threads may hold one module, or modules that share parts, at a time: the last to leave restores the mode. A thread
    that *trains* the module meanwhile would find it in eval mode: sample from a copy then, such as `ema_model`.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    with _lock:
        parts = []
        if model.training or model in _held:
            parts = [module for module in model.modules() if module.training or module in _held]
            model.eval()
            for module in parts:
                _held[module] = _held.get(module, 0) + 1
    try:
        yield
    finally:
        with _lock:
            for module in parts:
                _held[module] -= 1
                if not _held[module]:
                    del _held[module]
                    module.training = True


def check_output(output: Tensor, x_t: Tensor) -> None:
    """Raise a ValueError unless a model's output is a tensor of the shape of its input."""
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the model must return a tensor like x_t, got {type(output).__name__}; wrap it (model(x, t).sample, say)"
        )
    if output.shape != x_t.shape:
        raise ValueError(
            f"the model must return a tensor of the shape of x_t, {tuple(x_t.shape)}, got {tuple(output.shape)}; "
            "a learned variance, if any, has to be split off"
        )
