"""A folder that is saved again, interrupted or damaged: it is loaded as what it is, or refused by name."""

from __future__ import annotations

import copy
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from shortest_path.models import WhitenedInput
from shortest_path.sampling import _weight_files
from tests.worlds import spectrum

DATA = spectrum()
load = sp.Sampler.from_pretrained


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class Model(nn.Module):
    """A model of one number."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.scale * x_t[:, -3:]


class Own(Model):
    """A model that writes two files itself."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "scale.txt").write_text(str(self.scale.item()))
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "more.txt").write_text("")

    @classmethod
    def from_pretrained(cls, folder: Path) -> Own:
        return cls(float((folder / "scale.txt").read_text()))


class Counting(Model):
    """A model whose state holds more than tensors."""

    def get_extra_state(self) -> Any:
        return {"calls": 3}


def files(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def made(scale: float, *, whitened: bool = False) -> sp.Sampler:
    """Return a sampler all of whose parts follow from one number."""
    corruption = sp.ShortestPathCorruption(DATA.tempered(scale))
    model: nn.Module = Model(scale)
    if whitened:
        model = WhitenedInput(model, corruption, DATA.tempered(scale), alone=scale == 1)
    return sp.Sampler(model, corruption, prediction="data", steps=int(4 * scale))


def saved(folder: Path, scale: float, *, whitened: bool = False) -> None:
    made(scale, whitened=whitened).save_pretrained(folder)


def loaded(folder: Path) -> set[float]:
    """Return the numbers of which the parts of a loaded sampler were made: one, if it is whole."""
    sampler: Any = load(folder, Model())
    found = {1.0: DATA, 0.5: DATA.tempered(0.5)}
    inside = sampler.model
    numbers = {s for s, each in found.items() if torch.equal(each.power, sampler.corruption.power)}
    numbers |= {sampler.steps / 4}
    if isinstance(inside, WhitenedInput):
        numbers |= {1.0 if inside.alone else 0.5}
        numbers |= {s for s, each in found.items() if torch.equal(each.power.float(), inside.power)}
        inside = inside.network
    return {*numbers, float(inside.scale.detach())}


def test_an_interrupted_save_never_loads_as_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    former, folder, sampler = tmp_path / "former", tmp_path / "folder", made(0.5, whitened=True)
    saved(former, 1.0, whitened=True)
    replace = Path.replace
    for allowed in range(100):
        shutil.copytree(former, folder)
        calls = iter(range(allowed))

        def limited(self: Path, target: Path, calls: Iterator[int] = calls) -> Path:
            if next(calls, None) is None:
                raise OSError(28, "No space left on device")
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", limited)
            try:
                sampler.save_pretrained(folder)
                break
            except OSError:
                pass
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "a save to .* was interrupted", RuntimeWarning)
            assert loaded(folder) == {1.0}
        sampler.save_pretrained(folder)
        assert loaded(folder) == {0.5}
        assert files(folder) == files(former)
        shutil.rmtree(folder)
    assert allowed > 5
    assert loaded(folder) == {0.5}


def test_a_wrapper_whose_save_was_interrupted_is_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corruption = sp.ShortestPathCorruption(DATA)
    WhitenedInput(Model(1.0), corruption, DATA, alone=True).save_pretrained(tmp_path)
    replace = Path.replace

    def into_folder_fails(self: Path, target: Path) -> Path:
        if target.parent == tmp_path:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", into_folder_fails)
    with pytest.raises(OSError, match="No space left"):
        WhitenedInput(Model(0.5), corruption, DATA).save_pretrained(tmp_path)
    monkeypatch.undo()
    with pytest.warns(
        RuntimeWarning, match="a save to .* was interrupted or is under way: what was saved before it is"
    ):
        again = WhitenedInput.from_pretrained(tmp_path, Model())
    assert again.alone
    assert again.network.scale == 1


def test_a_save_that_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    saved(tmp_path, 1.0)
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            saved(tmp_path, 0.5)
    assert loaded(tmp_path) == {1.0}
    (tmp_path / "model").write_text("mine")
    with pytest.raises(NotADirectoryError, match="model is a file, but a folder is saved there; move it away"):
        saved(tmp_path, 0.5, whitened=True)
    assert files(tmp_path) == before | {"model"}
    assert loaded(tmp_path) == {1.0}


def test_what_a_former_save_wrote_is_removed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors")
    folder = tmp_path / "shared"
    (folder / "model").mkdir(parents=True)
    notes = {"notes.txt", "model/notes.txt", "model.ckpt"}
    for name in notes:
        (folder / name).write_text("mine")
    corruption, common = sp.GaussianCorruption("flow"), {"sampler.json", "arrays.npz"}
    sp.Sampler(Model(), corruption).save_pretrained(folder)
    assert files(folder) == notes | common | {"model.safetensors"}
    with monkeypatch.context() as patch:
        patch.setattr(_weight_files.importlib.util, "find_spec", lambda name: None)
        sp.Sampler(Model(), corruption).save_pretrained(folder)
    assert files(folder) == notes | common | {"model.pt"}
    sp.Sampler(Own(), corruption).save_pretrained(folder)
    assert files(folder) == notes | common | {"model/scale.txt", "model/deep/more.txt"}
    (tmp_path / "outside.txt").write_text("mine")
    described = json.loads((folder / "sampler.json").read_text())
    described["files"] = ["../outside.txt", "model", 3]
    (folder / "sampler.json").write_text(json.dumps(described))
    with pytest.warns(RuntimeWarning, match=r"sampler\.json does not list the files of its save"):
        saved(folder, 1.0, whitened=True)
    inside = {f"model/{name}" for name in (*common, "whitened_input.json", "model.safetensors")}
    # A list with what is no name tells nothing: all stays. Without it, what the model wrote is removed, its folder too.
    assert files(folder) == notes | common | inside | {"model/scale.txt", "model/deep/more.txt"}
    assert (tmp_path / "outside.txt").exists()
    former, mine = folder / "model" / "scale.txt", (folder / "model" / "scale.txt").read_bytes()
    outside = {f"../{folder.name}/{name}": held for name, held in described_by(folder).items()}
    described["files"] = {**described_by(folder), **outside, "notes.txt": "4 0", "model": None, "a" * 300: "4 0"}
    (folder / "sampler.json").write_text(json.dumps(described))
    sp.Sampler(Model(), corruption).save_pretrained(folder, model=False)
    # What the list does not tell the content of, or not rightly, stays.
    assert files(folder) == notes | common | {"model/scale.txt", "model/deep/more.txt"}
    assert former.read_bytes() == mine
    assert (tmp_path / "outside.txt").exists()


def described_by(folder: Path) -> dict[str, str]:
    """Return what the description of a sampler has of its files."""
    found: dict[str, str] = json.loads((folder / "sampler.json").read_text())["files"]
    return found


def test_a_sampler_over_a_wrapper_is_no_wrapper(tmp_path: Path) -> None:
    WhitenedInput(Model(), sp.ShortestPathCorruption(DATA), DATA, alone=True).save_pretrained(tmp_path)
    sp.Sampler(Model(), sp.ShortestPathCorruption(DATA), spectrum=DATA).save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"whitened_input\.json is missing"):
        WhitenedInput.from_pretrained(tmp_path, Model())


def test_folders_are_named_as_those_of_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sampler = sp.Sampler(Model(), sp.GaussianCorruption("flow"), steps=2)
    sampler.save_pretrained("~/a")
    assert files(tmp_path / "a") >= {"sampler.json"}
    assert load("~/a", Model()).steps == 2
    wrapper = WhitenedInput(Model(), sp.GaussianCorruption(), DATA)
    wrapper.save_pretrained("~/b")
    assert (tmp_path / "b" / "whitened_input.json").exists()
    not_a_path: Any = 3
    for each in (sampler, wrapper):
        with pytest.raises(ValueError, match=r"folder is empty; pass '\.' for the present folder"):
            each.save_pretrained("")
        with pytest.raises(TypeError, match="folder must be a path, got int"):
            each.save_pretrained(not_a_path)
    with pytest.raises(ValueError, match="folder is empty"):
        load("", Model())


def test_only_tensors_can_be_saved_as_weights(tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"cannot save _extra_state of Counting, a dict: weights are written as tensors alone; return"
    ):
        sp.Sampler(Counting(), sp.GaussianCorruption()).save_pretrained(tmp_path)
    assert not files(tmp_path)


def places(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key in value:
            yield (*place, key)
            yield from places(value[key], (*place, key))


def changed(value: dict[str, Any], place: tuple[str, ...], *new: Any) -> dict[str, Any]:
    """Return a copy in which the value at a place is another, or missing."""
    found = copy.deepcopy(value)
    inside = found
    for key in place[:-1]:
        inside = inside[key]
    inside.pop(place[-1], None)
    if new:
        inside[place[-1]] = new[0]
    return found


def refusal(folder: Path) -> str | None:
    """Return the words by which a folder is refused, or None if it is loaded."""
    try:
        load(folder, Model())
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("whitened", [False, True])
def test_every_damage_of_a_description_is_refused_by_the_name_of_its_file(whitened: bool, tmp_path: Path) -> None:
    saved(tmp_path, 1.0, whitened=whitened)
    for name in sorted(name for name in files(tmp_path) if name.endswith(".json")):
        file = tmp_path / name
        text = file.read_text()
        plain = json.loads(text)
        for place in places(plain):
            if place[0] == "files" or place == ("model", "class"):  # which the caller's model need not have
                continue
            for new in ([], [None], ["zz"], [{}]):
                file.write_text(json.dumps(changed(plain, place, *new)))
                said = refusal(tmp_path)
                assert said is None or str(file.parent) in said, (name, place, new)
        for other in ("", "[]", "3", "{", "\udcff", "[" * 100_000):
            file.write_text(other, errors="surrogateescape")
            assert str(file) in str(refusal(tmp_path))
        file.write_text(text)


def test_damaged_tables_are_refused(tmp_path: Path) -> None:
    good, folder = tmp_path / "good", tmp_path / "bad"
    data = sp.PowerSpectrum.estimate([torch.rand(64, 3, 8, 8)])
    sp.Sampler(Model(), sp.ShortestPathCorruption(data), steps=2).save_pretrained(good)
    with np.load(good / "arrays.npz") as archive:
        arrays = dict(archive)
    assert {"corruption/tensors.log_ratio", "corruption/tensors.mean"} <= set(arrays)
    for name, values in arrays.items():
        others = [np.full_like(values, np.nan), np.full_like(values, np.inf), values.reshape(-1)[:1].astype(complex)]
        for other in (*others, values.astype(int)):
            shutil.copytree(good, folder)
            np.savez(folder / "arrays.npz", **{**arrays, name: other})
            assert str(folder) in str(refusal(folder)), (name, other.dtype)
            shutil.rmtree(folder)


def test_what_a_damaged_description_lacks_is_named(tmp_path: Path) -> None:
    saved(tmp_path, 1.0, whitened=True)
    for name, place, new, message in (
        ("sampler.json", ("prediction",), [], r"sampler\.json requires 'prediction', a string, got nothing; download"),
        ("sampler.json", ("corruption",), [None], r"sampler\.json requires 'corruption', an object, got None; downl"),
        ("sampler.json", ("solver", "class"), ["Later"], r"sampler\.json: unknown solver 'Later'; choose one of 'Anc"),
        ("sampler.json", ("solver", "later"), [1], r"sampler\.json holds what cannot be used \(.*of a later version"),
        ("sampler.json", ("corruption", "class"), [], r"sampler\.json lacks 'class'; it is damaged or of a later ver"),
        ("sampler.json", ("model",), [], r"sampler\.json requires 'model', an object or null, got nothing"),
        ("sampler.json", ("model", "by"), [], r"the description of the model in .* requires 'by', a string, got noth"),
        ("model/sampler.json", ("model", "file"), [], r"the model in .* requires 'file', a string, got nothing"),
        ("model/sampler.json", ("spectrum",), [None], r"holds no spectrum, which WhitenedInput requires; download"),
        ("model/whitened_input.json", ("alone",), ["no"], r"whitened_input\.json requires 'alone', true or false, got"),
    ):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(json.dumps(changed(json.loads(text), place, *new)))
        with pytest.raises(ValueError, match=message):
            load(tmp_path, Model())
        (tmp_path / name).write_text(text)
    (tmp_path / "model" / "whitened_input.json").write_text("[]")
    with pytest.raises(ValueError, match=r"whitened_input\.json is not the description of a WhitenedInput, but a list"):
        load(tmp_path, Model())
    (tmp_path / "model" / "whitened_input.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"whitened_input\.json is missing; download the folder whole"):
        load(tmp_path, Model())


def test_another_number_of_steps_keeps_the_saved_start(tmp_path: Path) -> None:
    def model(x_t: Tensor, t: Tensor) -> Tensor:
        return x_t

    sp.Sampler(model, sp.GaussianCorruption("cosine"), prediction="data", steps=5, start=0.6).save_pretrained(
        tmp_path, model=False
    )
    load = sp.Sampler.from_pretrained
    assert load(tmp_path, model, steps=3).times[0] == 0.6
    assert load(tmp_path, model, steps=3, start=0.9).times[0] == 0.9
    assert load(tmp_path, model, times=[0.8, 0.0]).times[0] == 0.8
