"""What a training step did."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class TrainStep(NamedTuple):
    """What a training step did; the tensors are on the device, so that reading them is the caller's choice."""

    step: int
    loss: Tensor
    grad_norm: Tensor
    """Norm of all gradients together, before they are clipped."""
    skipped: bool | Tensor = False
    """Whether loss or gradient was not finite, and the weights stayed as they were.

    A tensor where the device decides (see `DiffusionTrainer.train_step`), so that reading it waits.
    """

    def describe(self) -> str:
        """Return the loss in words; waits for the device."""
        return f"loss {self.loss.item():.4f}"
