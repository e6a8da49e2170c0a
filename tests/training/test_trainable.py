"""What cannot be trained is refused before a step moves anything, with what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from tests.training.networks import batches, layer, net


class Lazy(nn.Module):
    """Its weights have no shape before the first batch."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = nn.LazyConv2d(3, 1) if kind == "weights" else nn.LazyBatchNorm2d(affine=False)
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.last(self.layer(x_t))


class Detached(nn.Module):
    """Returns what no gradient leads back from."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.layer(x_t).detach()


def trainer(model: nn.Module, **options: Any) -> sp.DiffusionTrainer:
    return sp.DiffusionTrainer(model, sp.GaussianCorruption("flow"), **options)


def kept(one: sp.DiffusionTrainer) -> list[Tensor]:
    """Return copies of all that a step moves."""
    averages = [value for model in one.ema_models.values() for value in model.state_dict().values()]
    moments = [value for each in one.optimizer.state.values() for value in each.values()]
    tensors = [*one.model.state_dict().values(), *averages, *moments, one.generator.get_state()]
    return [each.clone() for each in tensors]


def assert_refused(one: sp.DiffusionTrainer, data: list[Tensor], kind: type[Exception], message: str) -> None:
    """Assert that training raises, and that nothing has moved."""
    before, step = kept(one), one.step
    for train in (lambda: one.fit(data, steps=step + 1), lambda: one.train_step(data[:1])):
        with pytest.raises(kind, match=message):
            train()
        assert one.step == step
        for now, then in zip(kept(one), before, strict=True):
            assert torch.equal(now, then)


@pytest.mark.parametrize("kind", ["weights", "buffers"])
@pytest.mark.parametrize("decay", [None, 0.9])
def test_weights_without_a_shape_are_refused(kind: str, decay: float | None) -> None:
    name = "layer.weight" if kind == "weights" else "layer.running_mean"
    message = rf"Lazy has no shape yet for {name}.*; call it once on a batch, model\(x_0, t\), before"
    with pytest.raises(ValueError, match=message):
        trainer(Lazy(kind), ema_decay=decay)
    with pytest.raises(ValueError, match=message):
        sp.training.ExponentialMovingAverage(Lazy(kind), 0.9)
    model = Lazy(kind)
    model(torch.zeros(1, 3, 8, 8), torch.zeros(1))
    trainer(model, ema_decay=decay).fit(batches(1), steps=1)


def test_frozen_weights_are_refused() -> None:
    frozen = trainer(net().requires_grad_(False))  # it may be thawed until it is trained
    assert_refused(frozen, batches(1), ValueError, "all parameters of the optimizer AdamW are frozen; call model.requi")
    frozen.model.requires_grad_(True)
    frozen.fit(batches(1), steps=1)
    frozen.model.requires_grad_(False)
    assert_refused(frozen, batches(1), ValueError, "all parameters of the optimizer AdamW are frozen")
    frozen.model.last.requires_grad_(True)
    frozen.fit(batches(1), steps=2)


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_training_without_gradients_is_refused(without: Callable[[], AbstractContextManager[None]]) -> None:
    one = trainer(net())
    with without():
        message = rf"training requires gradients, which torch.{without.__name__}\(\) .*turns off; train outside of it"
        assert_refused(one, batches(1), RuntimeError, message)
    with torch.inference_mode(), torch.enable_grad():  # which does not end it
        assert_refused(one, batches(1), RuntimeError, "which torch.inference_mode")
    one.fit(batches(1), steps=1)


def test_what_is_made_in_inference_mode_is_refused() -> None:
    trained, other = trainer(net()), trainer(net())
    trained.fit(batches(1), steps=1)
    state = trained.state_dict()
    message = r"tensors made in torch.inference_mode\(\) cannot be trained; {} outside of it"
    with torch.inference_mode():
        model = net()
        with pytest.raises(RuntimeError, match=message.format("make the trainer")):
            trainer(other.model)
        with pytest.raises(RuntimeError, match=message.format("call load_state_dict")):
            other.load_state_dict(state)
        with pytest.raises(RuntimeError, match=message.format("make the average")):
            sp.training.ExponentialMovingAverage(other.model, 0.9)
    with pytest.raises(RuntimeError, match=message.format("make the model")):
        trainer(model)
    with torch.no_grad():  # which leaves tensors as they are
        one = trainer(net())
        one.load_state_dict(state)
    one.fit(batches(1), steps=2)


def test_an_output_without_gradient_is_refused() -> None:
    one = trainer(Detached())
    with pytest.raises(ValueError, match="the loss of Detached does not depend on a parameter that is trained; .*deta"):
        one.fit(batches(1), steps=1)
    assert one.step == 0


@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_model_that_was_cast_is_refused(decay: float | None, steps: int) -> None:
    one = trainer(net(), ema_decay=decay)
    one.fit(batches(1), steps=steps)
    one.model.double()
    double = [batch.double() for batch in batches(1)]
    message = (
        r"first.weight was torch.float32 on cpu when the trainer was made, and is torch.float64 on cpu now; cast or "
        "move the model before making the trainer"
    )
    assert_refused(one, double, ValueError, message)
    one.model.float()
    one.fit(batches(1), steps=steps + 1)


def test_a_trained_corruption_that_was_cast_is_refused() -> None:
    class Learned(sp.GaussianCorruption):
        def __init__(self) -> None:
            super().__init__("flow")
            self.rate = nn.Parameter(torch.zeros(()))

    corruption, model = Learned(), layer()
    optimizer = torch.optim.SGD([*model.parameters(), *corruption.parameters()], lr=0.1)
    one = sp.DiffusionTrainer(model, corruption, optimizer=optimizer)
    corruption.rate.data = corruption.rate.data.double()  # `double` leaves it as it is
    assert_refused(one, batches(1), ValueError, "a parameter of the optimizer was torch.float32 on cpu when")


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_an_average_of_a_model_that_was_cast_is_refused(kind: torch.dtype) -> None:
    model = net()
    average = sp.training.ExponentialMovingAverage(model, 0.9)
    before = [value.clone() for value in average.model.state_dict().values()]
    message = rf"it has no weight 'first.weight' of shape \(8, 3, 3, 3\), {kind} on cpu; make an average of this model"
    for unless in (None, torch.tensor(False)):
        with pytest.raises(ValueError, match=message):
            average.update(model.to(kind), unless=unless)
    assert average.updates == 0
    for now, then in zip(average.model.state_dict().values(), before, strict=True):
        assert torch.equal(now, then)
