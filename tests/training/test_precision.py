"""Training in float16: the loss is scaled, and its scale lowered where gradients overflow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from tests.training.networks import batches, weights


class Loud(nn.Module):
    """Its loss, and so its gradient, can be made large."""

    def __init__(self, volume: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.volume = nn.Conv2d(3, 3, 3, padding=1), volume

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.layer(x_t) * self.volume
        return output


def trainer(volume: float = 1.0, precision: str = "fp16", **options: object) -> sp.DiffusionTrainer:
    return sp.DiffusionTrainer(Loud(volume), sp.GaussianCorruption(), precision=precision, **options)


def test_float16_trains_as_float32_does() -> None:
    half, full = (
        trainer(learning_rate=1e-2, max_grad_norm=1.0),
        trainer(precision="fp32", learning_rate=1e-2, max_grad_norm=1.0),
    )
    steps = [(half.train_step([batch]), full.train_step([batch])) for batch in batches() * 5]
    for ours, theirs in steps:
        torch.testing.assert_close(ours.loss, theirs.loss, rtol=5e-3, atol=0)
        torch.testing.assert_close(ours.grad_norm, theirs.grad_norm, rtol=5e-3, atol=0)
    assert half.skipped == 0


def test_an_overflow_lowers_the_scale_and_does_not_count() -> None:
    # 10 halvings would be too many skipped steps, were they counted.
    run, before = trainer(volume=300.0, max_skipped=2), weights(Loud())
    first = run.train_step([batches()[0]])
    assert first.skipped
    assert torch.equal(weights(run.model), before)
    run.fit(batches(), steps=15)
    assert run.skipped == 0
    assert not torch.equal(weights(run.model), before)


def test_a_loss_that_is_not_finite_counts() -> None:
    run = trainer(volume=float("inf"), max_skipped=2)
    warned = pytest.warns(RuntimeWarning, match="skipped step")
    with warned, pytest.raises(sp.training.NonFiniteError, match="3 consecutive steps"):
        run.fit(batches(), steps=5)
    assert run.skipped == 3


def test_a_resumed_training_continues_with_its_scale(tmp_path: Path) -> None:
    whole = trainer(volume=300.0)
    whole.fit(batches(), steps=14)
    first = trainer(volume=300.0)
    first.fit(batches(), steps=8, checkpoint_dir=tmp_path)
    second = trainer(volume=300.0)
    second.fit(batches(), steps=14, checkpoint_dir=tmp_path)
    assert torch.equal(weights(second.model), weights(whole.model))


def test_float16_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="requires weights in float32, got float16; pass model.float()"):
        sp.DiffusionTrainer(Loud().half(), sp.GaussianCorruption(), precision="fp16")
