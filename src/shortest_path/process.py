"""A corruption as a sampler sees it: in the basis to sample it in, with what is known of the data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from .basis import Basis
from .corruption import Corruption, both_scales, check_device, device_of, known_power, scales
from .forms import Rotation, Scales
from .prediction import Prediction
from .spectrum import PowerSpectrum
from .transition import prior_deviation

Generators: TypeAlias = "torch.Generator | Sequence[torch.Generator]"


class Process:
    """A corruption, a basis in which it is diagonal, and the data's power there.

    Args:
        corruption: Any object that satisfies `Corruption`.
        spectrum: The data's power; None takes what the corruption knows. An isotropic corruption is seen in the
            spectrum's basis.

    Raises:
        TypeError: `spectrum` is something else.
        ValueError: the corruption is not diagonal in the spectrum's basis.
    """

    def __init__(self, corruption: Corruption, spectrum: PowerSpectrum | None = None) -> None:
        if spectrum is not None and not isinstance(spectrum, PowerSpectrum):
            raise TypeError(f"spectrum must be a PowerSpectrum, got {type(spectrum).__name__}")
        self.corruption = corruption
        self.basis = corruption.basis if spectrum is None else _common_basis(corruption, spectrum)
        self.power = known_power(corruption) if spectrum is None else spectrum.power

    def scales(self, t: Tensor, shape: Sequence[int]) -> Scales:
        """Return (signal, noise) at one time, in float64, on its device, for images of `shape`."""
        return scales(self.corruption, t.reshape(1), shape)

    def rotation(self, device: torch.device) -> Rotation:
        """Return the rotation form; without a spectrum for unit power, which is only another choice of coordinates."""
        return Rotation(torch.ones((), device=device) if self.power is None else self.power.to(device))

    def prior(self, at_t: Scales, t: float) -> Tensor:
        """Return the deviations of the coefficients at the first time.

        Raises:
            ValueError: too much of the image is left for them to be noise.
        """
        deviation = prior_deviation(at_t, None if self.power is None else self.power.to(at_t[0].device))
        if deviation is None:
            raise ValueError(
                f"{type(self.corruption).__name__} keeps part of the image at t = {t:.4g}, so "
                "sampling cannot start from noise; pass x_1=corruption.corrupt(training_images, t, eps)"
            )
        return deviation

    def to(self, device: torch.device) -> None:
        """Make ready for images on a device: the basis follows them, the corruption must be there already.

        Raises:
            ValueError: the corruption is on another device.
        """
        check_device(self.corruption, device)
        if self.basis is not self.corruption.basis:  # the spectrum's, which is ours to move
            self.basis.to(device)
        if self.power is not None:
            self.power = self.power.to(device)

    def check(self, times: Tensor, prediction: Prediction) -> None:
        """Look at the scales along a grid once, so that a step need not.

        Raises:
            ValueError: nothing is left of the image at the first time, for a model that predicts noise; or a
                signal-to-noise ratio that rises.
        """
        count = min(len(times), 16)
        probes = times[torch.linspace(0, len(times) - 1, count).long()].to(device_of(self.corruption))
        # A scale that does not change with time may come once for all of them.
        signal, noise = (
            scale.expand(count, *scale.shape[1:]) if len(scale) == 1 else scale
            for scale in both_scales(self.corruption, probes)
        )
        if prediction == "noise" and bool((signal[:-1] < 1e-12 * noise[:-1]).any()):
            raise ValueError(
                f"a model that predicts noise says nothing of the image where signal(t) = 0, here at t = "
                f"{float(times[0]):.6g}; start at a smaller t, or train with prediction='data' or 'velocity'"
            )
        rising = signal[1:] * noise[:-1] < signal[:-1] * noise[1:] - 1e-6 * (signal[1:] * noise[:-1]).abs()
        if bool(rising.any()):
            raise ValueError(
                f"the signal-to-noise ratio of {type(self.corruption).__name__} rises with t somewhere; "
                "signal(t) / noise(t) must not increase from t = 0 to t = 1"
            )


def clean(like: Scales) -> Scales:
    """Return the scales of the clean image: signal 1, noise 0."""
    return torch.ones_like(like[0]), torch.zeros_like(like[1])


def white(shape: Sequence[int], device: torch.device, dtype: torch.dtype, generator: Generators | None) -> Tensor:
    """Draw white normal noise on the generator's device: white in pixels is white in every orthonormal basis.

    Args:
        shape: (B, C, *spatial).
        device: Of the result.
        dtype: Of the result.
        generator: One for all, one per image, or None for torch's own.

    Raises:
        TypeError: `generator` is not made of generators.
        ValueError: another number of generators than of images.
    """
    if isinstance(generator, Sequence):
        if len(generator) != shape[0]:
            raise ValueError(f"expected one generator for each of {shape[0]} images, got {len(generator)}")
        if not generator:
            return torch.empty(tuple(shape), dtype=dtype, device=device)
        return torch.stack([white(shape[1:], device, dtype, one) for one in generator])
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator or one per image, got {type(generator).__name__}; "
            "say torch.Generator().manual_seed(0)"
        )
    source = device if generator is None else generator.device
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=source).to(device)


def _common_basis(corruption: Corruption, spectrum: PowerSpectrum) -> Basis:
    """Return the spectrum's basis, sure that the corruption is diagonal in it."""
    device = device_of(corruption)
    middle = torch.tensor([0.5], dtype=torch.float64, device=device)
    pair = scales(corruption, middle, (1, *spectrum.shape))
    ours, theirs = corruption.basis, spectrum.basis
    one_rotation = (
        ours.channel_rotation is None
        if theirs.channel_rotation is None
        else ours.channel_rotation is not None
        and torch.allclose(ours.channel_rotation.cpu(), theirs.channel_rotation.cpu())
    )
    isotropic = all(scale.numel() == 1 for scale in pair)
    alike_channels = all(scale.shape[1] == 1 for scale in pair)  # such scales commute with a channel rotation
    if not (isotropic or (ours.shares_transform(theirs) and (one_rotation or alike_channels))):
        raise ValueError(
            f"the corruption works in {ours!r}, the spectrum was measured in {theirs!r}; "
            "estimate the spectrum in the corruption's basis"
        )
    return copy.deepcopy(theirs).to(device)  # the spectrum's own stays where it is
