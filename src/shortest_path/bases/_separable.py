"""One transform per axis."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal, TypeAlias

from torch import Tensor, nn
from typing_extensions import override

from .._checks import check_choice, kind_of
from ._base import Basis, positive_sizes, radius
from ._cosine import CosineBasis
from ._fourier import FourierBasis
from ._pixel import PixelBasis
from ._principal import PrincipalBasis
from ._registry import register
from ._wavelet import WaveletBasis

AxisName: TypeAlias = Literal["cosine", "fourier", "haar", "pixel"]
_NAMED: dict[str, type[Basis]] = {
    "cosine": CosineBasis,
    "fourier": FourierBasis,
    "haar": WaveletBasis,
    "pixel": PixelBasis,
}


@register
class SeparableBasis(Basis):
    """A transform per spatial axis, e.g. periodic in longitude and mirrored in latitude.

        B = B_1 ⊗ B_2 ⊗ …,    u = (B_1 ⊗ B_2 ⊗ …) x

    `SeparableBasis(("cosine", "fourier"))` is for maps of shape (latitude, longitude);
    `SeparableBasis(("cosine", "pixel", "pixel"))` transforms frames in time only.

    Along a `"fourier"` axis coefficients are the Hartley coordinates of that axis, real. With several such axes this
    differs from `FourierBasis`, which also decorrelates periodic textures whose power differs at (k, l) and (k, −l).

    Args:
        axes: One transform per spatial axis: `"cosine"`, `"fourier"`, `"haar"` or `"pixel"`, or a basis with `dims=1`
            and no channel rotation, which is copied.
        channel_rotation: Orthonormal (C, C) rotation of the channels, or None.

    Raises:
        TypeError: `axes` is not a sequence, or an item is neither a name nor a basis.
        ValueError: `axes` is empty, a name is unknown, or a basis has other `dims`, a channel rotation, or transforms
            the channels too, as `PrincipalBasis` does.

    Example:
        >>> import torch
        >>> x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
        >>> basis = SeparableBasis(("cosine", "fourier"))
        >>> torch.allclose(basis.synthesize(basis.analyze(x)), x)
        True
        >>> basis.frequencies((6, 8)).shape
        torch.Size([6, 8])
    """

    argument_names = ("axes",)

    def __init__(self, axes: Sequence[AxisName | Basis], channel_rotation: Tensor | None = None) -> None:
        if isinstance(axes, (str, Basis)) or not isinstance(axes, Sequence):
            raise TypeError(
                f"axes must be a sequence of one transform per spatial axis, got {axes!r}; pass e.g. "
                "('cosine', 'fourier')"
            )
        if not axes:
            raise ValueError("axes must name one transform per spatial axis, got none; use PixelBasis(0) for vectors")
        transforms = [_transform(axis, place) for place, axis in enumerate(axes)]
        super().__init__(len(transforms), channel_rotation)
        self._transforms = nn.ModuleList(transforms)

    @property
    def axes(self) -> tuple[Basis, ...]:
        """The transform of each axis, a basis with `dims=1`."""
        return tuple(self._transforms)  # type: ignore[arg-type]

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        for axis, basis in enumerate(self.axes, -self.dims):
            if type(basis) is not PixelBasis:  # a subclass may have a transform
                x = basis.analyze(x.movedim(axis, -1)).movedim(-1, axis)
        return x

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        for axis, basis in enumerate(self.axes, -self.dims):
            if type(basis) is not PixelBasis:  # a subclass may have a transform
                u = basis.synthesize(u.movedim(axis, -1)).movedim(-1, axis)
        return u

    @override
    def frequencies(self, spatial: Sequence[int]) -> Tensor:
        sizes = positive_sizes(spatial)
        if len(sizes) != self.dims:
            raise ValueError(f"{self!r} requires {self.dims} spatial sizes, got {sizes}; pass one size per axis")
        return radius([self._along(place, n) for place, n in enumerate(sizes)])

    def _along(self, place: int, n: int) -> Tensor:
        try:
            return self.axes[place].frequencies((n,))
        except ValueError as error:
            raise ValueError(f"axis {place} of {self!r}: {error}") from error

    @override
    def __repr__(self) -> str:
        rotated = "" if self.channel_rotation is None else f", channel_rotation={tuple(self.channel_rotation.shape)}"
        return f"SeparableBasis({self.axes!r}{rotated})"


def _transform(axis: object, place: int) -> Basis:
    """Return the basis of one axis."""
    if isinstance(axis, str):
        return _NAMED[check_choice(f"transform of axis {place}", axis, tuple(_NAMED))](dims=1)
    if not isinstance(axis, Basis):
        raise TypeError(
            f"axis {place} must be the name of a transform or a Basis with dims=1, got {kind_of(axis)}; "
            f"choose one of {', '.join(map(repr, _NAMED))}"
        )
    if axis.dims != 1:
        raise ValueError(f"the basis of axis {place} must have dims=1, got {axis!r}; pass one basis per axis")
    if axis.channel_rotation is not None:
        raise ValueError(f"the basis of axis {place} must have no channel rotation; pass it to SeparableBasis instead")
    if isinstance(axis, PrincipalBasis):
        raise ValueError(
            f"the basis of axis {place} must leave the channels alone, but PrincipalBasis transforms them too; "
            "write a subclass of Basis with your matrix (docs/write-your-own.md)"
        )
    return copy.deepcopy(axis)
