"""Taking a step, or skipping one that is not finite: decided by the host, or on the device without waiting for it."""

from __future__ import annotations

from torch import Tensor

from ._nonfinite import SkippedSteps
from ._ranks import Ranks
from ._weights import Weights

_GRADIENT = 1  # what was not finite in a step: the gradient alone, else the loss of some rank


def take_or_skip(
    weights: Weights, skipped: SkippedSteps, ranks: Ranks, *, step: int, loss: Tensor, norm: Tensor, limit: int | None
) -> bool | Tensor:
    """Move the weights unless loss or gradient is not finite on some rank; return whether the step was skipped.

    Args:
        weights: The weights with their gradients.
        skipped: Counts the step if it is skipped.
        ranks: The processes, which decide together.
        step: The number of the step.
        loss: Its loss on this rank.
        norm: Norm of its gradient.
        limit: See `SkippedSteps.count`.

    Returns:
        A tensor, and nothing waits for it, if the optimizer can be told by the device; else the host's answer.
    """
    if weights.can_skip_on_device():
        bad = skipped.count(step, ranks.any(~(loss.isfinite() & norm.isfinite())), loss, norm, limit)
        weights.move_unless(bad, norm)
        return bad
    wrong = ranks.largest(2 * (~loss.isfinite()) + (~norm.isfinite()).int())
    if wrong == 0:
        skipped.end_row()
        weights.move(norm)
        return False
    if not (wrong == _GRADIENT and weights.scale_is_too_large()):
        skipped.add(step, loss, norm)
    weights.stay()
    return True
