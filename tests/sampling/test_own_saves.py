"""Models that write themselves: what comes back of their weights, and what is said where they cannot."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from shortest_path.sampling import register_model

safetensors = pytest.importorskip("safetensors.torch")
FLOW = sp.GaussianCorruption("flow")
load = sp.Sampler.from_pretrained


class Net(nn.Module):
    """A network that writes nothing itself; its second layer shares the weight of the first."""

    grid: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.second.weight = self.first.weight
        self.register_buffer("grid", torch.linspace(0, 1, 8), persistent=False)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.second(torch.tanh(self.first(x_t.to(self.first.weight)))) + self.grid
        return output.to(x_t)


class Hub(Net):
    """A network that writes itself as those of the Hugging Face hub do."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()
        safetensors.save_model(self, str(folder / "model.safetensors"))

    @classmethod
    def from_pretrained(cls, folder: Path) -> Hub:
        made = cls()
        safetensors.load_model(made, str(folder / "model.safetensors"))
        return made


class Taking(Hub):
    """A network whose constructor takes what its files do not have."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table


class Pickling(Net):
    """A network that writes itself in a format of its own."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()
        torch.save(self.state_dict(), folder / "w.pt")

    @classmethod
    def from_pretrained(cls, folder: Path) -> Pickling:
        made = cls()
        made.load_state_dict(torch.load(folder / "w.pt", weights_only=True))
        return made


class OneWay(Net):
    """A network that writes itself, and can be read by nothing."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "w.txt").write_text("")


class Scaling(Hub):
    """A network whose weights are not those of its file."""

    @classmethod
    def from_pretrained(cls, folder: Path) -> Hub:
        made = super().from_pretrained(folder)
        with torch.no_grad():
            made.first.bias.mul_(2)
        return made


def trained(kind: Any, dtype: torch.dtype, *arguments: Any) -> Any:
    model = kind(*arguments).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    return model.requires_grad_(False)


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip((*ours.parameters(), *ours.buffers()), (*theirs.parameters(), *theirs.buffers()), strict=True)
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.float32])
def test_the_types_of_the_weights_come_back(dtype: torch.dtype, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("shortest_path.sampling._saved_models._MODELS", {})
    model = trained(Hub, dtype)
    sampler = sp.Sampler(model, FLOW, steps=2)
    sampler.save_pretrained(tmp_path)
    x_1 = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    register_model(Hub)
    for given in (Hub, Hub().to(dtype), Net().to(dtype), None):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again: Any = load(tmp_path, given)
        assert same(again.model, model)
        assert again.model.first.weight is again.model.second.weight
        again.model.requires_grad_(False)
        assert torch.equal(again.sample((1, 3, 8, 8), x_1=x_1), sampler.sample((1, 3, 8, 8), x_1=x_1))


def test_each_weight_has_its_own_type(tmp_path: Path) -> None:
    model = trained(Hub, torch.float32)
    model.second.bias.data = model.second.bias.data.double() / 3
    sp.Sampler(model, FLOW, steps=2).save_pretrained(tmp_path)
    assert same(load(tmp_path, Hub).model, model)  # type: ignore[arg-type]


def test_what_a_class_makes_of_its_files_is_kept(tmp_path: Path) -> None:
    model = trained(Scaling, torch.float64)
    sp.Sampler(model, FLOW, steps=2).save_pretrained(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"the weights in .* are rounded from torch\.float64 to torch\.float32 by"):
        again: Any = load(tmp_path, Scaling)
    assert torch.equal(again.model.first.bias, 2 * model.first.bias.float())
    with pytest.warns(RuntimeWarning, match="are rounded"):
        again = load(tmp_path, Scaling())
    assert torch.equal(again.model.first.bias, 2 * model.first.bias.float())


def test_digits_that_a_class_rounds_are_told(tmp_path: Path) -> None:
    sp.Sampler(trained(Pickling, torch.float64), FLOW, steps=2).save_pretrained(tmp_path)
    message = (
        r"are rounded from torch\.float64 to torch\.float32 by Pickling\.from_pretrained; let it make a model of "
        r"torch\.float64, or give Pickling load_pretrained\(folder\), and pass an instance of torch\.float64"
    )
    for given in (Pickling, Pickling().double()):
        with pytest.warns(RuntimeWarning, match=message):
            load(tmp_path, given)


def test_a_model_that_only_writes_itself_is_saved_as_any_module(tmp_path: Path) -> None:
    model = trained(OneWay, torch.float32)
    sp.Sampler(model, FLOW, steps=2).save_pretrained(tmp_path)
    assert not (tmp_path / "model").exists()
    assert same(load(tmp_path, OneWay()).model, model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"saved weights, got the class OneWay; pass model=OneWay\(...\), made as for"):
        load(tmp_path, OneWay)

    class Thing:
        def save_pretrained(self, folder: Path) -> None:
            folder.mkdir()

        def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
            return x_t

    with pytest.raises(TypeError, match="or an object with save_pretrained and from_pretrained, can be saved, got"):
        sp.Sampler(Thing(), FLOW).save_pretrained(tmp_path / "thing")
    assert not (tmp_path / "thing").exists()


def test_a_model_that_loads_into_an_instance_needs_no_more(tmp_path: Path) -> None:
    class Into(OneWay):
        def save_pretrained(self, folder: Path) -> None:
            folder.mkdir()
            torch.save(self.state_dict(), folder / "w.pt")

        def load_pretrained(self, folder: Path) -> None:
            self.load_state_dict(torch.load(folder / "w.pt", weights_only=True))

    model = trained(Into, torch.float32)
    sp.Sampler(model, FLOW, steps=2).save_pretrained(tmp_path)
    assert same(load(tmp_path, Into()).model, model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="by save_pretrained of Into; pass a class with from_pretrained, or an inst"):
        load(tmp_path, Into)


def test_a_class_that_cannot_make_its_model_takes_an_instance(tmp_path: Path) -> None:
    table = torch.ones(3)
    model = trained(Taking, torch.float32, table)
    sp.Sampler(model, FLOW, steps=2).save_pretrained(tmp_path)
    with pytest.raises(
        TypeError,
        match=r"Taking\.from_pretrained could not make the model in .*missing 1 .*'table'.*; pass model=Taking\(...\)",
    ):
        load(tmp_path, Taking)
    given = Taking(table)
    assert load(tmp_path, given).model is given
    assert same(given, model)


def test_an_instance_that_its_class_cannot_make_is_told_what_it_lacks(tmp_path: Path) -> None:
    class Own(Pickling):
        def __init__(self, table: Tensor) -> None:
            super().__init__()

    sp.Sampler(Own(torch.ones(3)), FLOW, steps=2).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=r"missing 1 .*; give Own a method load_pretrained\(folder\), which loads into"):
        load(tmp_path, Own(torch.ones(3)))
