"""Reading batches without end, with a position that a checkpoint can hold."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import check_floating, check_images, check_takes, images_of, warn_of_unit_range
from .._conditioning import conditioning_of
from ._options import TrainingOptions
from ._random_state import global_state, own_state, set_global_state, set_own_state


class BatchStream:
    """Position in the data: the pass, the batch in it, and the random state when the pass began."""

    def __init__(self) -> None:
        self._epoch, self._batch = 0, 0
        self._size: int | None = None
        self._random: dict[str, Tensor] = {}
        self._resumed = self._inexact = False

    def read(self, batches: Iterable[object]) -> Generator[object, None, None]:
        """Yield batches without end, from the present position on.

        Raises:
            ValueError: no batches, fewer than before an exact resume, or an iterator that ends before the last step.
        """
        one_shot = isinstance(batches, Iterator)  # calling iter() would draw from the random state of a DataLoader
        if one_shot and not self._resumed:
            self._batch = 0
        if self._resumed:
            self._warn_of_differences(batches)
        self._resumed = False
        self._size = _batch_size(batches)
        while True:
            yield from self._finish_pass(batches)
            if one_shot:
                raise ValueError(
                    f"batches ended after {self._batch} before the last step; pass something that can be iterated "
                    "again, such as a DataLoader or a list"
                )
            self._epoch, self._batch = self._epoch + 1, 0

    def _finish_pass(self, batches: Iterable[object]) -> Iterator[object]:
        skip, now = self._batch, global_state()
        if skip and self._random:  # so that a shuffled pass comes in the same order again
            set_global_state(self._random)
            set_own_state(batches, self._random)
        else:
            self._random = {**now, **own_state(batches)}
        for source in (batches, getattr(batches, "sampler", None)):
            set_epoch = getattr(source, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(self._epoch)
        count = 0
        for count, batch in enumerate(batches, 1):
            if count > skip:
                self._batch = count
                yield batch
            elif count == skip:
                set_global_state(now)
        if count == 0:
            raise ValueError("batches yielded nothing; check that the data set is not empty or already used up")
        if count < skip:
            if not self._inexact:
                raise ValueError(f"batches ended after {count}, but training stopped after {skip}; use the same data")
            set_global_state(now)
        self._inexact = False

    def _warn_of_differences(self, batches: Iterable[object]) -> None:
        """Warn of what makes the continuation of a pass inexact."""
        size = _batch_size(batches)
        if self._batch and None not in (size, self._size) and size != self._size:
            warnings.warn(
                f"training stopped in the middle of a pass with batch_size={self._size} and continues with {size}: "
                f"{self._batch} batches of {size} are left out, so images of this pass are seen twice or not at all; "
                f"use batch_size={self._size} to continue exactly",
                RuntimeWarning,
                stacklevel=5,
            )
        if self._epoch and getattr(batches, "persistent_workers", False):
            warnings.warn(
                "the data loader's workers are persistent, and keep random states that no checkpoint holds: random "
                "augmentation differs from an uninterrupted run; use persistent_workers=False to continue exactly",
                RuntimeWarning,
                stacklevel=5,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the position, as plain values and tensors."""
        return {"epoch": self._epoch, "batch": self._batch, "size": self._size, "random": self._random}

    def load_state_dict(self, state: Mapping[str, Any], *, exact: bool = True) -> None:
        """Go to a position that `state_dict` returned.

        Args:
            state: The position. Without random states, the current pass continues with the present ones.
            exact: False if a pass may have fewer batches than before.
        """
        self.go_back(state)
        self._resumed, self._inexact = True, not exact

    def go_back(self, state: Mapping[str, Any]) -> None:
        """Return to a position that `state_dict` returned. Batches read from an iterator since then are lost."""
        self._epoch, self._batch, self._size = state["epoch"], state["batch"], state["size"]
        self._random = dict(state["random"])


def _batch_size(batches: object) -> int | None:
    """Return the number of images in a batch of a `DataLoader`; None where it is not known."""
    size = getattr(batches, "batch_size", None)
    return size if isinstance(size, int) else None


def on_device(
    batch: object, device: torch.device, *, image_key: str | None, label_name: str | None, label_key: str | None
) -> tuple[Tensor, Mapping[str, Any]]:
    """Return the images and the conditioning of a batch, on a device."""
    images = images_of(batch, image_key)
    check_floating(images, "images")
    conditioning = {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in conditioning_of(batch, label_name, label_key).items()
    }
    return images.to(device, non_blocking=True), conditioning


def _required(model: nn.Module) -> list[str]:
    """Return the names of the arguments that a model requires besides x_t and t."""
    parameters = list(inspect.signature(model.forward).parameters.values())[2:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [each.name for each in parameters if each.kind in named and each.default is each.empty]


def check_first(batch: object, model: nn.Module, options: TrainingOptions) -> None:
    """Check the values of the first batch, and that the model takes it: only once, as this may wait for the device."""
    check_takes("model", model, "(x_t, t)")
    images = images_of(batch, options.image_key)
    check_images(images, check_range=options.check_range)
    if options.check_range:
        warn_of_unit_range(images)
    given = conditioning_of(batch, options.label_name, options.label_key)
    if missing := [name for name in _required(model) if name not in given]:
        raise TypeError(
            f"{type(model).__name__}.forward requires {', '.join(missing)}, got only x_t, t"
            f"{''.join(f', {name}' for name in given)}; to pass labels, yield (images, labels) and set "
            f"label_name={missing[0]!r}"
        )
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    if weight is not None and images.dtype == torch.float64 != weight.dtype:
        raise TypeError(f"images are torch.float64, the model's weights {weight.dtype}; pass images.float()")
