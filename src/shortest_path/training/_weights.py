"""A model's weights while they are trained: what moves them, and their average."""

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
        model: Without a wrapper.
        optimizer: Of its parameters.
        scheduler: Of the optimizer's learning rate, or None.
        ema_decay: Of the average.
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
            raise ValueError("the scheduler is of another optimizer; pass the trainer optimizer=scheduler.optimizer")
        self.average = ExponentialMovingAverage(model, ema_decay)
        self._model, self._optimizer, self._scheduler = model, optimizer, scheduler
        self._max_grad_norm = max_grad_norm

    def gradient_norm(self) -> Tensor:
        """Return the norm of the gradients of all that the optimizer changes."""
        return gradient_norm(self._parameters())

    def move(self, norm: Tensor) -> None:
        """Take a step along the gradients, of known norm."""
        if self._max_grad_norm is not None:
            clip_gradient(self._parameters(), norm, self._max_grad_norm)
        self._optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()
        self.average.update(self._model)

    def stay(self) -> None:
        """Forget the gradients, and what passes through the model since the last step did to its buffers."""
        self._optimizer.zero_grad(set_to_none=True)
        restore_buffers(self._model, self.average.model)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "model": self._model.state_dict(),
            "ema": self.average.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], changed: Collection[str]) -> None:
        """Continue from what `state_dict` returned; an optimizer or scheduler that is `changed` begins anew.

        A changed learning rate is the present one's, in all that the optimizer keeps from the checkpoint.
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
