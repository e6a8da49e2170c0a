"""Tables inside a model that follow from the corruption and the data's spectrum, and not from training."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from .._exact import same_table
from ..bases import Basis
from ..corruptions import Corruption


class Tables:
    """The tables of a model: tensors of corruptions and bases inside it, and those in `table_names` of a module.

    Args:
        model: The model, without wrappers.
        trained: Names of its parameters that are trained, which are no tables where their shapes fit.
    """

    def __init__(self, model: nn.Module, trained: Collection[str]) -> None:
        self._own, self._trained, self._parts = model.state_dict(), trained, tuple(_parts(model))

    def differ(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Return the names of the tables that saved weights have otherwise, or that only one of the two has."""
        mine, theirs = self._of(self._own, weights), self._of(weights, self._own)
        return [
            name
            for name in sorted(mine.keys() | theirs.keys())
            if name not in mine or name not in theirs or not same_table(name, mine[name], theirs[name])
        ]

    def in_place_of(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a trainer's state with these tables in place of its own, also in the averages."""

        def replaced(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
            theirs = self._of(weights, self._own)
            return {name: each for name, each in weights.items() if name not in theirs} | self._of(self._own, weights)

        new = {**state, "model": replaced(state["model"])}
        if state["ema"] is not None:
            others = state["average"].get("others", {})
            of_others = {decay: {**each, "model": replaced(each["model"])} for decay, each in others.items()}
            new |= {"ema": replaced(state["ema"]), "average": {**state["average"], "others": of_others}}
        return new

    def _of(self, weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tables among weights, without what is trained in these and in the others."""
        return {
            name: each
            for name, each in weights.items()
            if any(name == part or name.startswith(f"{part}.") for part in self._parts)
            and not (name in self._trained and name in others and others[name].shape == each.shape)
        }


def _parts(model: nn.Module) -> Iterator[str]:
    """Yield the names of the submodules and tensors that hold tables."""
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, (Corruption, Basis)):
            yield path
        yield from (f"{path}.{name}".lstrip(".") for name in getattr(module, "table_names", ()))
