"""Corrupting images."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import check_flag, check_floating
from .._exact import as_dtype
from ._process import Process
from ._protocol import Corruption, check_corruption
from ._scales import as_times, check_device, check_noise


def corrupt(corruption: Corruption, x_0: Tensor, t: Tensor | float, eps: Tensor, *, analyzed: bool = False) -> Tensor:
    """Corrupt images to times `t`.

        x_t = Bᵀ[ signal(t) ⊙ B x_0 + noise(t) ⊙ B eps ]

    A pure function: the caller draws `eps`. Derivatives with respect to `t` that are infinite, as those of a noise √t
    at t = 0, are taken as 0 in the library's own corruptions.

    Args:
        corruption: Any object that implements `Corruption`.
        x_0: Clean images, (B, C, *spatial), floating point, range [-1, 1].
        t: Time in [0, 1], (B,) or scalar. Values are checked on the CPU only.
        eps: White normal noise in pixels, same shape as `x_0`.
        analyzed: Whether `eps` are coefficients, in which noise is as white: B `eps` is then left out, a third of the
            transforms in a cosine or wavelet basis. In the Fourier basis noise in pixels is cheaper.

    Returns:
        Corrupted images, same shape, dtype and device as `x_0`.

    Raises:
        TypeError: `x_0`, `t` or `eps` is not floating point, `analyzed` is not True or False, or `corruption` does not
            implement `Corruption`.
        ValueError: `t` outside [0, 1], `eps` of another shape or on another device, or a shape or device the
            corruption was not made for.

    Source: Das et al. 2023, arXiv:2306.00501; Hoogeboom & Salimans 2022, arXiv:2209.05557, equation 11.

    Example:
        >>> import torch, shortest_path as sp
        >>> x_0 = torch.zeros(4, 3, 8, 8)
        >>> sp.corrupt(sp.GaussianCorruption("flow"), x_0, 0.5, torch.ones_like(x_0)).mean().item()
        0.5
    """
    check_floating(x_0, "x_0")
    check_noise(eps, x_0)
    check_corruption(corruption)
    check_flag("analyzed", analyzed)
    if not torch.compiler.is_compiling():
        check_device(corruption, x_0.device)
    process = Process(corruption, informed=False)
    (x_t,) = process.mix(x_0, eps, process.scales(as_times(t, x_0), x_0), analyzed=analyzed)
    return as_dtype(x_t, x_0.dtype)
