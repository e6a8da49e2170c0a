"""A whole training step of one small network: times, noise, corruption, loss, backward, AdamW, averaged weights.

Libraries without averaged weights of their own get torch's `AveragedModel` with its fused update. The trainer also
checks that loss and gradients are finite, which the other loops do not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import shortest_path as sp
from benchmarks.alternatives.libraries import load
from benchmarks.generated_images import generated_images

Step: TypeAlias = Callable[[], object]
DECAY, RATE, COUNT = 0.9999, 2e-4, 1000


class Network(nn.Module):
    """Three convolutions with a time that shifts the channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        shift = self.time(t.view(-1, 1)).view(len(t), -1, 1, 1)
        hidden = nn.functional.silu(self.first(x_t) + shift)
        output: Tensor = self.last(nn.functional.silu(self.middle(hidden)))
        return output


def steps(batch: int, width: int, found: set[str]) -> dict[str, Step]:
    """Return a training step for each library, of copies of one network on the same images."""
    torch.manual_seed(0)
    network, x_0 = Network(3, width), generated_images(batch)
    flow, makers = sp.GaussianCorruption("flow"), {}
    trainer = sp.DiffusionTrainer(copy.deepcopy(network), flow, prediction="data", learning_rate=RATE)
    makers["ours"] = lambda: trainer.train_step([x_0])
    objective = sp.DiffusionLoss(flow, "data")
    makers["ours, plain loop"] = _plain(copy.deepcopy(network), lambda model: objective(model, x_0))
    for library, loss in {
        "diffusers": _of_diffusers,
        "azula": _of_azula,
        "flow_matching": _of_flow_matching,
        "k_diffusion": _of_k_diffusion,
    }.items():
        if library in found:
            makers[library] = loss(copy.deepcopy(network), x_0)
    return makers


def _plain(model: nn.Module, loss: Callable[[nn.Module], Tensor], average: Callable[[], object] | None = None) -> Step:
    """Return a training step as a loop of one's own has it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    if average is None:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        average = lambda: averaged.update_parameters(model)  # noqa: E731
    update = average

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss(model)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        update()
        return value.detach()

    return step


def _of_diffusers(model: nn.Module, x_0: Tensor) -> Step:
    scheduler = load("diffusers").DDPMScheduler(COUNT)
    averaged = load("diffusers.training_utils").EMAModel(model.parameters(), decay=DECAY)

    def loss(network: nn.Module) -> Tensor:
        noise = torch.randn_like(x_0)
        index = torch.randint(0, COUNT, (len(x_0),))
        return mse_loss(network(scheduler.add_noise(x_0, noise, index), index / COUNT), noise)

    return _plain(model, loss, lambda: averaged.step(model.parameters()))


def _of_azula(model: nn.Module, x_0: Tensor) -> Step:
    denoiser = load("azula.denoise").SimpleDenoiser(model, load("azula.noise").VPSchedule())
    return _plain(denoiser, lambda network: network.loss(x_0, torch.rand(len(x_0))))  # type: ignore[operator]


def _of_flow_matching(model: nn.Module, x_0: Tensor) -> Step:
    path = load("flow_matching.path").CondOTProbPath()

    def loss(network: nn.Module) -> Tensor:
        sample = path.sample(x_0=torch.randn_like(x_0), x_1=x_0, t=torch.rand(len(x_0)))
        return mse_loss(network(sample.x_t, sample.t), sample.dx_t)

    return _plain(model, loss)


def _of_k_diffusion(model: nn.Module, x_0: Tensor) -> Step:
    denoiser = load("k_diffusion.layers").Denoiser(model, sigma_data=0.5)
    averaged, update = copy.deepcopy(denoiser), load("k_diffusion.utils").ema_update

    def loss(network: nn.Module) -> Tensor:
        sigma = torch.randn(len(x_0)).mul_(1.2).sub_(1.2).exp_()
        losses: Tensor = network.loss(x_0, torch.randn_like(x_0), sigma)  # type: ignore[operator]
        return losses.mean()

    @torch.no_grad()
    def average() -> None:
        update(denoiser, averaged, DECAY)

    return _plain(denoiser, loss, average)
