"""How well samples can be told from images: by a small network that is trained to."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from .images import to_uint8, to_unit

_EPOCHS = 20


def told_apart(images: Tensor, samples: Tensor, *, seed: int = 0) -> float:
    """Return how often a convolutional network tells samples from images: 0.5 is chance, 1 is always.

    It is trained on the first half of both, mirrored at random, and judged by the second half.

    Args:
        images: Images that the samples' model was not trained on, (N, C, H, W), range [-1, 1].
        samples: As many samples; they are rounded to 8 bits, as the images are.
        seed: Random seed for weights and order.

    Raises:
        ValueError: other numbers of images and samples than the same, of 4 or more.
    """
    if len(images) != len(samples) or len(images) < 4:
        raise ValueError(f"as many samples as images are required, 4 or more, got {len(samples)} and {len(images)}")
    half = len(images) // 2
    x = torch.stack([images, to_unit(to_uint8(samples))], 1)
    label = torch.tensor([1.0, 0.0]).expand(len(x), 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(images.shape[1])
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
        for _ in range(_EPOCHS):
            for rows in torch.randperm(half).split(32):
                mirrored = torch.rand(2 * len(rows), 1, 1, 1) < 0.5
                batch = x[rows].flatten(0, 1)
                logits = network(torch.where(mirrored, batch.flip(-1), batch))
                optimizer.zero_grad()
                binary_cross_entropy_with_logits(logits[:, 0], label[rows].flatten()).backward()
                optimizer.step()
    network.eval()
    with torch.no_grad():
        found = torch.cat([network(part)[:, 0] > 0 for part in x[half:].flatten(0, 1).split(500)])
    return (found == label[half:].flatten().bool()).float().mean().item()


def _network(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),  # 16 features of position, whatever the size of the images
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(1024, 1),
    )
