"""Overhead of `DiffusionTrainer`: its training step against the bare minimum.

    python -m benchmarks.trainer_overhead            # a U-Net of 1.1 M parameters
    python -m benchmarks.trainer_overhead --large    # DDPM's CIFAR-10 U-Net, 35.7 M parameters; minutes

The bare step is zero_grad, the network on fixed inputs, mean squared error, backward, and the optimizer step. The
trainer's step adds random times and noise, corruption, checks, and the moving average of the weights. Both train a copy
of the same network with the same optimizer on the same images. One thread, medians over interleaved repeats.

The training that is recommended here (shortest path, whitened velocity, whitened input, for which the network has six
input channels) is compared with DDPM's (linear schedule, noise), both by `DiffusionTrainer`.

The moving average and the corruption are also timed alone. The first grows with the parameters, the second with the
images, and the network's own time with both, so their fraction is smaller for a larger network.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

import shortest_path as sp
from benchmarks.generated_images import generated_images
from benchmarks.timing import (
    Row,
    duration,
    interleaved,
    one_thread,
    parser,
    print_report,
    save_report,
    time_row,
    warm_heap,
)
from shortest_path.models import WhitenedInput
from shortest_path.training import ExponentialMovingAverage

BOUND = 0.03


class Network(nn.Module):
    """diffusers' U-Net with times in [0, 1] and a plain tensor as output."""

    def __init__(self, unet: UNet2DModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.unet(x_t, 1000 * t).sample


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the report."""
    options = parser("benchmarks.trainer_overhead", __doc__, repeats=15)
    options.add_argument("--large", action="store_true", help="DDPM's CIFAR-10 U-Net instead of a small one")
    options.add_argument("--batch", type=int, default=None, help="images per step (default 32, with --large 16)")
    arguments = options.parse_args(argv)
    one_thread()
    warm_heap()
    batch = arguments.batch or (16 if arguments.large else 32)
    torch.manual_seed(0)
    network = Network(large_unet() if arguments.large else small_unet())
    x_0 = generated_images(batch)
    spectrum = sp.PowerSpectrum.estimate(generated_images(1000).split(250))
    corruption = sp.ShortestPathCorruption(spectrum)

    bare, trained = copy.deepcopy(network), copy.deepcopy(network)
    optimizer = torch.optim.AdamW(bare.parameters(), lr=2e-4)
    trainer = sp.DiffusionTrainer(trained, corruption, learning_rate=2e-4)
    bare.train()
    eps, t = torch.randn_like(x_0), torch.rand(batch)
    x_t = corruption.corrupt(x_0, t, eps)

    def bare_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.mse_loss(bare(x_t, t), eps)
        loss.backward()
        optimizer.step()

    make = large_unet if arguments.large else small_unet
    ddpm = sp.DiffusionTrainer(copy.deepcopy(network), sp.GaussianCorruption("linear"), learning_rate=2e-4)
    whitened = WhitenedInput(Network(make(in_channels=6)), corruption, spectrum)
    recommended = sp.DiffusionTrainer(whitened, corruption, prediction="whitened-velocity", learning_rate=2e-4)

    average = ExponentialMovingAverage(network, 0.9999)
    parts = {
        "moving average": lambda: average.update(network),
        "noise, times and corruption": lambda: corruption.corrupt(x_0, torch.rand(batch), torch.randn_like(x_0)),
    }
    contenders = {
        "bare": bare_step,
        "trainer": lambda: trainer.train_step([x_0]),
        "ddpm": lambda: ddpm.train_step([x_0]),
        "recommended": lambda: recommended.train_step([x_0]),
    }
    steps = interleaved(contenders, repeats=arguments.repeats, warmup=2, clock=arguments.clock)
    pieces = interleaved(parts, repeats=arguments.repeats, clock=arguments.clock)

    parameters = sum(parameter.numel() for parameter in network.parameters())
    what = f"training step, {parameters / 1e6:.1f} M parameters, batch {batch}"
    step = time_row(what, steps, "trainer", "bare", None)
    rows = [step._replace(bound=1 + BOUND, bound_text=f"≤ {1 + BOUND:g}×")]
    whole = steps.median("bare")
    rows += [
        Row(f"of it, {name} alone", "–", duration(pieces.median(name)), pieces.median(name) / whole) for name in parts
    ]
    rows.append(time_row("recommended training; reference: DDPM's", steps, "recommended", "ddpm", None))
    low, high = (100 * (quartile - 1) for quartile in step.spread)
    notes = [f"Overhead {100 * (step.ratio - 1):.2f} % (quartiles {low:.2f} to {high:.2f})."]
    print_report("Training step against the bare network (reference = bare)", rows, notes)
    save_report(arguments.json, rows, parameters=parameters, batch=batch, seconds=steps.samples)


def small_unet(in_channels: int = 3) -> UNet2DModel:
    """Return a network that trains on a CPU: attention at the lowest resolution only."""
    return UNet2DModel(
        in_channels=in_channels,
        sample_size=32,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )


def large_unet(in_channels: int = 3) -> UNet2DModel:
    """Return DDPM's network for CIFAR-10 (Ho et al. 2020, appendix B)."""
    return UNet2DModel(
        in_channels=in_channels,
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        layers_per_block=2,
        attention_head_dim=None,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )


if __name__ == "__main__":
    main()
