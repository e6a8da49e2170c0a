"""Networks, data and trainers on which the laws of training run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import shortest_path as sp
from tests.worlds import CORRUPTIONS, correlated_images


class Net(nn.Module):
    """A small network with dropout and batch statistics: all that exact resume has to restore."""

    def __init__(self, *, dropout: float = 0.2) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        hidden = torch.tanh(self.norm(self.first(x_t)) + t.to(x_t).view(-1, 1, 1, 1))
        return self.last(self.drop(hidden))


class LabelledNet(Net):
    """Takes labels, 4 of which means none, and remembers all conditioning it was given."""

    def __init__(self, **arguments: float) -> None:
        super().__init__(**arguments)
        self.embedding = nn.Embedding(5, 3)
        self.seen: list[dict[str, Tensor]] = []

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor, **others: Tensor) -> Tensor:
        self.seen.append({"y": y, **others})
        return super().forward(x_t + self.embedding(y).view(-1, 3, 1, 1), t)


def net(seed: int = 0, **arguments: float) -> Net:
    torch.manual_seed(seed)
    return Net(**arguments)


def trainer(corruption: str = "shortest-cosine", **options: object) -> sp.DiffusionTrainer:
    return sp.DiffusionTrainer(net(), CORRUPTIONS[corruption](), ema_decay=0.9, **options)


def layer() -> nn.Conv2d:
    """Return the smallest model: three weights a channel, and no use for the time."""
    torch.manual_seed(0)
    model = nn.Conv2d(3, 3, 1)
    model.register_forward_pre_hook(lambda module, inputs: inputs[:1])
    return model


def batches(count: int = 6, size: int = 8) -> list[Tensor]:
    return list(correlated_images(count * size).float().split(size))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([value.double().flatten() for value in module.state_dict().values()])
