"""Checkpoint files: whole or not there, checked, and never executed."""

from __future__ import annotations

import errno
import os
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import shortest_path as sp
from shortest_path import _files
from shortest_path.training import (
    CheckpointWriter,
    latest_checkpoint,
    load_checkpoint,
    load_latest,
    save_checkpoint,
    write_checkpoint,
)
from shortest_path.training import _checkpoint as checkpoint
from tests.worlds import correlated_images

STATE = {"weight": torch.arange(1000.0), "step": 3, "names": ["a", "b"]}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_is_an_ordinary_torch_file_with_a_checksum(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "made" / "here", 7, STATE, keep=1)
    assert path == tmp_path / "made" / "here" / "checkpoint-00000007.pt"
    for found in (load_checkpoint(path), torch.load(path, weights_only=True)):
        assert torch.equal(found.pop("weight"), STATE["weight"])
        assert found == {"step": 3, "names": ["a", "b"]}
    torch.save(STATE, path)  # without a checksum
    assert load_checkpoint(path)["step"] == 3


def test_the_newest_are_kept_and_other_names_left_alone(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "best.pt", STATE)
    (tmp_path / "checkpoint-00000001.pt.0123abcd.tmp").write_bytes(b"torn by a kill")
    for step in (5, 100_000_000, 9):
        save_checkpoint(tmp_path, step, STATE, keep=2)
    write_checkpoint(tmp_path / "checkpoint-00000008.pt", STATE)
    (tmp_path / "checkpoint-00000008.pt").write_bytes(b"damaged")
    save_checkpoint(tmp_path, 10, STATE, keep=2)
    kept = [f"checkpoint-{step:08d}.pt" for step in (8, 9, 10, 100_000_000)]  # later and damaged ones do not count
    assert [name for name in names(tmp_path) if not name.endswith(".tmp")] == ["best.pt", *kept]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-100000000.pt"  # by number, not by name


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_any_changed_byte_is_noticed(tmp_path: Path, place: float) -> None:
    path = save_checkpoint(tmp_path, 1, STATE, keep=1)
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 80))] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"checkpoint-00000001.pt is damaged: its bytes do not have the checksum"):
        load_checkpoint(path)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.97])
def test_a_file_cut_short_is_noticed(tmp_path: Path, fraction: float) -> None:
    path = save_checkpoint(tmp_path, 1, STATE, keep=1)
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"checkpoint-00000001.pt is damaged"):
        load_checkpoint(path)


def test_damage_to_the_checksum_does_not_hide_other_damage(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, STATE, keep=1)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"sha256:")] ^= 1
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"checkpoint-00000001.pt is damaged"):
        load_checkpoint(path)


def test_the_newest_whole_one_is_found_and_broken_ones_reported(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "none") is None
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {**STATE, "step": step}, keep=3)
    (tmp_path / "checkpoint-00000003.pt").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match=r"checkpoint-00000003.pt is damaged.*; trying the one before"):
        found = load_latest(tmp_path)
    assert found is not None
    assert (found[0].name, found[1]["step"]) == ("checkpoint-00000002.pt", 2)
    save_checkpoint(tmp_path / "one", 1, STATE, keep=1)
    (tmp_path / "one" / "checkpoint-00000001.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint in .* can be read"):
        load_latest(tmp_path / "one")  # without a warning of the one before, which there is not
    for step in (1, 2):
        (tmp_path / f"checkpoint-0000000{step}.pt").write_bytes(b"")
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(
            ValueError, match=r"no checkpoint in .* can be read: .* is damaged: .*Move them away to begin anew"
        ),
    ):
        load_latest(tmp_path)


def test_a_file_that_is_no_checkpoint_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "image.png").write_bytes(b"\x89PNG" + bytes(500))
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    for name, reason in (
        ("notes.txt", "it does not begin as the zip archives of torch.save do; pass a file that a trainer wrote"),
        ("image.png", "it does not begin as the zip archives of torch.save do; pass a file that a trainer wrote"),
        ("arrays.npz", r"its archive holds no data\.pkl, which torch.save writes; pass a file that a trainer wrote"),
    ):
        with pytest.raises(ValueError, match=f"{name} is not a checkpoint: {reason}"):
            load_checkpoint(tmp_path / name)


def test_a_folder_that_is_not_flushed_after_a_checkpoint_is_told_by_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(handle: int) -> None:
        if (tmp_path / "checkpoint-00000001.pt").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(_files.os, "fsync", broken)
    with pytest.warns(RuntimeWarning, match="whole and in their places, but the system could not flush the folder"):
        path = save_checkpoint(tmp_path, 1, STATE, keep=1)
    assert load_checkpoint(path)["step"] == 3


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (sys.exit, ("code was run",))

    path = tmp_path / "checkpoint-00000001.pt"
    torch.save({"format": Evil()}, path)
    with pytest.raises(ValueError, match=r"holds sys.exit, but only tensors and plain values are ever loaded"):
        load_checkpoint(path)
    write_checkpoint(path, {"x": torch.zeros(1)})
    torch.save([1], path)
    with pytest.raises(ValueError, match="it holds list, expected a dict"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match=r"is a folder; pass a file in it, e.g. .*checkpoint-00000001.pt"):
        load_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="is a folder without checkpoints; pass a file that a trainer wrote"):
        load_checkpoint(tmp_path.parent)
    with pytest.raises(FileNotFoundError, match="none.pt does not exist; pass a file that a trainer wrote"):
        load_checkpoint(tmp_path / "none.pt")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(tmp_path, 1, STATE, keep=1)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_files.os, "fsync", full)
    for save in (lambda: save_checkpoint(tmp_path, 2, STATE, keep=1), lambda: write_checkpoint(path, STATE)):
        with pytest.raises(OSError, match=r"could not write .*No space left on device.*are unchanged. Make room"):
            save()
    assert names(tmp_path) == [path.name]
    assert path.read_bytes() == before


def test_writing_goes_on_beside_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write, state = threading.Event(), {"weight": torch.zeros(10)}
    replace = checkpoint._replace

    def slow(path: Path, data: memoryview) -> None:
        may_write.wait(10)
        replace(path, data)

    monkeypatch.setattr(checkpoint, "_replace", slow)
    with CheckpointWriter(tmp_path, keep=2) as writer:
        writer.save(1, state)
        state["weight"] += 1  # training goes on; what is written is what was
        assert names(tmp_path) == []
        may_write.set()
    assert load_checkpoint(tmp_path / "checkpoint-00000001.pt")["weight"].sum() == 0


def test_what_goes_wrong_beside_training_is_raised(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path / "folder", keep=1)
    (tmp_path / "folder").rmdir()
    writer.save(1, STATE)
    with pytest.raises(FileNotFoundError, match="could not write"):
        writer.save(2, STATE)
    writer.wait()  # raised once


def test_training_goes_on_from_the_checkpoint_before_a_broken_one(tmp_path: Path) -> None:
    def trained(folder: Path | None, *legs: int) -> sp.DiffusionTrainer:
        for steps in legs:
            torch.manual_seed(0)
            trainer = sp.DiffusionTrainer(torch.nn.Conv2d(3, 3, 1), sp.GaussianCorruption(), prediction="data")
            trainer.model.register_forward_pre_hook(lambda module, inputs: inputs[:1])
            trainer.fit([correlated_images(4).float()], steps=steps, checkpoint_dir=folder, checkpoint_every=1)
        return trainer

    whole = trained(None, 6)
    trained(tmp_path, 4)
    newest = latest_checkpoint(tmp_path)
    assert newest is not None
    newest.write_bytes(newest.read_bytes()[:-1000])
    with pytest.warns(RuntimeWarning, match="trying the one before"):
        again = trained(tmp_path, 6)
    assert torch.equal(again.model.weight, whole.model.weight)


def test_what_is_no_path_is_explained(tmp_path: Path) -> None:
    calls = (
        (lambda path: save_checkpoint(path, 1, STATE, keep=1), "directory"),
        (lambda path: CheckpointWriter(path, keep=1), "directory"),
        (latest_checkpoint, "directory"),
        (load_latest, "directory"),
        (lambda path: load_latest(tmp_path, otherwise=path or 1), "otherwise"),
        (lambda path: write_checkpoint(path, STATE), "path"),
        (load_checkpoint, "path"),
    )
    for call, name in calls:
        with pytest.raises(TypeError, match=f"{name} must be a path, got "):
            call(None)
    with pytest.raises(ValueError, match="path must be a file, got the folder .*; name a file in it, e.g. .*best.pt"):
        write_checkpoint(tmp_path, STATE)
    assert not list(tmp_path.iterdir())


def test_what_a_checkpoint_cannot_hold_is_named(tmp_path: Path) -> None:
    for write in (lambda state: save_checkpoint(tmp_path, 1, state, keep=1), partial(write_checkpoint, tmp_path / "a")):
        with pytest.raises(TypeError, match="state must be a dictionary of tensors and plain values, got list"):
            write([STATE])
        with pytest.raises(TypeError, match=r"got function at state\['after'\]; convert it"):
            write({**STATE, "after": lambda: None})
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").touch()
    with pytest.raises(ValueError, match="run is a file; pass the folder of checkpoints"):
        save_checkpoint(tmp_path / "run", 1, STATE, keep=1)
    with pytest.raises(OSError, match="cannot write checkpoints to .*run/sub .Not a directory.; choose another folder"):
        save_checkpoint(tmp_path / "run" / "sub", 1, STATE, keep=1)


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written = save_checkpoint("~/run", 1, STATE, keep=1)
    assert written == tmp_path / "run" / "checkpoint-00000001.pt"
    assert latest_checkpoint("~/run") == load_latest("~/run")[0] == written
    assert load_checkpoint("~/run/checkpoint-00000001.pt")["step"] == 3


def test_a_file_in_place_of_the_folder_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint-00000001.pt"
    file.write_bytes(b"")
    for find in (latest_checkpoint, load_latest):
        with pytest.raises(ValueError, match="is a file; pass the folder of checkpoints, or read it with load_chec"):
            find(file)
