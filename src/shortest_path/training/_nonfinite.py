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
    """Counts of skipped steps, and a description of the last one.

    Counted by the host, or on the device, from which they are read when they are asked for.
    """

    def __init__(self) -> None:
        self._total = self._in_a_row = self._warned = 0
        self.last_step, self._last = 0, ""
        self._device: _OnDevice | None = None

    @property
    def total(self) -> int:
        """Number of skipped steps; waits for the device if it counts."""
        return self.read()._total

    @property
    def in_a_row(self) -> int:
        """Number of steps skipped since the last that was taken; waits for the device if it counts."""
        return self.read()._in_a_row

    def begin(self) -> None:
        """Begin to count towards a new limit."""
        self.read()._device = None

    def add(self, step: int, loss: Tensor, grad_norm: Tensor) -> None:
        """Count a step; waits for the device."""
        self._total, self._in_a_row, self._device = self.total + 1, self.in_a_row + 1, None
        self._describe(step, loss.item(), grad_norm.item())

    def end_row(self) -> None:
        """Note that a step was taken."""
        self.read()
        self._in_a_row, self._device = 0, None

    def count(self, step: int, bad: Tensor, loss: Tensor, grad_norm: Tensor, limit: int | None) -> Tensor:
        """Count a step on the device if it is `bad`, and return whether it is to be skipped; does not wait.

        Args:
            step: The number of the step.
            bad: Whether loss or gradient is not finite, a tensor of one boolean.
            loss: Its loss.
            grad_norm: Norm of its gradient.
            limit: After more skipped steps in a row, all later ones are skipped and not counted, so that nothing
                changes until the host looks; None has no limit.
        """
        if self._device is None:
            self._device = _OnDevice(self._total, self._in_a_row, bad.device)
        return self._device.count(step, bad, loss, grad_norm, limit)

    def read(self) -> SkippedSteps:
        """Take over what the device has counted; waits for it."""
        if self._device is not None and self._device.unread:
            (self._total, self._in_a_row, step), (loss, norm) = self._device.read()
            if step:
                self._describe(step, loss, norm)
        return self

    def warn(self, stacklevel: int) -> None:
        """Warn of the step skipped last, if the total has reached another power of two."""
        power = 1 << (self.total.bit_length() - 1) if self.total else 0
        if power > self._warned:
            text = f"skipped {self._last}; {self.total} skipped so far"
            warnings.warn(text, RuntimeWarning, stacklevel=stacklevel + 1)
        self._warned = power

    def error(self, saved: str, *, first: str = "") -> NonFiniteError:
        """Return the error of too many skipped steps.

        Args:
            saved: Location of the state from before these steps, in words.
            first: What to try before the usual, in words.
        """
        advice = "a lower learning rate, max_grad_norm, or precision='fp32'"
        return NonFiniteError(
            f"{self.in_a_row} consecutive steps had a loss or a gradient that is not finite, the last {self._last}; "
            f"{saved}. Try {f'{first}; or else ' if first else ''}{advice}"
        )

    def state_dict(self) -> dict[str, int]:
        """Return the counts."""
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to count from what `state_dict` returned."""
        self._total, self._in_a_row, self._device = state["total"], state["in_a_row"], None
        self._warned = 1 << (self._total.bit_length() - 1) if self._total else 0

    def _describe(self, step: int, loss: float, norm: float) -> None:
        self.last_step, self._last = step, f"step {step}: loss {loss:.4g}, gradient norm {norm:.4g}"


class _OnDevice:
    """Counts on the device: of all skipped steps and of those in a row, and of the last its step, loss and norm."""

    def __init__(self, total: int, in_a_row: int, device: torch.device) -> None:
        numbers = (total, in_a_row, 0)
        self._counts = torch.stack([torch.full((), each, dtype=torch.int64, device=device) for each in numbers])
        self._last = torch.zeros(2, dtype=torch.float32, device=device)
        self._stopped = torch.zeros((), dtype=torch.bool, device=device)
        self.unread = False

    def count(self, step: int, bad: Tensor, loss: Tensor, norm: Tensor, limit: int | None) -> Tensor:
        """Count a step, and return whether it is to be skipped; see `SkippedSteps.count`."""
        self.unread = True
        counted, (total, row, _) = bad & ~self._stopped, self._counts
        new = torch.stack([total + 1, row + 1, torch.full_like(row, step)])
        taken = torch.stack([total, torch.zeros_like(row), self._counts[2]])
        counts = torch.where(bad, new, taken)
        self._counts = torch.where(self._stopped, self._counts, counts)
        self._last = torch.where(counted, torch.stack([loss.to(self._last), norm.to(self._last)]), self._last)
        skip = bad | self._stopped
        if limit is not None:
            self._stopped = self._stopped | (counted & (self._counts[1] > limit))
        return skip

    def read(self) -> tuple[list[int], list[float]]:
        """Return the counts and the last loss and norm; waits for the device."""
        self.unread = False
        return self._counts.cpu().tolist(), self._last.cpu().tolist()


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


@torch.no_grad()
def keep_buffers(model: nn.Module, before: dict[str, Tensor], bad: Tensor) -> None:
    """Restore buffers where a step is `bad`, else remember them; does not wait for the device."""
    for name, buffer in model.named_buffers():
        if name in before and before[name].shape == buffer.shape:
            buffer.copy_(torch.where(bad.to(buffer.device), before[name], buffer))
    remember_buffers(model, before)
