"""Steps whose numbers are found for all steps at once are the same steps, and share no memory with the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.sampling import _reverse
from tests.worlds import SOLVERS

WITHOUT_POWER = [solver for solver in SOLVERS.values() if solver != sp.solvers.Ancestral(variance="exact")]


class OfChannels(sp.DiagonalCorruption):
    """Noise of another size in each channel."""

    def __init__(self) -> None:
        super().__init__(sp.PixelBasis())

    def signal(self, t: Tensor) -> Tensor:
        return 1 - t.view(-1, 1, 1, 1) ** 2

    def noise(self, t: Tensor) -> Tensor:
        return t.view(-1, 1, 1, 1) * torch.tensor([0.5, 1.0, 2.0], dtype=t.dtype).view(1, 3, 1, 1)


class Counting(sp.GaussianCorruption):
    """Keeps how many times were asked for in each call."""

    asked: list[int]

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append(len(t))
        return super().scales(t)


def model(x_t: Tensor, t: Tensor) -> Tensor:
    return 0.6 * x_t + t.view(-1, 1, 1, 1).to(x_t)


@pytest.mark.parametrize("solver", WITHOUT_POWER)
@pytest.mark.parametrize("prediction", ["noise", "data", "velocity"])
def test_foreseen_steps_are_the_steps(
    solver: sp.solvers.Solver, prediction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for corruption in (sp.GaussianCorruption("linear"), OfChannels()):
        sampler = sp.Sampler(model, corruption, prediction=prediction, solver=solver, grid="uniform", steps=7)
        x_1 = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

        def draw(sampler: sp.Sampler = sampler, x_1: Tensor = x_1) -> Tensor:
            generator = torch.Generator().manual_seed(1)
            return sampler.sample(x_1.shape, x_1=x_1, generator=generator, dtype=torch.float64)

        foreseen = draw()
        for name, value in (("_FEW", 0), ("_AHEAD", 1), ("_AHEAD", 3), ("_AHEAD", 6)):
            with monkeypatch.context() as patch:
                patch.setattr(_reverse, name, value)
                torch.testing.assert_close(foreseen, draw())


@pytest.mark.parametrize(("steps", "asked"), [(50, [1, 50]), (150, [1, 64, 64, 22])])
def test_scales_of_white_noise_are_found_for_many_steps_at_once(steps: int, asked: list[int]) -> None:
    corruption = Counting("cosine")
    corruption.asked = []
    sampler = sp.Sampler(model, corruption, prediction="data", grid="uniform", steps=steps)
    corruption.asked = []
    sampler.sample((1, 3, 4, 4), x_1=torch.zeros(1, 3, 4, 4))
    assert corruption.asked == asked  # at the first time, and at those of the steps


def test_a_run_that_is_left_after_a_step_has_found_the_numbers_of_few() -> None:
    corruption = Counting("cosine")
    corruption.asked = []
    sampler = sp.Sampler(model, corruption, prediction="data", grid="uniform", steps=1000)
    corruption.asked = []
    next(sampler.trajectory((1, 3, 4, 4), x_1=torch.zeros(1, 3, 4, 4)))
    assert sum(corruption.asked) < 100


@pytest.mark.parametrize("solver", WITHOUT_POWER)
def test_a_model_may_return_one_buffer_always(solver: sp.solvers.Solver) -> None:
    buffer = torch.empty(1, 3, 4, 4)

    def reusing(x_t: Tensor, t: Tensor) -> Tensor:
        return buffer.copy_(model(x_t, t))

    x_1 = torch.ones(1, 3, 4, 4)
    one, other = (
        sp.Sampler(each, sp.GaussianCorruption("flow"), prediction="data", solver=solver, steps=4, grid="uniform")
        for each in (model, reusing)
    )
    expected, found = (
        each.sample(x_1.shape, x_1=x_1, generator=torch.Generator().manual_seed(0)) for each in (one, other)
    )
    buffer.fill_(torch.nan)
    torch.testing.assert_close(found, expected)
