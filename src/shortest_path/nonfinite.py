"""Steps whose loss or gradient is not finite: skipped, counted, and explained when there are too many."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_SHOWN = 12  # modules in a report


class NonFiniteError(RuntimeError):
    """Too many steps in a row had a loss or a gradient that is not finite; the text is a report."""


class Evidence(NamedTuple):
    """What a skipped step was like."""

    step: int
    losses: Sequence[Tensor]
    """Of each batch."""
    times: Sequence[Tensor]
    """Of each batch, (B,)."""
    grad_norm: Tensor
    modules: Mapping[str, float]
    """Gradient norms by part of the model."""


class SkippedSteps:
    """How many steps were skipped, and what the last of them was like."""

    def __init__(self) -> None:
        self.total = self.in_a_row = 0
        self._last = Evidence(0, (), (), torch.zeros(()), {})

    def add(self, evidence: Evidence) -> None:
        """Count a step."""
        self.total, self.in_a_row, self._last = self.total + 1, self.in_a_row + 1, evidence

    def end_row(self) -> None:
        """Note that a step was taken."""
        self.in_a_row = 0

    def warn(self, stacklevel: int) -> None:
        """Tell of the step just skipped, if it is the first, second, fourth, eighth ... of all."""
        if self.in_a_row and self.total & (self.total - 1) == 0:
            warnings.warn(
                f"skipped step {self._last.step}: {_what(self._last)}; {self.total} skipped so far",
                RuntimeWarning,
                stacklevel=stacklevel + 1,
            )

    def report(self, before: Mapping[str, Any], after: Mapping[str, Any], saved: str) -> str:
        """Return in words what happened in the steps skipped in a row, and what to try.

        Args:
            before: The position in the data from which they read, as `BatchStream` returns it.
            after: The position they reached.
            saved: Where the state from before is.
        """
        last = self._last
        bad = [times for times, loss in zip(last.times, last.losses, strict=False) if not math.isfinite(loss)]
        times = f"{_span(last.times)}; of batches with a non-finite loss {_span(bad)}"
        norms = sorted(last.modules.items(), key=lambda item: (math.isfinite(item[1]), -item[1]))
        shown = ", ".join(f"{name} {norm:.3g}" for name, norm in norms[:_SHOWN])
        more = f", and {len(norms) - _SHOWN} more" if len(norms) > _SHOWN else ""
        return (
            f"{self.in_a_row} steps in a row were skipped, as the loss or the gradient was not finite; "
            f"the weights are those after step {last.step - self.in_a_row}\n"
            f"  steps: {last.step - self.in_a_row + 1} to {last.step}\n"
            f"  batches: {_batches(before, after)}\n"
            f"  the last step: {_what(last)}\n"
            f"  its times: {times}\n"
            f"  its gradient norms: {shown}{more}\n"
            f"  {saved}\n"
            "Look at those batches; try a lower learning rate, max_grad_norm, or precision='fp32'; "
            "torch.autograd.set_detect_anomaly(True) finds the operation; max_skipped sets how many may be skipped"
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


def norms_by_module(model: nn.Module) -> dict[str, float]:
    """Return the gradient norms of a model's parts; of one that only wraps another, those of the other."""
    prefix = ""
    while len(parts := dict(model.named_children())) == 1 and not list(model.parameters(recurse=False)):
        ((name, model),) = parts.items()
        prefix += f"{name}."
    parts = {name: part for name, part in parts.items() if list(part.parameters())}
    found = {f"{prefix}{name}": gradient_norm(part.parameters()).item() for name, part in parts.items()}
    own = list(model.parameters(recurse=False))
    return found | ({f"{prefix}(own)": gradient_norm(own).item()} if own else {})


@torch.no_grad()
def restore_buffers(model: nn.Module, average: nn.Module) -> None:
    """Undo what a forward pass did to buffers, say batch statistics, of which the average holds those from before."""
    for mine, before in zip(model.buffers(), average.buffers(), strict=True):
        mine.copy_(before)


def _what(evidence: Evidence) -> str:
    loss = sum(loss.item() for loss in evidence.losses)
    return f"its loss is {loss:.4g}, its gradient norm {evidence.grad_norm.item():.4g}"


def _batches(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if before["epoch"] == after["epoch"]:
        return f"{before['batch'] + 1} to {after['batch']} of pass {after['epoch']}"
    return f"after {before['batch']} of pass {before['epoch']}, up to {after['batch']} of pass {after['epoch']}"


def _span(times: Sequence[Tensor]) -> str:
    drawn = [time for time in times if time.numel()]
    if not drawn:
        return "none"
    return f"{min(time.min().item() for time in drawn):.4g} to {max(time.max().item() for time in drawn):.4g}"
