"""Train a schedule together with a network.

    python examples/learned_schedule.py          # 1 min on one core

Every frequency f has SNR_f(t) = exp(7 − 14 (t + c_f t (1 − t))), and its bend c_f in (−1, 1) is a parameter. The ends
are fixed, so the bound of the likelihood with learned bends can be compared with that of c = 0. This is the static form
of MuLAN (Sahoo et al. 2024, arXiv:2312.13236).
"""

import argparse

import torch
from torch import Tensor, nn

import shortest_path as sp
from recipe.arguments import positive
from recipe.dead_leaves import dead_leaves
from recipe.images import to_unit


class LearnedSchedule(sp.DiagonalCorruption):
    def __init__(self) -> None:
        super().__init__(sp.CosineBasis())
        self.bend = nn.Parameter(torch.zeros(1, 8, 8))

    def log_snr(self, t: Tensor) -> Tensor:
        t = t.view(-1, 1, 1, 1)
        return 7 - 14 * (t + self.bend.tanh() * t * (1 - t))

    def signal(self, t: Tensor) -> Tensor:
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def noise(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-self.log_snr(t)).sqrt()


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
    trainer = sp.DiffusionTrainer(model, corruption, optimizer=optimizer, time_sampling="stratified", **options)
    trainer.fit(images.split(128), steps=steps, progress=False)
    with torch.no_grad():
        times = torch.linspace(0, 1, 4 * len(images))
        found = float(sp.DiffusionLoss(corruption, **options)(model, images.repeat(4, 1, 1, 1), t=times))
    bends = corruption.bend.tanh()
    print(f"learned={learned}: {found:.4f} nats a value, bends {bends.min():.2f} … {bends.max():.2f}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="?", type=positive, default=600, help="training steps (%(default)s)")
    steps = parser.parse_args().steps
    for learned in (False, True):
        bound(steps, learned=learned)
