"""Damaged checkpoints, spectra and data: read in a child, so that even a crash is only counted."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import pickle
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import shortest_path as sp
from shortest_path.checkpoint import load_checkpoint, serialise

from . import children
from .training import Board, same

REPOSITORY = Path(__file__).parents[2]
CHUNK = 50
_LONGEST = 30.0  # seconds that a file may take
_COMMENT = b"sha256:"


class Job(NamedTuple):
    """`count` damaged copies of a kind, the `chunk`-th row of them, without those that made an earlier child crash."""

    kind: str
    chunk: int
    count: int
    skip: tuple[int, ...] = ()


class Kind(NamedTuple):
    """How a file is made, read, and compared; `seal` mends checksums, so that damage reaches what is behind them."""

    suffix: str
    make: Callable[[], bytes]
    load: Callable[[Path, int], Any]
    right: Callable[[Any, Any], bool]
    seal: Callable[[bytes], bytes] = bytes


class Canary:
    """An object whose pickle makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


def kinds(canary: Path) -> dict[str, Kind]:
    """Return all kinds of files by name; those called "trap" make `canary` if they are executed."""
    pictures = _pictures()
    state = {
        "format": "trial",
        "step": 3,
        "model": {"weight": torch.arange(300.0).reshape(3, 100), "count": torch.tensor(7)},
        "optimizer": {"state": {0: {"exp_avg": torch.linspace(-1, 1, 200)}}, "lr": 1e-3},
        "random": torch.arange(64, dtype=torch.uint8),
    }

    def saved(state: Any, *, old: bool = False) -> bytes:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue() if old else bytes(serialise(state))

    def checkpoint(make: Callable[[], bytes], seal: Callable[[bytes], bytes] = bytes) -> Kind:
        return Kind("pt", make, lambda path, _: load_checkpoint(path), same, seal)

    def spectrum(make: Callable[[], bytes]) -> Kind:
        return Kind("npz", make, lambda path, _: sp.PowerSpectrum.load(path).state_dict(), same)

    def array(suffix: str, make: Callable[[], bytes]) -> Kind:
        return Kind(suffix, make, pictures.read, lambda one, other: one is None or np.array_equal(one, other))

    trap, trapped = Canary(canary), np.array([Canary(canary), None], dtype=object)
    found = {
        "checkpoint": checkpoint(lambda: saved(state)),
        "checkpoint, sealed anew": checkpoint(lambda: saved(state), _sealed),
        "checkpoint without a checksum": checkpoint(lambda: saved(state, old=True)),
        "trap: checkpoint": checkpoint(lambda: saved({**state, "step": trap})),
        "trap: checkpoint, sealed anew": checkpoint(lambda: saved({**state, "step": trap}), _sealed),
        "trap: checkpoint without a checksum": checkpoint(lambda: saved({"trap": trap}, old=True)),
        "trap: checkpoint, torch's old format": checkpoint(lambda: _legacy({"trap": trap})),
        "trap: pickle as checkpoint": checkpoint(lambda: pickle.dumps({"trap": trap})),
        "spectrum": spectrum(_spectrum),
        "trap: spectrum": spectrum(lambda: _packed(np.savez, header=trapped, power=trapped)),
        "trap: pickle as spectrum": spectrum(lambda: pickle.dumps(trap)),
        "trap: npz": array("npz", lambda: _packed(np.savez, images=trapped)),
        "trap: npy": array("npy", lambda: _packed(np.save, images=trapped)),
        "trap: pickle as npy": array("npy", lambda: pickle.dumps(trap)),
    }
    for name, make in pictures.files.items():
        found[name] = array(name.split()[0], make)._replace(seal=pictures.seals.get(name, bytes))
    return found


def control(folder: Path) -> int:
    """Show that the traps would work: read each as it must not be read, and count those that made the canary."""
    canary, sprung = folder / "control", 0
    readers: Sequence[Callable[[bytes], Any]] = (
        lambda data: torch.load(io.BytesIO(data), weights_only=False),
        lambda data: [*np.load(io.BytesIO(data), allow_pickle=True).values()],
        lambda data: np.load(io.BytesIO(data), allow_pickle=True),
    )
    for name, kind in kinds(canary).items():
        for reader in readers if name.startswith("trap") else ():
            with suppress(Exception):  # none reads all formats
                reader(kind.make())
        if canary.exists():
            sprung += 1
            canary.rmdir()
    return sprung


def read_damaged(
    out: Path, jobs: Sequence[Job], *, seed: int, before: Callable[[int], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Read the files of all jobs in a child, another one after each crash, and yield what happened to each job.

    Args:
        out: A folder for files.
        jobs: What to read.
        seed: Of the damage.
        before: Called in the child before each file, with its place; for tests of this function.
    """
    left, crashes = list(jobs), Counter[str]()
    notes: list[str] = []
    while left:
        board = Board(out / "damage.board", fresh=True)
        board["place"] = -1
        reader, writer = children.pipe()
        child = children.start(_read_all, out, left, seed, before, writer, log=out / "damage.log", longest=3600)
        writer.close()
        begun, place, stuck = time.monotonic(), (-1, -1), False
        try:
            while left:
                if reader.poll(0.2):
                    found = reader.recv()
                    found["outcomes"] = dict(Counter(found["outcomes"]) + crashes)
                    found["notes"] += notes
                    notes, crashes = [], Counter()
                    yield found
                    left.pop(0)
                    continue
                if (len(left), board["place"]) != place:
                    place, begun = (len(left), board["place"]), time.monotonic()
                if not child.is_alive() and not reader.poll():
                    break
                if time.monotonic() - begun > _LONGEST + 60 * (board["place"] < 0):  # before the first, it imports
                    stuck = True
                    break
        except EOFError:
            pass
        finally:
            child.join(0 if stuck else 20)
            hung = child.is_alive()
            if hung:
                child.kill()
            code = children.finish(child, 20)
        if left and (board["place"] < 0 or (not hung and (code is None or code >= 0))):
            raise RuntimeError(f"the reading process itself failed with {code} at {left[0]}; see {out / 'damage.log'}")
        if left:
            crashes["hang" if hung else "crash"] += 1
            notes.append(f"{left[0]} at {board['place']}: {'hang' if hung else f'ended with {code}'}")
            left[0] = left[0]._replace(skip=(*left[0].skip, board["place"]))


def _read_all(out: Path, jobs: Sequence[Job], seed: int, before: Callable[[int], None] | None, writer: Any) -> None:
    torch.set_num_threads(1)
    board = Board(out / "damage.board")
    folder = Path(tempfile.mkdtemp(prefix="damage-", dir=out))
    canary = folder / "canary"
    available = kinds(canary)
    for job in jobs:
        writer.send(_read(job, available[job.kind], folder, canary, seed, board, before))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _read(
    job: Job,
    kind: Kind,
    folder: Path,
    canary: Path,
    seed: int,
    board: Board,
    before: Callable[[int], None] | None,
) -> dict[str, Any]:
    mutations = _tests().mutations
    whole, outcomes, notes = kind.make(), Counter[str](), []
    path = folder / f"x.{kind.suffix}"
    path.write_bytes(kind.seal(whole))
    try:
        expected = kind.load(path, 0)
    except ValueError:  # traps and animations are refused even if nothing is damaged
        expected = None
    damaged = map(kind.seal, mutations(whole, zlib.crc32(f"{seed} {job.kind} {job.chunk}".encode())))
    for place, data in enumerate(itertools.islice(damaged, job.count)):
        if place in job.skip:
            continue
        board["place"] = place
        if before is not None:
            before(place)
        path.write_bytes(data)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                found = kind.load(path, place)
            right = expected is not None and kind.right(found, expected)
            outcome = "right values" if right else "other values"
            notes += [f"warned: {each.message}" for each in said if each.category is not UserWarning]
        except (ValueError, FileNotFoundError) as error:
            outcome = "refused" if str(path) in str(error) else "refused without its name"
        except BaseException as error:
            outcome = f"raised {type(error).__name__}"
            notes.append(f"{job} at {place}: {type(error).__name__}: {error}")
        path.unlink()
        if any(folder.iterdir()):
            outcome = "EXECUTED"
            notes.append(f"{job} at {place}: executed")
            canary.rmdir()
        outcomes[outcome] += 1
    return {"part": "damage", **job._asdict(), "outcomes": dict(outcomes), "notes": notes[:20]}


def _tests() -> Any:
    for folder in ("tests", "examples"):
        if str(REPOSITORY / folder) not in sys.path:
            sys.path.insert(0, str(REPOSITORY / folder))
    import mutations

    return mutations


class _Pictures(NamedTuple):
    files: dict[str, Callable[[], bytes]]
    seals: dict[str, Callable[[bytes], bytes]]
    read: Callable[[Path, int], Any]


def _pictures() -> _Pictures:
    tests = _tests()
    import test_images
    from images import load_images

    def read(path: Path, place: int) -> Any:
        size = 8 if place % 4 == 3 else None  # some are resized, which need not give the same
        images = load_images(path if path.suffix in (".parquet", ".npy", ".npz") else path.parent, size)
        if images.dtype != np.uint8 or images.ndim != 4 or not images.size or images.shape[-1] not in (1, 3):
            raise AssertionError(f"these are no pictures: {images.dtype} {images.shape}")
        return images if size is None else None

    seals = {name: tests.resealed for name in test_images.FILES if "resealed" in name}
    return _Pictures(test_images.FILES, seals, read)


def _sealed(data: bytes) -> bytes:
    """Return a checkpoint with the checksum that its bytes should have, if it still has the form of one."""
    end = len(data) - 64 - len(_COMMENT) - 2
    if end < 0 or not data[end + 2 :].startswith(_COMMENT):
        return data
    return data[: end + 2] + _COMMENT + hashlib.sha256(data[:end]).hexdigest().encode()


def _legacy(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _packed(save: Callable[..., None], **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays.values()) if save is np.save else save(buffer, **arrays)
    return buffer.getvalue()


def _spectrum() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.npz"
        sp.PowerSpectrum.power_law((3, 6, 6), amplitude=1.59, offset=0.0086, exponent=2.0).save(path)
        return path.read_bytes()
