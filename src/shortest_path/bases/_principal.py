"""Any orthonormal matrix as a basis: principal components."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from ._base import Basis, check_orthonormal, real_matrix
from ._registry import register


@register
class PrincipalBasis(Basis):
    """Any orthonormal matrix, acting on the whole flattened sample, channels included, e.g. principal components.

        u = M vec(x)

    Exact for small images, latents and tabular data; its cost is the square of the sample's size.

    Args:
        matrix: Orthonormal (D, D), rows are the basis vectors, D = C · Π spatial.
        dims: Number of spatial axes; they and the channel axis are flattened together.

    Raises:
        ValueError: `matrix` is not square and orthonormal, or a sample's size is not D.
    """

    matrix: Tensor
    argument_names = ("matrix", "dims")

    def __init__(self, matrix: Tensor, dims: int = 2) -> None:
        super().__init__(dims)
        matrix = real_matrix(matrix, "matrix")
        check_orthonormal(matrix, "matrix")
        self.register_buffer("matrix", matrix)

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        return self._multiply(x, transpose=False)

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        return self._multiply(u, transpose=True)

    @override
    def extra_repr(self) -> str:
        return f"size={self.matrix.shape[0]}, dims={self.dims}"

    def _multiply(self, x: Tensor, *, transpose: bool) -> Tensor:
        flat = x.flatten(-self.dims - 1)
        size = self.matrix.shape[0]
        if flat.shape[-1] != size:
            raise ValueError(
                f"this basis is for samples of {size} values, got {flat.shape[-1]} in shape {tuple(x.shape)}; "
                "estimate the spectrum on images of this size"
            )
        matrix = self._cached(f"{x.dtype} {x.device}", lambda: self.matrix.to(x.device, x.dtype))
        return (flat @ (matrix if transpose else matrix.T)).reshape(x.shape)

    @override
    def _check(self, x: Tensor) -> None:
        super()._check(x)
        if x.ndim < self.dims + 1:
            raise ValueError(
                f"PrincipalBasis(dims={self.dims}) needs a channel axis and {self.dims} spatial axes, "
                f"got shape {tuple(x.shape)}"
            )
