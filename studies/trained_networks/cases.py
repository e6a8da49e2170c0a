"""Corruptions, network outputs, measures and sizes of the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.prediction import Prediction

OutputName = Literal["noise", "whitened"]
ODE_STEPS = (50, 100)  # of the likelihood; the two must agree
PRIMARY = (("multistep", 50), ("ancestral", 250))  # solvers and numbers of model calls of the kernel distance
SECONDARY = (("multistep", 20), ("ancestral", 1000))
STARTS = (None, 0.999, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6)  # times to start from; None is the library's
CHAIN_STEPS = (50, 250, 1000)  # of the bound on the likelihood
ANGLES = (0.1, 0.3, 0.5, 0.7, 0.9)  # fractions of π/2, at which errors of single coefficients are compared


class Output(NamedTuple):
    """What a network predicts, and whether it sees the corrupted image or the whitened one."""

    title: str
    prediction: Prediction
    whitened: bool


OUTPUTS: dict[str, Output] = {
    "noise": Output("noise, raw image", "noise", False),
    "whitened": Output("whitened velocity, whitened image", "whitened-velocity", True),
}


class Case(NamedTuple):
    """A corruption to train with.

    `basis` and `channels` are those of the spectrum that whitens the data; `make` returns the corruption for it.
    """

    title: str
    make: Callable[[sp.PowerSpectrum], sp.Corruption]
    basis: Literal["cosine", "fourier"] = "cosine"
    channels: Literal["rotate", "independent"] = "rotate"


def _gaussian(schedule: Literal["cosine", "flow"]) -> Callable[[sp.PowerSpectrum], sp.Corruption]:
    return lambda spectrum: sp.GaussianCorruption(schedule)


def _on_the_geodesic(spectrum: sp.PowerSpectrum) -> sp.Corruption:
    """Return isotropic noise with its cosine clock, scaled so that its variances are those of the shortest path."""
    isotropic, deviation = sp.GaussianCorruption("cosine"), spectrum.power.sqrt()

    def angle(time: Tensor) -> Tensor:
        flat = time.flatten()
        a, s = (scale(flat).reshape(time.shape) for scale in (isotropic.signal, isotropic.noise))
        return torch.atan2(s, a * deviation.to(time))

    def radius(time: Tensor) -> Tensor:
        return deviation.to(time) ** (1 - time)

    return sp.ClockCorruption(spectrum, angle, radius)


def _blur(spectrum: sp.PowerSpectrum) -> sp.Corruption:
    _, height, width = spectrum.shape
    return sp.BlurCorruption(4.0 * height / 32, spatial=(height, width))


def _constants(spectrum: sp.PowerSpectrum) -> sp.Corruption:
    law = sp.PowerSpectrum.power_law(spectrum.shape, amplitude=1.59, offset=0.0086, exponent=2.0)
    return sp.ShortestPathCorruption(sp.PowerSpectrum(spectrum.basis, law.power))


def _equal_snr(spectrum: sp.PowerSpectrum) -> sp.Corruption:
    return sp.GaussianCorruption("cosine", noise=spectrum)


def _path(scale: float = 1.0) -> Callable[[sp.PowerSpectrum], sp.Corruption]:
    return lambda spectrum: sp.ShortestPathCorruption(spectrum.tempered(scale) if scale != 1 else spectrum)


CASES: dict[str, Case] = {
    "gaussian-cosine": Case("Gaussian, cosine", _gaussian("cosine")),
    "path-cosine": Case("shortest path, rotated cosine", _path()),
    "equal-snr": Case("equal SNR", _equal_snr),
    "path-rgb": Case("shortest path, RGB Fourier", _path(), "fourier", "independent"),
    "gaussian-flow": Case("Gaussian, flow", _gaussian("flow")),
    "gaussian-geodesic": Case("Gaussian, rescaled onto the geodesic", _on_the_geodesic),
    "path-constants": Case("shortest path, the authors' constants", _constants, "fourier", "independent"),
    "blur-4": Case("blur, σ 4 of 32 pixels", _blur),
    "scale-0.8": Case("log S × 0.8", _path(0.8)),
    "scale-1.25": Case("log S × 1.25", _path(1.25)),
    "scale-0.9": Case("log S × 0.9", _path(0.9)),
    "scale-1.1": Case("log S × 1.1", _path(1.1)),
    "scale-1.5": Case("log S × 1.5", _path(1.5)),
    "scale-2": Case("log S × 2", _path(2.0)),
}
BASELINES = ("gaussian-cosine", "path-cosine")  # every other case is compared with these two
_LATER = ("scale-0.9", "scale-1.1", "scale-1.5", "scale-2")  # they answer another question
MAIN = tuple(name for name in CASES if name not in _LATER)
TELLING = ("gaussian-cosine", "path-cosine", "path-rgb", "equal-snr")  # for larger networks
LIKE = {"matched": "gaussian-cosine", "path": "path-cosine"}
"""Densities of training times, and the case whose distribution of the mean log-SNR, at uniform times, each has."""


def matched_times(
    corruption: sp.Corruption, like: sp.Corruption, spectrum: sp.PowerSpectrum, points: int = 4000
) -> Callable[[Tensor], Tensor]:
    """Return times at which the mean log-SNR has the distribution that `like` gives it at uniform times.

    Args:
        corruption: The corruption to be trained.
        like: The corruption whose uniform times set the distribution.
        spectrum: The data's power spectrum; log-SNR is the mean over its coefficients.
        points: Number of times in the table that is inverted.
    """
    times = torch.linspace(0, 1, points + 2, dtype=torch.float64)[1:-1]
    own, wanted = (_mean_log_snr(each, spectrum, times) for each in (corruption, like))
    # At the wanted log-SNR of each uniform number, the time of one's own process; log-SNR falls with time.
    position = torch.searchsorted(-own, -wanted).clamp(1, points - 1)
    low, high = own[position - 1], own[position]
    fraction = ((low - wanted) / (low - high).clamp(min=1e-12)).clamp(0, 1)
    table = times[position - 1] + fraction * (times[position] - times[position - 1])

    def inverse(uniform: Tensor) -> Tensor:
        place = (uniform.double() * (points + 1) - 1).clamp(0, points - 1)  # the table has no ends
        index = place.floor().long().clamp(max=points - 2)
        known = table.to(uniform.device)
        return (known[index] + (place - index) * (known[index + 1] - known[index])).to(uniform.dtype)

    return inverse


def _mean_log_snr(corruption: sp.Corruption, spectrum: sp.PowerSpectrum, times: Tensor) -> Tensor:
    parts = []
    for part in times.split(200):
        ratio = corruption.signal(part).square() * spectrum.power / corruption.noise(part).square()
        parts.append(ratio.log().flatten(1).mean(1))
    return torch.cat(parts)


@dataclass(frozen=True)
class Scale:
    """Sizes of a study.

    Args:
        size: Height and width of the images.
        source_size: Height and width at which images are read; they are averaged over boxes from there.
        network: Settings of the network: of `networks.ResidualMLP`, or of the U-Net if they have `widths`.
        steps: Number of optimizer steps.
        batch_size: Number of images in a step.
        learning_rates: Peaks of the learning rate to choose from, for every corruption and output.
        tuning_steps: Number of steps of a run that only chooses a learning rate.
        warmup: Number of steps over which the learning rate rises; then it falls linearly to 0.
        ema_decay: Decay of the averaged weights.
        validation: Number of training images held out, to choose the learning rate.
        likelihood_images: Number of test images for the likelihood.
        samples: Number of samples for each solver and number of calls.
        sampled_at_once: Number of samples in a batch.
        secondary_samples: Number of samples with other numbers of calls.
        chain_images: Number of test images for the bound on the likelihood; 0 leaves it out.
        crops: Cut the images into crops of `size` instead of averaging them.
    """

    size: int
    source_size: int
    network: Mapping[str, Any]
    steps: int
    batch_size: int
    learning_rates: tuple[float, ...]
    tuning_steps: int
    warmup: int
    ema_decay: float
    validation: int
    likelihood_images: int
    samples: int
    sampled_at_once: int
    secondary_samples: int = 0
    chain_images: int = 0
    crops: bool = False

    def plain(self) -> dict[str, Any]:
        """Return the settings as JSON represents them."""
        values = dict(vars(self))
        values["learning_rates"] = list(self.learning_rates)
        values["network"] = {name: list(v) if isinstance(v, tuple) else v for name, v in self.network.items()}
        return values


_UNET = {"widths": (16, 32, 64), "blocks": 1, "attention": (4,), "head_channels": 8, "groups": 8, "dropout": 0.0}
_AVERAGED = Scale(
    size=8,
    source_size=32,
    network={"width": 256, "blocks": 2},
    steps=6000,
    batch_size=128,
    learning_rates=(5e-4, 1.5e-3, 4e-3),
    tuning_steps=1000,
    warmup=200,
    ema_decay=0.999,
    validation=2000,
    likelihood_images=2000,
    samples=10_000,
    sampled_at_once=500,
    secondary_samples=2000,
    chain_images=1000,
)
PRESETS = {
    "8": _AVERAGED,
    "crops": replace(_AVERAGED, crops=True),
    "16": Scale(
        size=16,
        source_size=32,
        network=_UNET,
        steps=3000,
        batch_size=64,
        learning_rates=(2e-3,),
        tuning_steps=0,
        warmup=100,
        ema_decay=0.995,
        validation=2000,
        likelihood_images=300,
        samples=1000,
        sampled_at_once=125,
    ),
    "toy": Scale(
        size=8,
        source_size=8,
        network={"width": 16, "blocks": 1},
        steps=4,
        batch_size=8,
        learning_rates=(1e-3, 2e-3),
        tuning_steps=2,
        warmup=1,
        ema_decay=0.5,
        validation=8,
        likelihood_images=20,
        samples=20,
        sampled_at_once=16,
        secondary_samples=20,
        chain_images=10,
    ),
}
