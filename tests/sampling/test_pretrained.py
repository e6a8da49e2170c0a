"""A sampler as a folder: what is written, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from shortest_path.sampling import _saved_models, register_model
from tests.worlds import CORRUPTIONS, TO_SAVE, spectrum


class Model(nn.Module):
    """A model whose output depends on all that it is given."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, width, 1)

    def forward(self, x_t: Tensor, t: Tensor, *, label: Tensor | None = None) -> Tensor:
        shift = 0 if label is None else label.view(-1, 1, 1, 1)
        return torch.tanh(self.layer(x_t) + t.view(-1, 1, 1, 1) + shift)


@pytest.mark.parametrize("name", TO_SAVE)
def test_samples_of_a_loaded_sampler_are_the_same_to_the_last_bit(name: str, tmp_path: Path) -> None:
    corruption = CORRUPTIONS[name]()
    sampler = sp.Sampler(Model(), corruption, prediction="data", solver="ddim", steps=3)
    sampler.save_pretrained(tmp_path)
    again = sp.Sampler.from_pretrained(tmp_path, Model())
    assert repr(again) == repr(sampler)
    assert torch.equal(again.times, sampler.times)
    first, second = (each.sample((2, 3, 8, 8), generator=torch.Generator().manual_seed(1)) for each in (sampler, again))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "options",
    [
        {"solver": sp.solvers.Multistep(order=1, corrector=False), "grid": "power", "prediction": "velocity"},
        {"solver": sp.solvers.Ancestral(variance="small"), "steps": 5},
        {"spectrum": spectrum("fourier"), "prediction": "whitened-velocity", "solver": sp.solvers.DDIM(eta=0.5)},
        {"times": (0.9, 0.4, 0.1), "prediction": "data"},
    ],
    ids=["multistep", "ancestral", "spectrum", "times"],
)
def test_every_option_comes_back(options: dict[str, Any], tmp_path: Path) -> None:
    sampler = sp.Sampler(Model(), sp.GaussianCorruption(), **options)
    sampler.save_pretrained(tmp_path)
    again = sp.Sampler.from_pretrained(tmp_path, Model())
    assert (again.solver, again.prediction) == (sampler.solver, sampler.prediction)
    assert torch.equal(again.times, sampler.times)
    first, second = (each.sample((2, 3, 8, 8), generator=torch.Generator().manual_seed(1)) for each in (sampler, again))
    assert torch.equal(first, second)


def test_guidance_comes_back_with_its_null_conditioning(tmp_path: Path) -> None:
    null = {"label": torch.tensor([7.0])}
    guided = {"guidance_scale": 2.0, "guidance_interval": (0.2, 0.9), "null_conditioning": null}
    sampler = sp.Sampler(Model(), sp.GaussianCorruption("flow"), steps=3, **guided)
    sampler.save_pretrained(tmp_path)
    again = sp.Sampler.from_pretrained(tmp_path, Model())
    conditioning = {"label": torch.tensor([1.0, 2.0])}
    first, second = (
        each.sample((2, 3, 8, 8), conditioning=conditioning, generator=torch.Generator().manual_seed(1))
        for each in (sampler, again)
    )
    assert torch.equal(first, second)
    bad = sp.Sampler(Model(), sp.GaussianCorruption("flow"), **{**guided, "null_conditioning": {"label": object()}})
    with pytest.raises(TypeError, match=r"cannot save null_conditioning\['label'\], a object; use numbers, strings"):
        bad.save_pretrained(tmp_path)


def test_saved_options_can_be_replaced(tmp_path: Path) -> None:
    sp.Sampler(Model(), sp.GaussianCorruption("flow"), solver="ddim", steps=7).save_pretrained(tmp_path)
    load = sp.Sampler.from_pretrained
    assert load(tmp_path, Model(), steps=3).steps == 3
    assert load(tmp_path, Model(), steps=3).solver == sp.solvers.DDIM()
    changed = load(tmp_path, Model(), solver="multistep")
    assert (changed.steps, changed.solver) == (7, sp.solvers.Multistep())
    assert load(tmp_path, Model(), times=(0.5, 0.0)).steps == 1
    with pytest.raises(TypeError, match="stepz"):
        load(tmp_path, Model(), stepz=3)


def test_nothing_in_a_folder_is_run_and_no_file_outside_it_is_read(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    sp.Sampler(Model(), sp.GaussianCorruption("flow"), steps=2).save_pretrained(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"sampler.json", "arrays.npz", "model.safetensors"}
    file = tmp_path / "sampler.json"
    described = json.loads(file.read_text())
    described["model"]["file"] = "../../elsewhere.pt"
    file.write_text(json.dumps(described))
    with pytest.raises(FileNotFoundError, match=r"model\.pt is missing; download the folder whole"):
        sp.Sampler.from_pretrained(tmp_path, Model())
    np.savez(tmp_path / "arrays.npz", times=np.array([print], dtype=object))
    with pytest.raises(ValueError, match=r"arrays\.npz is damaged \(ValueError: Object arrays cannot be loaded"):
        sp.Sampler.from_pretrained(tmp_path, Model())


def test_weights_are_written_without_safetensors_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_saved_models.importlib.util, "find_spec", lambda name: None)
    model = Model()
    sp.Sampler(model, sp.GaussianCorruption("flow"), steps=2).save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    again = sp.Sampler.from_pretrained(tmp_path, Model())
    assert isinstance(again.model, Model)
    assert torch.equal(again.model.layer.weight, model.layer.weight)
    (tmp_path / "model.pt").write_bytes(b"not a zip archive")
    with pytest.raises(
        ValueError, match=r"model\.pt is damaged \(ValueError: it is no zip archive\); download it again"
    ):
        sp.Sampler.from_pretrained(tmp_path, Model())


class Own(Model):
    """A model that saves itself, as those of diffusers do."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        np.save(folder / "bias.npy", self.layer.bias.detach().numpy())

    @classmethod
    def from_pretrained(cls, folder: Path) -> Own:
        made = cls()
        with torch.no_grad():
            made.layer.bias.copy_(torch.from_numpy(np.load(folder / "bias.npy")))
        return made


def test_a_model_may_save_itself_and_be_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_saved_models, "_MODELS", {})
    model = Own()
    sp.Sampler(model, sp.GaussianCorruption("flow"), steps=2).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"is a Own, which no registered class can load \(registered: none\); pass mod"
    ):
        sp.Sampler.from_pretrained(tmp_path)
    with pytest.raises(TypeError, match="was written by save_pretrained of Own; pass model=Own, the class, got Model"):
        sp.Sampler.from_pretrained(tmp_path, Model())
    register_model(Own)
    for given in (None, Own, Own()):
        again = sp.Sampler.from_pretrained(tmp_path, given)
        assert isinstance(again.model, Own)
        assert not again.model.training
        assert torch.equal(again.model.layer.bias, model.layer.bias)
    with pytest.raises(TypeError, match="register_model requires a class with save_pretrained and from_pretrained"):
        register_model(Model)

    class Local:
        class Own(Own):
            pass

    with pytest.raises(ValueError, match="a model named Own is already registered, from tests"):
        register_model(Local.Own)


def test_what_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    load = sp.Sampler.from_pretrained
    with pytest.raises(FileNotFoundError, match=r"holds no sampler\.json; pass a folder that save_pretrained wrote"):
        load(tmp_path, Model())
    with pytest.raises(TypeError, match="only an nn.Module, or an object with save_pretrained, can be saved, got func"):
        sp.Sampler(lambda x_t, t: x_t, sp.GaussianCorruption("flow")).save_pretrained(tmp_path)

    class Mine(sp.solvers.DDIM):
        pass

    with pytest.raises(ValueError, match=r"cannot save solver .*: only the library's own can be loaded again"):
        sp.Sampler(Model(), sp.GaussianCorruption("flow"), solver=Mine()).save_pretrained(tmp_path)
    sp.Sampler(Model(), sp.GaussianCorruption("flow"), steps=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"(?s)the weights in .* do not fit this Model: .*size mismatch"):
        load(tmp_path, Model(width=4))
    not_a_module: Any = Model
    with pytest.raises(TypeError, match="model must be a module that takes the saved weights, got type"):
        load(tmp_path, not_a_module)
    with pytest.raises(ValueError, match=r"is a Model, which no registered class can load .*; pass model=Model\(...\)"):
        load(tmp_path)
    file = tmp_path / "sampler.json"
    text = file.read_text()
    for changed, message in (
        (text.replace('"version": 1', '"version": 2'), "has format version 2, this library reads up to 1; update"),
        (text.replace("shortest_path.Sampler", "other"), "is not of a sampler: its format is 'other', expected"),
        (text[:-40], r"is not the description of a sampler \(JSONDecodeError"),
        (text.replace("GaussianCorruption", "Unknown"), "the corruption 'Unknown' is not registered"),
    ):
        file.write_text(changed)
        with pytest.raises(ValueError, match=message):
            load(tmp_path, Model())
    file.write_text(text)
    (tmp_path / "arrays.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"arrays\.npz is missing; download the folder whole"):
        load(tmp_path, Model())
