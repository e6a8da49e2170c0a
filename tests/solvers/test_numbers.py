"""Numbers of steps, found for many steps at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.solvers import StepNumbers, add_scaled


def test_numbers_that_were_not_foreseen_are_found() -> None:
    def find(before: sp.solvers.Point, here: sp.solvers.Point, there: sp.solvers.Point) -> tuple[Tensor, ...]:
        return before.noise * here.noise - there.noise, there.signal

    points = [sp.solvers.Point(t, torch.tensor([[1 - t]]), torch.tensor([[t]])) for t in (0.9, 0.5, 0.3, 0.0)]
    numbers = StepNumbers(find, reach=3)
    numbers.foresee(points[:3], torch.float64)
    first, second = (torch.as_tensor(each) for each in numbers(*points[:3], dtype=torch.float64))
    torch.testing.assert_close((first, second), (torch.tensor(0.15), torch.tensor(0.7)), check_dtype=False)
    unknown = numbers(*points[1:], dtype=torch.float64)
    assert [each.dtype for each in unknown if isinstance(each, Tensor)] == [torch.float64] * 2
    numbers.foresee(points[:1], torch.float64)  # no step
    torch.testing.assert_close(numbers(*points[:3], dtype=torch.float64)[1], torch.tensor([[0.7]], dtype=torch.float64))


@pytest.mark.parametrize("number", [0.25, torch.full((1, 1), 0.25)])
def test_scaled_tensors_are_added_in_place(number: Tensor | float) -> None:
    u, v = torch.ones(2, 3), torch.full((2, 3), 2.0)
    assert add_scaled(u, number, v) is u
    torch.testing.assert_close(u, torch.full((2, 3), 1.5))
