"""Training loops of one's own around `DiffusionLoss`: plain, with accelerate, and with lightning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import shortest_path as sp
from shortest_path.training import ExponentialMovingAverage
from tests.training.networks import net
from tests.worlds import CORRUPTIONS, correlated_images


@pytest.fixture
def loss() -> sp.DiffusionLoss:
    return sp.DiffusionLoss(CORRUPTIONS["shortest-cosine"](), "data", time_sampling="stratified")


def loader() -> DataLoader:
    return DataLoader(TensorDataset(correlated_images(64).float()), batch_size=16)


def measured(loss: sp.DiffusionLoss, model: nn.Module) -> float:
    model = model.eval()
    with torch.no_grad():
        return loss(model, correlated_images(64).float(), generator=torch.Generator().manual_seed(0)).item()


def test_a_plain_loop(loss: sp.DiffusionLoss) -> None:
    model = net(dropout=0.0)
    optimizer, average = torch.optim.AdamW(model.parameters(), 1e-2), ExponentialMovingAverage(model, 0.9)
    generator, before = torch.Generator().manual_seed(1), measured(loss, model)
    for _ in range(10):
        model.train()
        for (x_0,) in loader():
            optimizer.zero_grad()
            loss(model, x_0, generator=generator).backward()
            optimizer.step()
            average.update(model)
    assert measured(loss, model) < 0.9 * before
    assert measured(loss, average.model) < 0.9 * before
    sampler = sp.Sampler(average.model, CORRUPTIONS["shortest-cosine"](), prediction=loss.prediction, steps=3)
    assert sampler.sample((2, 3, 8, 8)).isfinite().all()


def test_a_loop_that_calls_the_model_itself(loss: sp.DiffusionLoss) -> None:
    model, (x_0,) = net(dropout=0.0), next(iter(loader()))
    t, eps = loss.times.sample(len(x_0), None, x_0.device), torch.randn_like(x_0)
    task = loss.task(x_0, t, eps)
    assert torch.equal(task.loss(model(task.x_t, task.t)), loss(model, x_0, t=t, eps=eps))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate(loss: sp.DiffusionLoss, precision: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(True)
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision=precision, gradient_accumulation_steps=2)
    model = net(dropout=0.0)
    before = measured(loss, model)
    wrapped, optimizer, data = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 1e-2), loader())
    for _ in range(10):
        wrapped.train()
        for (x_0,) in data:
            with accelerator.accumulate(wrapped):
                accelerator.backward(loss(wrapped, x_0))
                optimizer.step()
                optimizer.zero_grad()
    assert measured(loss, accelerator.unwrap_model(wrapped)) < 0.9 * before


@pytest.mark.filterwarnings("ignore")
def test_lightning(loss: sp.DiffusionLoss, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Diffusion(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = net(dropout=0.0)

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return loss(self.model, batch[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), 1e-2)

    module = Diffusion()
    before = measured(loss, module.model)
    module.train()
    lightning.Trainer(
        accelerator="cpu",
        max_epochs=10,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    ).fit(module, loader())
    assert measured(loss, module.model) < 0.9 * before
