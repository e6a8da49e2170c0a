"""Signal and noise at given times, checked to fit the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import broadcasts, channels_last, check_floating, check_has_values, check_time, is_true_or_false, kind_of
from .._devices import device_of_tensors
from .._exact import as_dtype, exact_dtype, working_dtype
from .._in_place import has_derivative
from ._protocol import Corruption


class Point(NamedTuple):
    """A time and the scales of every coefficient there, broadcastable to coefficients (B, C, *spatial).

    In float64, or in float32 on a device without it.
    """

    time: float
    signal: Tensor
    noise: Tensor

    def clean(self) -> Point:
        """Return the point of the clean image: time 0, signal 1, noise 0."""
        one, none = self.signal.new_ones(()), self.noise.new_zeros(())
        return Point(0.0, one.expand_as(self.signal), none.expand_as(self.noise))  # in the memory of one number


def as_times(t: Tensor | float, x: Tensor) -> Tensor:
    """Return `t` as times for the batch `x`: on its device, float32 or float64, shape (B,) or (1,).

    Raises:
        TypeError: `t` is an integer tensor.
        ValueError: `t` outside [0, 1], or neither a scalar nor of shape (B,).
    """
    if not isinstance(t, Tensor):
        try:
            if not isinstance(t, float) and (isinstance(t, str) or is_true_or_false(t)):
                raise TypeError
            t = torch.tensor(float(t), dtype=working_dtype(x), device="cpu")
        except (TypeError, ValueError):
            raise TypeError(f"t must be a time in [0, 1], a number or a tensor (B,), got {t!r}") from None
    check_time(t)
    if not x.is_meta:
        check_has_values(t, "t")
    if x.ndim == 0:
        raise ValueError("images must have shape (B, C, *spatial), got a scalar; add the axes with x.view(1, 1, ...)")
    if t.ndim == 0:
        t = t[None]
    if not broadcasts(t.shape, x.shape[:1]):
        raise ValueError(f"t has {len(t)} times for a batch of {x.shape[0]}; pass one per image, or a scalar")
    return t.to(x.device, working_dtype(t))


def check_noise(eps: Tensor, x_0: Tensor) -> None:
    """Raise unless `eps` is floating point, of the shape of the images and on their device."""
    check_floating(eps, "eps")
    if eps.shape != x_0.shape:
        raise ValueError(
            f"eps must have the shape of x_0, {tuple(x_0.shape)}, got {tuple(eps.shape)}; use torch.randn_like(x_0)"
        )
    if eps.device != x_0.device:
        raise ValueError(f"eps must be on the device of x_0, {x_0.device}, got {eps.device}; use torch.randn_like(x_0)")


def one_time(t: float, device: torch.device) -> Tensor:
    """Return a time for exact scales on a device, (1,): float64, or float32 on one without it."""
    return torch.full((1,), t, dtype=exact_dtype(device), device=device)


def several_times(times: Sequence[float], device: torch.device) -> Tensor:
    """Return times for exact scales on a device, (n,); does not wait for it, as a copy from the host would."""
    if device.type == "cpu":
        return torch.tensor(times, dtype=torch.float64, device=device)
    return torch.cat([one_time(t, device) for t in times])


def scales(
    corruption: Corruption, t: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Return (signal(t), noise(t)), after checking that they broadcast to images of `shape` and to nothing larger.

    Args:
        corruption: Any object that implements `Corruption`.
        t: Times, (B,) or (1,).
        shape: Shape of the images or coefficients, (B, C, *spatial).
        dtype: Type of the result; None is that of `t`.

    Raises:
        ValueError: the scales do not fit `shape`.
    """
    pair = _given(corruption, t)
    for name, scale in zip(("signal", "noise"), pair, strict=True):
        if not broadcasts(scale.shape, shape):
            checked_scales(corruption, pair, t)
            raise ValueError(
                f"{type(corruption).__name__}.{name}(t) has shape {tuple(scale.shape)}, which does not broadcast "
                f"against images of shape {tuple(shape)}, (B, C, *spatial); "
                + ("add the batch axis of one image with x[None], or " if len(shape) < len(scale.shape) else "")
                + "make the corruption for them (its dims, spatial or spectrum)"
                + channels_last(shape, scale.shape)
            )
    dtype = t.dtype if dtype is None else dtype
    return as_dtype(pair[0], dtype), as_dtype(pair[1], dtype)


def both_scales(corruption: Corruption, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (signal(t), noise(t)) as the corruption gives them, found together where that is cheaper.

    Raises:
        TypeError: they are not real floating-point tensors.
        ValueError: they have another number of axes than coefficients (B, C, *spatial), or are of other times.
    """
    return checked_scales(corruption, _given(corruption, t), t)


def _given(corruption: Corruption, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (signal(t), noise(t)) as the corruption gives them, after checking their type."""
    together = getattr(corruption, "scales", None)
    pair = (corruption.signal(t), corruption.noise(t)) if together is None else together(t)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        got = f"{len(pair)} values" if isinstance(pair, (tuple, list)) else kind_of(pair)
        raise TypeError(f"{type(corruption).__name__}.scales(t) must return (signal(t), noise(t)), got {got}")
    for name, scale in zip(("signal", "noise"), pair, strict=True):
        if not isinstance(scale, Tensor) or not scale.is_floating_point():
            got = str(scale.dtype) if isinstance(scale, Tensor) else kind_of(scale)
            raise TypeError(
                f"{type(corruption).__name__}.{name}(t) must return a real floating-point tensor, got {got}; compute "
                "it from t with functions of torch"
            )
    signal, noise = pair
    return signal, noise


def checked_scales(corruption: Corruption, pair: tuple[Tensor, Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scales that a corruption gives at times (B,), after checking them without images to compare with.

    Raises:
        ValueError: they have another number of axes than coefficients (B, C, *spatial), or are of other times.
    """
    axes, count = corruption.basis.dims + 2, t.numel()
    for name, scale in zip(("signal", "noise"), pair, strict=True):
        if scale.ndim != axes or not broadcasts(scale.shape[:1], (count,)):
            raise ValueError(
                f"{type(corruption).__name__}.{name}(t) must return a tensor of {axes} axes that broadcasts against "
                f"(B, C, *spatial), got {tuple(scale.shape)} for {count} time{'' if count == 1 else 's'}; "
                f"{_mend_of_shape(scale, axes, count)}"
            )
    return pair


def _mend_of_shape(scale: Tensor, axes: int, count: int) -> str:
    """Return what to write for scales of another number of axes, or of other times than asked for."""
    dims = axes - 2
    if scale.ndim > axes:
        return f"give it a basis with dims={scale.ndim - 2}, or its scales {dims} spatial axes"
    if scale.numel() == count:
        return f"write shortest_path.corruptions.per_sample(scale, {dims})"
    if scale.ndim == axes - 1:
        return "add the axis of channels with scale[:, None]"
    return "return one scale for every time, e.g. shape the times with t.view(-1, " + ", ".join("1" * (axes - 1)) + ")"


def per_sample(scale: Tensor, dims: int) -> Tensor:
    """Shape per-sample scales (B,) to broadcast against (B, C, *spatial) with `dims` spatial axes."""
    return scale.reshape(-1, *(1,) * (dims + 1))


def root(x: Tensor) -> Tensor:
    """Return √x for x ≥ 0, in the memory of x unless a derivative needs it; its derivative at 0 is taken as 0.

    It is infinite there, as that of a noise √t at t = 0 is, and would make every gradient NaN.
    """
    if not has_derivative(x):
        return x.sqrt_()
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def known_power(corruption: Corruption) -> Tensor | None:
    """Return the data's power in the corruption's basis, broadcastable to (C, *spatial), if it knows it."""
    power = getattr(corruption, "power", None)
    return power if isinstance(power, Tensor) else None


def known_mean(corruption: Corruption) -> Tensor | None:
    """Return the data's mean image, (C, *spatial), which the corruption leaves as it is; None is zero."""
    mean = getattr(corruption, "mean", None)
    return mean if isinstance(mean, Tensor) else None


def check_device(corruption: Corruption, device: torch.device) -> None:
    """Raise a ValueError if the corruption's tables are on another device than the images will be."""
    found = device_of_tensors(corruption)
    if found is not None and found.type != device.type:
        raise ValueError(f"the corruption is on {found}, the images are on {device}; call corruption.to('{device}')")
