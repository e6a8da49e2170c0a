"""Fixtures shared by the tests."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.worlds import CORRUPTIONS, correlated_images

torch.set_num_threads(1)  # parallel test processes would only disturb each other


@pytest.fixture(params=CORRUPTIONS)
def corruption(request: pytest.FixtureRequest) -> sp.Corruption:
    return CORRUPTIONS[request.param]()


@pytest.fixture
def images() -> Tensor:
    return correlated_images(16)
