"""Results of a soak: the file that holds them, and their table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from studies.faults import disk, lives
from studies.faults.ranks import STOPS
from studies.faults.recipes import RECIPES

Line: TypeAlias = dict[str, Any]


class Record:
    """The results so far, one line of a JSON Lines file each.

    Args:
        path: The file, read if it exists.
        settings: Written to a new file; the seed of an existing one must agree.

    Raises:
        ValueError: the file holds results of another seed.
    """

    def __init__(self, path: Path, settings: Line) -> None:
        self.lines: list[Line] = []
        if path.exists():
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            self.lines = [json.loads(line) for line in whole.splitlines()]
            path.write_text(whole, encoding="utf-8")  # the last line may be torn
        self._path = path
        begun = next((line for line in self.lines if line["part"] == "settings"), None)
        if begun is None:
            self.add({"part": "settings", **settings})
        elif begun["seed"] != settings["seed"]:
            raise ValueError(f"{path} is of seed {begun['seed']}, not {settings['seed']}; use another --out")

    def add(self, line: Line) -> None:
        """Add a result to the file."""
        self.lines.append(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def of(self, part: str, **fields: Any) -> list[Line]:
        """Return the results of a part whose fields have the given values."""
        wanted = {"part": part, **fields}
        return [line for line in self.lines if all(line.get(name) == value for name, value in wanted.items())]


def table(record: Record) -> tuple[list[str], int]:
    """Return the results as lines of Markdown, and the number of results that are not as promised."""
    rows, bad = ["| what was injected | how often | what happened |", "|---|---|---|"], 0
    for kind, name in (("kill", "SIGKILL"), ("terminate", "SIGTERM")):
        found = lives.summary(record.lines, kind)
        bad += found["problems"]
        checkpoints = "none lost, none damaged" if not found["problems"] else f"{found['problems']} PROBLEMS"
        more = f"; {found['torn']} left a torn file, later cleared" if kind == "kill" else ""
        stopped = f"{found['stopped']} ended with code 75 and the last step saved, the others before `fit` had begun; "
        stopped = "" if kind == "kill" else stopped
        rows.append(
            f"| {name} to a training | {found['died']}: {found['in saving']} while it saved, {found['starting']} "
            f"while it started or loaded, the rest between | {stopped}"
            f"checkpoints: {checkpoints}{more}; {found['identical']} of {found['trainings']} trainings ended "
            "bit-identical to the undisturbed one |"
        )
        rows += _by_recipe(record) if kind == "kill" else []
    for part, of, name, promised in _CASES:
        lines = [line for line in record.of(part) if of in (None, line.get("kind"))]
        wrong = sum(bool(line["problems"]) for line in lines)
        bad += wrong
        slow = max((line.get("waited", 0.0) for line in lines), default=0.0)
        more = f" (after at most {slow} s)" if slow else ""
        count = f"{STOPS * len(lines)} in {len(lines)} trainings" if of == "stop" else f"{len(lines)}"
        rows.append(f"| {name} | {count} | {len(lines) - wrong}: {promised}{more}; {wrong} otherwise |")
    for name, wanted in _GROUPS.items():
        outcomes: Counter[str] = Counter()
        for line in record.of("damage"):
            if wanted(line["kind"]):
                outcomes.update(line["outcomes"])
        bad += sum(count for what, count in outcomes.items() if what not in _ALLOWED[name])
        said = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items(), key=lambda each: -each[1]))
        rows.append(f"| {name} | {sum(outcomes.values())} | {said} |")
    for line in record.of("control"):
        bad += line["of"] - line["sprung"]
        what = "control: the traps undamaged, read with pickles allowed"
        rows.append(f"| {what} | {line['of']} | {line['sprung']} executed |")
    return rows, bad


def _by_recipe(record: Record) -> list[str]:
    """Return a row for each kind of training that was killed."""
    rows = []
    for name, recipe in RECIPES.items():
        deaths = [line for line in record.of("kill", recipe=name) if line["died"]]
        ends = record.of("kill end", recipe=name)
        same = sum(line["identical"] for line in ends)
        rows.append(f"| SIGKILL, of these: {recipe.words} | {len(deaths)} | {same} of {len(ends)} bit-identical |")
    return rows


def _is(*words: str) -> Callable[[str], bool]:
    return lambda kind: any(kind.startswith(word) for word in words)


_NO_ROOM = "OSError that names the file, earlier checkpoints unchanged, bit-identical end once there was room"
_CASES = (
    ("disk", disk.KINDS[0], "file system full", _NO_ROOM),
    ("disk", disk.KINDS[1], "file system filled while a training ran, at a random instant", _NO_ROOM),
    ("disk", disk.KINDS[2], "file size limit reached", _NO_ROOM),
    (
        "rivals",
        None,
        "second training in the folder of another; in half of them the first was then killed",
        "told before its first step, no file changed, bit-identical end of the one that was left",
    ),
    (
        "strays",
        None,
        "newer damaged files, folders and links named as checkpoints, 2 to 8 at once",
        "continued from the newest good one with a warning of each damaged one, "
        "folders, targets of links and files of other steps unchanged, "
        "bit-identical end",
    ),
    ("ranks", "stop", "SIGSTOP of 1 to 2 s to one of two processes", "the other waited, bit-identical end"),
    (
        "ranks",
        "kill",
        "SIGKILL to one of two processes",
        "both started again, bit-identical end; the other had ended with an error",
    ),
)
_GROUPS: dict[str, Callable[[str], bool]] = {
    "damaged checkpoint": lambda kind: kind == "checkpoint",
    "damaged checkpoint with a corrected checksum": _is("checkpoint, sealed"),
    "damaged checkpoint without a checksum": _is("checkpoint without"),
    "damaged spectrum": _is("spectrum"),
    "trap: code in a checkpoint, spectrum or array, damaged": _is("trap"),
    "damaged PNG": lambda kind: kind == "png",
    "damaged PNG with corrected checksums": lambda kind: "resealed" in kind,
    "damaged JPEG, WebP, GIF, BMP, TIFF": _is("jpeg", "webp", "gif", "bmp", "tif"),
    "damaged parquet file": _is("parquet"),
    "damaged .npz of images": _is("npz"),
    "damaged .npy of images": _is("npy"),
}
_SURE = ("refused", "right values")
_ALLOWED = {
    name: _SURE
    if name in ("damaged checkpoint", "damaged spectrum", "damaged PNG", "damaged .npz of images")
    else ("refused",)
    if name.startswith("trap")
    else (*_SURE, "other values")  # such a file has nothing that would show the damage
    for name in _GROUPS
}


def problems(lines: Iterable[Line]) -> Iterable[str]:
    """Yield a sentence for each problem and note."""
    for line in lines:
        for problem in [*line.get("problems", ()), *line.get("notes", ())]:
            yield f"{line['part']} {line.get('training', line.get('kind', line.get('number')))}: {problem}"
