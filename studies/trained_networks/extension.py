"""Extend a report without the folder that it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studies.trained_networks.cases import ODE_STEPS
from studies.trained_networks.runs import Run
from studies.trained_networks.study import Study, classifier_facts, test_images, training_images, write

_IMAGE_ERRORS = "image_errors.json"


def restore(study: Study, report: Path) -> None:
    """Put the finished runs of a report into the folder of a study, so that they are not repeated.

    What they chose (learning rates, starts) is kept as well. Weights and samples are not in a report, so what needs
    them, such as `--secondary` of these runs, trains again. Runs that the folder has already stay as they are.

    Raises:
        ValueError: the report has other settings, images or features.
    """
    values = json.loads(report.read_text())
    theirs = {**study.scale.plain(), **values["settings"]}  # a report says nothing of settings that came later
    data = {"training": training_images(study).provenance, "held_out": test_images(study).provenance}
    expected = {
        "settings": (theirs, study.scale.plain()),
        "training images": (values["data"]["training"]["sha256"], data["training"]["sha256"]),
        "test images": (values["data"]["held_out"]["sha256"], data["held_out"]["sha256"]),
        "classifier": (values["classifier"]["weights_sha256"], classifier_facts(study)["weights_sha256"]),
    }
    if other := [name for name, (report_has, we_have) in expected.items() if report_has != we_have]:
        raise ValueError(f"{report} is of another study (its {', '.join(other)} differ)")
    shared = {"scale": study.scale.plain(), "data": data["training"]["sha256"], "held_out": data["held_out"]["sha256"]}
    for each in values["runs"]:
        _keep(study.out / _run(each).folder / "record.json", {**each, **shared, "tuning": False})
    for each in values["tuning"]["runs"]:
        for rate, bits in each["bits"].items():
            run = Run(each["case"], each["output"], 0, float(rate), tuning=True)
            found = {"steps": study.scale.tuning_steps, f"bits_{ODE_STEPS[0]}": {"mean": bits}}
            _keep(study.out / run.folder / "record.json", {**run._asdict(), **shared, **found})
    for name, start in values["starts"].items():
        _keep(study.out / "starts" / f"{name}.json", start)
    _keep(study.out / _IMAGE_ERRORS, values["image_errors"])


def restored_image_errors(out: Path) -> dict[str, float]:
    """Return the errors over images of the report that a folder extends; empty if it extends none."""
    file = out / _IMAGE_ERRORS
    return json.loads(file.read_text()) if file.exists() else {}


def _run(record: dict[str, Any]) -> Run:
    return Run(**{name: record[name] for name in ("case", "output", "seed", "learning_rate", "density")})


def _keep(file: Path, values: dict[str, Any]) -> None:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, values)
