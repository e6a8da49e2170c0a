"""The orthonormal cosine transform of one axis: as a matrix, and by the FFT."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._exact import exact_dtype


def cosine_matrix(n: int) -> Tensor:
    """Return the orthonormal DCT-II matrix, (n, n), float64; rows are the cosines."""
    k = torch.arange(n, dtype=torch.float64, device="cpu")
    matrix = torch.cos(math.pi / (2 * n) * k[:, None] * (2 * k + 1)) * math.sqrt(2 / n)
    matrix[0] *= math.sqrt(0.5)
    return matrix


def fft_cosine(x: Tensor) -> Tensor:
    """DCT-II of the last axis by one FFT of the same length (Makhoul 1980)."""
    n = x.shape[-1]
    folded = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)
    twiddled = torch.fft.fft(folded) * _twiddle(n, x)
    scale = torch.full((n,), math.sqrt(2 / n), dtype=x.dtype, device=x.device)
    scale[0] = math.sqrt(1 / n)
    cosines: Tensor = twiddled.real * scale
    return cosines


def fft_inverse_cosine(u: Tensor) -> Tensor:
    """Inverse of `fft_cosine`."""
    n = u.shape[-1]
    scale = torch.full((n,), math.sqrt(n / 2), dtype=u.dtype, device=u.device)
    scale[0] = math.sqrt(n)
    cosine = u * scale
    sine = torch.nn.functional.pad(cosine[..., 1:].flip(-1), (1, 0))
    folded = torch.fft.ifft(torch.complex(cosine, -sine) * _twiddle(n, u).conj()).real
    evens = (n + 1) // 2
    x = torch.empty_like(folded)
    x[..., ::2] = folded[..., :evens]
    x[..., 1::2] = folded[..., evens:].flip(-1)
    return x


def _twiddle(n: int, like: Tensor) -> Tensor:
    # Angles in float64: k / n rounded to float32 would cost digits at large n.
    device = like.device if exact_dtype(like.device) == torch.float64 else torch.device("cpu")
    angle = -math.pi / (2 * n) * torch.arange(n, dtype=torch.float64, device=device)
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype.to_complex()).to(like.device)
