"""White noise from generators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from .._checks import check_count

Generators: TypeAlias = "torch.Generator | Sequence[torch.Generator]"


def check_generator(generator: object, shape: Sequence[int]) -> None:
    """Raise unless `generator` is a generator, one for each image, or None, for torch's own.

    Args:
        generator: The argument.
        shape: Shape of the images, (B, C, *spatial).

    Raises:
        TypeError: `generator` is not made of generators.
        ValueError: another number of generators than of images.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return
    found, images = type(generator).__name__, shape[0] if shape else 0
    if isinstance(generator, Sequence) and not isinstance(generator, str):
        others = [type(one).__name__ for one in generator if not isinstance(one, torch.Generator)]
        if not others and len(generator) == images:
            return
        if not others:
            raise ValueError(f"expected one generator for each of {images} images, got {len(generator)}")
        found = f"a {found} with {others[0]}"
    raise TypeError(
        f"generator must be a torch.Generator or one per image, got {found}; use torch.Generator().manual_seed(0)"
    )


def white(shape: Sequence[int], device: torch.device, dtype: torch.dtype, generator: Generators | None) -> Tensor:
    """Return white normal noise, drawn on the generator's device: white in pixels is white in every orthonormal basis.

    Args:
        shape: (B, C, *spatial).
        device: Device of the result.
        dtype: Type of the result.
        generator: Source of random numbers: one for all images, one per image, or None for torch's own.

    Raises:
        TypeError: as `check_generator` raises.
        ValueError: as `check_generator` raises.
    """
    check_generator(generator, shape)
    if isinstance(generator, Sequence):
        if not generator:
            return torch.empty(tuple(shape), dtype=dtype, device=device)
        return torch.stack([white(shape[1:], device, dtype, one) for one in generator])
    source = device if generator is None else generator.device
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=source).to(device)


def indices_of(images: int | Sequence[int]) -> Sequence[int]:
    """Return the indices of images, of which the number or the indices are given; raise a TypeError for others."""
    if isinstance(images, Sequence) and not isinstance(images, str):
        return images
    if isinstance(images, (Tensor, np.ndarray)) and images.ndim:
        raise TypeError(
            f"images must be their number, or a list or range of indices, got {type(images).__name__}; "
            "pass its tolist()"
        )
    return range(check_count("images", images, least=0))


def mixed_seed(seed: int, index: int) -> int:
    """Return one seed for both numbers; near numbers give unrelated ones."""
    check_count("every index", index, least=0)
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])
