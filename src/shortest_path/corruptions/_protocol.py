"""What a corruption is: the protocol that trainers, samplers and the exact analysis rely on."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

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
    """Raise a TypeError unless `corruption` has the members of `Corruption`."""
    if missing := [name for name in _MEMBERS if not hasattr(corruption, name)]:
        raise TypeError(
            f"`corruption` does not implement `Corruption`: {type(corruption).__name__} has no {', '.join(missing)}; "
            "see GaussianCorruption for an example"
        )
