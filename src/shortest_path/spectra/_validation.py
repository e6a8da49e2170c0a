"""Checks of the tensors that a spectrum is made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._checks import check_floating, check_has_values
from .._exact import check_constant
from ..bases import Basis, FourierBasis, PrincipalBasis


def checked_power(basis: Basis, power: Tensor) -> Tensor:
    check_floating(power, "power")
    check_has_values(power, "power")
    check_constant(power, "power")
    if power.ndim != basis.dims + 1 or power.numel() == 0:
        raise ValueError(
            f"power must have shape (C, *spatial) with {basis.dims} spatial axes for {basis!r}, "
            f"got {tuple(power.shape)}"
        )
    if isinstance(basis, PrincipalBasis) and power.numel() != len(basis.matrix):
        raise ValueError(
            f"power of shape {tuple(power.shape)} has {power.numel()} values, {basis!r} has {len(basis.matrix)}"
        )
    power = power.to("cpu", torch.float64, copy=True)
    bad = ~((power >= 0) & (power < math.inf))
    if bool(bad.any()):
        raise ValueError(
            f"power must be finite and 0 or positive, but {int(bad.sum())} of {power.numel()} values are not "
            f"(first: {power[bad][0].item()}); power is a mean square, e.g. u.square().mean(0)"
        )
    if not bool((power > 0).any()):
        raise ValueError(f"power must be positive in at least one coefficient, got {power.numel()} zeros")
    rotation = basis.channel_rotation
    if rotation is not None and rotation.shape[0] != power.shape[0]:
        raise ValueError(f"power has {power.shape[0]} channels, the basis rotates {rotation.shape[0]}")
    if isinstance(basis, FourierBasis):
        for channel in power:  # one at a time: large spectra are in memory once
            mirrored = basis.mirror(channel)
            if not torch.allclose(channel, mirrored, rtol=1e-6, atol=0):
                raise ValueError(
                    "a Fourier spectrum must be symmetric, S(k) = S(-k), because images are real; "
                    "pass (S(k) + S(-k)) / 2"
                )
            channel.add_(mirrored).div_(2)
    return power


def checked_cross(cross: Tensor, power: Tensor) -> Tensor:
    channels = power.shape[0]
    expected = (channels, *power.shape)
    if not isinstance(cross, Tensor):
        raise TypeError(f"cross must be a torch.Tensor of shape {expected}, got {type(cross).__name__}")
    check_has_values(cross, "cross")
    check_constant(cross, "cross")
    if tuple(cross.shape) != expected:
        raise ValueError(f"cross must have shape (C, C, *spatial) = {expected}, got {tuple(cross.shape)}")
    if not bool(torch.isfinite(torch.view_as_real(cross) if cross.is_complex() else cross).all()):
        raise ValueError("cross holds NaN or infinite values")
    if not torch.allclose(cross, cross.transpose(0, 1).conj(), rtol=1e-6, atol=1e-9 * float(power.max())):
        raise ValueError("cross must be Hermitian: cross[i, j] = conj(cross[j, i])")
    cross = cross.to("cpu", torch.complex128 if cross.is_complex() else torch.float64, copy=True)
    if bool(torch.linalg.cholesky_ex(cross.movedim((0, 1), (-2, -1))).info.any()):
        raise ValueError(
            "cross must be positive definite at every frequency, as covariances are; raise its eigenvalues to a floor, "
            "as PowerSpectrum.estimate does"
        )
    return cross


def checked_mean(mean: Tensor, shape: tuple[int, ...]) -> Tensor:
    check_floating(mean, "mean")
    check_has_values(mean, "mean")
    check_constant(mean, "mean")
    if tuple(mean.shape) != shape:
        raise ValueError(f"mean must be an image of shape (C, *spatial) = {shape}, got {tuple(mean.shape)}")
    mean = mean.to("cpu", torch.float64, copy=True)
    if not bool(mean.isfinite().all()):
        raise ValueError("mean holds NaN or infinite values; compute it from finite images")
    return mean
