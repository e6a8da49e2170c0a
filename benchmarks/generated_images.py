"""Images for benchmarks: coloured noise with about the power spectrum of photographs."""

from __future__ import annotations

import torch
from torch import Tensor


def generated_images(count: int, size: int = 32, seed: int = 0) -> Tensor:
    """Return coloured noise (count, 3, size, size) with a power law and channels correlated as in photographs.

    Brightness has by far the most power and falls off fastest. A little of it leaks into the colours at high
    frequency: as for photographs, one rotation of the channels for all frequencies is nearly but not exactly right.
    """
    generator = torch.Generator().manual_seed(seed)
    axis = torch.fft.fftfreq(size, 1 / size)
    frequency = (axis[:, None] ** 2 + axis**2).sqrt()
    amplitude = torch.tensor([5.0, 0.9, 0.35])[:, None, None]
    falloff = torch.stack([(0.5 + frequency) ** (-exponent / 2) for exponent in (2.8, 2.4, 2.4)])
    white = torch.fft.fft2(torch.randn(count, 3, size, size, generator=generator))
    components = torch.fft.ifft2(white * amplitude * falloff).real
    leak = torch.fft.ifft2(white[:, 0] * amplitude[0] * falloff[0] * 0.02 * frequency / size).real
    components[:, 1] += leak
    mixing = torch.tensor([[3**-0.5, 2**-0.5, 6**-0.5], [3**-0.5, 0.0, -(1.5**-0.5)], [3**-0.5, -(2**-0.5), 6**-0.5]])
    images = torch.einsum("kc,bchw->bkhw", mixing, components)
    return (0.5 * images / images.std()).contiguous()
