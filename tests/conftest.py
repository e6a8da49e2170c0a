"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.forks import preload
from tests.worlds import CORRUPTIONS, correlated_images

# Processes that tests start import the library of this checkout, as the tests do by `pythonpath` in pyproject.toml.
SOURCE = str(Path(__file__).parents[1] / "src")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))


def pytest_collection_finish() -> None:
    """Take back the list of what forks begin with, which a study that was imported has replaced by its own."""
    preload()


torch.set_num_threads(1)  # parallel test processes would only disturb each other


@pytest.fixture(params=CORRUPTIONS)
def corruption(request: pytest.FixtureRequest) -> sp.Corruption:
    return CORRUPTIONS[request.param]()


@pytest.fixture
def images() -> Tensor:
    return correlated_images(16)
