"""From settings to the parts of a run, and from a checkpoint back to the same parts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import UNet2DModel
from torch import nn

import shortest_path as sp
from shortest_path.integrations.diffusers import TimedModel
from shortest_path.models import WhitenedInput
from shortest_path.training import load_checkpoint, load_latest

from .cifar10 import Pictures
from .images import check_several, to_unit
from .settings import Settings, from_dict, to_dict
from .times import EvenTimes, ScaledIndex
from .unet import zero_last_layers

FORMAT = "shortest_path.cifar10"
LABELS = "class_labels"  # what diffusers calls them
CONSTANTS = {"amplitude": 1.59, "offset": 0.0086, "exponent": 2.0}  # of the paper's code, for CIFAR-10
_CHUNK = 1024
_EVALUATED = 512  # maximum number of images for evaluations that are trained on too


class Run(NamedTuple):
    """The contents of a checkpoint, ready to sample from; `model` has the averaged weights."""

    settings: Settings
    model: nn.Module
    corruption: sp.Corruption
    spectrum: sp.PowerSpectrum
    shape: tuple[int, ...]
    classes: int
    step: int
    provenance: dict[str, Any]


def split(pictures: Pictures, settings: Settings) -> tuple[Pictures, Pictures]:
    """Return the images to train on and those to evaluate on: every k-th (k ≥ 10), as files may be in order of classes.

    The latter are not trained on, unless the settings hold out none.

    Raises:
        ValueError: the images are not of the size in the settings.
    """
    images, labels, provenance = pictures
    if images.shape[1:3] != (settings.size, settings.size):
        height, width = images.shape[1:3]
        raise ValueError(f"the images are {height}×{width}, but size is {settings.size}; set --size {height}")
    held = np.arange(len(images)) % max(10, math.ceil(len(images) / (settings.held_out or _EVALUATED))) == 0

    def part(rows: np.ndarray) -> Pictures:
        return Pictures(images[rows], None if labels is None else labels[rows], provenance)

    return part(~held) if settings.held_out else pictures, part(held)


def make_network(
    settings: Settings, corruption: sp.Corruption, spectrum: sp.PowerSpectrum, classes: int
) -> TimedModel | WhitenedInput:
    """Return the network of the settings; with classes it takes `class_labels`, where `classes` means no class.

    Raises:
        ValueError: the sizes do not fit each other.
    """
    levels, widths = len(settings.widths), settings.widths
    if settings.size % 2 ** (levels - 1):
        raise ValueError(f"size {settings.size} cannot be halved {levels - 1} times, for {levels} widths")
    if bad := [width for width in widths if width % settings.groups or width % settings.head_channels]:
        raise ValueError(
            f"widths must be multiples of groups={settings.groups} and head_channels={settings.head_channels}, "
            f"got {bad}"
        )
    sizes = [settings.size >> level for level in range(levels)]
    if unknown := set(settings.attention) - set(sizes):
        raise ValueError(f"attention at {sorted(unknown)}, but the feature maps have the sizes {sizes}")
    attends = [size in settings.attention for size in sizes]
    channels = spectrum.shape[0]
    unet = UNet2DModel(
        sample_size=settings.size,
        in_channels=2 * channels if settings.whitened_input else channels,
        out_channels=channels,
        layers_per_block=settings.blocks,
        block_out_channels=widths,
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        attention_head_dim=settings.head_channels,
        norm_num_groups=settings.groups,
        attn_norm_num_groups=settings.groups,  # with scale_shift, the attention in the middle has no norm without it
        resnet_time_scale_shift="scale_shift" if settings.scale_shift else "default",
        dropout=settings.dropout,
        num_class_embeds=classes + 1 if classes else None,
    )
    if settings.zero_init:
        zero_last_layers(unet)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if settings.channels_last:
        unet = unet.to(memory_format=torch.channels_last)
    if settings.time_input == "index":
        told = ScaledIndex(settings.chain_steps, even=settings.time_sampling == "ddpm")
        network = TimedModel(unet, steps=told.slope, shift=told.shift)
    else:
        network = TimedModel(unet, shift=0.0)
    return WhitenedInput(network, corruption, spectrum) if settings.whitened_input else network


def unet_of(model: nn.Module) -> UNet2DModel:
    """Return the diffusers U-Net in a network that `make_network` made."""
    return (model.network if isinstance(model, WhitenedInput) else model).model


def measure_spectrum(settings: Settings, pictures: Pictures) -> sp.PowerSpectrum:
    """Return the power spectrum of the images and their mirror images, in the basis of the corruption."""
    basis, channels = "cosine", "rotate"
    if settings.corruption == "shortest-path":
        basis, channels = settings.basis, settings.channels
        if settings.spectrum == "reference" and channels == "rotate":
            channels = "independent"  # the constants of the paper have no rotation
    check_several(pictures.images, settings.data)
    parts = range(0, len(pictures.images), _CHUNK)
    batches = (to_unit(pictures.images[first : first + _CHUNK]) for first in parts)
    mirrored = (torch.cat([batch, batch.flip(-1)]) if settings.flip else batch for batch in batches)
    return sp.PowerSpectrum.estimate(mirrored, basis, channels)


def make_corruption(settings: Settings, spectrum: sp.PowerSpectrum) -> sp.Corruption:
    """Return the corruption of the settings; only the measured shortest path depends on the spectrum's values."""
    if settings.corruption == "gaussian":
        steps = settings.schedule_steps
        return sp.GaussianCorruption(settings.schedule if steps is None else sp.corruptions.LinearSchedule(steps))
    if settings.corruption == "blur":
        return sp.BlurCorruption(settings.max_blur, spatial=spectrum.shape[1:])
    if settings.spectrum == "reference":
        spectrum = sp.PowerSpectrum.power_law(spectrum.shape, **CONSTANTS, basis=spectrum.basis)
    return sp.ShortestPathCorruption(spectrum.tempered(settings.log_power_scale))


def time_sampling(settings: Settings) -> dict[str, Any]:
    """Return the options of a trainer that choose the distribution of times."""
    if settings.time_sampling == "ddpm":
        return {"time_sampling": EvenTimes(settings.chain_steps)}
    return {"time_sampling": settings.time_sampling, "discrete_steps": settings.discrete_steps}


def metadata(
    settings: Settings, spectrum: sp.PowerSpectrum, classes: int, provenance: dict[str, Any]
) -> dict[str, Any]:
    """Return what `load_run` needs of a checkpoint besides the weights."""
    return {
        "format": FORMAT,
        "settings": to_dict(settings),
        "spectrum": spectrum.state_dict(),
        "classes": classes,
        "provenance": provenance,
    }


def load_run(path: str | Path, device: torch.device | str = "cpu", *, ema_decay: float | None = None) -> Run:
    """Read a checkpoint of `train_cifar10.py`; a folder of a run or of checkpoints for the newest.

    Args:
        path: The file or folder.
        device: Device of the network.
        ema_decay: Which of several averages to take; None is the first.

    Raises:
        FileNotFoundError: there is no such file or folder, or the folder holds no checkpoint.
        ValueError: the checkpoint is of another program, or has no such average.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; pass the --out folder of train_cifar10.py, or a checkpoint in it"
        )
    if path.is_dir():
        found = load_latest(path / "checkpoints") or load_latest(path)
        if found is None:
            raise FileNotFoundError(f"{path} holds no checkpoint-<step>.pt; train first, or pass the file itself")
        path, state = found
    else:
        state = load_checkpoint(path)
    kept = state.get("metadata", {})
    if kept.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by train_cifar10.py; it does not say how to build its network")
    settings, spectrum = from_dict(kept["settings"]), sp.PowerSpectrum.from_state_dict(kept["spectrum"])
    corruption = make_corruption(settings, spectrum)
    network = make_network(settings, corruption, spectrum, kept["classes"])
    network.load_state_dict(_average(state, settings, ema_decay, path))
    if isinstance(corruption, nn.Module):
        corruption = corruption.to(device)
    return Run(
        settings,
        network.to(device).eval().requires_grad_(False),
        corruption,
        spectrum,
        spectrum.shape,
        kept["classes"],
        state["step"],
        kept["provenance"],
    )


def _average(state: dict[str, Any], settings: Settings, decay: float | None, path: Path) -> dict[str, Any]:
    """Return the averaged weights of a decay."""
    first, *_ = settings.ema_decay if isinstance(settings.ema_decay, tuple) else (settings.ema_decay,)
    others = {each: average["model"] for each, average in state.get("average", {}).get("others", {}).items()}
    known = {first: state["ema"], **others}
    if decay is not None and decay not in known:
        raise ValueError(f"{path} has no average of decay {decay:g}; it has {', '.join(f'{each:g}' for each in known)}")
    return known[first if decay is None else decay]


def make_sampler(run: Run, *, guidance_scale: float | None = None, **options: Any) -> sp.Sampler:
    """Return a sampler of a run, with the measured spectrum."""
    return sp.Sampler(
        run.model,
        run.corruption,
        prediction=run.settings.prediction,
        spectrum=run.spectrum,
        guidance_scale=guidance_scale,
        null_conditioning=None if guidance_scale is None else {LABELS: run.classes},
        **options,
    )
