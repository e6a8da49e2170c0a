"""Steps whose loss or gradient is not finite: skipped, counted, and an error when there are too many."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class NonFiniteError(RuntimeError):
    """Too many consecutive steps had a loss or a gradient that is not finite."""


class SkippedSteps:
    """Counts of skipped steps, and a description of the last one."""

    def __init__(self) -> None:
        self.total = self.in_a_row = 0
        self._last = ""

    def add(self, step: int, loss: Tensor, grad_norm: Tensor) -> None:
        """Count a step; waits for the device."""
        self.total, self.in_a_row = self.total + 1, self.in_a_row + 1
        self._last = f"step {step}: loss {loss.item():.4g}, gradient norm {grad_norm.item():.4g}"

    def end_row(self) -> None:
        """Note that a step was taken."""
        self.in_a_row = 0

    def warn(self, stacklevel: int) -> None:
        """Warn of the step just skipped if the total is a power of two."""
        if self.in_a_row and self.total & (self.total - 1) == 0:
            text = f"skipped {self._last}; {self.total} skipped so far"
            warnings.warn(text, RuntimeWarning, stacklevel=stacklevel + 1)

    def error(self, saved: str) -> NonFiniteError:
        """Return the error of too many skipped steps.

        Args:
            saved: Location of the state from before these steps, in words.
        """
        return NonFiniteError(
            f"{self.in_a_row} consecutive steps had a loss or a gradient that is not finite, the last {self._last}; "
            f"{saved}. Try a lower learning rate, max_grad_norm, or precision='fp32'"
        )

    def state_dict(self) -> dict[str, int]:
        """Return the counts."""
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to count from what `state_dict` returned."""
        self.total, self.in_a_row = state["total"], state["in_a_row"]


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the norm of all gradients together, as `clip_grad_norm_` computes it; 0 if there are none."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not grads:
        return torch.zeros(())
    dense = [grad.coalesce().values() if grad.is_sparse else grad for grad in grads]
    norms = [norm.to(dense[0].device) for norm in torch._foreach_norm(dense)]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def clip_gradient(parameters: Iterable[Tensor], norm: Tensor, largest: float) -> None:
    """Scale gradients of a known norm down to the largest allowed, as `clip_grad_norm_` does."""
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for device in {grad.device for grad in grads}:
        torch._foreach_mul_([grad for grad in grads if grad.device == device], scale.to(device))


@torch.no_grad()
def remember_buffers(model: nn.Module, before: dict[str, Tensor]) -> None:
    """Copy a model's buffers by name, into those of the step before where they fit."""
    for name, buffer in model.named_buffers():
        if name in before and before[name].shape == buffer.shape:
            before[name].copy_(buffer)
        else:
            before[name] = buffer.detach().clone()


@torch.no_grad()
def restore_buffers(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Undo what a forward pass did to buffers, e.g. batch statistics; buffers that it made stay."""
    for name, buffer in model.named_buffers():
        if name in before and before[name].shape == buffer.shape:
            buffer.copy_(before[name])
