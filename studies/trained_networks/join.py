"""Add the likelihoods of a report to another, whose samples were measured by another classifier.

    python -m studies.trained_networks.join evidence.json --add other/evidence.json --out joined

A classifier that is trained again on another processor has other weights, and KIDs in its features cannot be compared
with those of the first. Likelihoods can. `evidence.json` and `evidence.md` in `--out` have the runs of both reports;
those that were added have no measures of samples. With the same classifier, `--extend` of the study keeps everything.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.recipe.arguments import output_folder, path
from studies.trained_networks.report import tables
from studies.trained_networks.study import write

_KEYS = ("case", "output", "density", "seed")
_READ = {"settings", "data", "classifier", "starts", "cases", "runs"}  # of a report
_OF_SAMPLES = ("multistep_", "ancestral_")
_NOTE = "*Joined: the numbers of seeds are those of likelihoods; KIDs are only of the runs that were not added.*"


def main(argv: Sequence[str] | None = None) -> None:
    """Join two reports."""
    options = argparse.ArgumentParser("python -m studies.trained_networks.join", description=__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("report", type=path, help="an evidence.json of the study")
    options.add_argument("--add", type=path, required=True, metavar="OTHER", help="one whose likelihoods are added")
    options.add_argument("--out", type=output_folder, required=True, help="folder for the report of both")
    args = options.parse_args(argv)
    try:
        values = joined(_read(args.report), _read(args.add))
    except (OSError, ValueError) as error:
        raise SystemExit(f"join: {error}") from error
    args.out.mkdir(parents=True, exist_ok=True)
    write(args.out / "evidence.json", values)
    (args.out / "evidence.md").write_text(f"{tables(values)}\n{_NOTE}\n")
    print(f"{args.out}/evidence.md, evidence.json: {len(values['runs'])} runs")


def _read(file: Path) -> dict[str, Any]:
    values = json.loads(file.read_text())
    if not isinstance(values, dict) or not values.keys() >= _READ:
        raise ValueError(f"{file} is not an evidence.json of the study")
    return values


def joined(report: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report with the likelihoods of another; runs that the first has already stay as they are.

    Raises:
        ValueError: the other has other settings, images or starts, or the same classifier.
    """
    ours, theirs = report["classifier"]["weights_sha256"], other["classifier"]["weights_sha256"]
    if ours == theirs:
        raise ValueError("both reports have one classifier, so that all can be kept; use --extend of the study")
    shared = report["starts"].keys() & other["starts"].keys()
    compared = {
        "settings": [each["settings"] for each in (report, other)],
        "training images": [each["data"]["training"]["sha256"] for each in (report, other)],
        "test images": [each["data"]["held_out"]["sha256"] for each in (report, other)],
        "starts": [{name: each["starts"][name]["start"] for name in shared} for each in (report, other)],
    }
    if different := [name for name, (first, second) in compared.items() if first != second]:
        raise ValueError(f"the reports are of different studies (their {', '.join(different)} differ)")
    known = {tuple(run[key] for key in _KEYS) for run in report["runs"]}
    added = [
        {name: value for name, value in run.items() if not name.startswith(_OF_SAMPLES)}
        for run in other["runs"]
        if tuple(run[key] for key in _KEYS) not in known
    ]
    source = {"machine": other["machine"], "classifier": theirs, "runs": len(added)}
    return {
        **report,
        "starts": {**other["starts"], **report["starts"]},
        "cases": {**report["cases"], **other["cases"]},
        "runs": [*report["runs"], *added],
        "joined": [*report.get("joined", []), source],
    }


if __name__ == "__main__":
    main()
