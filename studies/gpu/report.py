"""Tables of all records in a folder, in Markdown, and the same numbers as JSON."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from examples.recipe.files import replacing
from studies.gpu.compare import seconds_of
from studies.gpu.limit import Limit
from studies.gpu.ranking import BASE, leaders, paired
from studies.gpu.records import show

KEPT = ("*.json", "*.md", "*/*.png", "*.png")  # small files, to copy


def report(args: argparse.Namespace, argv: Sequence[str], limit: Limit) -> None:
    """Write report.md and report.json, print the first, and copy the small files to `--to`.

    Raises:
        ValueError: no records.
    """
    records = {path.stem: json.loads(path.read_text()) for path in sorted(args.out.glob("*.json"))}
    records.pop("report", None)
    if not records:
        raise ValueError(f"{args.out} holds no records; run check, speed or compare with this --out first")
    makers = {"check": _check, "speed": _speed, "compare": _compare}
    text = "\n\n".join(
        f"## {name}\n\n{_heading(found)}\n\n{makers.get(name, _compare)(found)}" for name, found in records.items()
    )
    with replacing(args.out / "report.md") as file:
        file.write(f"# GPU report\n\n{text}\n".encode())
    with replacing(args.out / "report.json") as file:
        file.write((json.dumps(records, indent=1, ensure_ascii=False) + "\n").encode())
    show((args.out / "report.md").read_text())
    if args.to is not None:
        copied = [path for pattern in KEPT for path in sorted(args.out.glob(pattern))]
        for path in copied:
            target = args.to / path.relative_to(args.out)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        show(f"{len(copied)} files copied to {args.to}")


def _heading(found: Mapping[str, Any]) -> str:
    """Return the card, the versions, and the commands."""
    machine = found["machine"]
    driver = f", driver {machine['driver']}, CUDA {machine['cuda']}" if "driver" in machine else ""
    commands = Counter((call["date"], call["command"]) for call in found.get("calls", ()))
    lines = [f"{machine['device']}{driver}, torch {machine['torch']}, Python {machine['python']}."]
    lines += [
        f"- {day}: `{text}`" + (f" ({count} times)" if count > 1 else "") for (day, text), count in commands.items()
    ]
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others))


def _check(found: Mapping[str, Any]) -> str:
    checks = found["checks"]
    counts = Counter(each["state"] for each in checks.values())
    rows = [["check", "state", "figure or reason"]]
    rows += [[name, each["state"], each["text"].replace("|", "/")] for name, each in checks.items()]
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{len(checks)} checks: {summary}.\n\n{_table(rows)}"


def _speed(found: Mapping[str, Any]) -> str:
    rows = [["what", "contender", "ms (quartiles)", "ratio (quartiles)", "images/s", "peak of the call"]]
    for what, contenders in found["timings"].items():
        for name, each in contenders.items():
            low, middle, high = (1e3 * seconds for seconds in each["seconds"])
            peak = each.get("peak_bytes_of_the_call")
            rows.append(
                [
                    what,
                    name,
                    f"{middle:.4g} ({low:.4g} – {high:.4g})",
                    f"{each['ratio'][1]:.4g} ({each['ratio'][0]:.4g} – {each['ratio'][2]:.4g})",
                    f"{each['images_per_second']:.4g}",
                    "–" if peak is None else f"{peak / 2**20:.0f} MiB",
                ]
            )
    repeats = found["fixed"]["repeats"]
    return f"Medians over {repeats} repeats, side by side; ratios to the first contender.\n\n{_table(rows)}"


def _compare(found: Mapping[str, Any]) -> str:
    """Return the training, the two primary measures side by side, and the secondary ones."""
    cases, measures = found["cases"], found["fixed"]["measures"]
    rows = [["case", "parameters", "minutes", "steps", "mean loss of the last slice"]]
    for each in cases.values():
        last = each["slices"][-1] if each["slices"] else {"step": 0, "loss": math.nan}
        minutes = f"{seconds_of(each) / 60:.2f}"
        rows.append([each["title"], f"{each['parameters']:,}", minutes, str(last["step"]), f"{last['loss']:.4f}"])
    parts = [f"Reference: {found['data']['note']}.", _table(rows)]
    parts.append("Losses of different predictions cannot be compared. Primary: bits/dim and FID, side by side.")
    reasons = {one["reason"] for each in cases.values() for one in each.get("quality", {}).values() if one["reason"]}
    drawn, steps_of = measures["quality"], measures["bits"]
    pairs = {steps: paired(cases, steps) for steps in steps_of}
    head = [*(f"bits/dim, {steps} steps" for steps in pairs), f"more than {BASE}'s, {steps_of[0]} steps"]
    rows = [["case", f"FID, {drawn[0]}", *head, "label of the FID"]]
    for name, each in cases.items():
        quality = each.get("quality", {}).get(drawn[0], {})
        known = [pairs[steps].get(name, {}) for steps in pairs]
        bits = [f"{one['mean']:.4f} ({one['images']} images)" if one else "–" for one in known]
        first = known[0]
        more = f"{first['difference']:+.4f} ± {first['standard_error']:.4f}" if "difference" in first else "–"
        rows.append([each["title"], _number(quality.get("fid")), *bits, more, quality.get("label", "–")])
    parts += [_table(rows), *(f"FID left out: {reason}." for reason in sorted(reasons))]
    rows = [["case", *(f"{kind}, {name}" for name in drawn for kind in ("FID", "KID"))]]
    for each in cases.values():
        every = [each.get("quality", {}).get(name, {}) for name in drawn]
        cells = [(_number(one.get("fid")), _number(one.get("kid"), one.get("kid_standard_error"))) for one in every]
        rows.append([each["title"], *(cell for pair in cells for cell in pair)])
    parts.append(_table(rows))
    for name, each in cases.items():
        for old in each.get("earlier", ()):
            fid = old["quality"].get(drawn[0], {}).get("fid")
            parts.append(f"Earlier, {name} after {old['measured_seconds'] / 60:.2f} minutes: FID {_number(fid)}.")
    if len(cases) > 1:
        best = {
            kind: cases[name]["title"] if name else "not known yet" for kind, name in leaders(cases, measures).items()
        }
        parts.append(f"Best by FID: {best['fid']}. Best by bits/dim: {best['bits']}. One seed for each case.")
    return "\n\n".join(parts)


def _number(value: float | None, error: float | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"
