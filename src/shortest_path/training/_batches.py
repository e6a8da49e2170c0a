"""Reading batches without end, with a position that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import check_floating, check_images, images_of
from .._conditioning import conditioning_of


class BatchStream:
    """Position in the data: the pass, the batch in it, and torch's random state when the pass began."""

    def __init__(self) -> None:
        self._epoch, self._batch = 0, 0
        self._random: Tensor | None = None
        self._resumed = self._inexact = False

    def read(self, batches: Iterable[object]) -> Generator[object, None, None]:
        """Yield batches without end, from the present position on.

        Raises:
            ValueError: no batches, fewer than before an exact resume, or an iterator that ends before the last step.
        """
        one_shot = isinstance(batches, Iterator)  # calling iter() would draw from the random state of a DataLoader
        if one_shot and not self._resumed:
            self._batch = 0
        self._resumed = False
        while True:
            yield from self._finish_pass(batches)
            if one_shot:
                raise ValueError(
                    f"batches ended after {self._batch} before the last step; pass something that can be iterated "
                    "again, such as a DataLoader or a list"
                )
            self._epoch, self._batch = self._epoch + 1, 0

    def _finish_pass(self, batches: Iterable[object]) -> Iterator[object]:
        skip, now = self._batch, torch.get_rng_state()
        if skip and self._random is not None:
            torch.set_rng_state(self._random)  # so that a shuffled pass comes in the same order again
        else:
            self._random = now
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
                torch.set_rng_state(now)
        if count == 0:
            raise ValueError("batches yielded nothing; check that the data set is not empty or already used up")
        if count < skip:
            if not self._inexact:
                raise ValueError(f"batches ended after {count}, but training stopped after {skip}; use the same data")
            torch.set_rng_state(now)
        self._inexact = False

    def state_dict(self) -> dict[str, Any]:
        """Return the position, as plain values and tensors."""
        return {"epoch": self._epoch, "batch": self._batch, "random": self._random}

    def load_state_dict(self, state: Mapping[str, Any], *, exact: bool = True) -> None:
        """Go to a position that `state_dict` returned.

        Args:
            state: The position. Without a random state, the current pass continues with the present one.
            exact: False if a pass may have fewer batches than before.
        """
        self.go_back(state)
        self._resumed, self._inexact = True, not exact

    def go_back(self, state: Mapping[str, Any]) -> None:
        """Return to a position that `state_dict` returned. Batches read from an iterator since then are lost."""
        self._epoch, self._batch, self._random = state["epoch"], state["batch"], state["random"]


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


def check_first(images: Tensor, model: nn.Module, *, check_range: bool) -> None:
    """Check the values of the first images: only once, as this may wait for the device."""
    check_images(images, check_range=check_range)
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    if weight is not None and images.dtype == torch.float64 != weight.dtype:
        raise TypeError(f"images are torch.float64, the model's weights {weight.dtype}; pass images.float()")
