"""Five cases at 32×32 in equal minutes, and a long training of the best.

Fixed before any run:

- **Primary measures**, always given side by side: *bits/dim* of the first 1,000 test images by 100 steps of the
  probability-flow ODE, as paired differences from `gaussian` (all cases have the same dequantisation noise and the same
  random signs); and the *FID* between 10,000 samples of the averaged network, by 20 steps of the default solver, and
  the training images. If the two disagree, both orders are reported.
- Secondary: bits/dim with 50 steps (whether the ODE has converged), FID at 50 steps and at 250 ancestral ones, KID.
- Cases have equal *seconds of training steps*, not equal steps. Network, optimizer, batches, initial weights (where
  the input has as many channels), seed, precision and solver are the same; nothing is tuned per case.
- One seed for each case: differences may be those of seeds.

Cases train by turns, a slice each; the one with the least goes first (`limit.next_round`). When all have reached
`--train-minutes`, they are measured: one measure for all cases, then the next.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from examples.recipe.cifar10 import Pictures, load
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.settings import to_dict
from studies.gpu.cases import CASES, COMPARE, WINNER, Case, Size, settings_of
from studies.gpu.limit import Limit, TimeUp, next_round
from studies.gpu.measures import (
    Judge,
    bits,
    dequantised,
    load_features,
    quality,
    reference_of,
    storage_note,
)
from studies.gpu.ranking import leaders
from studies.gpu.records import Record, show
from studies.gpu.training import Training

_TOY_IMAGES = (64, 20)  # generated, of training and test


def compare(args: argparse.Namespace, argv: Sequence[str], limit: Limit) -> None:
    """Train and measure the five cases."""
    _study(args, argv, limit, "compare", CASES, COMPARE[args.size])


def winner(args: argparse.Namespace, argv: Sequence[str], limit: Limit) -> None:
    """Train the best case of the comparison with a larger network, and measure it in each call."""
    name = args.case or best_case(args.out / "compare.json")
    _study(args, argv, limit, f"winner-{name}", {name: CASES[name]}, WINNER[args.size])


def best_case(path: Path) -> str:
    """Return the best case by FID, else by bits/dim, and print both.

    Raises:
        ValueError: there is no finished comparison.
    """
    found: dict[str, str | None] = {"fid": None, "bits": None}
    if path.exists():
        values = json.loads(path.read_text())
        found = leaders(values["cases"], values["fixed"]["measures"])
    name = found["fid"] or found["bits"]
    if name is None:
        raise ValueError(f"winner requires a primary measure of all cases in {path}; run compare, or pass --case NAME")
    show(f"best by FID: {found['fid']}; best by bits/dim: {found['bits']}; continuing with {name}")
    return name


def _study(
    args: argparse.Namespace,
    argv: Sequence[str],
    limit: Limit,
    name: str,
    cases: Mapping[str, Case],
    size: Size,
) -> None:
    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True
    pictures, held = _data(args, size)
    settings = {key: settings_of(case, size, args.precision) for key, case in cases.items()}
    fixed = {
        "size": args.size,
        "settings": {key: to_dict(each) for key, each in settings.items()},
        "training_images": pictures.provenance["sha256"],
        "test_images": held.provenance["sha256"],
        "measures": size.measures,
        "judged": min(args.judged or size.judged, len(held.images)),
    }
    record = Record(args.out / f"{name}.json", fixed)
    record.begin(device, argv)
    note = storage_note(pictures, args.data_note)
    record.values["data"] = {"training": pictures.provenance, "test": held.provenance, "note": note}
    entries = record.values.setdefault("cases", {})
    trainings = {}
    for key, case in cases.items():
        trainings[key] = Training(case, settings[key], pictures, args.out / name / key, device, compile=args.compile)
        entry = entries.setdefault(key, {"title": case.title, "slices": []})
        entry["parameters"] = trainings[key].parameters
        # A slice whose checkpoint was not written did not happen.
        entry["slices"] = [each for each in entry["slices"] if each["step"] <= trainings[key].step]
        show(f"{key}: {case.title}, {trainings[key].parameters:,} parameters, step {trainings[key].step}")
    record.write()
    reserve = 60 * args.measure_minutes
    _train(args, trainings, entries, record, limit, reserve)
    if not reserve and min(seconds_of(each) for each in entries.values()) < 60 * args.train_minutes - 1:
        raise TimeUp  # measures belong to the finished training
    judge = _judge(args, size, pictures, held, record, limit)
    _measure(trainings, record, judge, limit, args.out / name)


def seconds_of(entry: Mapping[str, Any]) -> float:
    """Return the seconds of training of a case."""
    return sum(each["seconds"] for each in entry["slices"])


def _data(args: argparse.Namespace, size: Size) -> tuple[Pictures, Pictures]:
    """Return training and test images; at toy size they may be generated."""
    if args.data is not None and args.held_out is not None:
        return load(args.data, size=size.images), load(args.held_out, split="test", size=size.images)
    if args.size != "toy":
        raise ValueError("--size full requires --data TRAIN and --held-out TEST, paths of images")
    found = []
    for seed, count in enumerate(_TOY_IMAGES):
        images = dead_leaves(count, size.images, seed=seed)
        digest = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
        source = {"source": "dead leaves", "split": "file", "count": count, "shape": list(images.shape[1:])}
        found.append(Pictures(images, None, source | {"encoding": "array", "sha256": digest}))
    return found[0], found[1]


def _train(
    args: argparse.Namespace,
    trainings: Mapping[str, Training],
    entries: Mapping[str, Any],
    record: Record,
    limit: Limit,
    reserve: float,
) -> None:
    """Train by turns until the goal or the time is reached."""
    writing = 0.0  # seconds, of one checkpoint
    while True:
        trained = {key: seconds_of(entry) for key, entry in entries.items()}
        left = limit.left() - reserve - writing * len(entries)
        plan = next_round(trained, left=left, slice_seconds=args.slice_seconds, goal=60 * args.train_minutes)
        if not plan:
            return
        for key, seconds in plan.items():
            done = trainings[key].train(seconds)
            entries[key]["slices"].append(done._asdict())
            record.write()
            begin = time.perf_counter()
            trainings[key].save()
            writing = time.perf_counter() - begin
            total = seconds_of(entries[key])
            show(f"{key}: step {done.step}, {total:.1f} s of training in total, mean loss {done.loss:.4f}")


def _judge(
    args: argparse.Namespace, size: Size, pictures: Pictures, held: Pictures, record: Record, limit: Limit
) -> Judge:
    device = torch.device(args.device)
    network, reason = load_features(args.features, device)
    if reason:
        show(f"no distances of samples: {reason}")
    reference = None
    if network is not None:
        reference = reference_of(network, pictures, args.out / "statistics", device, limit)
    images = dequantised(held.images[: record.values["fixed"]["judged"]])
    return Judge(
        held_out=images,
        real=pictures,
        network=network,
        reason=reason,
        reference=reference,
        samples=args.samples or size.samples,
        at_once=size.at_once,
        part=-(-len(images) // 4),
        note=record.values["data"]["note"],
    )


def _measure(trainings: Mapping[str, Training], record: Record, judge: Judge, limit: Limit, folder: Path) -> None:
    """Make the measures that are missing, one for all cases and then the next; the primary ones come first."""
    entries, measures = record.values["cases"], record.values["fixed"]["measures"]
    for key, training in trainings.items():
        entry = entries[key]
        if entry.get("measured_step") != training.step:
            if "measured_step" in entry:
                old = {name: entry[name] for name in ("measured_step", "measured_seconds", "bits", "quality")}
                entry.setdefault("earlier", []).append(old)
            entry |= {"measured_step": training.step, "measured_seconds": seconds_of(entry), "bits": {}, "quality": {}}
    todo = [(kind, how) for kind in ("quality", "bits") for how in measures[kind]]
    todo.sort(key=lambda each: measures[each[0]].index(each[1]))  # by turns of both kinds
    for kind, how in todo:
        for key, training in trainings.items():
            entry = entries[key]
            limit.require()
            if kind == "bits":
                values = entry["bits"].setdefault(how, [])
                if len(values) < len(judge.held_out):
                    bits(training, judge, int(how), values, limit, record.write)
                    show(f"{key}: {sum(values) / len(values):.4f} bits/dim of {len(values)} images, {how} steps")
            elif not _finished(entry["quality"].get(how), judge):
                solver, calls = how.rsplit("-", 1)
                found = quality(training, judge, solver, int(calls), folder / key, limit)
                entry["quality"][how] = found
                record.write()
                show(f"{key}: {found.get('label', 'no FID')} {found['fid']}, {how}")


def _finished(found: Mapping[str, Any] | None, judge: Judge) -> bool:
    """Return whether a measure of samples is there, with distances if they can be had."""
    return found is not None and (
        judge.network is None or (found["fid"] is not None and found["samples"] == judge.samples)
    )
