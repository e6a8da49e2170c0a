"""What the library asks of a model, and how it handles one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Hold a module in eval mode, and restore the mode of each of its parts afterwards."""
    if not isinstance(model, nn.Module) or not model.training:
        yield
        return
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
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
