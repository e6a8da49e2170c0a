"""A trainer's state: what it is, and continuing from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from ._base import TrainerBase
from ._checkpoint import TRAINING
from ._fingerprint import fingerprint, measured
from ._plain import copied, plain
from ._settings import SET, SETTINGS, Settings, settings_of
from ._sharing import SAMPLER, described_sampler
from ._state import FORMAT, SCALES, VERSION, check_format, differences
from ._tables import Tables
from ._trainable import check_inference_mode
from ._weights import PARAMETERS

_LATER = {SAMPLER, SETTINGS, SCALES, PARAMETERS, TRAINING}  # entries that earlier states do not have


class ContinuedTrainer(TrainerBase):
    """A trainer that can be continued exactly; see `DiffusionTrainer`."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state for an exact resume, as tensors and plain values.

        Later steps do not change it: it is a copy, on the same devices, and takes as much memory as weights, averages
        and optimizer together. `save` and `fit` write theirs without one.

        It holds torch's random state of this rank; the checkpoints of `save` and `fit` hold the states of all ranks.
        `"sampler"` describes the sampler, for `share_checkpoint`.
        """
        return copied(self._state())

    def _state(self) -> dict[str, Any]:
        """Return the state, with the tensors that the next step changes."""
        state = {
            "format": FORMAT,
            "version": VERSION,
            "config": self._config,
            SETTINGS: self._settings,
            TRAINING: self._training,
            "metadata": self._metadata,
            "corruption": self.corruption.state_dict() if isinstance(self.corruption, nn.Module) else {},
            SCALES: fingerprint(self.corruption),
            "spectrum": measured(self.spectrum),
            SAMPLER: described_sampler(self._ranks.model, self.corruption, null=self._null, **self._known),
            **self._weights.state_dict(),
            **self._position.state_dict(),
        }
        return {name: plain(value, name) for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Any], *, allow_changes: Collection[str] = ()) -> None:
        """Continue from what `state_dict` returned, random state of the process included.

        Args:
            state: As `state_dict` returned it.
            allow_changes: Names of options that may differ from those in `state`, or `"corruption"`. Other options of
                the same optimizer are taken, and what it has learned is kept. Another class of optimizer, or one that
                keeps other numbers, begins anew, and so does a schedule that differs, from the learning rate with which
                it was made. Times and noise with another seed begin anew. Another corruption or spectrum
                also takes effect inside the model, e.g. in `models.WhitenedInput`. Averages that `state` does not have
                begin at its first average, or without averages at its weights.

        Raises:
            ValueError: a state of another kind, version or configuration, or one that does not fit, e.g. with weights
                of another type; nothing is changed then.
            RuntimeError: it is called in `torch.inference_mode()`.
        """
        check_inference_mode("call load_state_dict")
        check_format(state)
        if self.step == 0:  # what was set since the trainer was made counts too
            self._settings = settings_of(self.optimizer, self.scheduler)
        ours = {**self._state(), SET: self._set_since()}
        if missing := sorted(ours.keys() - state.keys() - {SET, *_LATER}):
            raise ValueError(f"the state has no {', '.join(missing)}; pass what state_dict returned, unchanged")
        learned = self._weights.trained_in(self.corruption)
        changed = differences(state, ours, allow_changes, learned)
        tables = Tables(self._ranks.model, self._weights.trained_in(self._ranks.model))
        if others := tables.differ(state["model"]):
            if {"corruption", "spectrum"}.isdisjoint(allow_changes):
                raise ValueError(
                    f"the checkpoint's model has another corruption or spectrum inside ({', '.join(others[:3])}); "
                    "make it with the same, or pass allow_changes=('corruption', 'spectrum') to keep this model's"
                )
            state = tables.in_place_of(state)
        self._weights.check(state, allow_changes)
        self._position.check(state)
        # Everything fits: from here on nothing is refused.
        generator = self.generator.get_state()
        self._weights.load_state_dict(state, changed)
        self._position.load_state_dict(state)
        self._training = state.get(TRAINING, self._training)
        with torch.no_grad():
            for name, parameter in learned.items():
                if name in state["corruption"] and state["corruption"][name].shape == parameter.shape:
                    parameter.copy_(state["corruption"][name])  # else it is of a corruption that may differ
        if "seed" in changed:
            self.generator.set_state(generator)

    def _set_since(self) -> Settings:
        """Return the settings of optimizer and schedule that were changed since `fit` ended, if no step was taken."""
        if self._left is None or self._left[0] != self.step:  # a loop of one's own may have its own schedule
            return {}
        now, left = settings_of(self.optimizer, self.scheduler), self._left[1]
        return {
            part: {path: value for path, value in now[part].items() if value != values.get(path, value)}
            for part, values in left.items()
        }
