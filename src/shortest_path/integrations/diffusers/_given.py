"""What a step of a loop was given, for a trajectory that goes on from step to step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class Given:
    """The model's output and the generator of one step after another.

    A trajectory keeps the generator with which it began, so it begins with `source`: for a list, one that holds the
    generators of the present step; for a generator, one that has its state during the step.

    Args:
        generator: The generator, or the list of generators, of the first step; or None.
    """

    output: Tensor
    source: Any

    def __init__(self, generator: Any) -> None:
        self._kind = _kind(generator)
        self.source = generator
        if isinstance(generator, torch.Generator):
            self.source = torch.Generator(generator.device)
        elif isinstance(generator, list | tuple):
            self.source = list(generator)

    def check(self, generator: Any) -> None:
        """Raise a ValueError unless a step can draw from a generator."""
        if _kind(generator) != self._kind:
            raise ValueError(
                f"this run began with generator {self._kind}, got {_kind(generator)}; pass the same kind to every "
                "step of a run"
            )

    @contextmanager
    def lent(self, output: Tensor, generator: Any) -> Iterator[None]:
        """Within, the model returns this output, and random numbers are those of this generator."""
        self.output = output
        single = isinstance(generator, torch.Generator)
        if single:
            self.source.set_state(generator.get_state())
        elif isinstance(generator, Sequence):
            self.source[:] = generator
        try:
            yield
        finally:
            if single:
                generator.set_state(self.source.get_state())
            del self.output


def _kind(generator: Any) -> str:
    if isinstance(generator, torch.Generator):
        return f"a torch.Generator on {generator.device}"
    if isinstance(generator, list | tuple):
        others = [type(one).__name__ for one in generator if not isinstance(one, torch.Generator)]
        return f"a list with {others[0]}" if others else f"a list of {len(generator)} generators"
    return "None" if generator is None else type(generator).__name__


def given_output(x_t: Tensor, t: Tensor, given: Given) -> Tensor:
    """Return the model's output that a step was given, in the place of a model."""
    return given.output.to(x_t)
