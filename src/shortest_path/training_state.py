"""The configuration in a trainer's state, and whether training can continue from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

_ADDED = {"drop_conditioning": 0.0, "null_conditioning": {}}  # options that older states do not name


def plain(value: Any) -> Any:
    """Return tensors and numpy's numbers as Python's own, which `==` compares and a checkpoint may hold."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


def check_state(state: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a trainer whose state is `ours` can continue from `state`.

    It must be of the same format, no later version, and the same configuration and corruption; all
    differences are listed.
    """
    if state.get("format") != ours["format"]:
        raise ValueError(f"not a trainer's state: format {state.get('format')!r}, expected {ours['format']!r}")
    if state["version"] > ours["version"]:
        raise ValueError(
            f"the state has version {state['version']}, this library reads up to {ours['version']}; "
            "update shortest_path"
        )
    config, our_config = _ADDED | state["config"], ours["config"]
    differences = [
        f"{name}: {_short(config.get(name))} in the checkpoint, {_short(our_config.get(name))} here"
        for name in sorted({*config, *our_config})
        if config.get(name) != our_config.get(name)
    ]
    tables, our_tables = state["corruption"], ours["corruption"]
    differences += [
        f"corruption.{name}: other values"
        for name in sorted({*tables, *our_tables})
        if name not in tables or name not in our_tables or not torch.equal(tables[name].cpu(), our_tables[name].cpu())
    ]
    if differences:
        raise ValueError(
            "the checkpoint is of another configuration; " + "; ".join(differences) + ". "
            "Use the same options, or another checkpoint_dir"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
