"""What a corruption is, and how it is applied.

Every corruption here is a diagonal Gaussian process in an orthonormal basis B (equation 1 of docs/theory.md):

    u_t = a_t ⊙ u_0 + s_t ⊙ ε,    ε ~ N(0, I),    x_t = Bᵀ u_t,    u_0 = B x_0

`signal(t)` is a_t and `noise(t)` is s_t, for continuous t from 0 (data) to 1 (noise). The trainer, every
sampler and the geometry need `basis`, `signal` and `noise` and nothing else. Processes that mix
coefficients (a full matrix a_t) are out of scope: choose a basis in which they are diagonal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .basis import Basis
from .checks import check_floating, check_has_values, check_time
from .exact import ExactModule, working_dtype


@runtime_checkable
class Corruption(Protocol):
    """The protocol of corruptions: a basis and two functions of time.

    The signal-to-noise ratio (a_t / s_t)² of every coefficient must not increase with t. A corruption that
    knows the data's power S may also have it as an attribute `power`, (C, *spatial): samplers then start with
    the variance a²S + s² rather than s².
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


class DiagonalCorruption(ExactModule):
    """Convenient base class of corruptions: holds the basis, and adds `corrupt`.

    Its tables follow `.to(device)` and keep their precision under `.half()`. A subclass defines `signal`
    and `noise`; one that finds both cheaper together also overrides `scales`.

    Args:
        basis: The orthonormal basis in which the process is diagonal.
    """

    basis: Basis
    even = False
    """Whether the scales are sure to be the same at k and −k, as a Fourier spectrum's are."""

    def __init__(self, basis: Basis) -> None:
        super().__init__()
        self.basis = basis

    def signal(self, t: Tensor) -> Tensor:
        """Return a_t for times `t` (B,), shaped to broadcast against coefficients (B, C, *spatial)."""
        raise NotImplementedError

    def noise(self, t: Tensor) -> Tensor:
        """Return s_t for times `t` (B,), shaped to broadcast against coefficients (B, C, *spatial)."""
        raise NotImplementedError

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (signal(t), noise(t))."""
        return self.signal(t), self.noise(t)

    def corrupt(self, x_0: Tensor, t: Tensor | float, eps: Tensor) -> Tensor:
        """Return the images `x_0` corrupted to times `t`; see `shortest_path.corrupt`."""
        return corrupt(self, x_0, t, eps)


def corrupt(corruption: Corruption, x_0: Tensor, t: Tensor | float, eps: Tensor) -> Tensor:
    """Corrupt images to times `t`.

        x_t = Bᵀ[ signal(t) ⊙ B x_0 + noise(t) ⊙ B eps ]

    A pure function: the caller draws `eps`.

    Args:
        corruption: Any object that satisfies `Corruption`.
        x_0: Clean images, (B, C, *spatial), floating point, range [-1, 1].
        t: Time in [0, 1], (B,) or scalar. Values are checked on the CPU only.
        eps: White normal noise in pixels, same shape as `x_0`.

    Returns:
        Corrupted images, same shape, dtype and device as `x_0`.

    Raises:
        TypeError: `x_0`, `t` or `eps` is not floating point, or `corruption` is none.
        ValueError: `t` outside [0, 1], `eps` of another shape or on another device, or a shape or device the
            corruption was not made for.

    Source: Das et al. 2023, arXiv:2306.00501; Hoogeboom & Salimans 2022, arXiv:2209.05557, equation 11.

    Example:
        >>> import torch, shortest_path as sp
        >>> x_0 = torch.zeros(4, 3, 8, 8)
        >>> sp.corrupt(sp.GaussianCorruption("flow"), x_0, 0.5, torch.ones_like(x_0)).mean().item()
        0.5
    """
    check_floating(x_0, "x_0")
    check_floating(eps, "eps")
    if eps.shape != x_0.shape:
        raise ValueError(
            f"eps must have the shape of x_0, {tuple(x_0.shape)}, got {tuple(eps.shape)}; use torch.randn_like(x_0)"
        )
    if eps.device != x_0.device:
        raise ValueError(f"eps must be on the device of x_0, {x_0.device}, got {eps.device}; use torch.randn_like(x_0)")
    check_corruption(corruption)
    if not torch.compiler.is_compiling():
        check_device(corruption, x_0.device)
    basis, dtype = corruption.basis, working_dtype(x_0)
    signal, noise = scales(corruption, as_times(t, x_0), x_0.shape, dtype)
    even = isinstance(corruption, DiagonalCorruption) and corruption.even
    return basis.mix(x_0.to(dtype), eps.to(dtype), signal, noise, even=even).to(x_0.dtype)


def as_times(t: Tensor | float, x: Tensor) -> Tensor:
    """Return `t` as times for the batch `x`: on its device, float32 or float64, shape (B,) or (1,).

    Raises:
        TypeError: `t` is an integer tensor.
        ValueError: `t` outside [0, 1], or neither a scalar nor of shape (B,).
    """
    if not isinstance(t, Tensor):
        try:
            t = torch.tensor(float(t), dtype=working_dtype(x))
        except (TypeError, ValueError):
            raise TypeError(f"t must be a time in [0, 1], a number or a tensor (B,), got {type(t).__name__}") from None
    check_time(t)
    if not x.is_meta:
        check_has_values(t, "t")
    if x.ndim == 0:
        raise ValueError("images must have shape (B, C, *spatial), got a scalar; add the axes with x.view(1, 1, ...)")
    if t.ndim == 0:
        t = t[None]
    if len(t) not in (1, x.shape[0]):
        raise ValueError(f"t has {len(t)} times for a batch of {x.shape[0]}; pass one per image, or a scalar")
    return t.to(x.device, working_dtype(t))


def scales(
    corruption: Corruption, t: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Return (signal(t), noise(t)), sure to broadcast to images of `shape` and to nothing larger.

    Args:
        corruption: Any object that satisfies `Corruption`.
        t: Times, (B,) or (1,).
        shape: Of the images or coefficients, (B, C, *spatial).
        dtype: Of the result.

    Raises:
        ValueError: the scales do not fit `shape`.
    """
    pair = both_scales(corruption, t)
    for name, scale in zip(("signal", "noise"), pair, strict=True):
        if not isinstance(scale, Tensor):
            raise TypeError(
                f"{type(corruption).__name__}.{name}(t) must return a tensor that broadcasts against images (B, C, "
                f"*spatial), got {type(scale).__name__}"
            )
        if len(scale.shape) != len(shape) or any(
            ours not in (1, theirs) for ours, theirs in zip(scale.shape, shape, strict=True)
        ):
            raise ValueError(
                f"{type(corruption).__name__}.{name}(t) has shape {tuple(scale.shape)}, which does not broadcast "
                f"against images of shape {tuple(shape)}; make the corruption for them (its dims, spatial or spectrum)"
            )
    return pair[0].to(dtype), pair[1].to(dtype)


def both_scales(corruption: Corruption, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (signal(t), noise(t)) as the corruption gives them, found together where that is cheaper."""
    if isinstance(corruption, DiagonalCorruption):
        return corruption.scales(t)
    return corruption.signal(t), corruption.noise(t)


def check_corruption(corruption: object) -> None:
    """Raise a TypeError unless `corruption` has the members of `Corruption`."""
    if not all(hasattr(corruption, name) for name in ("basis", "signal", "noise")):
        raise TypeError(f"corruption must have basis, signal and noise, got {type(corruption).__name__}")


def per_sample(scale: Tensor, dims: int) -> Tensor:
    """Shape per-sample scales (B,) to broadcast against (B, C, *spatial) with `dims` spatial axes."""
    return scale.reshape(-1, *(1,) * (dims + 1))


def device_of(module: object) -> torch.device:
    """Return the device of a module's parameters and buffers; the CPU for anything without them."""
    return next((tensor.device for tensor in _tensors(module)), torch.device("cpu"))


def known_power(corruption: Corruption) -> Tensor | None:
    """Return the data's power in the corruption's basis, broadcastable to (C, *spatial), if it knows it."""
    power = getattr(corruption, "power", None)
    return power if isinstance(power, Tensor) else None


def check_device(corruption: Corruption, device: torch.device) -> None:
    """Raise a ValueError if the corruption's tables are on another device than the images will be."""
    if any(True for _ in _tensors(corruption)) and device_of(corruption).type != device.type:
        raise ValueError(
            f"the corruption is on {device_of(corruption)}, the images are on {device}; call corruption.to('{device}')"
        )


def _tensors(module: object) -> Iterator[Tensor]:
    if isinstance(module, torch.nn.Module):
        yield from module.parameters()
        yield from module.buffers()
