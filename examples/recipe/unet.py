"""Small U-Nets from `diffusers`, and what is done to networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from shortest_path.integrations.diffusers import TimedModel


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
) -> TimedModel:
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
    return TimedModel(unet.to(memory_format=torch.channels_last), shift=0.0)
