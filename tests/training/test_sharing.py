"""A checkpoint is shared as its trainer would be: the same folder, to the last bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from shortest_path.corruptions import ClockCorruption
from shortest_path.training import save_checkpoint, share_checkpoint, write_checkpoint
from tests.training.networks import LabelledNet, Net, batches, trainer, weights
from tests.worlds import TO_SAVE, spectrum


def contents(folder: Path) -> dict[str, Any]:
    """Return what is in the files of a folder; arrays as their bytes."""
    with np.load(folder / "arrays.npz", allow_pickle=False) as archive:
        arrays = {name: (archive[name].dtype, archive[name].tobytes()) for name in archive.files}
    (network,) = folder.glob("model.*")
    return {
        "description": json.loads((folder / "sampler.json").read_text()),
        "arrays": arrays,
        "weights": network.read_bytes(),
    }


@pytest.mark.parametrize("name", TO_SAVE)
def test_a_checkpoint_gives_the_folder_of_its_trainer_to_the_last_bit(name: str, tmp_path: Path) -> None:
    one = trainer(name, prediction="data")
    one.fit(batches(2), steps=3, checkpoint_dir=tmp_path / "run")
    options: dict[str, Any] = {"steps": 3, "solver": "ddim"}
    one.save_pretrained(tmp_path / "a", **options)
    share_checkpoint(tmp_path / "run", tmp_path / "b", **options)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    again = sp.Sampler.from_pretrained(tmp_path / "b", Net())
    noise = torch.randn(2, 3, 8, 8)
    assert torch.equal(again.sample((2, 3, 8, 8), x_1=noise), one.sampler(**options).sample((2, 3, 8, 8), x_1=noise))


def test_what_the_checkpoint_knows_of_the_run_is_shared(tmp_path: Path) -> None:
    data = spectrum("fourier")
    null = {"y": 4}
    one = sp.DiffusionTrainer(
        LabelledNet(),
        sp.GaussianCorruption("flow"),
        spectrum=data,
        prediction="whitened-velocity",
        ema_decay=(0.5, 0.9),
        ema_warmup=False,
        label_name="y",
        drop_conditioning=0.5,
        null_conditioning=null,
    )
    labelled = [(x, torch.arange(8) % 4) for x in batches(2)]
    one.fit(labelled, steps=4, checkpoint_dir=tmp_path / "run")
    file = tmp_path / "run" / "checkpoint-00000004.pt"
    one.save_pretrained(tmp_path / "a", guidance_scale=2.0)
    share_checkpoint(file, tmp_path / "b", guidance_scale=2.0)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    shared = share_checkpoint(file, tmp_path / "b", LabelledNet(), ema_decay=0.9)
    assert isinstance(shared.model, LabelledNet)
    assert torch.equal(weights(shared.model), weights(one.ema_models[0.9]))
    assert not torch.equal(weights(one.ema_models[0.9]), weights(one.ema_model))
    with pytest.raises(ValueError, match=r"has no average of decay 0\.7, it has 0\.5, 0\.9; choose one, or omit"):
        share_checkpoint(file, tmp_path / "b", ema_decay=0.7)
    plain = sp.DiffusionTrainer(Net(), sp.GaussianCorruption("flow"), ema_decay=None)
    plain.fit(batches(1), steps=1, checkpoint_dir=tmp_path / "plain")
    again = share_checkpoint(tmp_path / "plain", tmp_path / "c", Net())
    assert isinstance(again.model, Net)
    assert torch.equal(weights(again.model), weights(plain.model))
    with pytest.raises(ValueError, match=r"has no average of decay 0\.9, it has none"):
        share_checkpoint(tmp_path / "plain", tmp_path / "c", ema_decay=0.9)


def test_a_checkpoint_holds_equal_tables_once() -> None:
    one = trainer("shortest-cosine", spectrum=spectrum())
    described = one.state_dict()["sampler"]
    tables = [value for part in ("corruption", "spectrum") for value in described[part].values()]
    tables = [value for value in tables if isinstance(value, Tensor) and value.numel() > 1]
    assert len({id(each) for each in tables}) < len(tables)
    assert sum(torch.equal(tables[0], each) for each in tables if each.shape == tables[0].shape) > 1


def test_what_cannot_be_described_trains_and_resumes_and_the_reason_is_told(tmp_path: Path) -> None:
    class Odd(sp.GaussianCorruption):
        def __deepcopy__(self, memo: object) -> None:
            raise RuntimeError("cannot be copied")

    made_of_function = ClockCorruption(spectrum(), lambda t: math.pi / 2 * t)
    for corruption, reason in (
        (made_of_function, "cannot save ClockCorruption: "),
        (Odd("flow"), "cannot save Odd: it is not a registered corruption"),
    ):
        folder = tmp_path / type(corruption).__name__
        for steps in (2, 3):
            one = sp.DiffusionTrainer(Net(), corruption)
            one.fit(batches(2), steps=steps, checkpoint_dir=folder)
            assert one.step == steps
        with pytest.raises(ValueError, match=f"has no description of its sampler: {reason}"):
            share_checkpoint(folder, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_checkpoints_without_a_description_are_continued_exactly_and_not_shared(tmp_path: Path) -> None:
    straight = trainer()
    straight.fit(batches(2), steps=4)
    old = trainer()
    old.fit(batches(2), steps=2)
    state = old.state_dict()
    del state["sampler"]
    save_checkpoint(tmp_path, 2, state, keep=1)
    with pytest.raises(
        ValueError, match="has no description of its sampler: it was written without one, .*Make its trainer again"
    ):
        share_checkpoint(tmp_path, tmp_path / "out")
    new = trainer()
    new.fit(batches(2), steps=4, checkpoint_dir=tmp_path)
    assert torch.equal(weights(new.model), weights(straight.model))
    share_checkpoint(tmp_path, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint-<step>.pt; pass the checkpoint_dir of fit"):
        share_checkpoint(tmp_path / "out", tmp_path / "other")


def test_weights_alone_can_be_saved_and_not_called(tmp_path: Path) -> None:
    trainer().fit(batches(1), steps=1, checkpoint_dir=tmp_path)
    shared = share_checkpoint(tmp_path, tmp_path / "out", steps=2)
    with pytest.raises(TypeError, match=r"only the weights of the Net are known, .*; pass model=Net\(...\), made as"):
        shared.sample((1, 3, 8, 8))
    wrong: Any = Net
    with pytest.raises(TypeError, match="model must be a module that takes the weights, got the class Net; pass an in"):
        share_checkpoint(tmp_path, tmp_path / "out", wrong)
    with pytest.raises(ValueError, match="(?s)the weights of the Net do not fit this Conv2d"):
        share_checkpoint(tmp_path, tmp_path / "out", nn.Conv2d(3, 3, 1))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_network_inside_a_wrapper_is_passed_to_who_shares_or_who_loads(compiled: bool, tmp_path: Path) -> None:
    data = spectrum()
    corruption = sp.ShortestPathCorruption(data)
    inside: Any = torch.compile(Net(), backend="eager") if compiled else Net()
    model = sp.models.WhitenedInput(inside, corruption, data, alone=True)
    one = sp.DiffusionTrainer(model, corruption, spectrum=data, prediction="whitened-velocity")
    one.fit(batches(2), steps=2, checkpoint_dir=tmp_path / "run")
    noise = torch.randn(2, 3, 8, 8)
    expected = one.sampler(steps=2).sample((2, 3, 8, 8), x_1=noise)
    shared = share_checkpoint(tmp_path / "run", tmp_path / "a", steps=2)
    assert isinstance(shared.model, sp.models.WhitenedInput)
    with pytest.raises(TypeError, match=r"only the weights of the Net are known, .*; pass model=Net\(...\)"):
        shared.sample((1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"the model in .* is a Net, which no .*; pass model=Net\(...\), made as for"):
        sp.Sampler.from_pretrained(tmp_path / "a")
    known = share_checkpoint(tmp_path / "run", tmp_path / "b", Net(), steps=2)
    for sampler in (known, *(sp.Sampler.from_pretrained(tmp_path / name, Net()) for name in "ab")):
        assert torch.equal(sampler.sample((2, 3, 8, 8), x_1=noise), expected)


def test_what_is_not_of_a_training_is_refused_with_the_reason(tmp_path: Path) -> None:
    one = trainer()
    one.fit(batches(1), steps=1, checkpoint_dir=tmp_path / "run")
    wrong: Any = "x"
    with pytest.raises(ValueError, match=r"has no average of decay 'x', it has .*; choose one, or omit ema_decay"):
        share_checkpoint(tmp_path / "run", tmp_path / "out", ema_decay=wrong)
    with pytest.raises(FileNotFoundError, match="elsewhere does not exist; pass the checkpoint_dir of fit, or a file"):
        share_checkpoint(tmp_path / "elsewhere", tmp_path / "out")
    file = tmp_path / "run" / "checkpoint-00000001.pt"
    for checkpoint in (tmp_path / "run", file):
        with pytest.raises(ValueError, match="run holds the checkpoints that are shared; pass another folder, e"):
            share_checkpoint(checkpoint, tmp_path / "run" / ".." / "run")
    assert [each.name for each in (tmp_path / "run").iterdir()] == [file.name]
    with pytest.raises(ValueError, match=r"folder is empty; pass '\.' for the present folder"):
        share_checkpoint(file, "")
    with pytest.raises(ValueError, match="checkpoint is empty; pass the checkpoint_dir of fit"):
        share_checkpoint("", tmp_path / "out")
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(ValueError, match=r"notes\.txt is not a checkpoint: it does not begin as the zip archives of"):
        share_checkpoint(tmp_path / "notes.txt", tmp_path / "out")
    for state in ({"a": 1}, {}, nn.Linear(1, 1).state_dict(), {"sampler": one.state_dict()["sampler"]}):
        write_checkpoint(tmp_path / "other.pt", state)
        with pytest.raises(
            ValueError,
            match=r"other\.pt is not a checkpoint of DiffusionTrainer: expected 'model' or 'ema', got .*; pass the ",
        ):
            share_checkpoint(tmp_path / "other.pt", tmp_path / "out")
    save_checkpoint(tmp_path / "foreign", 1, one.state_dict() | {"sampler": {"steps": 3}}, keep=1)
    with pytest.raises(ValueError, match="the description is not of a sampler: its format is None, expected 'shortest"):
        share_checkpoint(tmp_path / "foreign", tmp_path / "out")


@pytest.mark.parametrize(
    ("damaged", "options", "message"),
    [
        ({"ema": 3}, {}, "the weights of the Net must be a mapping of names to tensors, got int; save them again"),
        ({"ema": None, "model": [1]}, {}, "the weights of the Net must be a mapping of names to tensors, got list"),
        ({"ema": {3: torch.ones(1)}}, {}, "the weights of the Net must be a mapping of names to tensors, got dict"),
        ({"config": 3}, {"ema_decay": 0.5}, r"\.pt requires 'config', an object, got 3"),
        ({"average": 3}, {"ema_decay": 0.5}, r"\.pt requires 'average', an object, got 3"),
    ],
)
def test_a_damaged_average_is_refused(damaged: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run", 1, trainer().state_dict() | damaged, keep=1)
    with pytest.raises(ValueError, match=message):
        share_checkpoint(tmp_path / "run", tmp_path / "out", Net(), **options)
