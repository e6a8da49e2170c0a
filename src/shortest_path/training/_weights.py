"""A model's weights during training: their optimizer, and their average."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ._ema import ExponentialMovingAverage
from ._nonfinite import clip_gradient, gradient_norm, restore_buffers


class Weights:
    """The weights of a model, with their optimizer and their average.

    Args:
        model: Model, without a wrapper.
        optimizer: Optimizer of the model's parameters.
        scheduler: Schedule of the optimizer's learning rate, or None.
        ema_decay: Decay of the averaged weights, in [0, 1).
        max_grad_norm: Norm to which gradients are clipped, or None.

    Raises:
        ValueError: a scheduler of another optimizer.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        *,
        ema_decay: float,
        max_grad_norm: float | None,
    ) -> None:
        if scheduler is not None and scheduler.optimizer is not optimizer:
            raise ValueError("scheduler belongs to another optimizer; pass optimizer=scheduler.optimizer")
        self.average = ExponentialMovingAverage(model, ema_decay)
        self._model, self._optimizer, self._scheduler = model, optimizer, scheduler
        self._max_grad_norm = max_grad_norm

    def gradient_norm(self) -> Tensor:
        """Return the norm of the gradients of all parameters of the optimizer."""
        return gradient_norm(self._parameters())

    def move(self, norm: Tensor) -> None:
        """Take an optimizer step with gradients of a known norm."""
        if self._max_grad_norm is not None:
            clip_gradient(self._parameters(), norm, self._max_grad_norm)
        self._optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()
        self.average.update(self._model)

    def stay(self) -> None:
        """Drop the gradients, and restore the buffers as they were before the forward pass."""
        self._optimizer.zero_grad(set_to_none=True)
        restore_buffers(self._model, self.average.model)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, their average, and the state of optimizer and scheduler."""
        return {
            "model": self._model.state_dict(),
            "ema": self.average.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], changed: Collection[str]) -> None:
        """Continue from what `state_dict` returned; a `changed` optimizer or scheduler begins anew.

        A changed learning rate replaces the checkpoint's; the rest of the optimizer's state is kept.
        """
        rates = [group["lr"] for group in self._optimizer.param_groups]
        self._model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["ema"])
        if "optimizer" in changed:
            return
        self._optimizer.load_state_dict(state["optimizer"])
        if "learning_rate" in changed:
            for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        if self._scheduler is not None and "scheduler" not in changed:
            self._scheduler.load_state_dict(state["scheduler"])

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
