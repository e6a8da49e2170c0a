"""Train a schedule together with a network: python examples/learned_schedule.py [STEPS].

Every frequency f has SNR_f(t) = exp(7 − 14 t^p_f), and its exponent p_f is a parameter. The ends are fixed, so the
bound of the likelihood with learned exponents can be compared with that of p = 1. This is the static form of MuLAN
(Sahoo et al. 2024, arXiv:2312.13236).
"""

import sys

import torch
from torch import Tensor, nn

import shortest_path as sp
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.images import to_unit


class LearnedSchedule(sp.DiagonalCorruption):
    def __init__(self) -> None:
        super().__init__(sp.CosineBasis())
        self.log_exponent = nn.Parameter(torch.zeros(1, 8, 8))

    def signal(self, t: Tensor) -> Tensor:
        return torch.sigmoid(7 - 14 * t.view(-1, 1, 1, 1) ** self.log_exponent.exp()).sqrt()

    def noise(self, t: Tensor) -> Tensor:
        return torch.sigmoid(14 * t.view(-1, 1, 1, 1) ** self.log_exponent.exp() - 7).sqrt()


class Network(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(3 * 8 * 8 + 1, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 192))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(torch.cat([x.flatten(1), t[:, None]], 1)).view_as(x)


def bound(steps: int, *, learned: bool) -> float:
    """Return the bound in nats a value, without its terms at the ends, of a network and its schedule."""
    torch.manual_seed(0)
    images, model, corruption = to_unit(dead_leaves(1024, size=8)), Network(), LearnedSchedule()
    optimizer = torch.optim.AdamW([*model.parameters(), *(corruption.parameters() if learned else [])], lr=2e-3)
    options = {"prediction": "velocity", "weighting": "likelihood"}
    positive = {"time_sampling": lambda u: 1e-3 + (1 - 1e-3) * u}  # the weight grows without bound as t → 0
    trainer = sp.DiffusionTrainer(model, corruption, optimizer=optimizer, **options, **positive)
    trainer.fit(images.split(128), steps=steps, progress=False)
    with torch.no_grad():
        times = 1e-3 + (1 - 1e-3) * torch.linspace(0, 1, 4 * len(images))
        found = float(sp.DiffusionLoss(corruption, **options)(model, images.repeat(4, 1, 1, 1), t=times))
    exponents = corruption.log_exponent.exp()
    print(f"learned={learned}: {found:.4f} nats a value, exponents {exponents.min():.2f} … {exponents.max():.2f}")
    return found


if __name__ == "__main__":
    for learned in (False, True):
        bound(int(sys.argv[1]) if len(sys.argv) > 1 else 600, learned=learned)
