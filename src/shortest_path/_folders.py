"""Saving to a folder: the former save or the new one can be loaded at any moment, and after any error."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ._files import flush_folders, flush_renamed, made_folder
from ._listed import FILES, check_listed, held, listed

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

_SAVING = "saving.*.tmp"
_NEW, _FORMER, _MARK = "new", "former", "mark"
_LINKING, _AGAIN, _DONE = "linking", "again", "done"
_OURS = {_NEW, _FORMER, _MARK, _LINKING, _AGAIN, _DONE}
_thread = threading.local()  # its `reads`: the folders that the thread reads now


def replace_folder(folder: Path, write: Callable[[Path], object], mark: str) -> None:
    """Put files of a folder in their places together.

    They are written to a folder `saving.….tmp` inside it, and links to the files that they replace, or copies on file
    systems without hard links, are kept there. Then descriptions, which are JSON, are taken away before anything else
    is replaced, and the new ones come last: a folder with its mark is whole. After an error the files of before are put
    back. After an end of the process, `saved_folder` finds them, and the next save puts them back first, where the
    system has file locks.

    Files of the former save that were not written again are removed: those that its mark lists and that hold what it
    says. All others stay. Links that are written become what they lead to, as the folder may be moved.

    Args:
        folder: The folder, made if missing.
        write: Called with a new folder, to write the mark too.
        mark: Name of the description that marks a whole folder, to which the list of its files is added.

    Raises:
        OSError: a file could not be written, or a file or folder of the caller is in its place; what was there before
            is unchanged.
        RuntimeError: the folder is being loaded by the same thread, which would wait for itself.

    Warns:
        RuntimeWarning: the former mark lists no files, so none is removed; or the files are in their places, and the
            system could not flush them to the disk.
    """
    saving = folder / _SAVING.replace("*", secrets.token_hex(4))
    if os.path.realpath(folder) in _reads():
        raise RuntimeError(f"{folder} is being loaded, by what now saves to it; save to another folder, or afterwards")
    with made_folder(folder, "save"):
        saving.mkdir()
    try:
        with ExitStack() as until_saved:
            with _locked(folder, wait=True):  # so that no other process settles it before it is locked
                (saving / _NEW).mkdir(parents=True)  # one may have cleared it
                (saving / _MARK).write_text(mark, encoding="utf-8")
                until_saved.enter_context(_locked(saving))
            write(saving / _NEW)
            _complete(saving / _NEW, mark)
            with _locked(folder, wait=True):
                _settle_interrupted(folder)
                _swap(folder, saving, mark)
    finally:
        with _locked(folder, wait=True):  # not while another process looks at it
            _clear(saving)


def saved_folder(folder: Path, mark: str) -> Path:
    """Return where the last whole save to a folder is: the folder itself, or what a save under way keeps of before.

    Args:
        folder: The folder.
        mark: As for `replace_folder`.

    Warns:
        RuntimeWarning: a save was interrupted, or is under way.
    """
    if (folder / mark).is_file():
        return folder
    kept = [each for each in folder.glob(f"{_SAVING}/{_FORMER}") if (each / mark).is_file()]
    if not kept:
        return folder
    warnings.warn(
        f"a save to {folder} was interrupted or is under way: what was saved before it is loaded; save again",
        RuntimeWarning,
        stacklevel=3,
    )
    return max(kept, key=lambda each: each.stat().st_mtime)


@contextmanager
def reading(folder: Path, mark: str) -> Iterator[Path]:
    """Give the folder of the last whole save, which no other save changes meanwhile, where the system has file locks.

    Its files are compared with what its description lists, unless it is in a folder that the thread reads already.

    Args:
        folder: The folder.
        mark: As for `replace_folder`.

    Raises:
        FileNotFoundError: a file that is listed is missing.
        ValueError: a file does not hold what is listed; see `check_listed`.

    Warns:
        RuntimeWarning: as `saved_folder` warns.
    """
    if not folder.is_dir():
        yield folder
        return
    with _locked(folder, wait=True, shared=True):
        is_part = any(Path(os.path.realpath(folder)).is_relative_to(each) for each in _reads())
        _reads().append(os.path.realpath(folder))
        try:
            here = saved_folder(folder, mark)
            if not is_part:
                check_listed(here, mark)
            yield here
        finally:
            _reads().pop()


def _reads() -> list[str]:
    """Return the folders that this thread reads now, the last one begun last."""
    found: list[str] = _thread.__dict__.setdefault("reads", [])
    return found


def _complete(new: Path, mark: str) -> None:
    """List the files of a new folder in its mark, and flush them to the disk."""
    _replace_links(new)
    names = _names(new)
    described = json.loads((new / mark).read_text(encoding="utf-8"))
    described[FILES] = {name: held(new / name) for name in sorted(names - {mark})}
    (new / mark).write_text(json.dumps(described, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    mode = (new / mark).stat().st_mode  # safetensors lets the owner alone read
    for name in names:
        with (new / name).open("r+b") as file:
            os.fsync(file.fileno())
        (new / name).chmod(stat.S_IMODE((new / name).stat().st_mode | mode))


def _replace_links(new: Path) -> None:
    """Put copies in the place of links."""
    for link in [each for each in new.rglob("*") if each.is_symlink()]:
        target = link.resolve()
        if not target.exists():
            raise FileNotFoundError(f"a link to {target}, which does not exist, was written as {link.name}")
        link.unlink()
        if target.is_dir():
            shutil.copytree(target, link)
        else:
            shutil.copy2(target, link)


def _swap(folder: Path, saving: Path, mark: str) -> None:
    """Replace the files of the former save by the new ones, or leave them as they are."""
    former = _written(folder, folder, mark)
    names = _names(saving / _NEW)
    _check_places(folder, names, former)
    _link(folder, [name for name in sorted({*former, *names}) if os.path.isfile(folder / name)], saving / _LINKING)
    (saving / _LINKING).rename(saving / _FORMER)
    try:
        flush_folders(saving / _FORMER, saving)
        _place(saving / _NEW, folder, mark, gone=former)
    finally:
        _settle(folder, saving, mark)


def _place(source: Path, folder: Path, mark: str, gone: Iterable[str]) -> None:
    """Move the files of one folder to another, instead of those that go; descriptions go first and come last."""
    names = _names(source)
    for name in sorted({*names, *gone}, key=lambda name: name != mark):
        if name.endswith(".json"):
            _remove(folder, name)
    flush_folders(folder)
    for name in set(gone) - names:
        _remove(folder, name)
    for name in sorted(names, key=lambda name: (name.endswith(".json"), name == mark)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(folder / name)
    flush_renamed(folder)


def _settle(folder: Path, saving: Path, mark: str) -> None:
    """End a save: if it did not come to its mark, put the files of before back."""
    if (saving / _FORMER).exists():
        if not (folder / mark).exists():
            again = saving / _AGAIN
            shutil.rmtree(again, ignore_errors=True)  # of an attempt that was interrupted too
            _link(saving / _FORMER, _names(saving / _FORMER), again)
            _place(again, folder, mark, gone=_written(saving / _NEW, folder, mark))
        with suppress(OSError):  # else the next save tries again
            (saving / _FORMER).rename(saving / _DONE)  # at once, as a part of it must not be put back later


def _clear(saving: Path) -> None:
    """Remove what a save wrote beside, unless it keeps files that could not be put back."""
    if not (saving / _FORMER).exists():
        shutil.rmtree(saving, ignore_errors=True)


def _settle_interrupted(folder: Path) -> None:
    """End the saves whose process has ended, each by its own mark: nobody holds their lock."""
    for saving in folder.glob(_SAVING):
        with _locked(saving) as held:
            if held and set(os.listdir(saving)) <= _OURS:  # else it is the caller's
                if (saving / _MARK).is_file():  # else nothing was begun
                    _settle(folder, saving, (saving / _MARK).read_text(encoding="utf-8"))
                _clear(saving)


def _check_places(folder: Path, names: Iterable[str], former: set[str]) -> None:
    """Raise an OSError if a file has to go where the caller has a folder, or a folder where the caller has a file."""
    for name in names:
        if (folder / name).is_dir() and not any(each.startswith(f"{name}/") for each in former):
            raise IsADirectoryError(f"{folder / name} is a folder, but a file is saved there; move it away")
        for above in Path(name).parents[:-1]:
            if (folder / above).is_file() and above.as_posix() not in former:
                raise NotADirectoryError(f"{folder / above} is a file, but a folder is saved there; move it away")


def _names(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def _written(described: Path, folder: Path, mark: str) -> set[str]:
    """Return the mark in a folder, and the names that it lists of files of another folder.

    A file that does not hold what the mark says is the caller's, and is left out; one that is missing may have been.
    """
    try:
        found = listed(json.loads((described / mark).read_text(encoding="utf-8")), folder)
        return {mark, *(name for name, was in found if _missing(folder / name) or held(folder / name) == was)}
    except (FileNotFoundError, IsADirectoryError):
        return set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        warnings.warn(
            f"{described / mark} does not list the files of its save, so those that are not written again stay; to be "
            "rid of them, save to a new folder",
            RuntimeWarning,
            stacklevel=2,
        )
        return {mark}


def _missing(file: Path) -> bool:
    return not os.path.lexists(file)  # also of a name that no file can have


def _link(source: Path, names: Iterable[str], target: Path) -> None:
    """Make a folder with hard links to files of another, or copies where there are no such links."""
    target.mkdir()
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        file = (source / name).resolve()
        try:
            os.link(file, target / name)
        except OSError:
            shutil.copy2(file, target / name)


def _remove(folder: Path, name: str) -> None:
    """Remove a file, and the folders in which it was the last one."""
    if os.path.isdir(folder / name):  # that of another save, or of the caller
        return
    if not _missing(folder / name):
        (folder / name).unlink()
    with suppress(OSError):  # not the last one
        for above in Path(name).parents[:-1]:
            (folder / above).rmdir()


@contextmanager
def _locked(folder: Path, *, wait: bool = False, shared: bool = False) -> Iterator[bool]:
    """Hold the lock of a folder, which ends with the process, and tell whether it is held.

    It is not if another process holds it, or the system has no such locks. A shared lock keeps out none but the others.
    """
    if fcntl is None:
        yield False
        return
    handle, held = os.open(folder, os.O_RDONLY), True
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            held = False
        yield held
    finally:
        if held:
            fcntl.flock(handle, fcntl.LOCK_UN)  # children that were forked meanwhile have the handle too
        os.close(handle)
