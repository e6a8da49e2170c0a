"""The checks of a device, each a line: name, right, wrong or not possible here, and why."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from studies.gpu import agreement, continuing, steps
from studies.gpu.limit import Limit, TimeUp
from studies.gpu.outcomes import Check, Outcome, wrong
from studies.gpu.records import Record, show

MARGIN = 5.0  # seconds left without which no check is begun


def check(args: argparse.Namespace, argv: Sequence[str], limit: Limit) -> None:
    """Make the checks that the record has not, and write them; a wrong one does not stop the others."""
    device = torch.device(args.device)
    record = Record(args.out / "check.json", {"device": device.type, "backend": args.backend})
    record.begin(device, argv)
    done = record.values.setdefault("checks", {})
    todo = agreement.checks(device) | steps.checks(device, args.backend) | continuing.checks(device)
    chosen = {name: make for name, make in todo.items() if not args.only or any(part in name for part in args.only)}
    if not chosen:
        raise ValueError(f"--only {' '.join(args.only)} names no check; names are {', '.join(todo)}")
    for name, make in chosen.items():
        if name in done and not args.again:
            continue
        if limit.left() <= min(MARGIN, 30 * args.minutes):
            raise TimeUp
        done[name] = _tried(make)._asdict()
        record.write()
        show(line(name, done[name]))
    counts = Counter(each["state"] for name, each in done.items() if name in chosen)
    show(f"{len(chosen)} checks: " + ", ".join(f"{count} {state}" for state, count in counts.items()))


def line(name: str, found: Mapping[str, object]) -> str:
    """Return a check as a line of text."""
    return f"{name}: {found['state']} ({found['text']})"


def _tried(make: Check) -> Outcome:
    try:
        return make()
    except Exception as error:  # any error is what the check is for
        return wrong(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
