"""No step is made of rounding: explicit times, a start beside a time of the grid, coefficients that start late."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.worlds import GRIDS, SHAPE, SOLVERS, spectrum

FLOW = sp.GaussianCorruption("flow")


def quarter(x_t: Tensor, t: Tensor) -> Tensor:
    """The exact denoiser of N(0, 1/4) under flow noise."""
    t = t.view(-1, 1, 1, 1)
    return x_t * (1 - t) * 0.25 / ((1 - t) ** 2 * 0.25 + t**2)


def test_times_that_differ_by_rounding_are_refused() -> None:
    twins = sorted({*np.linspace(1, 0, 11).tolist(), *(np.arange(10) / 10 + 0.1).tolist()}, reverse=True)
    with pytest.raises(ValueError, match=r"differ by rounding only, which makes a step of .*; leave one of them out"):
        sp.Sampler(quarter, FLOW, prediction="data", times=twins)
    single = torch.cat([torch.linspace(1, 0, 11), torch.tensor([0.5 + 6e-8])]).sort(descending=True).values
    with pytest.raises(ValueError, match="differ by rounding only"):
        sp.gaussian_kl(FLOW, spectrum(), times=single)


def test_steps_that_shrink_towards_the_data_are_not_rounding() -> None:
    times = [*(20.0**-k for k in range(8)), 0.0]
    assert sp.Sampler(quarter, FLOW, prediction="data", times=times).times.tolist() == times


@pytest.mark.parametrize("steps", [1, 2, 1000, 20_000])
@pytest.mark.parametrize("grid", ["uniform", "cosine", "power"])
def test_fine_grids_are_not_rounding(grid: str, steps: int) -> None:
    assert sp.Sampler(quarter, FLOW, prediction="data", grid=grid, steps=steps).steps == steps


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_start_anywhere_gives_images_of_the_datas_size(grid: str, solver: str) -> None:
    value = GRIDS[grid](FLOW, spectrum())
    sampler = sp.Sampler(quarter, FLOW, prediction="data", solver=SOLVERS[solver], grid=value, steps=20)
    x_0 = 0.5 * torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    near = [float(t) for t in sampler.times[1:-1:14]]
    for start in {s for t in near for s in (t * (1 - 1e-15), t, min(1.0, t * (1 + 1e-15)), t + 1e-9, t - 1e-9)}:
        found = sampler.image_to_image(x_0, start=start, generator=torch.Generator().manual_seed(0))
        assert found.abs().max() < 10, start


def test_a_start_replaces_a_time_within_a_tenth_of_the_next_step() -> None:
    sampler = sp.Sampler(quarter, FLOW, prediction="data", solver="ddim", steps=4)  # 1, 0.75, 0.5, 0.25, 0

    def times(start: float) -> list[float]:
        steps = sampler.trajectory((1, *SHAPE), x_1=torch.zeros(1, *SHAPE), start=start)
        return [step.t for step in steps]

    assert times(0.52) == [0.25, 0]
    assert times(0.53) == [0.5, 0.25, 0]
    assert times(0.01) == [0]


class Late:
    """Half of the coefficients start at t = ½: signal 1 and noise 0 before."""

    basis = sp.CosineBasis(2)
    late = torch.arange(64).view(8, 8) >= 32

    def noise(self, t: Tensor) -> Tensor:
        t = t.view(-1, 1, 1, 1)
        return torch.where(self.late, (2 * t - 1).clamp(0, 1), (2 * t).clamp(0, 1))

    def signal(self, t: Tensor) -> Tensor:
        return (1 - self.noise(t) ** 2).clamp(min=0).sqrt()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("prediction", ["data", "velocity"])
def test_a_coefficient_stays_before_its_own_start(solver: str, told: bool, prediction: str) -> None:
    late = Late()
    power = torch.ones(SHAPE, dtype=torch.float64)
    data = sp.PowerSpectrum(late.basis, power)
    sampler = sp.Sampler(
        lambda x_t, t: 0.5 * x_t + 0.1,
        late,
        prediction=prediction,
        solver=SOLVERS[solver],
        steps=10,
        grid="uniform",
        spectrum=data if told else None,
    )
    generator = torch.Generator().manual_seed(0)
    steps = list(sampler.trajectory((2, *SHAPE), generator=generator, dtype=torch.float64))
    states = {round(step.t, 6): late.basis.analyze(step.x_t) for step in steps}
    assert all(state.isfinite().all() for state in states.values())
    for t in (0.4, 0.3, 0.2, 0.1, 0.0):  # what was clean at ½ is the same in every later state
        torch.testing.assert_close(states[t][..., late.late], states[0.5][..., late.late], rtol=0, atol=1e-12)
    assert (states[0.0] - states[0.5])[..., ~late.late].abs().max() > 1e-3
    if sp.solvers.is_deterministic(SOLVERS[solver]) and prediction == "data":
        assert sampler.invert(steps[-1].x_t).isfinite().all()
    assert np.isfinite(sp.gaussian_kl(late, data, steps=10, solver=SOLVERS[solver], grid="uniform"))
