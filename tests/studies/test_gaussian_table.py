"""The exact Gaussian table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.generated_images import generated_images
from examples.recipe.images import to_uint8
from studies.gaussian_table.__main__ import main


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Return the report of the study."""
    path = tmp_path_factory.mktemp("table") / "table.json"
    np.save(path.with_name("images.npy"), to_uint8(generated_images(128, size=8).clamp(-1, 1)))
    main(["--data", str(path.with_name("images.npy")), "--steps", "20", "--json", str(path)])
    return json.loads(path.read_text())


def test_on_the_geodesic_even_steps_are_uniform(found: dict) -> None:
    geodesic, *others = found["table"]
    assert geodesic["length"] == pytest.approx(1, abs=1e-6)
    assert geodesic["kl"] == pytest.approx(geodesic["kl_even"], rel=1e-6)
    for other in others:
        assert other["length"] > geodesic["length"]
        assert other["kl_even"]["20"] > geodesic["kl_even"]["20"]


def test_even_steps_remove_the_time_parametrisation_from_the_kl(found: dict) -> None:
    """Isotropic corruptions of unit variance share a path, whatever their schedule."""
    rows = {row["name"]: row for row in found["table"]}
    cosine, linear = rows["Gaussian, cosine"], rows["Gaussian, linear (continuous VP-SDE)"]
    assert cosine["length"] == pytest.approx(linear["length"], rel=1e-3)
    assert cosine["kl"]["20"] != pytest.approx(linear["kl"]["20"], rel=0.1)
    assert cosine["kl_even"]["20"] == pytest.approx(linear["kl_even"]["20"], rel=0.02)
    assert cosine["kl_even"]["20"] < min(cosine["kl"]["20"], linear["kl"]["20"])


def test_every_deviation_from_the_measured_spectrum_is_longer_and_worse(found: dict) -> None:
    rows = {row["name"]: row for row in found["deviations"]}
    best = rows.pop("log S × 1")
    assert all(row["length"] > best["length"] and row["kl"]["20"] > best["kl"]["20"] for row in rows.values())
