"""A base class of corruptions."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import final, override

from .._devices import device_of
from .._exact import ExactModule, check_constant
from .._html import curves, table
from ..bases import Basis
from ._corrupt import corrupt
from ._protocol import attributes


class DiagonalCorruption(ExactModule):
    """Convenient base class of corruptions: holds the basis, and adds `corrupt`.

    Its tables follow `.to(device)` and keep their precision under `.half()`. A subclass defines `signal`
    and `noise`; one that computes both together more cheaply also overrides `scales`, one with a faster way to
    compute equation 1 overrides `mix`.

    Args:
        basis: The orthonormal basis in which the process is diagonal.
        mean: The data's mean image, (C, *spatial), which equation 1 leaves as it is; None is zero.
    """

    basis: Basis
    mean: Tensor | None
    argument_names: ClassVar[tuple[str, ...]] = ()
    """The arguments of the constructor, for `register`."""
    _even = False  # whether the scales are known to be the same at k and −k, as those of a Fourier spectrum are

    def __init__(self, basis: Basis, *, mean: Tensor | None = None) -> None:
        super().__init__()
        self.basis = basis
        if mean is not None:
            check_constant(mean, "mean")
        self.register_buffer("mean", None if mean is None else mean.to(torch.float64, copy=True))

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make an equal corruption, by the names in `argument_names`.

        Raises:
            ValueError: `argument_names` lists a name that is not an attribute.
        """
        return attributes(self, self.argument_names)

    def signal(self, t: Tensor) -> Tensor:
        """Return a_t for times `t` (B,), shaped to broadcast against coefficients (B, C, *spatial)."""
        raise NotImplementedError

    def noise(self, t: Tensor) -> Tensor:
        """Return s_t for times `t` (B,), shaped to broadcast against coefficients (B, C, *spatial)."""
        raise NotImplementedError

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (signal(t), noise(t))."""
        return self.signal(t), self.noise(t)

    def mix(self, x_0: Tensor, eps: Tensor, *weights: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Return images and noise mixed in coefficients, for each pair of weights; see `Basis.mix`."""
        return self.basis.mix(x_0, eps, *weights, even=self._even)

    mix.is_of_basis = True  # type: ignore[attr-defined]  # an override has no such mark

    @final
    def corrupt(self, x_0: Tensor, t: Tensor | float, eps: Tensor, *, analyzed: bool = False) -> Tensor:
        """Return the images `x_0` corrupted to times `t`; see `shortest_path.corrupt`."""
        return corrupt(self, x_0, t, eps, analyzed=analyzed)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: options, and the mean of signal and noise over the coefficients against t."""
        times = torch.linspace(0, 1, 41, dtype=torch.float64, device=device_of(self))
        with torch.no_grad():
            signal, noise = (scale.flatten(1).mean(1).tolist() for scale in self.scales(times))
        lines = {
            name: list(zip(times.tolist(), values, strict=True))
            for name, values in (("signal", signal), ("noise", noise))
        }
        facts = {"options": self.extra_repr() or "none", "basis": repr(self.basis)}
        return table(type(self).__name__, facts, curves("mean over coefficients, from t = 0 to 1", lines))

    @override
    def __repr__(self) -> str:  # one line, unlike that of other modules: it stands in those of samplers and trainers
        own = self.extra_repr()
        return f"{type(self).__name__}({own}{', ' if own else ''}basis={self.basis!r})"
