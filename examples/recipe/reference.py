"""The weights of a network of the paper's code, under the names of this recipe's.

Its U-Net is that of guided diffusion. `make_network` builds the same function from diffusers where `scale_shift` is
true; this module maps one set of names to the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .settings import Settings

_RESIDUAL = {  # parts of a residual block: ours and theirs
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_SHOWN = 3


class Place(NamedTuple):
    """Where a module of the network is: its name in ours and in theirs, and its kind."""

    ours: str
    theirs: str
    kind: str


def places(levels: int, blocks: int, attends: tuple[bool, ...]) -> Iterator[Place]:
    """Yield every residual block, attention, and change of resolution of a U-Net.

    Args:
        levels: Number of resolutions.
        blocks: Residual blocks at each, on the way down; one more on the way up.
        attends: Whether attention works at each resolution, from the full one down.
    """
    number = 1
    for level in range(levels):
        for block in range(blocks):
            yield Place(f"down_blocks.{level}.resnets.{block}", f"input_blocks.{number}.0", "residual")
            if attends[level]:
                yield Place(f"down_blocks.{level}.attentions.{block}", f"input_blocks.{number}.1", "attention")
            number += 1
        if level < levels - 1:
            yield Place(f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{number}.0.op", "layer")
            number += 1
    for index, ours in enumerate(("resnets.0", "attentions.0", "resnets.1")):
        kind = "attention" if "attention" in ours else "residual"
        yield Place(f"mid_block.{ours}", f"middle_block.{index}", kind)
    number = 0
    for up, level in enumerate(reversed(range(levels))):
        for block in range(blocks + 1):
            yield Place(f"up_blocks.{up}.resnets.{block}", f"output_blocks.{number}.0", "residual")
            if attends[level]:
                yield Place(f"up_blocks.{up}.attentions.{block}", f"output_blocks.{number}.1", "attention")
            if level and block == blocks:
                last = 2 if attends[level] else 1
                yield Place(f"up_blocks.{up}.upsamplers.0.conv", f"output_blocks.{number}.{last}.conv", "layer")
            number += 1


def converted(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """Return the weights of a network of the paper's code under the names of ours, in float32.

    Args:
        theirs: Its state dict.
        ours: The state dict of the `UNet2DModel` of the same settings.
        settings: Settings of the network, with `scale_shift`.

    Raises:
        ValueError: the state dict is not of a network of these settings.
    """
    widths, size = settings.widths, settings.size
    attends = tuple(size >> level in settings.attention for level in range(len(widths)))
    pairs = dict(_OUTSIDE)
    result: dict[str, Tensor] = {}
    used: set[str] = set()
    absent: list[str] = []

    def take(name: str) -> Tensor | None:
        if not isinstance(weight := theirs.get(name), Tensor):
            absent.append(name)
            return None
        used.add(name)
        return weight.to(torch.float32)

    for place in places(len(widths), settings.blocks, attends):
        if place.kind == "layer":
            pairs[place.ours] = place.theirs
        elif place.kind == "residual":
            pairs |= {f"{place.ours}.{own}": f"{place.theirs}.{other}" for own, other in _RESIDUAL.items()}
        else:
            pairs |= {f"{place.ours}.group_norm": f"{place.theirs}.norm"}
            for part in ("weight", "bias"):
                if (packed := take(f"{place.theirs}.qkv.{part}")) is not None:
                    for name, value in zip(("to_q", "to_k", "to_v"), _unpacked(packed, settings), strict=True):
                        result[f"{place.ours}.{name}.{part}"] = value
                if (last := take(f"{place.theirs}.proj_out.{part}")) is not None:
                    result[f"{place.ours}.to_out.0.{part}"] = last.flatten(1) if last.ndim > 2 else last
    for own, other in pairs.items():
        for part in ("weight", "bias"):
            if f"{own}.{part}" in ours and (found := take(f"{other}.{part}")) is not None:
                result[f"{own}.{part}"] = found
    wrong = [f"no {name}" for name in sorted(absent)]
    wrong += [f"unknown {name}" for name in sorted(theirs.keys() - used)]
    wrong += [
        f"{name} {tuple(value.shape)} instead of {tuple(ours[name].shape)}"
        for name, value in result.items()
        if name in ours and value.shape != ours[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ValueError(
            f"the weights are not of a network of these settings: {', '.join(wrong[:_SHOWN])}{more}; pass its widths, "
            "blocks and attention"
        )
    return result


def _unpacked(packed: Tensor, settings: Settings) -> tuple[Tensor, ...]:
    """Return the weights of queries, keys and values: there one layer holds them, head after head."""
    flat = packed.flatten(1) if packed.ndim > 2 else packed
    if len(flat) % (3 * settings.head_channels):
        raise ValueError(
            f"attention of {len(flat) // 3} channels has no heads of {settings.head_channels}; pass head_channels"
        )
    heads = flat.unflatten(0, (-1, 3, settings.head_channels))
    return tuple(heads[:, part].flatten(0, 1).contiguous() for part in range(3))
