"""Tables inside a model that follow from the corruption and the data's spectrum, and not from training."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ..bases import Basis
from ..corruptions import Corruption
from ..spectra import PowerSpectrum


def with_own_tables(state: Mapping[str, Any], model: nn.Module, trained: Collection[str]) -> dict[str, Any]:
    """Return a trainer's state with a model's own tables in place of those in it, also in the averages.

    Tables are the tensors of corruptions and bases inside the model, and the buffers of a module that has a
    `PowerSpectrum` as an attribute, without those of its submodules.

    Args:
        state: The state.
        model: The model, without wrappers.
        trained: Names of its parameters that are trained, which are those of the state where their shapes fit.
    """
    parts, own = tuple(_parts(model)), model.state_dict()

    def is_table(name: str) -> bool:
        return any(name == part or name.startswith(f"{part}.") for part in parts)

    def replaced(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        new = {name: each for name, each in weights.items() if not is_table(name)}
        for name in filter(is_table, own):
            fits = name in trained and name in weights and weights[name].shape == own[name].shape
            new[name] = weights[name] if fits else own[name]
        return new

    new = {**state, "model": replaced(state["model"])}
    if state["ema"] is not None:
        others = state["average"].get("others", {})
        of_others = {decay: {**each, "model": replaced(each["model"])} for decay, each in others.items()}
        new |= {"ema": replaced(state["ema"]), "average": {**state["average"], "others": of_others}}
    return new


def _parts(model: nn.Module) -> Iterator[str]:
    """Yield the names of the submodules and tensors that hold tables."""
    for path, module in model.named_modules():
        if isinstance(module, (Corruption, Basis)):
            yield path
        elif any(isinstance(each, PowerSpectrum) for each in vars(module).values()):
            yield from (name for name, _ in module.named_buffers(path, recurse=False))
