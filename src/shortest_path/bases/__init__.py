"""In which coordinates does a corruption act? Orthonormal bases.

    u = B x,    x = Bᵀ u,    B Bᵀ = I

A basis transforms the last `dims` axes of a batch (*batch, C, *spatial), after an optional orthonormal rotation of
the channel axis in front of them. Coefficients are real and have the image's own shape: the Fourier basis uses
Hartley coordinates, Re F − Im F. So Bᵀ is the transpose, white noise stays white, and sums over coefficients are
plain sums. Everything is computed in float32 or better, also under autocast, and is differentiable.

To add a basis: one file with a subclass of `Basis` that defines `spatial_coefficients` and `spatial_inverse`, its
export here, and its entry in `BASES` of tests/worlds.py, which runs the laws on it.
"""

from ._base import Basis
from ._cosine import CosineBasis
from ._fourier import FourierBasis
from ._pixel import PixelBasis
from ._principal import PrincipalBasis
from ._registry import basis_from_state, basis_state, register

__all__ = ["Basis", "CosineBasis", "FourierBasis", "PixelBasis", "PrincipalBasis", "basis_from_state", "basis_state", "register"]
