"""A trainer's state: its version, its configuration, and the random state of every process."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .._exact import same_table
from ._batches import BatchStream
from ._fingerprint import is_another
from ._nonfinite import SkippedSteps
from ._options import alike
from ._random_state import global_state, set_global_state
from ._ranks import Ranks
from ._second_moment import LossSecondMoment
from ._settings import other_settings

_NUMBER = re.compile(r"\d+(\.\d+)?(e[-+]?\d+)?")
_PASS = "pass."  # before the names of random states of when the present pass began
_PLACE = "data"  # the name of a process's position in its data among its random states
FORMAT, VERSION = "shortest_path.DiffusionTrainer", 1
SCALES = "scales"
"""Name of the entry with the corruption's `fingerprint`; earlier states have none."""


def check_format(state: Mapping[str, Any]) -> None:
    """Raise a TypeError or ValueError unless a state is a trainer's, of this version."""
    if not isinstance(state, Mapping):
        raise TypeError(f"a state must be a mapping, as state_dict returns it, got {type(state).__name__}")
    if "format" not in state:
        raise ValueError(
            "not a trainer's state: expected what DiffusionTrainer.state_dict returned, got the entries "
            f"{', '.join(map(repr, list(state)[:5])) or '(none)'}; load weights alone with model.load_state_dict"
        )
    if state.get("format") != FORMAT:
        raise ValueError(f"not a trainer's state: format {state.get('format')!r}, expected {FORMAT!r}")
    if state["version"] != VERSION:
        raise ValueError(
            f"the state has version {state['version']}, this library reads version {VERSION}; update shortest_path"
        )


def check_names(names: Collection[str], config: Mapping[str, Any]) -> None:
    """Raise a TypeError unless `names` is a collection, or a ValueError unless all are in the configuration."""
    if isinstance(names, str) or not isinstance(names, Collection):
        got, mend = type(names).__name__, "e.g. ('seed',)"
        if isinstance(names, str):
            got, mend = f"the string {names!r}", f"({names!r},)"
        raise TypeError(f"allow_changes must be a tuple of option names, got {got}; pass {mend}")
    if unknown := sorted((name for name in names if name not in config), key=str):
        raise ValueError(
            f"allow_changes must be a tuple of option names, got {unknown}; choose from {', '.join(sorted(config))}"
        )


def differences(
    state: Mapping[str, Any], ours: Mapping[str, Any], allow_changes: Collection[str], learned: Collection[str] = ()
) -> set[str]:
    """Return the options in which `state` differs from that of the trainer that is to continue from it.

    The corruption's parameters that are `learned` may differ in their values, not in their shapes and types.

    Raises:
        ValueError: some differ that `allow_changes` does not name; all of them are listed.
    """
    check_names(allow_changes, ours["config"])
    where, theirs, own = "in the checkpoint", state["config"].get("spectrum"), ours["config"]["spectrum"]
    if "basis" not in state["spectrum"]:  # of earlier versions
        ours = {**ours, "spectrum": {name: each for name, each in ours["spectrum"].items() if name == "power"}}
    found = other_options(state, ours, learned, where)
    same = not _other_tables("spectrum", state["spectrum"], ours["spectrum"], (), where)
    if same and None not in (theirs, own) and _NUMBER.sub("", theirs) == _NUMBER.sub("", own):
        found.pop("spectrum", None)  # the texts have rounded numbers, and those of one spectrum may round otherwise
    for part in ("optimizer", "scheduler"):
        if part not in found and (settings := other_settings(part, state, ours)):
            found[part] = "; ".join(
                f"{part}.{path}: {_short(given)} in the checkpoint, {_short(own)} here"
                for path, (given, own) in settings.items()
            )
    if refused := [text for name, text in found.items() if name not in allow_changes]:
        raise ValueError(
            "the checkpoint is of another configuration; " + "; ".join(refused) + ". "
            "Use the same options, name in allow_changes those that may differ, or use another checkpoint_dir"
        )
    return set(found)


def other_options(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], learned: Collection[str], where: str
) -> dict[str, str]:
    """Return a text for each option, "corruption" and "spectrum" included, in which a state differs from ours.

    Args:
        theirs: The state, of which "config", "corruption", "spectrum" and the corruption's fingerprint are compared.
        ours: The state of this trainer.
        learned: Names of the corruption's parameters whose values may differ.
        where: Where the other state is, e.g. "in the checkpoint".
    """
    config, our_config = ({**each["config"], **_one_decay(each["config"])} for each in (theirs, ours))
    found = {
        name: f"{name}: {_short(config.get(name))} {where}, {_short(our_config.get(name))} here"
        for name in sorted({*config, *our_config})
        if not alike(config.get(name), our_config.get(name))
    }
    if None in (config.get("learning_rate"), our_config["learning_rate"]):  # of an optimizer that was passed
        found.pop("learning_rate", None)
    compared = not learned and "corruption" not in found and SCALES in theirs
    if compared and is_another(theirs[SCALES], ours[SCALES]):
        found["corruption"] = f"corruption: another signal or noise, of the same {_short(our_config['corruption'])}"
    for part in ("corruption", "spectrum"):
        if others := _other_tables(part, theirs[part], ours[part], learned, where):
            found[part] = "; ".join([*filter(None, [found.get(part)]), *others])
    return found


def _one_decay(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decay of averages as a number where a configuration has one in a sequence, which is the same."""
    decays = config.get("ema_decay")
    return {"ema_decay": decays[0]} if isinstance(decays, (tuple, list)) and len(decays) == 1 else {}


class Position:
    """The part of the state that changes even in a skipped step.

    Args:
        ranks: The processes that train.
        device: Device of the model.
        seed: Random seed for times and noise.
        by_loss: The distribution of times, if it follows the losses.
    """

    def __init__(self, ranks: Ranks, device: torch.device, seed: int, by_loss: LossSecondMoment | None = None) -> None:
        self._ranks, self._device, self._seed, self._by_loss = ranks, device, seed, by_loss
        self.step = 0
        self.data, self.skipped = BatchStream(), SkippedSteps()
        self.generator = torch.Generator(device).manual_seed(seed)
        self._images: int | None = None
        self._regrouped_from: Mapping[str, Any] | None = None

    def count_images(self, chunk: Iterable[Tensor], *, resumed: bool, stacklevel: int) -> None:
        """Note how many images this rank has for a step; warn once if a resume changed the number of ranks.

        After `load_state_dict` without `fit`'s resume, it warns only if the total number of images differs.
        """
        before, self._regrouped_from = self._regrouped_from, None
        self._images = self._ranks.count * sum(len(images) for images in chunk)
        if before is not None and self._ranks.own == 0 and (resumed or before["images"] != self._images):
            text = _regrouped(before, self._ranks.count, self._images)
            warnings.warn(text, RuntimeWarning, stacklevel=stacklevel + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the position, with the random state of this rank: now, and when the pass began."""
        return {**self.mark(), "skipped": self.skipped.state_dict()}

    def mark(self) -> dict[str, Any]:
        """Return the position without the counts of skipped steps, which the device may have; does not wait for it."""
        data, own = self.data.state_dict(), dict[str, Any](global_state())
        own.update({f"{_PASS}{name}": value for name, value in (data.pop("random") or own).items()})
        own[_PLACE] = data  # processes with other numbers of batches are not at the same
        if self._device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self._device)
        times = {} if self._by_loss is None else {"times": self._by_loss.state_dict()}
        return {
            "ranks": self._ranks.count,
            "images": self._images,
            "step": self.step,
            "data": data,
            "random": {"trainer": self.generator.get_state(), **times, "ranks": {self._ranks.own: own}},
        }

    def check(self, state: Mapping[str, Any]) -> None:
        """Raise a ValueError if a position is not one that can be continued from."""
        now = torch.get_rng_state()
        own = state["random"]["ranks"].get(self._ranks.own, {})
        if "cpu" in own and own["cpu"].shape != now.shape:
            raise ValueError(
                f"the state's random numbers have {own['cpu'].numel()} bytes, torch {torch.__version__} keeps "
                f"{now.numel()}; continue with the version of torch that wrote it"
            )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the position of another process; not exactly if the number of ranks differs."""
        same = state["ranks"] == self._ranks.count
        self._regrouped_from = None if same else {name: state[name] for name in ("ranks", "images")}
        self.data.load_state_dict(self._restore(state), exact=same)

    def go_back(self, state: Mapping[str, Any]) -> None:
        """Return to an earlier position of this process."""
        self.data.go_back(self._restore(state))

    def _restore(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Restore all but the position in the data, which is returned."""
        own = state["random"]["ranks"].get(self._ranks.own, {})  # a new rank keeps what it has
        self.step = state["step"]
        self.skipped.load_state_dict(state["skipped"])
        self._set_generator(state["random"]["trainer"].clone())
        if self._by_loss is not None and "times" in state["random"]:
            self._by_loss.load_state_dict(state["random"]["times"])
        set_global_state(own)
        if "cuda" in own and self._device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"].clone(), self._device)
        began = {name.removeprefix(_PASS): value for name, value in own.items() if name.startswith(_PASS)}
        place = own.get(_PLACE, state["data"]) if state["ranks"] == self._ranks.count else state["data"]
        return {**place, "random": began}

    def _set_generator(self, state: Tensor) -> None:
        """Continue the trainer's random numbers; after a change of the kind of device, with others."""
        if state.shape == self.generator.get_state().shape:
            self.generator.set_state(state)
            return
        self.generator.manual_seed((self._seed + 1_000_003 * self.step) % 2**63)
        warnings.warn(
            f"the state was written on another kind of device than {self._device}, whose random numbers are others: "
            f"times and noise continue from a new seed, made of the seed {self._seed} and the step {self.step}",
            RuntimeWarning,
            stacklevel=5,
        )


def of_all_ranks(state: Mapping[str, Any], ranks: Ranks) -> dict[str, Any]:
    """Return a state with the random states of all ranks in place of this rank's. Collective."""
    random = state["random"]
    return {**state, "random": {**random, "ranks": ranks.gather(random["ranks"][ranks.own])}}


def _other_tables(
    part: str, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], learned: Collection[str], where: str
) -> list[str]:
    """Return a text for each tensor that only one of the two has, or that has other values."""

    def difference(name: str) -> str:
        if name not in theirs or name not in ours:
            return "other values"
        given, own = theirs[name], ours[name]
        if not (isinstance(given, Tensor) and isinstance(own, Tensor)):  # the extra state of a module
            return "" if alike(given, own) else "other values"
        if part == "corruption" and name in learned:
            if (given.shape, given.dtype) == (own.shape, own.dtype):
                return ""
            return f"{tuple(given.shape)} {given.dtype} {where}, {tuple(own.shape)} {own.dtype} here"
        return "" if same_table(name, given, own) else "other values"

    found = {f"{part}.{name}": difference(name) for name in sorted({*theirs, *ours})}
    return [f"{name}: {text}" for name, text in found.items() if text]


def _regrouped(before: Mapping[str, Any], ranks: int, images: int) -> str:
    was = "" if before["images"] is None else f" with {before['images']} images per step"
    return (
        f"the checkpoint was written by {before['ranks']} processes{was}, training continues on {ranks} with "
        f"{images} images: the order of the data, and random numbers that the trainer does not draw (e.g. of dropout), "
        "differ from an uninterrupted run; another number of images may require another learning rate"
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
