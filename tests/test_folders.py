"""Saving to a folder: after any fault, the files of one save are found, all of them and no others."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from shortest_path._folders import reading, replace_folder, saved_folder

MARK = "mark.json"
Texts = Mapping[str, str]
# Two saves share some names; where one has a file, the other may have a folder.
SAVES: dict[str, Texts] = {
    "flat": {MARK: "{}", "arrays": "of flat", "weights": "of flat", "more.json": "{}", "model": "of flat"},
    "deep": {MARK: "{}", "arrays": "of deep", "model/weights": "of deep", "model/a/b.json": "[]"},
    "small": {MARK: "{}", "arrays": "of small"},
}
MINE: Texts = {"notes.txt": "mine", "other/notes.txt": "mine"}


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def write(folder: Path, texts: Texts) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def save(folder: Path, name: str) -> None:
    replace_folder(folder, lambda new: write(new, SAVES[name]), MARK)


def names(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def found(folder: Path) -> str | None:
    """Return the save that is found in a folder: all of its files, and no other listed."""
    if not (folder / MARK).exists():
        return None
    listed = {MARK, *json.loads((folder / MARK).read_text())["files"]}
    texts = {name: "{}" if name == MARK else (folder / name).read_text() for name in listed}
    return next(name for name, each in SAVES.items() if each == texts)


def found_after_a_fault(folder: Path) -> str | None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a save to .* was interrupted", RuntimeWarning)
        return found(saved_folder(folder, MARK))


class Died(BaseException):
    """The process has ended: nothing is done from then on."""


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, allowed: int, *, dies: bool) -> Iterator[Callable[[], bool]]:
    """Let the system fail after some calls, once or for good; yields whether it has."""
    calls = 0

    def limited(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if dies and calls > allowed:
                raise Died
            if calls == allowed + 1:
                raise OSError(28, "No space left on device")
            return call(*args, **kwargs)

        return counted

    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "unlink", "mkdir", "rmdir", "chmod"):
            patch.setattr(Path, name, limited(getattr(Path, name)))
        for name in ("link", "fsync"):
            patch.setattr(os, name, limited(getattr(os, name)))
        if dies:
            patch.setattr(shutil, "rmtree", limited(shutil.rmtree))
        yield lambda: calls > allowed


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize(("before", "after"), [("flat", "flat"), ("flat", "deep"), ("deep", "flat"), ("deep", "small")])
def test_after_any_fault_the_former_save_or_the_new_one_is_found(
    before: str, after: str, dies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for allowed in range(200):
        folder = tmp_path / str(allowed)
        save(folder, before)
        write(folder, MINE)
        raised = True
        with failing(monkeypatch, allowed, dies=dies) as failed:
            try:
                save(folder, after)
                raised = False
            except (OSError, Died):
                assert failed()
            except RuntimeWarning as warning:  # the last flush
                assert re.search("in their places, but the system could not flush", str(warning))  # noqa: PT017
        kept = found_after_a_fault(folder)
        assert kept in ((before, after) if raised else (after,))
        if raised and not dies:
            assert found(folder) == kept
            assert names(folder) == {*SAVES[kept or ""], *MINE}
        save(folder, after)
        assert found(folder) == after
        assert names(folder) == {*SAVES[after], *MINE}
        assert all((folder / name).read_text() == text for name, text in MINE.items())
        if not failed():
            break
    assert not failed()
    assert allowed > 10


@pytest.mark.parametrize("links", [True, False])
def test_what_the_caller_has_in_the_place_of_a_file_is_kept_if_the_save_fails(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: Any) -> None:
        raise PermissionError

    if not links:  # as on file systems without hard links
        monkeypatch.setattr(os, "link", refused)
    mine = {"arrays": "mine", "more.json": "mine", "linked": "mine", "elsewhere.txt": "mine"}
    for allowed in range(200):
        folder = tmp_path / str(allowed)
        write(folder, {**mine, MARK: '"mine"'})
        (folder / "weights").symlink_to("elsewhere.txt")
        with failing(monkeypatch, allowed, dies=False) as failed, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                save(folder, "flat")
            except OSError:
                assert failed()
                assert names(folder) == {*mine, MARK, "weights"}
                assert {(folder / name).read_text() for name in (*mine, "weights")} == {"mine"}
            else:
                assert found(folder) == "flat"
                assert (folder / "elsewhere.txt").read_text() == "mine"
        if not failed():
            break
    assert not failed()


def test_only_what_the_former_save_wrote_is_removed(tmp_path: Path) -> None:
    save(tmp_path, "flat")
    (tmp_path / "weights").write_text("mine now")
    (tmp_path / "thesis.txt").write_text("mine")
    described = json.loads((tmp_path / MARK).read_text())
    again = {f"./{name}": held for name, held in described["files"].items()}
    described["files"] |= {**again, "thesis.txt": "4 0", "a" * 300: "4 0", "more.json/b": "4 0"}
    (tmp_path / MARK).write_text(json.dumps(described))  # as a folder from elsewhere may have it
    save(tmp_path, "small")
    assert names(tmp_path) == {*SAVES["small"], "weights", "thesis.txt"}
    assert (tmp_path / "weights").read_text() == "mine now"


def test_a_folder_of_the_caller_is_no_interrupted_save(tmp_path: Path) -> None:
    (tmp_path / "saving.backup.tmp").mkdir()
    (tmp_path / "saving.backup.tmp" / "thesis.txt").write_text("mine")
    save(tmp_path, "small")
    assert names(tmp_path) == {*SAVES["small"], "saving.backup.tmp/thesis.txt"}


def test_links_become_what_they_lead_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, {"big": "big", "more/a": "a"})
    (outside / "big").chmod(0o600)

    def write_links(new: Path) -> None:
        write(new, {MARK: "{}", "blob": "b"})
        for name, target in {"inner": new / "blob", "big": outside / "big", "more": outside / "more"}.items():
            (new / name).symlink_to(target)

    replace_folder(tmp_path / "saved", write_links, MARK)
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    texts = {name: (tmp_path / "moved" / name).read_text() for name in ("inner", "big", "more/a")}
    assert texts == {"inner": "b", "big": "big", "more/a": "a"}
    assert stat.S_IMODE((outside / "big").stat().st_mode) == 0o600
    with pytest.raises(FileNotFoundError, match="a link to .*gone, which does not exist, was written as weights"):
        replace_folder(tmp_path / "moved", lambda new: (new / "weights").symlink_to("gone"), MARK)
    assert (tmp_path / "moved" / "big").read_text() == "big"


def test_what_is_loaded_cannot_save_to_its_own_folder(tmp_path: Path) -> None:
    save(tmp_path, "small")
    with (
        reading(tmp_path, MARK),
        reading(tmp_path, MARK),
        pytest.raises(RuntimeError, match="is being loaded, by what"),
    ):
        save(tmp_path / ".", "flat")  # would wait for itself
    save(tmp_path, "flat")
    assert found(tmp_path) == "flat"


def test_what_is_no_folder_to_write_in_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    for name, why in {"file": "a file is", "file/in": ".*", "link": "a link to nothing is", "loop": ".*"}.items():
        with pytest.raises(OSError, match=rf"cannot save to .*{name} \({why}.*\); choose another folder"):
            save(tmp_path / name, "small")
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "loop"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_or_folder_of_the_caller_in_the_way_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    save(tmp_path, "small")
    (tmp_path / "model").write_text("mine")
    with pytest.raises(NotADirectoryError, match="model is a file, but a folder is saved there; move it away"):
        save(tmp_path, "deep")
    assert names(tmp_path) == {*SAVES["small"], "model"}
    assert found(tmp_path) == "small"
    for name in SAVES["flat"]:
        folder = tmp_path / f"of {name}"
        (folder / name).mkdir(parents=True)
        with pytest.raises(IsADirectoryError, match=f"{name} is a folder, but a file is saved there; move it away"):
            save(folder, "flat")
        assert [each.name for each in folder.iterdir()] == [name]


def interrupt_a_save_over_flat(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process end while the former files are being replaced."""
    save(folder, "flat")
    allowed = 0
    while (folder / MARK).exists():
        allowed += 1
        with failing(monkeypatch, allowed, dies=True), suppress(Died):
            save(folder, "deep")


def test_what_an_interrupted_save_keeps_is_found_with_a_warning_and_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_a_save_over_flat(tmp_path, monkeypatch)
    with pytest.warns(
        RuntimeWarning, match="was interrupted or is under way: what was saved before it is loaded; save"
    ):
        assert found(saved_folder(tmp_path, MARK)) == "flat"

    def full(new: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):  # neither changes what is found
        replace_folder(tmp_path, full, MARK)
    assert found_after_a_fault(tmp_path) == "flat"
    save(tmp_path, "small")
    assert names(tmp_path) == set(SAVES["small"])


def test_an_interrupted_save_of_another_kind_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> None:
        replace_folder(tmp_path, lambda new: write(new, {"other.json": "{}"}), "other.json")

    other()
    interrupt_a_save_over_flat(tmp_path, monkeypatch)
    other()
    assert found(tmp_path) == "flat"


def test_savers_and_readers_of_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    save(tmp_path, "flat")

    def saver(first: int) -> None:
        for k in range(first, first + 20):
            save(tmp_path, list(SAVES)[k % len(SAVES)])

    def reader(_: int) -> None:
        for _ in range(100):
            with reading(tmp_path, MARK) as folder:
                assert folder == tmp_path
                assert found(folder)  # of one save

    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(saver, k) for k in range(3)] + [pool.submit(reader, k) for k in range(2)]
        for job in jobs:
            job.result()
    assert names(tmp_path) == {MARK, *json.loads((tmp_path / MARK).read_text())["files"]}


def _hold(folder: Path, held: Any, end: Any) -> None:
    def slow(new: Path) -> None:
        write(new, SAVES["flat"])
        held.set()
        end.wait(60)

    replace_folder(folder, slow, MARK)


def test_a_save_of_another_process_is_not_taken_for_an_interrupted_one(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    context = multiprocessing.get_context("fork")
    held, end = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, end))
    other.start()
    assert held.wait(60)
    save(tmp_path, "deep")
    assert found(tmp_path) == "deep"
    end.set()
    other.join(60)
    assert other.exitcode == 0
    assert found(tmp_path) == "flat"
    assert names(tmp_path) == set(SAVES["flat"])


def test_a_description_that_lists_no_files_leaves_them_with_a_warning(tmp_path: Path) -> None:
    save(tmp_path, "flat")
    (tmp_path / MARK).write_text("{}")
    with pytest.warns(
        RuntimeWarning, match=r"mark\.json does not list the files of its save, so those that are not wr"
    ):
        save(tmp_path, "small")
    assert found(tmp_path) == "small"
    assert names(tmp_path) == {*SAVES["flat"], *SAVES["small"]}


def test_a_folder_that_is_not_flushed_at_last_is_whole_and_told_by_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(handle: int) -> None:
        if (tmp_path / MARK).exists():
            raise OSError(5, "Input/output error")

    def without_folders(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.warns(
        RuntimeWarning, match=r"could not flush the folder \(Input/output error\): a power cut may undo it"
    ):
        save(tmp_path, "flat")
    assert found(tmp_path) == "flat"
    monkeypatch.setattr(os, "fsync", without_folders)  # as on some network file systems
    save(tmp_path, "deep")
    assert found(tmp_path) == "deep"


def read_from(folder: Path) -> None:
    with reading(folder, MARK):
        pass


@pytest.mark.parametrize("place", [0, 2**20 + 7, -1])
def test_a_file_that_is_not_as_it_was_saved_is_refused_by_name(place: int, tmp_path: Path) -> None:
    def write_long(new: Path) -> None:
        write(new, {MARK: "{}", "model/weights": "a" * 2**22, "model/config.json": "{}", "README.md": "by the model"})

    file = tmp_path / "model" / "weights"
    replace_folder(tmp_path, write_long, MARK)
    read_from(tmp_path)
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 0x40
    file.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"weights is not as it was saved \(other bytes\): it is damaged, or of ano"):
        read_from(tmp_path)
    file.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"weights is not as it was saved \(4194303 bytes instead of 4194304\)"):
        read_from(tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="weights is missing; download the folder whole"):
        read_from(tmp_path)
    file.mkdir()
    with pytest.raises(ValueError, match=r"\(no bytes instead of 4194304\)"):
        read_from(tmp_path)
    file.rmdir()
    file.write_bytes(whole)
    read_from(tmp_path)


def test_texts_that_people_edit_and_files_that_are_not_listed_are_not_compared(tmp_path: Path) -> None:
    replace_folder(tmp_path, lambda new: write(new, {**SAVES["deep"], "README.md": "by the model"}), MARK)
    for name in ("README.md", "model/a/b.json", "notes.txt"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "README.md").unlink()
    read_from(tmp_path)


def test_a_file_that_was_replaced_on_purpose_is_read_if_its_entry_says_so(tmp_path: Path) -> None:
    save(tmp_path, "flat")
    (tmp_path / "weights").write_text("mine now")
    message = r"If you replaced the file, set its entry in 'files' of .*mark\.json to null$"
    with pytest.raises(ValueError, match=message):
        read_from(tmp_path)
    described = json.loads((tmp_path / MARK).read_text())
    described["files"]["weights"] = None
    (tmp_path / MARK).write_text(json.dumps(described))
    read_from(tmp_path)
    save(tmp_path, "small")
    assert (tmp_path / "weights").read_text() == "mine now"  # the caller's
    save(tmp_path, "flat")
    assert json.loads((tmp_path / MARK).read_text())["files"]["weights"] is not None
    assert found(tmp_path) == "flat"


def test_a_folder_inside_one_that_is_read_is_compared_with_it(tmp_path: Path) -> None:
    def write_both(new: Path) -> None:
        write(new, {MARK: "{}"})
        replace_folder(new / "inside", lambda inside: write(inside, SAVES["small"]), MARK)

    replace_folder(tmp_path, write_both, MARK)
    (tmp_path / "inside" / "arrays").write_text("mine now")
    with pytest.raises(ValueError, match=r"inside/arrays is not as .* in 'files' of .*inside/mark\.json to null"):
        read_from(tmp_path / "inside")
    with pytest.raises(ValueError, match=r"inside/arrays is not as it was saved"):
        read_from(tmp_path)
    described = json.loads((tmp_path / MARK).read_text())
    described["files"]["inside/arrays"] = None
    (tmp_path / MARK).write_text(json.dumps(described))
    with reading(tmp_path, MARK) as here:
        read_from(here / "inside")
    assert not (tmp_path / "arrays").exists()


def test_what_a_description_lists_of_elsewhere_is_not_read(tmp_path: Path) -> None:
    save(tmp_path / "folder", "small")
    (tmp_path / "outside").write_text("mine")
    file = tmp_path / "folder" / MARK
    for files in ({"../outside": "4 sha256:0"}, {"a\0b": "4 0"}, [], 3, {"outside": "4 0", "b": 3, "c": None}):
        file.write_text(json.dumps({"files": files}))
        read_from(tmp_path / "folder")
