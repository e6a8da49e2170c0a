"""Several averages of the weights: each as if it were alone, together in every checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import shortest_path as sp
from shortest_path.models import WhitenedInput
from shortest_path.training import load_checkpoint
from tests.training.networks import batches, layer, net, weights
from tests.worlds import spectrum

DECAYS = (0.9, 0.5, 0.99)


def made(decay: float | tuple[float, ...] | list[float]) -> sp.DiffusionTrainer:
    return sp.DiffusionTrainer(net(), sp.GaussianCorruption("flow"), ema_decay=decay, ema_warmup=False)


def trained(decay: float | tuple[float, ...], **options: object) -> sp.DiffusionTrainer:
    result = made(decay)
    torch.manual_seed(3)  # of dropout
    result.fit(batches(), **{"steps": 7, **options})
    return result


def test_each_average_is_the_one_of_its_decay_alone() -> None:
    several = trained(DECAYS)
    assert list(several.ema_models) == list(DECAYS)
    assert several.ema_model is several.ema_models[0.9]  # the first
    assert several.sampler(steps=2).model is several.ema_model
    for decay in DECAYS:
        assert torch.equal(weights(several.ema_models[decay]), weights(trained(decay).ema_model))
        assert not several.ema_models[decay].training
    assert sp.DiffusionTrainer(net(), sp.GaussianCorruption(), ema_decay=None).ema_models == {}
    assert made(list(DECAYS)).options == several.options


def test_all_averages_continue_exactly(tmp_path: Path) -> None:
    straight = trained(DECAYS)
    trained(DECAYS, steps=4, checkpoint_dir=tmp_path)
    again = made(DECAYS)
    again.fit(batches(), steps=7, checkpoint_dir=tmp_path)
    for decay in DECAYS:
        assert torch.equal(weights(again.ema_models[decay]), weights(straight.ema_models[decay]))
    state = load_checkpoint(tmp_path / "checkpoint-00000007.pt")
    assert torch.equal(state["ema"]["first.weight"], straight.ema_model.first.weight)
    found = state["average"]["others"][0.99]["model"]["first.weight"]
    assert torch.equal(found, straight.ema_models[0.99].first.weight)


def test_other_decays_are_refused_or_begin_from_the_average_that_there_is(tmp_path: Path) -> None:
    before = trained(DECAYS, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"ema_decay: \(0.9, 0.5, 0.99\) in the checkpoint, \(0.99, 0.3\) here"):
        made((0.99, 0.3)).fit(batches(), steps=7, checkpoint_dir=tmp_path)
    other = made((0.99, 0.3))
    other.fit(batches(), steps=7, checkpoint_dir=tmp_path, allow_changes=("ema_decay",))
    assert torch.equal(weights(other.ema_models[0.99]), weights(before.ema_models[0.99]))
    assert torch.equal(weights(other.ema_models[0.3]), weights(before.ema_model))  # new: from the main one
    state = before.state_dict()
    state["average"]["others"][0.5]["model"].pop("first.bias")
    with pytest.raises(ValueError, match="the state's ema does not fit this trainer's: missing first.bias"):
        made(DECAYS).load_state_dict(state)


# --- averages that a state does not have ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("warmup", [None, False])
def test_averages_begin_at_the_weights_of_a_state_without_averages(
    tmp_path: Path, kind: torch.dtype, warmup: bool | None
) -> None:
    def of(decay: float | tuple[float, ...] | None, seed: int) -> sp.DiffusionTrainer:
        options = {} if decay is None else {"ema_warmup": warmup}
        return sp.DiffusionTrainer(
            net(seed).to(kind), sp.GaussianCorruption("flow"), ema_decay=decay, learning_rate=1e-2, **options
        )

    allowed = ("ema_decay", "ema_warmup")
    before, straight = of(None, 0), of(None, 0)
    before.fit(batches(), steps=4, checkpoint_dir=tmp_path / "before")
    state = load_checkpoint(tmp_path / "before" / "checkpoint-00000004.pt")
    straight.load_state_dict(state)
    expected = sp.training.ExponentialMovingAverage(straight.model, 0.5, warmup=warmup is None)  # begins there
    straight.fit(batches(), steps=7, callbacks=[lambda who, step: expected.update(who.model)])

    one = of((0.9, 0.5), 1)
    one.fit(batches(), steps=2)  # as its averages have counted, which they must forget
    held = one.ema_models
    one.load_state_dict(state, allow_changes=allowed)
    for model in held.values():
        assert torch.equal(weights(model), weights(before.model))
    one.fit(batches(), steps=7)
    assert torch.equal(weights(one.ema_models[0.5]), weights(expected.model))
    assert one.ema_models[0.5] is held[0.5]

    resumed, again = of((0.9, 0.5), 1), of((0.9, 0.5), 2)
    resumed.fit(batches(), steps=6, checkpoint_dir=tmp_path / "before", allow_changes=allowed)
    again.fit(batches(), steps=7, checkpoint_dir=tmp_path / "before")
    assert torch.equal(weights(again.ema_models[0.5]), weights(expected.model))


@pytest.mark.parametrize(("theirs", "ours"), [("float64", "float32"), ("float32", "bfloat16"), ("bfloat16", "float32")])
def test_an_average_of_another_type_is_refused(theirs: str, ours: str) -> None:
    given, own = (
        sp.training.ExponentialMovingAverage(net(seed).to(getattr(torch, kind)), 0.9)
        for seed, kind in enumerate((theirs, ours))
    )
    before = weights(own.model)
    message = (
        f"the state's model does not fit this average's: first.bias torch.{theirs} instead of torch.{ours}, .* and "
        rf"\d+ more; to continue exactly, make the average of model.to\(torch.{theirs}\)"
    )
    with pytest.raises(ValueError, match=message):
        own.load_state_dict(given.state_dict())
    with pytest.raises(ValueError, match="the state's model does not fit this average's: missing first.bias, missing"):
        own.load_state_dict(sp.training.ExponentialMovingAverage(torch.nn.Conv2d(3, 3, 1), 0.9).state_dict())
    assert torch.equal(weights(own.model), before)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_an_average_may_begin_anew(kind: torch.dtype) -> None:
    first, other = net(0).to(kind), net(1).to(kind)
    average, new = (sp.training.ExponentialMovingAverage(model, 0.9) for model in (first, other))
    average.update(first)
    average.begin(other.state_dict())
    assert average.updates == 0
    with torch.no_grad():
        other.first.weight.add_(0.1)
    for each in (average, new):
        each.update(other)
    torch.testing.assert_close(average.state_dict(), new.state_dict(), rtol=0, atol=0)
    with pytest.raises(ValueError, match="the state's model does not fit this average's: missing first.bias"):
        average.begin(torch.nn.Conv2d(3, 3, 1).state_dict())
    with pytest.raises(TypeError, match=r"model must be a dictionary, as state_dict\(\) returns it, got None"):
        average.begin(None)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_frozen_weights_and_those_that_are_named_are_copied(kind: torch.dtype) -> None:
    model = net().to(kind)
    model.first.weight.requires_grad_(False)
    average = sp.training.ExponentialMovingAverage(model, 0.9, copied=["first.bias"])
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(5.0)
    for _ in range(2):
        average.update(model)
        assert torch.equal(average.model.first.weight, model.first.weight)
        assert torch.equal(average.model.first.bias, model.first.bias)
        assert not torch.equal(average.model.last.weight, model.last.weight)


@pytest.mark.parametrize(
    ("copied", "error", "message"),
    [
        ("first.bias", TypeError, "copied must be a collection of names, .* got 'first.bias'"),
        (None, TypeError, "copied must be a collection of names, .* got None"),
        (["first.bais"], ValueError, r"copied must be names of weights of Net, got \['first.bais'\]"),
    ],
)
def test_names_that_are_no_weights_are_refused(copied: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sp.training.ExponentialMovingAverage(net(), 0.9, copied=copied)


@pytest.mark.parametrize(("updates", "error"), [(-11, ValueError), ("x", TypeError)])
def test_a_state_with_another_number_of_updates_changes_nothing(updates: Any, error: type[Exception]) -> None:
    average = sp.training.ExponentialMovingAverage(net(), 0.9)
    before, state = weights(average.model).clone(), sp.training.ExponentialMovingAverage(net(1), 0.9).state_dict()
    with pytest.raises(error, match="updates must be"):
        average.load_state_dict({**state, "updates": updates})
    assert torch.equal(weights(average.model), before)


def test_averages_have_the_corruption_that_is_learned() -> None:
    class Learned(sp.GaussianCorruption):
        def __init__(self) -> None:
            super().__init__("flow")
            self.rate = torch.nn.Parameter(torch.zeros(()))

        def scales(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            signal, noise = super().scales(t)
            return signal, noise * self.rate.exp()

    corruption = Learned()
    model = WhitenedInput(layer(), corruption, spectrum(), alone=True)
    trained = sp.DiffusionTrainer(
        model, corruption, ema_decay=0.9, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)
    )
    trained.fit(batches(), steps=3)
    assert corruption.rate.item() != 0
    assert trained.ema_model.corruption.rate.item() == corruption.rate.item()
