"""Whether the tensors of a state can be loaded as they are: under the same names, in the same shapes and types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .._checks import kind_of


def check_fit(part: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], owner: str = "trainer") -> None:
    """Raise an error unless two dictionaries hold tensors of the same names, shapes and types.

    Args:
        part: What they are, as an entry of a state.
        theirs: Those of the state.
        ours: Those in whose place they are loaded.
        owner: What they belong to, "trainer" or "average".

    Raises:
        TypeError: `theirs` is not a dictionary.
        ValueError: the dictionaries do not fit.
    """
    if not isinstance(theirs, Mapping):
        raise TypeError(f"the state's {part} must be a dictionary, as state_dict() returns it, got {kind_of(theirs)}")
    missing, unknown = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    pairs = {name: (theirs[name], ours[name]) for name in sorted(ours.keys() & theirs.keys())}
    tensors = {name: pair for name, pair in pairs.items() if isinstance(pair[1], Tensor)}
    shapes = [
        f"{name} {tuple(given.shape)} instead of {tuple(own.shape)}"
        for name, (given, own) in tensors.items()
        if given.shape != own.shape
    ]
    wrong = [f"missing {name}" for name in missing] + [f"unknown {name}" for name in unknown] + shapes
    mend = "make the model with the settings of the checkpoint"
    if not wrong:  # else the types do not matter yet
        others = {name: pair for name, pair in tensors.items() if pair[0].dtype != pair[1].dtype}
        wrong = [f"{name} {given.dtype} instead of {own.dtype}" for name, (given, own) in others.items()]
        kinds = {given.dtype for given, _ in others.values()}
        mend = f"to continue exactly, make the {owner} of model.to({kinds.pop()})" if len(kinds) == 1 else mend
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"the state's {part} does not fit this {owner}'s: {', '.join(wrong[:3])}{more}; {mend}")
