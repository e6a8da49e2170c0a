"""Orthonormal bases in which corruptions act coefficient by coefficient.

    u = B x,    x = Bᵀ u,    B Bᵀ = I

A basis transforms the last `dims` axes of a batch (*batch, C, *spatial), after an optional orthonormal
rotation of the channel axis in front of them. Coefficients are real and have the image's own shape:
the Fourier basis uses Hartley coordinates, Re F − Im F. So Bᵀ is literally the transpose, white noise
stays white, and sums over coefficients are plain sums.

Everything is computed in float32 or better, also under autocast, and differentiable.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from typing_extensions import Self, override

from .checks import check_count, check_floating, check_has_values, check_sizes
from .cosine import cosine_matrix, fft_cosine, fft_inverse_cosine
from .exact import ExactModule, no_autocast, working_dtype

_MATRIX_LIMIT = 512  # longest axis for which a product with the n×n matrix beats the FFT (benchmarks/README.md)


class Basis(ExactModule):
    """Base class: an orthonormal transform of the last `dims` axes, after a rotation of the channels.

    A basis of your own overrides `spatial_coefficients` and `spatial_inverse`.

    Args:
        dims: Number of spatial axes, the last of the shape: 1 for signals, 2 for images, 3 for volumes, 0 for vectors.
        channel_rotation: Orthonormal (C, C) rotation of the channels, applied before the transform, or None.

    Raises:
        TypeError: `dims` not a whole number, or `channel_rotation` not real and floating point.
        ValueError: `dims` negative, or `channel_rotation` not a square orthonormal matrix.
    """

    channel_rotation: Tensor | None

    def __init__(self, dims: int = 2, channel_rotation: Tensor | None = None) -> None:
        super().__init__()
        self.dims = check_count("dims", dims, least=0)
        self._set_rotation(channel_rotation)
        self._cache: dict[str, Tensor] = {}

    def analyze(self, x: Tensor) -> Tensor:
        """Return the coefficients of `x`.

            u = B x

        Args:
            x: (*batch, C, *spatial), floating point.

        Returns:
            Coefficients, same shape, dtype and device as `x`.

        Raises:
            TypeError: `x` is not floating point.
            ValueError: too few axes, a spatial axis of size 0, or a channel count other than the rotation's.
        """
        self._check(x)
        with no_autocast(x):
            work = x.to(working_dtype(x))
            return self._real_coefficients(self._rotate(work)).to(x.dtype)

    def synthesize(self, u: Tensor) -> Tensor:
        """Return the image whose coefficients are `u`.

            x = Bᵀ u

        Args:
            u: (*batch, C, *spatial), floating point.

        Returns:
            Images, same shape, dtype and device as `u`.

        Raises:
            TypeError: `u` is not floating point.
            ValueError: too few axes, a spatial axis of size 0, or a channel count other than the rotation's.
        """
        self._check(u)
        with no_autocast(u):
            work = u.to(working_dtype(u))
            return self._rotate(self._real_inverse(work), transpose=True).to(u.dtype)

    def mix(self, x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor, *, even: bool = False) -> Tensor:
        """Scale the coefficients of two images and add them.

            Bᵀ[ of_x ⊙ B x + of_y ⊙ B y ]

        Args:
            x: (*batch, C, *spatial), float32 or float64.
            y: Same shape and dtype.
            of_x: Scales of the coefficients of `x`, broadcastable to them.
            of_y: Scales of the coefficients of `y`, broadcastable to them.
            even: Whether the scales are known to be the same at k and −k; saves the Fourier basis a transform.

        Returns:
            Images, same shape and dtype as `x`.

        Raises:
            TypeError: `x` or `y` is not float32 or float64.
            ValueError: they differ in shape or dtype, or do not fit the basis.
        """
        self._check_pair(x, y)
        of_x, of_y = of_x.to(x.dtype), of_y.to(x.dtype)
        return self.synthesize((of_x * self.analyze(x)).addcmul_(of_y, self.analyze(y)))

    def spatial_coefficients(self, x: Tensor) -> Tensor:
        """Transform the spatial axes alone, without the channel rotation.

        These are the coefficients between whose channels `PowerSpectrum` measures covariances: real, but
        complex for `FourierBasis`.
        """
        raise NotImplementedError

    def spatial_inverse(self, u: Tensor) -> Tensor:
        """Invert `spatial_coefficients`."""
        raise NotImplementedError

    def frequencies(self, spatial: Sequence[int]) -> Tensor:
        """Return |f|, the frequency of every coefficient in cycles per image side, float64, shape `spatial`."""
        raise ValueError(f"{type(self).__name__} has no frequencies; use CosineBasis or FourierBasis")

    def shares_transform(self, other: Basis) -> bool:
        """Whether `other` transforms the spatial axes in the same way, whatever its channel rotation."""
        return type(self) is type(other) and self.dims == other.dims

    def with_channel_rotation(self, rotation: Tensor) -> Self:
        """Return a copy of this basis that first applies the orthonormal `rotation` (C, C) to the channels."""
        rotated = copy.deepcopy(self)
        rotated._set_rotation(rotation)
        return rotated

    @override
    def extra_repr(self) -> str:
        rotated = "" if self.channel_rotation is None else f", channel_rotation={tuple(self.channel_rotation.shape)}"
        return f"dims={self.dims}{rotated}"

    def _set_rotation(self, rotation: Tensor | None) -> None:
        if rotation is not None:
            rotation = _real_matrix(rotation, "channel_rotation").to(torch.float64)
            check_orthonormal(rotation, "channel_rotation")
        self.register_buffer("channel_rotation", rotation)

    # Fourier overrides these two: its spatial coefficients are complex, its public ones Hartley.
    def _real_coefficients(self, x: Tensor) -> Tensor:
        return self.spatial_coefficients(x)

    def _real_inverse(self, u: Tensor) -> Tensor:
        return self.spatial_inverse(u)

    def _rotate(self, x: Tensor, *, transpose: bool = False) -> Tensor:
        if self.channel_rotation is None:
            return x
        rotation = self.channel_rotation.to(x.dtype)
        if transpose:
            rotation = rotation.T
        channels_first = x.flatten(x.ndim - self.dims) if self.dims else x.unsqueeze(-1)
        return torch.matmul(rotation, channels_first).reshape(x.shape)

    def _check(self, x: Tensor) -> None:
        check_floating(x)
        rotation = self.channel_rotation
        needed = self.dims + (rotation is not None)
        if x.ndim < needed:
            raise ValueError(
                f"{type(self).__name__}(dims={self.dims}) needs at least {needed} axes, got shape {tuple(x.shape)}; "
                "set dims to the number of spatial axes"
            )
        if self.dims and 0 in x.shape[-self.dims :]:
            raise ValueError(f"every spatial axis must have a size of 1 or more, got shape {tuple(x.shape)}")
        if rotation is not None and x.shape[-self.dims - 1] != rotation.shape[0]:
            raise ValueError(
                f"the channel rotation is for {rotation.shape[0]} channels, got {x.shape[-self.dims - 1]} in shape "
                f"{tuple(x.shape)}; estimate the spectrum on images of this kind"
            )

    def _check_pair(self, x: Tensor, y: Tensor) -> None:
        self._check(x)
        check_floating(y, "y")
        if x.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"mix works in float32 or float64, got {x.dtype}; use shortest_path.corrupt, which casts")
        if (y.shape, y.dtype) != (x.shape, x.dtype):
            raise ValueError(
                f"y must be like x, {tuple(x.shape)} in {x.dtype}, got {tuple(y.shape)} in {y.dtype}; "
                "expand and cast it first"
            )

    # Copies and pickles make their own: copying the dictionary while another thread adds to it would fail.
    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    @override
    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._cache = {}  # what was cast from the buffers of before

    def _cached(self, key: str, build: Callable[[], Tensor]) -> Tensor:
        if torch.compiler.is_compiling():
            return build()  # a constant of the graph; torch 2.4 cannot trace a cache of tensors
        matrix = self._cache.get(key)
        if matrix is None:  # threads may build it at once: they build the same, and any of them may be kept
            with torch.inference_mode(False):  # else training after sampling would meet inference tensors
                matrix = self._cache[key] = build()
        return matrix


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
    def mix(self, x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor, *, even: bool = False) -> Tensor:
        if self.channel_rotation is not None:
            return super().mix(x, y, of_x, of_y)
        self._check_pair(x, y)
        return (of_x.to(x.dtype) * x).addcmul_(of_y.to(x.dtype), y)

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        return x

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        return u


class CosineBasis(Basis):
    """The orthonormal cosine transform (DCT-II) of every spatial axis, any size.

        u_k = c_k Σ_n cos(π (2n + 1) k / 2N) x_n,    c_0 = √(1/N),  c_k = √(2/N)

    Its boundary condition is a mirror, so it suits images, which are not periodic.

    Args:
        dims: Number of spatial axes.
        channel_rotation: Orthonormal (C, C) rotation of the channels, or None.

    Example:
        >>> import torch
        >>> x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
        >>> basis = CosineBasis()
        >>> torch.allclose(basis.synthesize(basis.analyze(x)), x)
        True
    """

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        for axis in range(-self.dims, 0):
            n = x.shape[axis]
            x = self._multiply(x, axis) if n <= _MATRIX_LIMIT else fft_cosine(x.movedim(axis, -1)).movedim(-1, axis)
        return x

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        for axis in range(-self.dims, 0):
            n = u.shape[axis]
            if n <= _MATRIX_LIMIT:
                u = self._multiply(u, axis, transpose=True)
            else:
                u = fft_inverse_cosine(u.movedim(axis, -1)).movedim(-1, axis)
        return u

    @override
    def frequencies(self, spatial: Sequence[int]) -> Tensor:
        # Half a cycle per index: coefficient k of N has k half-waves along its axis.
        return _radius([torch.arange(n, dtype=torch.float64) / 2 for n in _positive(spatial)])

    def _multiply(self, x: Tensor, axis: int, *, transpose: bool = False) -> Tensor:
        n = x.shape[axis]
        matrix = self._cached(f"{n} {x.dtype} {x.device}", lambda: cosine_matrix(n).to(x.device, x.dtype))
        if transpose:
            matrix = matrix.T
        if axis == -1:
            return x @ matrix.T
        return torch.matmul(matrix, x.flatten(axis + 1)).reshape(x.shape)


def _complex(real: Tensor, imaginary: Tensor) -> Tensor:
    """Return a complex tensor."""
    if torch.compiler.is_compiling():  # torch 2.4 compiles torch.complex wrongly if one part is not contiguous
        return torch.view_as_complex(torch.stack([real, imaginary], -1))
    return torch.complex(real, imaginary)


class FourierBasis(Basis):
    """The orthonormal Fourier transform of the spatial axes, in real Hartley coordinates.

        u = Re F x − Im F x,    F the unitary DFT

    It is symmetric and its own inverse. Per-coefficient scales must be the same at k and −k.

    Args:
        dims: Number of spatial axes.
        channel_rotation: Orthonormal (C, C) rotation of the channels, or None.

    Source: Das et al. 2023, arXiv:2306.00501 (the paper's basis); Bracewell 1983 (the coordinates).
    """

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        if not x.numel():  # an empty batch, which some FFT libraries refuse
            return x.to(x.dtype.to_complex())
        return torch.fft.fftn(x, dim=self._axes, norm="ortho") if self.dims else x

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        return torch.fft.ifftn(u, dim=self._axes, norm="ortho").real if self.dims and u.numel() else u.real

    @override
    def mix(self, x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor, *, even: bool = False) -> Tensor:
        if not (even and self.dims and x.numel()):
            return super().mix(x, y, of_x, of_y)
        self._check_pair(x, y)
        of_x, of_y = of_x.to(x.dtype), of_y.to(x.dtype)
        with no_autocast(x):
            # Even real scales keep real signals real, so both travel in one complex transform there and back:
            # of_x x + of_y y = Re F⁻¹[(of_x − i of_y) F(x + i y)].
            both = torch.fft.fftn(_complex(self._rotate(x), self._rotate(y)), dim=self._axes)
            mixed = torch.fft.ifftn(both * torch.complex(of_x, -of_y), dim=self._axes).real
            return self._rotate(mixed, transpose=True)

    @override
    def frequencies(self, spatial: Sequence[int]) -> Tensor:
        return _radius([torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in _positive(spatial)])

    @override
    def _real_coefficients(self, x: Tensor) -> Tensor:
        if not self.dims:
            return x
        coefficients = self.spatial_coefficients(x)
        return coefficients.real - coefficients.imag

    @override
    def _real_inverse(self, u: Tensor) -> Tensor:
        return self._real_coefficients(u)

    @property
    def _axes(self) -> list[int]:
        return list(range(-self.dims, 0))


class PrincipalBasis(Basis):
    """Any orthonormal matrix, acting on the whole flattened sample: principal components, wavelets, graphs.

        u = M vec(x)

    Exact for small images, latents and tabular data; its cost is the square of the sample's size.

    Args:
        matrix: Orthonormal (D, D), rows are the basis vectors, D = C · Π spatial.
        dims: Number of spatial axes; they and the channel axis are flattened together.

    Raises:
        ValueError: `matrix` is not square and orthonormal, or a sample's size is not D.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, dims: int = 2) -> None:
        super().__init__(dims)
        matrix = _real_matrix(matrix, "matrix")
        check_orthonormal(matrix, "matrix")
        self.register_buffer("matrix", matrix)

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        return self._multiply(x, transpose=False)

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        return self._multiply(u, transpose=True)

    @override
    def shares_transform(self, other: Basis) -> bool:
        return isinstance(other, PrincipalBasis) and self.dims == other.dims and torch.equal(self.matrix, other.matrix)

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


def check_orthonormal(matrix: Tensor, name: str) -> None:
    """Raise a ValueError unless `matrix` is square with orthonormal rows."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"{name} must be a square matrix, got shape {tuple(matrix.shape)}")
    check_floating(matrix, name)
    check_has_values(matrix, name)
    error = (matrix @ matrix.T - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)).abs().max().item()
    tolerance = 100 * math.sqrt(len(matrix)) * torch.finfo(matrix.dtype).eps
    if not error <= tolerance:
        raise ValueError(
            f"{name} must be orthonormal, but its rows deviate by {error:.2g} (tolerance {tolerance:.2g}); "
            "use the eigenvectors of torch.linalg.eigh"
        )


def _real_matrix(matrix: object, name: str) -> Tensor:
    """Return a copy of a matrix, or of what `torch.as_tensor` makes one of."""
    try:
        tensor = torch.as_tensor(matrix)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a matrix of floating-point numbers, got {type(matrix).__name__}") from error
    if tensor.is_complex():
        raise TypeError(f"{name} must be real, got {tensor.dtype}; this library's coefficients are real")
    return tensor.detach().clone()


def _positive(spatial: Sequence[int]) -> tuple[int, ...]:
    sizes = check_sizes("spatial", spatial, "(one size per axis)")
    if min(sizes, default=1) < 1:
        raise ValueError(f"every spatial axis must have a size of 1 or more, got {sizes}")
    return sizes


def _radius(axes: Sequence[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for axis in axes:
        total = rearrange(total, "... -> ... 1") + axis**2
    return total.sqrt()
