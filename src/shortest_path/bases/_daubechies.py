"""The filters of Daubechies' wavelets, and one level of their transform as a matrix."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor


@functools.cache
def lowpass(moments: int) -> tuple[float, ...]:
    """Return the orthonormal low-pass filter of minimal phase with `moments` vanishing moments, 2 · moments values.

    |H(ω)|² = 2 cos²ⁿ(ω/2) P(sin²(ω/2)),    P(y) = Σ_{k<n} C(n−1+k, k) yᵏ,    n = moments

    H is the factor whose zeros lie inside the unit circle or at ω = π.

    Source: Daubechies 1988, "Orthonormal bases of compactly supported wavelets", section 4.
    """
    y = np.roots([math.comb(moments - 1 + k, k) for k in reversed(range(moments))])
    middle = 1 - 2 * y  # of z and 1/z, as y = sin²(ω/2) = (2 − z − 1/z) / 4
    half = np.sqrt(middle**2 - 1 + 0j)
    zeros = np.where(np.abs(middle + half) < 1, middle + half, middle - half)
    taps = np.atleast_1d(np.real(np.poly(zeros)))
    for _ in range(moments):
        taps = np.convolve(taps, [0.5, 0.5])
    return tuple((taps * (math.sqrt(2) / taps.sum())).tolist())


def highpass(low: tuple[float, ...]) -> tuple[float, ...]:
    """Return the filter of the details, the mirror of the low-pass filter with alternating signs."""
    return tuple((-1) ** j * value for j, value in enumerate(reversed(low)))


def level_matrix(low: tuple[float, ...], n: int) -> Tensor:
    """Return one level of the periodic transform of an even axis, (n, n), float64.

    Row k < n/2 is the approximation Σ_j low_j x_{2k+j}, row n/2 + k the detail; filters longer than the axis wrap.
    """
    first = torch.arange(0, n, 2, device="cpu")[:, None]
    columns = (first + torch.arange(len(low), device="cpu")) % n
    empty = torch.zeros(n // 2, n, dtype=torch.float64, device="cpu")
    parts = [torch.tensor(taps, dtype=torch.float64, device="cpu") for taps in (low, highpass(low))]
    return torch.cat([empty.scatter_add(1, columns, taps.expand(n // 2, -1)) for taps in parts])
