"""The identity basis: pixels."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from ._base import Basis
from ._registry import register


@register
class PixelBasis(Basis):
    """The identity: every pixel is its own coefficient.

    Args:
        dims: Number of spatial axes.
        channel_rotation: Orthonormal (C, C) rotation of the channels, or None.

    Example:
        >>> import torch
        >>> x = torch.randn(2, 3, 8, 8)
        >>> bool((PixelBasis().analyze(x) == x).all())
        True
    """

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        return x

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        return u
