"""U-Nets from `diffusers`, called the way `shortest_path` calls a model, and wrappers of networks."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

import shortest_path as sp

from .times import TimeInput, thousandths


class TimedUNet(nn.Module):
    """Calls a `UNet2DModel` with t in [0, 1] and returns a tensor.

    Args:
        unet: The network; it embeds times of about 0 to 1000.
        told: What it is told of times t; `recipe.times` has another.
    """

    def __init__(self, unet: UNet2DModel, told: TimeInput = thousandths) -> None:
        super().__init__()
        self.unet, self._told = unet, told

    def forward(self, x_t: Tensor, t: Tensor, **conditioning: object) -> Tensor:
        # As a float tensor of shape (B,): a Python float would be cut down to an integer.
        return self.unet(x_t, self._told(t), **conditioning).sample


class WhitenedInput(nn.Module):
    """Shows a network the corrupted image whitened as well: it learns from numbers of about unit size.

        network(x_t, Bᵀ[(u_t − m) / √V], t),    V = a² S + s²

    Args:
        network: Takes images with twice the channels, and t; returns images.
        corruption: A corruption that is diagonal in the spectrum's basis; isotropic ones are in any.
        spectrum: The power S of the data.
    """

    mean: Tensor | None
    shift: Tensor | None

    def __init__(self, network: nn.Module, corruption: sp.Corruption, spectrum: sp.PowerSpectrum) -> None:
        super().__init__()
        process = sp.corruptions.Process(corruption, spectrum)
        assert process.power is not None
        self.network, self.corruption, self.basis = network, corruption, copy.deepcopy(process.basis)
        self.register_buffer("power", process.power.float())
        known = getattr(corruption, "mean", None)
        self.register_buffer("mean", None if known is None else known.float())
        self.register_buffer("shift", None if process.shift is None else process.shift.float())

    def forward(self, x_t: Tensor, t: Tensor, **conditioning: object) -> Tensor:
        return self.network(torch.cat([x_t, self.whiten(x_t, t)], 1), t, **conditioning)

    def whiten(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the whitened images, of the shape of x_t; t is (B,), or (1,) for one time of all."""
        a, s = self.corruption.signal(t), self.corruption.noise(t)
        away = x_t if self.mean is None else x_t - self.mean
        u_t = self.basis.analyze(away)
        if self.shift is not None:
            u_t = u_t - a * self.shift
        return self.basis.synthesize(u_t / (a**2 * self.power + s**2).sqrt())


class Bf16(nn.Module):
    """Runs a network in bfloat16 where that is safe, as in training; its output is float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, t: Tensor, **conditioning: object) -> Tensor:
        with torch.autocast(x_t.device.type, torch.bfloat16):
            return self.network(x_t, t, **conditioning).float()


@torch.no_grad()
def zero_last_layers(unet: UNet2DModel) -> None:
    """Set the last layer of every block and of the network to 0: residual blocks begin as the identity.

    Source: Dhariwal & Nichol 2021, arXiv:2105.05233; the output of such a network is 0 until it is trained.
    """
    lasts = [unet.conv_out]
    lasts += [module.conv2 for module in unet.modules() if isinstance(module, ResnetBlock2D)]
    lasts += [module.to_out[0] for module in unet.modules() if isinstance(module, Attention)]
    for layer in lasts:
        for parameter in layer.parameters():
            parameter.zero_()


def small_unet(
    channels: int = 3, size: int = 32, widths: Sequence[int] = (16, 32, 64), *, inputs: int = 0
) -> TimedUNet:
    """Return a U-Net that learns simple images on a CPU in minutes.

    Args:
        channels: Number of channels of the output.
        size: Height and width of the images; divisible by 2 for every width after the first.
        widths: Channels at each resolution, from the full one down; multiples of 8. Attention works at the last.
        inputs: Number of channels of the input; 0 for as many as the output has.

    Raises:
        ValueError: `widths` or `size` do not fit these rules.
    """
    if not widths or any(width < 8 or width % 8 for width in widths):
        raise ValueError(f"widths must be multiples of 8 (eight groups to normalise), got {tuple(widths)}")
    levels = len(widths) - 1
    if size < 2**levels or size % 2**levels:
        raise ValueError(f"size must be a multiple of {2**levels} for {len(widths)} widths, got {size}")
    unet = UNet2DModel(
        sample_size=size,
        in_channels=inputs or channels,
        out_channels=channels,
        block_out_channels=tuple(widths),
        down_block_types=("DownBlock2D",) * levels + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
    )
    # Channels last is the layout in which the CPU's convolutions are fastest.
    return TimedUNet(unet.to(memory_format=torch.channels_last))
