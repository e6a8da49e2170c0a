"""Laws of the likelihood weighting: against closed forms, and against the likelihood of the probability-flow ODE."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.training.networks import batches, net
from tests.worlds import CORRUPTIONS, SHAPE, TO_NOISE, correlated_images, gaussian_world, point, spectrum

FIRST, LAST = 0.02, 0.99
PREDICTIONS = ["noise", "data", "velocity", "whitened-velocity"]


def quadrature(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss and Legendre for an integral over FIRST … LAST, in log t."""
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(count))
    half = math.log(LAST / FIRST) / 2
    t = FIRST * torch.exp(half * (nodes + 1))
    return t, half * t * weights


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", [name for name in TO_NOISE if not name.startswith("staggered")])
def test_the_oracles_loss_is_the_information_in_closed_form(name: str, prediction: str) -> None:
    """For Gaussian data ½ ∫ (−dSNR/dt) E(u_0 − û_0)² dt = ½ log(1 + S SNR) from one end to the other.

    With delays it is infinite: a coefficient without noise tells all.
    """
    corruption = CORRUPTIONS[name]()
    world = gaussian_world(corruption, prediction)
    spectrum = sp.PowerSpectrum(corruption.basis, world.power)
    loss = sp.DiffusionLoss(corruption, prediction, weighting="likelihood", spectrum=spectrum)  # type: ignore[arg-type]
    times, widths = quadrature(40)
    deviation = corruption.basis.synthesize(world.power.sqrt().expand(2, *SHAPE))
    one = corruption.basis.synthesize(torch.tensor([1.0, -1.0]).double().view(2, 1, 1, 1).expand(2, *SHAPE))
    values = [loss(world.model, deviation, t=t, eps=one).item() for t in times]  # the mean over Gaussian pairs
    found = sum(value * float(width) for value, width in zip(values, widths, strict=True))

    def information(t: float) -> Tensor:
        there = point(corruption, t)
        return 0.5 * torch.log1p(world.power * (there.signal / there.noise) ** 2)

    expected = float((information(FIRST) - information(LAST)).expand(1, *SHAPE).mean())
    assert found == pytest.approx(expected, rel=1e-4)


def test_of_one_schedule_for_all_it_is_the_derivative_of_the_log_ratio() -> None:
    """Kingma et al. 2021, equation 17: ½ γ'(t) E‖ε − ε̂‖², γ = −log SNR, and no other weight."""
    corruption = sp.GaussianCorruption("linear")
    x_0 = torch.zeros(3, *SHAPE, dtype=torch.float64)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    loss = sp.DiffusionLoss(corruption, weighting="likelihood")
    found = loss(lambda x_t, t: torch.ones_like(x_t), x_0, t=t, eps=torch.zeros_like(x_0)).item()
    h = 1e-6
    log_ratio = [2 * (corruption.noise(t + d).log() - corruption.signal(t + d).log()).flatten() for d in (-h, h)]
    assert found == pytest.approx(float(0.5 * (log_ratio[1] - log_ratio[0]).mean() / (2 * h)), rel=1e-7)


class TwoModes(torch.nn.Module):
    """The exact denoiser of an even mixture of N(±c, w²) in each of D independent values; predicts data."""

    centre, width = 1.0, 0.2

    def __init__(self, corruption: sp.Corruption) -> None:
        super().__init__()
        self.corruption = corruption

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        a, s = self.corruption.signal(t), self.corruption.noise(t)
        total = a**2 * self.width**2 + s**2
        right = torch.tanh(a * self.centre * x_t / total)
        return self.centre * right + a * self.width**2 / total * (x_t - a * self.centre * right)


def test_on_a_mixture_it_is_the_entropy_that_the_likelihood_gives() -> None:
    """E[−log p(x_t)] = D/2 log(2πe s_t²) + ½ ∫_t^1 (−dSNR/dt) E‖x_0 − x̂_0‖² dt + the information left at t = 1 (0)."""
    corruption = sp.GaussianCorruption("cosine", dims=0)
    model, generator = TwoModes(corruption), torch.Generator().manual_seed(0)
    count, start = 2000, 0.3

    def white() -> Tensor:
        return torch.randn(count, 4, generator=generator, dtype=torch.float64)

    signs = torch.randint(0, 2, (count, 4), generator=generator) * 2 - 1
    x_0 = signs * model.centre + model.width * white()
    x_t = corruption.corrupt(x_0, start, white())
    times = torch.cat([torch.linspace(1, start, 101, dtype=torch.float64)])
    sampler = sp.Sampler(model, corruption, prediction="data", times=times)
    surprise = -sampler.log_likelihood(x_t, generator=generator) / 4

    loss = sp.DiffusionLoss(corruption, "data", weighting="likelihood")
    edges = torch.linspace(start, 1, 61, dtype=torch.float64)
    middle = (edges[1:] + edges[:-1]) / 2
    bounds = torch.tensor([loss(model, x_0, t=t, eps=white()).item() for t in middle])
    noise = point(corruption, start).noise.item()
    entropy = 0.5 * torch.log(torch.tensor(2 * torch.pi * torch.e * noise**2)).item()
    found = entropy + float(bounds.mean()) * (1 - start)
    error = 3 * float(surprise.std()) / count**0.5 + 0.01
    assert found == pytest.approx(float(surprise.mean()), abs=error)
    assert error < 0.06


def test_a_schedule_with_parameters_is_trained_by_it() -> None:
    """The gradient in a parameter of the schedule is that of finite differences."""

    class Learned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.power = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

        def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
            angle = torch.pi / 2 * t**self.power
            return torch.cos(angle), torch.sin(angle)

    schedule = Learned()
    corruption = sp.GaussianCorruption(schedule)
    loss = sp.DiffusionLoss(corruption, "velocity", weighting="likelihood")
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(8, *SHAPE, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.linspace(0.1, 0.9, 8, dtype=torch.float64)

    def value() -> Tensor:
        return loss(lambda x_t, t: 0.3 * x_t, x_0, t=t, eps=eps)

    value().backward()
    assert schedule.power.grad is not None
    found, h = schedule.power.grad.item(), 1e-6
    ends = []
    for shift in (h, -2 * h):
        with torch.no_grad():
            schedule.power += shift
            ends.append(value().item())
    assert found == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5)
    assert dict(corruption.named_parameters()).keys() == {"schedule.power"}


class Warped(torch.nn.Module):
    """A schedule with one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.power = torch.nn.Parameter(torch.tensor(1.3))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = torch.pi / 2 * t ** self.power.to(t.dtype)
        return torch.sin(torch.pi / 2 - angle), torch.sin(angle)


def test_a_trained_schedule_is_saved_resumed_and_sampled() -> None:
    def trainer() -> sp.DiffusionTrainer:
        model, schedule = net(), Warped()
        return sp.DiffusionTrainer(
            model,
            sp.GaussianCorruption(schedule),
            optimizer=torch.optim.AdamW([*model.parameters(), *schedule.parameters()], lr=0.05),
            prediction="velocity",
            weighting="likelihood",
            time_sampling=lambda u: 0.01 + 0.99 * u,
        )

    images = batches()
    whole, first, second = trainer(), trainer(), trainer()
    for each, steps in ((whole, 4), (first, 2)):
        torch.manual_seed(0)
        each.fit(images, steps=steps)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.fit(images, steps=4)
    powers = [each.corruption.schedule.power.item() for each in (whole, first, second)]  # type: ignore[attr-defined]
    assert powers[0] == powers[2]
    assert len({1.3, *powers}) == 3

    def samples(each: sp.DiffusionTrainer) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return each.sampler(steps=3).sample((2, *images[0].shape[1:]), generator=generator)

    found = samples(second)
    assert torch.equal(samples(whole), found)
    assert not found.requires_grad
    with torch.no_grad():
        second.corruption.schedule.power += 1.0  # type: ignore[attr-defined]
    assert not torch.allclose(samples(second), found)


def test_coefficients_before_their_start_and_after_their_end_count_nothing() -> None:
    rows = torch.linspace(1, 0, 8).view(1, 8, 1).double()
    corruption = sp.StaggeredCorruption(sp.GaussianCorruption("flow"), rows, spread=7.0)
    loss = sp.DiffusionLoss(corruption, "data", weighting="likelihood")
    x_0 = torch.zeros(1, *SHAPE, dtype=torch.float64)
    noise = corruption.noise(torch.tensor([0.4], dtype=torch.float64)).flatten()
    busy = (noise > 0) & (noise < 1)
    assert 0 < int(busy.sum()) < 8
    still = (~busy).double().view(1, 1, 8, 1).expand_as(x_0)
    assert loss(lambda x_t, t: still, x_0, t=0.4, eps=x_0).item() == 0
    assert loss(lambda x_t, t: 1 - still, x_0, t=0.4, eps=x_0).item() > 0


def test_a_delayed_schedule_has_finite_gradients() -> None:
    class Learned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.power = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

        def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return 1 - t**self.power, t**self.power

    schedule = Learned()
    rows = torch.linspace(1, 0, 8).view(1, 8, 1).double()
    corruption = sp.StaggeredCorruption(sp.GaussianCorruption(schedule), rows, spread=7.0)
    loss = sp.DiffusionLoss(corruption, "data", weighting="likelihood")
    loss(lambda x_t, t: 0.5 * x_t, torch.ones(2, *SHAPE, dtype=torch.float64), t=0.4).backward()
    assert schedule.power.grad is not None
    assert bool(schedule.power.grad.isfinite())
    assert float(schedule.power.grad) != 0


def test_it_is_the_same_where_gradients_are_switched_off() -> None:
    loss = sp.DiffusionLoss(sp.GaussianCorruption("cosine"), "velocity", weighting="likelihood")
    x_0 = torch.ones(2, *SHAPE)
    with torch.no_grad():
        expected = loss(lambda x_t, t: 0 * x_t, x_0, t=0.5, eps=x_0)
    assert float(expected) > 0
    with torch.inference_mode():
        x_0 = torch.ones(2, *SHAPE)
        assert torch.equal(loss(lambda x_t, t: 0 * x_t, x_0, t=0.5, eps=x_0), expected)


def test_it_can_be_derived_by_torch_func() -> None:
    loss = sp.DiffusionLoss(sp.ShortestPathCorruption(spectrum()), "velocity", weighting="likelihood")
    x_0, eps = correlated_images(4).float(), torch.randn(4, *SHAPE)

    def of(factor: Tensor, x_0: Tensor, eps: Tensor) -> Tensor:
        return loss(lambda x_t, t: factor * x_t, x_0, t=0.5, eps=eps)

    factor = torch.tensor(0.7, requires_grad=True)
    (expected,) = torch.autograd.grad(of(factor, x_0, eps), factor)
    torch.testing.assert_close(torch.func.grad(of)(factor.detach(), x_0, eps), expected)
    each = torch.func.vmap(torch.func.grad(of), (None, 0, 0))(factor.detach(), x_0[:, None], eps[:, None])
    torch.testing.assert_close(each.mean(), expected)


def half(x_t: Tensor, t: Tensor) -> Tensor:
    return 0.5 * x_t


@pytest.mark.skipif(torch.__version__ < "2.5", reason="torch 2.4 cannot compile a loss")
def test_a_trained_schedule_compiles_without_graph_breaks() -> None:
    torch.manual_seed(0)
    corruption = sp.GaussianCorruption(Warped())
    loss = sp.DiffusionLoss(corruption, "data", weighting="likelihood")
    x_0, t, eps = correlated_images(2).float(), torch.tensor([0.2, 0.7]), torch.randn(2, *SHAPE)

    def of(x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return loss(half, x_0, t=t, eps=eps)

    parameters = list(corruption.parameters())
    results = []
    for each in (of, torch.compile(of, fullgraph=True, backend="aot_eager")):
        value = each(x_0, t, eps)
        results.append((value.detach(), *torch.autograd.grad(value, parameters)))
    torch.testing.assert_close(results[1], results[0])
