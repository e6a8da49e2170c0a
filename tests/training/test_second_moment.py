"""Times in proportion to the root of the mean squared loss: where they lie, what they leave unchanged, what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import shortest_path as sp
from shortest_path.training._second_moment import LossSecondMoment
from tests.training.networks import batches, layer, net, weights
from tests.training.processes import group, together
from tests.worlds import correlated_images

SLOPE = 6.0
CPU = torch.device("cpu")


class Constant(nn.Module):
    """Predicts one number for every pixel, so that the gradient of its loss is a number too."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.value.expand(x_t.shape)


def constant(time_sampling: str) -> sp.DiffusionTrainer:
    """Return a trainer that stays where it is, of a loss exp(6 t) (value − 1)², the same for every image."""
    model = Constant()
    return sp.DiffusionTrainer(
        model,
        sp.GaussianCorruption("flow"),
        prediction="data",
        weighting=lambda t, signal, noise: torch.exp(SLOPE * t),
        time_sampling=time_sampling,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        ema_decay=None,
    )


def gradients(trainer: sp.DiffusionTrainer, steps: int) -> Tensor:
    ones = torch.ones(64, 1, 2, 2)
    found = []
    for _ in range(steps):
        trainer.train_step([ones])
        found.append(trainer.model.value.grad.clone())
    return torch.stack(found).double()


def test_times_lie_where_losses_are_large_and_the_gradient_is_that_of_uniform_times() -> None:
    trainer, plain = constant("loss-second-moment"), constant("uniform")
    gradients(trainer, 60)  # until every bin is known
    t = trainer._by_loss.sample(200_000, torch.Generator().manual_seed(1), CPU)
    found = torch.histc(t, 20, 0, 1) / len(t)
    edges = torch.linspace(0, 1, 21)
    wanted = (SLOPE * edges).exp().diff() / (torch.tensor(SLOPE).exp() - 1)  # of √E[L²], exp(6 t)
    torch.testing.assert_close(found, 0.999 * wanted + 0.001 / 20, rtol=0.05, atol=1e-3)
    exact = -2 * (torch.tensor(SLOPE).exp().double() - 1) / SLOPE
    ours, theirs = gradients(trainer, 100), gradients(plain, 100)
    assert (ours.mean() - exact).abs() < 4 * ours.std() / 100**0.5
    assert (theirs.mean() - exact).abs() < 4 * theirs.std() / 100**0.5
    assert ours.std() < 0.05 * theirs.std()  # what is left is the width of a bin
    assert trainer.loss(torch.ones(64, 1, 2, 2)).item() == pytest.approx(-exact.item() / 2, rel=0.05)
    assert trainer.loss(torch.ones(2, 1, 2, 2), t=0.0).item() == pytest.approx(1.0)  # no weights where times are given


def test_random_losses_with_a_known_second_moment() -> None:
    times = LossSecondMoment(CPU)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):  # few images a batch
        t = times.sample(50, generator, CPU)
        times.add(t, (1 + t) * torch.rand(50, generator=generator) * 3**0.5)  # √E[L² | t] = 1 + t
    probability = times._probability()
    middle = (torch.arange(100) + 0.5) / 100
    assert probability.sum().item() == pytest.approx(1)
    torch.testing.assert_close(probability * 100, (1 + middle) / 1.5, rtol=0.3, atol=0)
    error = (probability * 100 / ((1 + middle) / 1.5) - 1).square().mean().sqrt()
    assert error < 0.1  # of the mean over about 100 losses
    t = times.sample(100_000, generator, CPU)
    for power in (0, 1, 2):  # weighted means are those of uniform times, whatever the bins know
        assert (times.weight(t) * t**power).mean().item() == pytest.approx(1 / (power + 1), rel=0.01)


def test_times_are_uniform_until_every_bin_is_known_and_weights_are_bounded() -> None:
    times = LossSecondMoment(CPU)
    t = (torch.arange(99 * 10) % 99 + 0.5) / 100
    times.add(t, 1 + 1000 * t)
    assert torch.equal(times.weight(torch.linspace(0, 1, 7)), torch.ones(7))
    times.add(torch.full((10,), 1.0), torch.zeros(10))
    assert times.weight(torch.ones(1)).item() == pytest.approx(1000)
    for _ in range(20):
        assert times.sample(1000, None, CPU).aminmax() >= (0, 0)
        assert times.sample(1000, None, CPU).max() <= 1


@pytest.mark.parametrize("weighting", [None, "data", lambda t, signal, noise: 1 + t])
def test_the_loss_of_a_batch_is_the_mean_over_its_images(weighting: object) -> None:
    task = sp.DiffusionLoss(sp.GaussianCorruption("flow"), "velocity", weighting=weighting).task(
        torch.randn(5, 3, 4, 4), torch.linspace(0.1, 0.9, 5), torch.randn(5, 3, 4, 4)
    )
    output = torch.randn(5, 3, 4, 4)
    assert task.losses(output).shape == (5,)
    torch.testing.assert_close(task.losses(output).mean(), task.loss(output))
    with pytest.raises(ValueError, match="shape"):
        task.losses(output[:, :1])


def made(**options: object) -> sp.DiffusionTrainer:
    return sp.DiffusionTrainer(net(), sp.GaussianCorruption("flow"), time_sampling="loss-second-moment", **options)


def test_it_resumes_exactly_and_skipped_steps_teach_nothing(tmp_path: Path) -> None:
    data = list(correlated_images(400).float().split(200))
    straight, first, second = made(), made(), made()
    torch.manual_seed(5)
    straight.fit(data, steps=12)
    assert not torch.equal(straight._by_loss.weight(torch.rand(9)), torch.ones(9))  # every bin is known
    torch.manual_seed(5)
    first.fit(data, steps=9, checkpoint_dir=tmp_path)
    second.fit(data, steps=12, checkpoint_dir=tmp_path)
    assert torch.equal(weights(second.model), weights(straight.model))
    assert torch.equal(second._by_loss._moment, straight._by_loss._moment)
    before = second._by_loss.state_dict()
    assert second.train_step([data[0] * float("nan")]).skipped
    for name, value in second._by_loss.state_dict().items():
        assert torch.equal(value, before[name])


def test_where_it_is_refused() -> None:
    with pytest.raises(ValueError, match="'discrete', or, in a DiffusionTrainer, 'loss-second-moment'"):
        sp.DiffusionTrainer(net(), sp.GaussianCorruption("flow"), time_sampling="loss_second_moment")
    with pytest.raises(ValueError, match="time_sampling='loss-second-moment' requires DiffusionTrainer, which keeps"):
        sp.DiffusionLoss(sp.GaussianCorruption(), time_sampling="loss-second-moment")
    with pytest.raises(ValueError, match="discrete_steps=9 has no effect with time_sampling='loss-second-moment'"):
        made(discrete_steps=9)
    with pytest.raises(ValueError, match="time_sampling: 'uniform' in the checkpoint, 'loss-second-moment' here"):
        made().load_state_dict(sp.DiffusionTrainer(net(), sp.GaussianCorruption("flow")).state_dict())


def shared(model: nn.Module) -> sp.DiffusionTrainer:
    corruption = sp.GaussianCorruption("flow")
    return sp.DiffusionTrainer(model, corruption, time_sampling="loss-second-moment", accumulation=2)


def work(rank: int, ranks: int, folder: str) -> None:
    """Train with batches of 5 and 3 images, accumulated."""
    with group(rank, ranks, f"{folder}/rendezvous"):
        trainer = shared(DistributedDataParallel(layer()))
        trainer.fit([whole[:5] if rank == 0 else whole[5:] for whole in batches()], steps=3)
        torch.save(dict(trainer._by_loss.state_dict()), f"{folder}/rank{rank}.pt")


@pytest.mark.slow
def test_processes_know_what_one_would(tmp_path: Path) -> None:
    together(work, tmp_path)
    one = shared(layer())
    one.fit(batches(), steps=3)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for name, value in one._by_loss.state_dict().items():
        assert torch.equal(ranks[0][name], ranks[1][name])
        torch.testing.assert_close(ranks[0][name], value, rtol=1e-4, atol=1e-6)
    assert one._by_loss.state_dict()["count"].sum() == 48
