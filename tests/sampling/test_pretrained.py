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
from shortest_path.sampling import _saved_models, _weight_files, load_weights, register_model
from shortest_path.sampling._pretrained import read
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
    described["files"]["arrays.npz"] = None
    file.write_text(json.dumps(described))
    with pytest.raises(FileNotFoundError, match=r"model\.pt is missing; download the folder whole"):
        sp.Sampler.from_pretrained(tmp_path, Model())
    np.savez(tmp_path / "arrays.npz", times=np.array([print], dtype=object))
    with pytest.raises(ValueError, match=r"arrays\.npz is damaged \(ValueError: Object arrays cannot be loaded"):
        sp.Sampler.from_pretrained(tmp_path, Model())


def test_weights_are_written_without_safetensors_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_weight_files.importlib.util, "find_spec", lambda name: None)
    model = Model()
    sp.Sampler(model, sp.GaussianCorruption("flow"), steps=2).save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    again = sp.Sampler.from_pretrained(tmp_path, Model())
    assert isinstance(again.model, Model)
    assert torch.equal(again.model.layer.weight, model.layer.weight)
    (tmp_path / "model.pt").write_bytes(b"not a zip archive")
    with pytest.raises(ValueError, match=r"model\.pt is not as it was saved \(17 bytes instead of \d+\): it is"):
        sp.Sampler.from_pretrained(tmp_path, Model())
    described = json.loads((tmp_path / "sampler.json").read_text())
    described["files"]["model.pt"] = None
    (tmp_path / "sampler.json").write_text(json.dumps(described))
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
    with pytest.raises(TypeError, match="written by save_pretrained of Own; pass a class with from_pretrained, or"):
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
    with pytest.raises(TypeError, match="only an nn.Module, or an object with save_pretrained and from_pr"):
        sp.Sampler(lambda x_t, t: x_t, sp.GaussianCorruption("flow")).save_pretrained(tmp_path)

    class Mine(sp.solvers.DDIM):
        pass

    with pytest.raises(ValueError, match=r"cannot save solver .*: only the library's own can be loaded again"):
        sp.Sampler(Model(), sp.GaussianCorruption("flow"), solver=Mine()).save_pretrained(tmp_path)
    sp.Sampler(Model(), sp.GaussianCorruption("flow"), steps=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"(?s)the weights in .* do not fit this Model: .*size mismatch"):
        load(tmp_path, Model(width=4))
    not_a_module: Any = Model
    with pytest.raises(TypeError, match="must be a module that takes the saved weights, got the class Model; pass"):
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


def saved_and_loaded(folder: Path, given: nn.Module | None = None, load: Any = None, **options: Any) -> sp.Sampler:
    model = options.pop("model", None) or Model()
    sp.Sampler(model, options.pop("corruption", sp.GaussianCorruption("flow")), **options).save_pretrained(folder)
    return sp.Sampler.from_pretrained(folder, given or Model(), **(load or {}))


@pytest.mark.parametrize(
    "null",
    [
        {"array": 3},
        {"array": torch.ones(2)},
        {"array": "guidance", "dtype": "bfloat16"},
        {"a/b": torch.ones(1), "a": torch.zeros(1)},
        {"label": torch.tensor(1 / 3, dtype=torch.bfloat16)},
        {"label": torch.rand(3).to(torch.float8_e5m2)},
        {"label": torch.ones(2, dtype=torch.complex64).conj()},
        {"label": (1, 2), "other": True},
    ],
)
def test_null_conditioning_of_any_name_and_type_comes_back(null: dict[str, Any], tmp_path: Path) -> None:
    saved_and_loaded(tmp_path, guidance_scale=2.0, null_conditioning=null, steps=2)
    found = read(tmp_path)["guidance"]["null"]
    assert found.keys() == null.keys()
    for name, value in null.items():
        assert type(found[name]) is type(value)
        if isinstance(value, Tensor):
            assert found[name].dtype == value.dtype
            found[name], null[name] = found[name].to(torch.complex64), value.to(torch.complex64)
            assert torch.equal(found[name], null[name])
        else:
            assert found[name] == value


def test_a_folder_of_before_marks_for_types_is_loaded(tmp_path: Path) -> None:
    null = {"label": torch.tensor([7.0])}
    saved_and_loaded(tmp_path, guidance_scale=2.0, null_conditioning=null, times=(0.9, 0.5, 0.1))
    described = json.loads((tmp_path / "sampler.json").read_text())
    assert described["guidance"]["null"] == {"label": {"array": "guidance/null/label"}}
    del described["own_times"]
    (tmp_path / "sampler.json").write_text(json.dumps(described))
    again = sp.Sampler.from_pretrained(tmp_path, Model())
    assert again.times.tolist() == [0.9, 0.5, 0.1]
    assert sp.Sampler.from_pretrained(tmp_path, Model(), solver="ddim").times[-1] == 0


@sp.corruptions.register
class Held(sp.DiagonalCorruption):
    """A corruption that keeps any value."""

    argument_names = ("value",)

    def __init__(self, value: Any) -> None:
        super().__init__(sp.PixelBasis(2))
        self.value = value

    def signal(self, t: Tensor) -> Tensor:
        return (1 - t).view(-1, 1, 1, 1)

    def noise(self, t: Tensor) -> Tensor:
        return t.view(-1, 1, 1, 1)


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    held = Held(nn.Parameter(torch.ones(2)))
    message = r'(?s)cannot save this sampler of Held: what would be written cannot be read again .* "value"'
    with pytest.raises(ValueError, match=message):
        saved_and_loaded(tmp_path / "new", corruption=held)
    assert not (tmp_path / "new").exists()
    guided = {"guidance_scale": 2.0, "null_conditioning": {"label": float("inf")}}
    with pytest.raises(
        ValueError, match=r"cannot save null_conditioning\['label'\] = inf: numbers are written as JSON"
    ):
        saved_and_loaded(tmp_path, **guided)
    clash = {"guidance_scale": 2.0, "null_conditioning": {"array": "guidance/null"}}
    with pytest.raises(ValueError, match="cannot save guidance/null with the value 'guidance/null' of 'array'"):
        saved_and_loaded(tmp_path, **clash)
    with pytest.raises(ValueError, match=r"Model\.layer\.weight is on the meta device, without values"):
        saved_and_loaded(tmp_path, model=Model().to("meta"))


class Two(nn.Module):
    """Two layers, of which the second may be of another width."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, width, 1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.second(self.first(x_t))


@pytest.mark.parametrize("refused", ["shape", "option", "type", "missing"])
def test_a_network_that_is_refused_is_unchanged(refused: str, tmp_path: Path) -> None:
    sp.Sampler(Two(), sp.GaussianCorruption("flow"), steps=2).save_pretrained(tmp_path)
    mine = Two(5) if refused == "shape" else Two()
    if refused == "type":
        mine.second.weight = nn.Parameter(mine.second.weight.long(), requires_grad=False)
    if refused == "missing":
        mine.third = nn.Conv2d(3, 3, 1)
    before = {name: each.clone() for name, each in mine.state_dict().items()}
    with pytest.raises((TypeError, ValueError)):
        sp.Sampler.from_pretrained(tmp_path, mine, **({"stepz": 3} if refused == "option" else {}))
    assert all(torch.equal(each, before[name]) for name, each in mine.state_dict().items())


def test_weights_adapted_by_a_hook_are_loaded() -> None:
    model = Two()
    model._register_load_state_dict_pre_hook(  # whose public name torch 2.4 lacks
        lambda state, prefix, *_: state.update({"first.bias": state.pop("old")})
    )
    weights = Two().state_dict()
    load_weights(model, {"old" if name == "first.bias" else name: each for name, each in weights.items()}, "they")
    assert torch.equal(model.first.bias, weights["first.bias"])


class Buffered(nn.Module):
    """A module with one buffer."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", value)


@pytest.mark.parametrize(
    "value",
    [
        torch.randn(3, dtype=torch.complex128),
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.rand(3).to(torch.float8_e5m2),
        torch.randn(3, 2).T,
        torch.tensor([1, 2], dtype=torch.uint16),
        torch.zeros(0),
        torch._neg_view(torch.randn(3)),
    ],
    ids=["complex128", "conjugate", "float8", "transposed", "uint16", "empty", "negative"],
)
def test_weights_of_every_type_come_back(value: Tensor, tmp_path: Path) -> None:
    if value.dtype == torch.uint16 and torch.__version__ < "2.5":
        pytest.skip("torch 2.4 cannot save uint16")
    value = value.resolve_conj() if value.dtype == torch.complex128 else value
    given: Any = Buffered(torch.zeros_like(value.resolve_conj().resolve_neg()))
    again: Any = saved_and_loaded(tmp_path, given, model=Buffered(value)).model
    assert again.kept.dtype == value.dtype
    assert again.kept.tolist() == value.tolist()


def test_weights_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot save Buffered\.kept, a tensor that is sparse or quantized; make it"):
        saved_and_loaded(tmp_path, model=Buffered(torch.eye(3).to_sparse()))
    with pytest.raises(ValueError, match=r"cannot save layer\.weight of Lazy, which has no shape yet; call the model"):
        saved_and_loaded(tmp_path, model=Lazy())
    assert not any(tmp_path.iterdir())


class Lazy(nn.Module):
    """A network that learns its number of channels from the first images."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first, self.layer = nn.Conv2d(3, 3, 1, dtype=dtype), nn.LazyConv2d(3, 1, dtype=dtype)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.layer(self.first(x_t))
        return output


def test_weights_are_loaded_into_a_lazy_module(tmp_path: Path) -> None:
    model = Lazy()
    model(torch.zeros(1, 3, 8, 8), torch.zeros(1))
    sampler = sp.Sampler(model, sp.GaussianCorruption("flow"), steps=2)
    sampler.save_pretrained(tmp_path)
    x_1 = torch.randn(1, 3, 8, 8)
    again = sp.Sampler.from_pretrained(tmp_path, Lazy())
    assert torch.equal(again.sample((1, 3, 8, 8), x_1=x_1), sampler.sample((1, 3, 8, 8), x_1=x_1))
    weights = {**model.double().state_dict(), "first.bias": torch.rand(3, dtype=torch.float64)}
    with pytest.warns(RuntimeWarning, match=r"rounded in 1 of 4 tensors, e\.g\. first\.bias from torch\.float64"):
        load_weights(Lazy(), weights, "they")
    weights["layer.weight"] = weights["layer.weight"] + 1 / 3
    with pytest.warns(RuntimeWarning, match=r"rounded in 2 of 4 tensors"):
        load_weights(Lazy(), weights, "they")
    refused = Lazy()
    before = refused.first.weight.clone()
    del weights["layer.bias"]
    with pytest.raises(ValueError, match=r"(?s)they do not fit this Lazy: .*Missing key.*layer\.bias"):
        load_weights(refused, weights, "they")
    assert torch.equal(refused.first.weight, before)
    assert torch.nn.parameter.is_lazy(refused.layer.weight)


@pytest.mark.parametrize("kind", [Model, Lazy])
def test_weights_are_not_loaded_into_the_meta_device(kind: Any) -> None:
    with torch.device("meta"):
        model = kind()
    with pytest.raises(ValueError, match=rf"of the {kind.__name__} is on the meta device, .*; make the model on anoth"):
        load_weights(model, Model().state_dict(), "they")
    hidden = Buffered(torch.zeros(1))
    hidden.register_buffer("table", torch.zeros(1, device="meta"), persistent=False)
    with pytest.raises(ValueError, match="table of the Buffered is on the meta device"):
        load_weights(hidden, {"kept": torch.ones(1)}, "they")
    with pytest.raises(ValueError, match="kept in they is on the meta device, without values; pass a tensor on"):
        load_weights(Buffered(torch.zeros(1)), {"kept": torch.ones(1, device="meta")}, "they")


@pytest.mark.parametrize(
    ("new", "own", "refused"),
    [
        (torch.tensor([1j]), torch.float32, True),
        (torch.tensor([1j, 0.0]).real + 0j, torch.float32, True),
        (torch.tensor([2**40 + 7]), torch.int32, True),
        (torch.tensor([7]), torch.int32, False),
        (torch.tensor([2]), torch.bool, True),
        (torch.tensor([0.5]), torch.int64, True),
        (torch.tensor([float("nan")]), torch.int64, True),
        (torch.tensor([2**24 + 1]), torch.float32, True),
        (torch.tensor([1e6]), torch.float16, True),
        (torch.tensor([float("inf"), float("nan")]), torch.float16, False),
        (torch.tensor([1 / 3], dtype=torch.bfloat16), torch.float32, False),
        (torch.tensor([1.5], dtype=torch.float64), torch.float32, False),
    ],
)
def test_weights_that_the_models_type_cannot_hold_are_refused(new: Tensor, own: torch.dtype, refused: bool) -> None:
    model: Any = Buffered(torch.zeros_like(new, dtype=own))
    if refused:
        with pytest.raises(ValueError, match=rf"kept in they is of {new.dtype}, with values that {own}, the type of"):
            load_weights(model, {"kept": new}, "they")
        assert not model.kept.any()
    else:
        load_weights(model, {"kept": new}, "they")
        assert torch.equal(model.kept.nan_to_num(), new.to(own).nan_to_num())


def test_weights_that_are_rounded_are_told(tmp_path: Path) -> None:
    model = Model().double()
    nn.init.uniform_(model.layer.weight)
    sp.Sampler(model, sp.GaussianCorruption("flow"), steps=2).save_pretrained(tmp_path)
    message = (
        r"rounded in 1 of 2 tensors, e\.g\. layer\.weight from torch\.float64 to torch\.float32; to load them exactly"
    )
    with pytest.warns(RuntimeWarning, match=message):
        sp.Sampler.from_pretrained(tmp_path, Model())
    assert torch.equal(sp.Sampler.from_pretrained(tmp_path, Model().double()).model.layer.bias, model.layer.bias)


def test_what_is_no_state_dict_is_refused() -> None:
    for wrong in (3, {1: torch.ones(1)}):
        weights: Any = wrong
        with pytest.raises(ValueError, match="they must be a mapping of names to tensors, got (int|dict); save them"):
            load_weights(Model(), weights, "they")


def test_chosen_times_stay_with_another_solver_and_a_grid_replaces_them(tmp_path: Path) -> None:
    times = [0.9, 0.5, 0.1]
    again = saved_and_loaded(tmp_path / "a", load={"solver": "ddim"}, times=times)
    assert (again.times.tolist(), again.solver) == (times, sp.solvers.DDIM())
    again.save_pretrained(tmp_path / "b")
    assert sp.Sampler.from_pretrained(tmp_path / "b", Model(), solver="multistep").times.tolist() == times
    for grid in ({"steps": 4}, {"start": 0.5}, {"grid": "uniform"}):
        assert sp.Sampler.from_pretrained(tmp_path / "b", Model(), **grid).times[-1] == 0
    of_grid = saved_and_loaded(tmp_path / "c", solver="ddim", steps=4)
    of_grid.save_pretrained(tmp_path / "c")
    changed = sp.Sampler.from_pretrained(tmp_path / "c", Model(), solver="multistep")
    assert not torch.equal(changed.times, of_grid.times)


def test_guidance_is_switched_off_and_on_where_it_is_loaded(tmp_path: Path) -> None:
    guided = {"guidance_scale": 1.0, "guidance_interval": (0.2, 0.9), "null_conditioning": {"label": 1}, "steps": 2}
    saved_and_loaded(tmp_path, **guided)
    load = sp.Sampler.from_pretrained
    assert "guidance_scale=3" in repr(load(tmp_path, Model(), guidance_scale=3.0))
    assert "guidance_scale" not in repr(load(tmp_path, Model(), guidance_scale=None))
    with pytest.raises(ValueError, match="null_conditioning has no effect without guidance_scale"):
        load(tmp_path, Model(), guidance_scale=None, null_conditioning={"label": 1})


@pytest.mark.parametrize(
    "options",
    [
        {"guidance_scale": np.float32(2), "null_conditioning": {"label": np.float32(2)}},
        {"guidance_scale": torch.tensor(2.0), "null_conditioning": {"label": 2.0}},
        {
            "guidance_scale": 2,
            "guidance_interval": (np.float32(0.0), torch.tensor(1)),
            "null_conditioning": {"label": 2.0},
        },
        {"solver": sp.solvers.DDIM(np.float32(0.5))},
    ],
)
def test_numbers_of_numpy_and_torch_are_saved(options: dict[str, Any], tmp_path: Path) -> None:
    saved_and_loaded(tmp_path, **options)
    found = read(tmp_path)
    if "solver" in options:
        assert found["solver"] == {"class": "DDIM", "eta": 0.5}
    else:
        assert found["guidance"] == {"scale": 2.0, "interval": (0.0, 1.0), "null": {"label": 2.0}}


def test_a_wrong_option_is_one_of_the_class_that_was_called(tmp_path: Path) -> None:
    wrong: Any = {"stepz": 3}
    with pytest.raises(TypeError, match=r"^Sampler\(\) got an unexpected keyword argument 'stepz'"):
        sp.Sampler(Model(), sp.GaussianCorruption("flow"), **wrong)
    with pytest.raises(TypeError, match=r"^Sampler\(\) got an unexpected keyword argument 'stepz'"):
        saved_and_loaded(tmp_path, load=wrong)
