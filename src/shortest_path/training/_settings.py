"""Settings of an optimizer and of its schedule: what a program sets, told from what changes in training."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from torch.optim import Optimizer

from ._options import described

SETTINGS = "settings"  # their key in a state; a state without them can be continued from
SET = "set"
"""The key, in a state to compare with, of those that were set since the trainer's last step."""
HOW = ("fused", "foreach", "capturable")
"""Options of an optimizer that say how it computes, and not what."""
Settings: TypeAlias = dict[str, dict[str, Any]]
"""Plain values by their paths, of "optimizer" and of "scheduler"."""
_NO_SETTINGS = ("last_epoch", "_step_count", "_last_lr", "params", "param_names")


def settings_of(optimizer: Optimizer, scheduler: Any) -> Settings:
    """Return what the state dicts of an optimizer and of its schedule, or None, hold when the trainer is made.

    Returns:
        For "optimizer" and "scheduler" plain values by their paths, e.g. `param_groups.0.weight_decay` and `T_max`.
    """
    schedule = None if scheduler is None else scheduler.state_dict()
    return _settings(optimizer.param_groups, schedule, defaults_of(optimizer))


def defaults_of(optimizer: Optimizer) -> dict[str, Any]:
    """Return the options that an optimizer knows; none of one that wraps another without them."""
    return getattr(optimizer, "defaults", {})


def other_settings(part: str, state: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which a state differs, (theirs, ours) by their paths.

    A trainer may have what was set at first, or what it is now, e.g. where a callback has set the learning rate: it may
    be made of an optimizer that has trained. What only one of the two has is not compared, as another version of torch
    may add it.

    Args:
        part: "optimizer" or "scheduler".
        state: The state of a trainer; of one without settings, those that it has now count.
        ours: The state of the trainer that is to continue from it.
    """
    own, options = ours[SETTINGS][part], {path.rpartition(".")[2] for path in ours[SETTINGS]["optimizer"]}
    now = _settings(state["optimizer"]["param_groups"], state["scheduler"], options)[part]
    first = state.get(SETTINGS, {}).get(part, now)
    others = {
        path: (first[path], own[path])
        for path in sorted(first.keys() & own.keys())
        if own[path] not in (first[path], now.get(path, first[path]))
    }
    set_since = ours.get(SET, {}).get(part, {})
    others |= {path: (now[path], value) for path, value in set_since.items() if now.get(path, value) != value}
    if all(each["config"].get("learning_rate") is not None for each in (state, ours)):  # an option of the trainer
        rate = ours["config"]["learning_rate"]
        others = {
            path: pair
            for path, pair in others.items()
            if path in set_since or not (path.endswith(".lr") and pair[1] == rate)
        }
    return others


def _settings(
    groups: Sequence[Mapping[str, Any]], schedule: Mapping[str, Any] | None, options: Collection[str]
) -> Settings:
    """Return the settings by part: what a group has beside the `options` is of the schedule, if there is one."""
    own, of_schedule = [], []
    for group in groups:
        values = {name: value for name, value in group.items() if name not in HOW}
        if "initial_lr" in values:  # where a schedule leaves the learning rate as it was set
            values["lr"] = values.pop("initial_lr")
        its = values.keys() if schedule is None else {"param_names", *options}
        own.append({name: value for name, value in values.items() if name in its})
        of_schedule.append({name: value for name, value in values.items() if name not in its})
    added = {} if schedule is None else {"param_groups": of_schedule, **schedule}
    return {"optimizer": dict(_leaves({"param_groups": own})), "scheduler": dict(_leaves(added))}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the plain values in a nest of dictionaries and lists of them, with their paths."""
    inside: Mapping[Any, Any] = value if isinstance(value, Mapping) else {}
    if isinstance(value, (list, tuple)) and any(isinstance(each, Mapping) for each in value):
        inside = {str(index): each for index, each in enumerate(value)}
    if inside and all(isinstance(name, str) for name in inside):
        for name, each in inside.items():
            if name not in _NO_SETTINGS:
                yield from _leaves(each, f"{path}.{name}" if path else name)
    elif path:
        yield path, _plain(value)


def _plain(value: Any) -> Any:
    """Return a value that is equal after it was saved and loaded; a text for what is neither number nor string."""
    if isinstance(value, (bool, int, float, complex, str, type(None))):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else described(value)
