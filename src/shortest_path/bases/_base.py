"""What a basis is: an orthonormal transform of images, and the checks that all bases share."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor
from typing_extensions import Self, override

from .._checks import channels_last, check_count, check_floating, check_has_values, check_sizes
from .._exact import ExactModule, check_constant, no_autocast, working_dtype
from .._in_place import add_product
from ._tables import built

_MOST_CACHED = 32


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
            return self._analyze(work).to(x.dtype)

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

    def mix(self, x: Tensor, y: Tensor, *weights: tuple[Tensor, Tensor], even: bool = False) -> tuple[Tensor, ...]:
        """Scale the coefficients of two images and add them, for each pair of weights.

            Bᵀ[ w_x ⊙ B x + w_y ⊙ B y ]

        The one place where equation 1 is computed: a basis with a faster way overrides this method, and every
        corruption, loss and sampler uses it.

        Args:
            x: (*batch, C, *spatial), float32 or float64.
            y: Same shape and dtype.
            *weights: Pairs (w_x, w_y), each broadcastable to the coefficients.
            even: Whether all weights are known to be the same at k and −k; saves the Fourier basis a transform.

        Returns:
            One tensor for each pair, same shape and dtype as `x`.

        Raises:
            TypeError: `x` or `y` is not float32 or float64.
            ValueError: `x` and `y` differ in shape or dtype, or do not fit the basis.
        """
        self._check_pair(x, y)
        if len(weights) == 1:  # coefficients of x are let go before those of y are made: new memory is what costs
            ((of_x, of_y),) = weights
            scaled = of_x.to(x.dtype) * self.analyze(x)
            return (self.synthesize(add_product(scaled, of_y.to(x.dtype), self.analyze(y))),)
        u_x, u_y = self.analyze(x), self.analyze(y)
        return tuple(
            self.synthesize(add_product(of_x.to(x.dtype) * u_x, of_y.to(x.dtype), u_y)) for of_x, of_y in weights
        )

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
        """Return |f|, the frequency of every coefficient in cycles per longest side, float64, shape `spatial`."""
        mend = "use CosineBasis or FourierBasis" if self.dims else "it has no spatial axes, dims=0: use spectrum.power"
        raise ValueError(f"{type(self).__name__} has no frequencies; {mend}")

    argument_names: ClassVar[tuple[str, ...]] = ("dims",)
    """Names of the constructor's arguments, which are attributes too, without `channel_rotation`."""

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments by name, without `channel_rotation`; see `bases.register`.

        Raises:
            ValueError: `argument_names` lists a name that is not an attribute.
        """
        missing = [name for name in self.argument_names if not hasattr(self, name)]
        if missing:
            raise ValueError(
                f"{type(self).__name__} has no attribute {missing[0]!r}, which its argument_names lists; "
                "set it in the constructor"
            )
        return {name: getattr(self, name) for name in self.argument_names}

    def shares_transform(self, other: Basis) -> bool:
        """Whether `other` has the same class and arguments; channel rotations may differ."""
        if type(self) is not type(other) or self.dims != other.dims:
            return False
        return _equal(list(self.arguments().values()), list(other.arguments().values()))

    def with_channel_rotation(self, rotation: Tensor | None) -> Self:
        """Return a copy of this basis that first applies the orthonormal `rotation` (C, C) to the channels, or none."""
        rotated = copy.deepcopy(self)
        rotated._set_rotation(rotation)
        return rotated

    @override
    def extra_repr(self) -> str:
        rotated = "" if self.channel_rotation is None else f", channel_rotation={tuple(self.channel_rotation.shape)}"
        return f"dims={self.dims}{rotated}"

    def _set_rotation(self, rotation: Tensor | None) -> None:
        if rotation is not None:
            rotation = real_matrix(rotation, "channel_rotation").to(torch.float64)
            check_orthonormal(rotation, "channel_rotation")
        self.register_buffer("channel_rotation", rotation)

    def _analyze(self, x: Tensor) -> Tensor:
        """Return the coefficients of images that are checked, in the type that is computed in."""
        return self._real_coefficients(self._rotate(x))

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
            wanted = (1, len(rotation), *x.shape[1:-1]) if x.ndim == self.dims + 2 else ()
            raise ValueError(
                f"the channel rotation is for {rotation.shape[0]} channels, got {x.shape[-self.dims - 1]} in shape "
                f"{tuple(x.shape)}; estimate the spectrum on images of this kind{channels_last(x.shape, wanted)}"
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
        if len(self._cache) >= _MOST_CACHED and matrix is None:  # images of many sizes
            self._cache = {}
        if matrix is None:  # threads may build it at once: they build the same, and any of them may be kept
            with torch.inference_mode(False):  # else training after sampling would meet inference tensors
                matrix = self._cache[key] = build()
        return matrix

    def _table(self, build: Callable[..., Tensor], *numbers: int, like: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a table of the transform on the device of a tensor, kept for the next call; see `_tables.table`."""
        if torch.compiler.is_compiling():
            return built(build, numbers, like.device, dtype)
        key = f"{build.__name__} {numbers} {dtype} {like.device}"
        return self._cached(key, lambda: built(build, numbers, like.device, dtype))


def kind_of(basis: Basis) -> str:
    """Return a text that is the same in every process: what a basis of the library tells of itself, else the class.

    Args:
        basis: The basis; its tables are not in the text.
    """
    kind = type(basis)
    ours = kind.__module__.startswith(__name__.partition(".")[0] + ".")
    return repr(basis) if ours else kind.__qualname__


def _equal(ours: object, theirs: object) -> bool:
    """Compare arguments of bases: tensors by their values, bases by their transforms, sequences item by item."""
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            return False
        return torch.equal(ours, theirs if theirs.device == ours.device else theirs.to(ours.device))
    if isinstance(ours, Basis) and isinstance(theirs, Basis):
        return ours.shares_transform(theirs)
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    return type(ours) is type(theirs) and bool(ours == theirs)


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


def real_matrix(matrix: object, name: str) -> Tensor:
    """Return a copy of a matrix, or of what `torch.as_tensor` makes one of."""
    try:
        tensor = matrix if isinstance(matrix, Tensor) else torch.as_tensor(matrix, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a matrix of floating-point numbers, got {type(matrix).__name__}") from error
    if tensor.is_complex():
        raise TypeError(f"{name} must be real, got {tensor.dtype}; this library's coefficients are real")
    check_constant(tensor, name)
    return tensor.clone()


def positive_sizes(spatial: Sequence[int]) -> tuple[int, ...]:
    """Return sizes of spatial axes as whole numbers, each 1 or more."""
    sizes = check_sizes("spatial", spatial, "(one size per axis)")
    if min(sizes, default=1) < 1:
        raise ValueError(f"every spatial axis must have a size of 1 or more, got {sizes}")
    return sizes


def radius(axes: Sequence[Tensor]) -> Tensor:
    """Return |f| in cycles per longest side, from the frequencies of every axis in cycles per its own side.

    Measured in pixels, so that an isotropic texture is isotropic in a frame of any shape.
    """
    longest = max((len(axis) for axis in axes), default=1)
    total = torch.zeros((), dtype=torch.float64, device="cpu")
    for axis in axes:
        total = rearrange(total, "... -> ... 1") + (axis * (longest / len(axis))) ** 2
    return total.sqrt()
