"""Several averages of the weights: each as if it were alone, together in every checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import shortest_path as sp
from shortest_path.training import load_checkpoint
from tests.training.networks import batches, net, weights

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
