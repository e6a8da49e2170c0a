"""In which coordinates does a corruption act? Orthonormal bases.

    u = B x,    x = Bᵀ u,    B Bᵀ = I

A basis transforms the last `dims` axes of a batch (*batch, C, *spatial), after an optional orthonormal rotation of
the channel axis in front of them. Coefficients are real and have the image's own shape: the Fourier basis uses
Hartley coordinates, Re F − Im F. So Bᵀ is the transpose, white noise stays white, and sums over coefficients are
plain sums. Everything is computed in float32 or better, also under autocast, and is differentiable.

`WaveletBasis` is local in place and scale. `SeparableBasis` takes another transform for each axis. Any orthonormal
matrix over the spatial axes is a basis too: see docs/write-your-own.md.

To add a basis: one file with a subclass of `Basis` that defines `spatial_coefficients` and `spatial_inverse` and is
decorated with `@register`, its export here, and its entry in `bases` of tests/bases/test_bases.py, which runs the laws
on it, as for the wavelets and the separable bases.
"""

from ._base import Basis, kind_of
from ._cosine import CosineBasis
from ._fourier import FourierBasis
from ._pixel import PixelBasis
from ._principal import PrincipalBasis
from ._registry import basis_from_state, basis_state, register
from ._separable import SeparableBasis
from ._wavelet import WaveletBasis

__all__ = [
    "Basis",
    "CosineBasis",
    "FourierBasis",
    "PixelBasis",
    "PrincipalBasis",
    "SeparableBasis",
    "WaveletBasis",
    "basis_from_state",
    "basis_state",
    "kind_of",
    "register",
]
