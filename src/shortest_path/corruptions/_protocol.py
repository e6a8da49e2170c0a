"""What a corruption is: the protocol that trainers, samplers and the exact analysis rely on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from .._checks import kind_of
from ..bases import Basis

_MEMBERS = ("basis", "signal", "noise")


@runtime_checkable
class Corruption(Protocol):
    """The protocol of corruptions: a basis and two functions of time.

    The signal-to-noise ratio (a_t / s_t)² of every coefficient must not increase with t. A corruption may also have:

    - `power`, the data's power S, (C, *spatial): samplers then start with the variance a²S + s² rather than s²;
    - `mean`, the data's mean image, (C, *spatial), which the corruption leaves as it is: m = B mean in equation 1;
    - `scales(t)`, which returns (signal(t), noise(t)) where computing both together is cheaper;
    - `mix(x_0, eps, *weights)`, a faster way to compute equation 1; see `Basis.mix`, which it replaces.
    """

    @property
    def basis(self) -> Basis:
        """The orthonormal basis in which the process is diagonal."""
        ...

    def signal(self, t: Tensor) -> Tensor:
        """Return a_t for times `t` (B,), shaped to broadcast against coefficients (B, C, *spatial)."""
        ...

    def noise(self, t: Tensor) -> Tensor:
        """Return s_t for times `t` (B,), shaped to broadcast against coefficients (B, C, *spatial)."""
        ...


def check_corruption(corruption: object) -> None:
    """Raise a TypeError unless `corruption` is an object with the members of `Corruption`, whose basis is a `Basis`."""
    if isinstance(corruption, type):
        raise TypeError(
            f"`corruption` does not implement `Corruption`: got the class {corruption.__name__}; pass an instance, "
            f"{corruption.__name__}(...)"
        )
    if missing := [name for name in _MEMBERS if not hasattr(corruption, name)]:
        raise TypeError(
            f"`corruption` does not implement `Corruption`: {type(corruption).__name__} has no {', '.join(missing)}; "
            "see GaussianCorruption for an example"
        )
    basis: object = corruption.basis  # type: ignore[attr-defined]
    if not isinstance(basis, Basis):
        raise TypeError(
            f"`corruption` does not implement `Corruption`: the basis of {type(corruption).__name__} must be a Basis, "
            f"e.g. basis = sp.PixelBasis(2), got {kind_of(basis)}"
        )


def attributes(corruption: object, names: Sequence[str]) -> dict[str, Any]:
    """Return the attributes that `argument_names` lists.

    Raises:
        ValueError: one is missing.
    """
    kind = type(corruption).__name__
    missing = [name for name in names if not hasattr(corruption, name)]
    if missing:
        raise ValueError(
            f"{kind} has no attribute {missing[0]!r}, which its argument_names lists; keep the argument under its name"
        )
    return {name: getattr(corruption, name) for name in names}
