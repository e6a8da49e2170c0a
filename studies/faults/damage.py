"""Read damaged checkpoints, spectra and image files, in a child process, so that a crash is only counted."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import pickle
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
from examples.recipe.images import load_images
from shortest_path.training import load_checkpoint, write_checkpoint
from studies.faults import children
from studies.faults.files import FILES, packed
from studies.faults.mutations import mutations, resealed
from studies.faults.training import Board, same

CHUNK = 50
_LONGEST = 30.0  # seconds to read one file
_COMMENT = b"sha256:"


class Job(NamedTuple):
    """Damaged copies of one kind of file.

    `count` copies of the `chunk`-th sequence of damage, without those of `skip`, at which an earlier child crashed.
    """

    kind: str
    chunk: int
    count: int
    skip: tuple[int, ...] = ()


class Kind(NamedTuple):
    """How a file is made, read and compared; `seal` corrects checksums, so that damage reaches the code behind them."""

    suffix: str
    make: Callable[[], bytes]
    load: Callable[[Path, int], Any]
    right: Callable[[Any, Any], bool]
    seal: Callable[[bytes], bytes] = bytes


class Canary:
    """An object whose pickle creates a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


def kinds(canary: Path) -> dict[str, Kind]:
    """Return all kinds of files by name; those called "trap" create `canary` if they are executed."""
    state = {
        "format": "trial",
        "step": 3,
        "model": {"weight": torch.arange(300.0).reshape(3, 100), "count": torch.tensor(7)},
        "optimizer": {"state": {0: {"exp_avg": torch.linspace(-1, 1, 200)}}, "lr": 1e-3},
        "random": torch.arange(64, dtype=torch.uint8),
    }

    def saved(state: Any, *, plain: bool = False) -> bytes:
        return _written(lambda path: torch.save(state, path) if plain else write_checkpoint(path, state))

    def checkpoint(make: Callable[[], bytes], seal: Callable[[bytes], bytes] = bytes) -> Kind:
        return Kind("pt", make, lambda path, _: load_checkpoint(path), same, seal)

    def spectrum(make: Callable[[], bytes]) -> Kind:
        return Kind("npz", make, lambda path, _: sp.PowerSpectrum.load(path).state_dict(), same)

    def array(suffix: str, make: Callable[[], bytes]) -> Kind:
        return Kind(suffix, make, _read_images, lambda one, other: one is None or np.array_equal(one, other))

    trap, trapped = Canary(canary), np.array([Canary(canary), None], dtype=object)
    found = {
        "checkpoint": checkpoint(lambda: saved(state)),
        "checkpoint, sealed anew": checkpoint(lambda: saved(state), _sealed),
        "checkpoint without a checksum": checkpoint(lambda: saved(state, plain=True)),
        "trap: checkpoint": checkpoint(lambda: _with_checksum(saved({**state, "step": trap}, plain=True))),
        "trap: checkpoint, sealed anew": checkpoint(
            lambda: _with_checksum(saved({**state, "step": trap}, plain=True)), _sealed
        ),
        "trap: checkpoint without a checksum": checkpoint(lambda: saved({"trap": trap}, plain=True)),
        "trap: checkpoint, torch's old format": checkpoint(lambda: _legacy({"trap": trap})),
        "trap: pickle as checkpoint": checkpoint(lambda: pickle.dumps({"trap": trap})),
        "spectrum": spectrum(_spectrum),
        "trap: spectrum": spectrum(lambda: packed(np.savez, header=trapped, power=trapped)),
        "trap: pickle as spectrum": spectrum(lambda: pickle.dumps(trap)),
        "trap: npz": array("npz", lambda: packed(np.savez, images=trapped)),
        "trap: npy": array("npy", lambda: packed(np.save, images=trapped)),
        "trap: pickle as npy": array("npy", lambda: pickle.dumps(trap)),
    }
    for name, make in FILES.items():
        found[name] = array(name.split()[0], make)._replace(seal=resealed if "resealed" in name else bytes)
    return found


def control(folder: Path) -> int:
    """Count the traps that work: load each with pickles allowed, and see whether it creates the canary."""
    canary, sprung = folder / "control", 0
    readers: Sequence[Callable[[bytes], Any]] = (
        lambda data: torch.load(io.BytesIO(data), weights_only=False),
        lambda data: [*np.load(io.BytesIO(data), allow_pickle=True).values()],
        lambda data: np.load(io.BytesIO(data), allow_pickle=True),
    )
    for name, kind in kinds(canary).items():
        for reader in readers if name.startswith("trap") else ():
            with suppress(Exception):  # no reader reads all formats
                reader(kind.make())
        if canary.exists():
            sprung += 1
            canary.rmdir()
    return sprung


def read_damaged(
    out: Path, jobs: Sequence[Job], *, seed: int, before: Callable[[int], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Read the files of all jobs in a child, in a new one after each crash, and yield the outcomes of each job.

    Args:
        out: Folder for files.
        jobs: The files to read.
        seed: Random seed of the damage.
        before: Called in the child before each file with the file's index; for tests.
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
                imports = 60 * (board["place"] < 0)  # seconds more, until the first file is read
                if time.monotonic() - begun > _LONGEST + imports:
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
    whole, outcomes, notes = kind.make(), Counter[str](), []
    path = folder / f"x.{kind.suffix}"
    path.write_bytes(kind.seal(whole))
    try:
        expected = kind.load(path, 0)
    except ValueError:  # traps and animations are refused even undamaged
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


def _read_images(path: Path, place: int) -> Any:
    size = 8 if place % 4 == 3 else None  # some are resized, and then need not equal the original
    images = load_images(path if path.suffix in (".parquet", ".npy", ".npz") else path.parent, size)
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size or images.shape[-1] not in (1, 3):
        raise AssertionError(f"expected uint8 images, got {images.dtype} {images.shape}")
    return images if size is None else None


def _sealed(data: bytes) -> bytes:
    """Return a checkpoint with its checksum corrected, if its end still has the form of a checksum."""
    end = len(data) - 64 - len(_COMMENT) - 2
    if end < 0 or not data[end + 2 :].startswith(_COMMENT):
        return data
    return data[: end + 2] + _COMMENT + hashlib.sha256(data[:end]).hexdigest().encode()


def _with_checksum(data: bytes) -> bytes:
    """Return what torch saved with the checksum of a checkpoint; `write_checkpoint` would not write all of it."""
    comment = _COMMENT + bytes(64)
    return _sealed(data[:-2] + len(comment).to_bytes(2, "little") + comment)


def _legacy(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _spectrum() -> bytes:
    return _written(sp.PowerSpectrum.power_law((3, 6, 6), amplitude=1.59, offset=0.0086, exponent=2.0).save)


def _written(write: Callable[[Path], object]) -> bytes:
    """Return what a function writes to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "archive.npz"
        write(path)
        return path.read_bytes()
