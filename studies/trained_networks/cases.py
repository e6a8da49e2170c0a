"""Corruptions, solvers, predictions and sizes of the study."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import shortest_path as sp
from shortest_path.prediction import Prediction

CALLS = (5, 10, 20, 50, 100, 250, 1000)
# Options of `shortest_path.Sampler` by name; the first three are the default. A grid class is called with corruption
# and spectrum.
SOLVERS: dict[str, dict[str, Any]] = {
    "ancestral": {"solver": "ancestral"},
    "ddim": {"solver": "ddim"},
    "multistep": {"solver": "multistep"},
    **{
        f"{solver} on {grid}": {"solver": solver, "grid": grid}
        for solver, grid in [
            ("ancestral", "cosine"),
            ("ancestral", "spectrum"),
            ("ddim", "cosine"),
            ("ddim", "spectrum"),
            ("multistep", "uniform"),
            ("multistep", "cosine"),
        ]
    },
    "ancestral on fisher": {"solver": "ancestral", "grid": sp.grids.Fisher},
    "ancestral on uniform, small variance": {"solver": sp.solvers.Ancestral(variance="small")},
}
MAIN_SOLVERS = ("ancestral", "ddim", "multistep")


class Target(NamedTuple):
    """What a network predicts, in which quantity its squared error is the loss, and whether its input is whitened."""

    prediction: Prediction
    weighting: Prediction | None = None
    whitened_input: bool = True

    @property
    def name(self) -> str:
        """Name in reports."""
        weighed = "" if self.weighting is None else f" weighed as {self.weighting}"
        return self.prediction + weighed + ("" if self.whitened_input else " from the picture alone")


_TARGETS = (
    Target("noise"),
    Target("data"),
    Target("velocity"),
    Target("whitened-velocity"),
    Target("whitened-velocity", "noise"),
    Target("whitened-velocity", "velocity"),
    Target("whitened-velocity", whitened_input=False),
)
# Every family of corruptions is tuned over the same number of targets, with the same number of steps. Heat dissipation
# leaves nothing of high frequencies, so the predicted noise alone does not determine them.
TARGETS = {
    "gaussian": _TARGETS,
    "blur": _TARGETS,
    "heat": (Target("data", "velocity"), *_TARGETS[1:]),
    "path": _TARGETS,
}


class Case(NamedTuple):
    """A corruption to train with.

    Cases of one `family` share their target. `basis` and `channels` are those of the spectrum that whitens the data;
    `make` returns the corruption for that spectrum.
    """

    title: str
    family: Literal["gaussian", "blur", "heat", "path"]
    make: Callable[[sp.PowerSpectrum], sp.Corruption]
    basis: Literal["cosine", "fourier", "principal"] = "cosine"
    channels: Literal["rotate", "independent"] = "rotate"


def _gaussian(schedule: Literal["linear", "cosine", "flow"]) -> Callable[[sp.PowerSpectrum], sp.Corruption]:
    return lambda spectrum: sp.GaussianCorruption(schedule)


def _blur(pixels_at_32: float) -> Callable[[sp.PowerSpectrum], sp.Corruption]:
    def make(spectrum: sp.PowerSpectrum) -> sp.Corruption:
        _, height, width = spectrum.shape
        return sp.BlurCorruption(pixels_at_32 * height / 32, spatial=(height, width))

    return make


def _heat(spectrum: sp.PowerSpectrum) -> sp.Corruption:
    _, height, width = spectrum.shape
    scale = height / 32
    return sp.HeatDissipationCorruption(24.0 * scale, 0.5 * scale, spatial=(height, width))


def _constants(spectrum: sp.PowerSpectrum) -> sp.Corruption:
    law = sp.PowerSpectrum.power_law(spectrum.shape, amplitude=1.59, offset=0.0086, exponent=2.0)
    return sp.ShortestPathCorruption(sp.PowerSpectrum(spectrum.basis, law.power))


def _scaled(scale: float) -> Callable[[sp.PowerSpectrum], sp.Corruption]:
    return lambda spectrum: sp.ShortestPathCorruption(spectrum.tempered(scale))


SCALES = (0.8, 0.9, 1.1, 1.25)
CASES: dict[str, Case] = {
    "gaussian-linear": Case("Gaussian, linear", "gaussian", _gaussian("linear")),
    "gaussian-cosine": Case("Gaussian, cosine", "gaussian", _gaussian("cosine")),
    "gaussian-flow": Case("Gaussian, flow", "gaussian", _gaussian("flow")),
    "blur-20": Case("blur, σ 20 of 32 pixels", "blur", _blur(20.0)),
    "blur-4": Case("blur, σ 4 of 32 pixels", "blur", _blur(4.0)),
    "heat": Case("heat dissipation", "heat", _heat),
    "path-constants": Case("path, the paper's constants", "path", _constants, "fourier", "independent"),
    "path-rgb": Case("path, RGB, Fourier (the paper's form)", "path", _scaled(1), "fourier", "independent"),
    "path-fourier": Case("path, rotated channels, Fourier", "path", _scaled(1), "fourier"),
    "path-cosine": Case("path, rotated channels, cosine", "path", _scaled(1)),
    "path-principal": Case("path, principal components", "path", _scaled(1), "principal"),
    **{f"scale-{scale:g}": Case(f"log S × {scale:g}, cosine", "path", _scaled(scale)) for scale in SCALES},
}
# The case on which its family is tuned.
TUNED_ON = {"gaussian": "gaussian-cosine", "blur": "blur-20", "heat": "heat", "path": "path-cosine"}


@dataclass(frozen=True)
class Scale:
    """Sizes of a study.

    Args:
        size: Height and width of the images.
        network: Settings of the network, as in examples/recipe/settings.py.
        steps: Number of optimizer steps.
        batch_size: Number of images in a step.
        tuning_steps: Number of steps of a run that only chooses a target.
        learning_rate: Learning rate of AdamW; it rises over `warmup` steps and then falls linearly to 0.
        warmup: Number of steps.
        ema_decay: Decay of the averaged weights.
        precision: Precision of the network in training and sampling.
        samples: Number of samples for each solver and number of calls.
        tuning_samples: The same, for tuning.
        drawn_at_once: Number of samples in a batch.
        device: Device for training and sampling.
    """

    size: int
    network: Mapping[str, Any]
    steps: int
    batch_size: int
    tuning_steps: int
    learning_rate: float
    warmup: int
    ema_decay: float
    precision: Literal["fp32", "bf16"]
    samples: int
    tuning_samples: int
    drawn_at_once: int
    device: str

    def plain(self) -> dict[str, Any]:
        """Return the settings as JSON represents them."""
        values = dataclasses.asdict(self)
        values["network"] = {name: list(v) if isinstance(v, tuple) else v for name, v in self.network.items()}
        return values


_SMALL = {"widths": (32, 64, 64), "blocks": 1, "attention": (4,), "head_channels": 8, "groups": 8, "dropout": 0.0}
_CPU = Scale(
    size=16,
    network=_SMALL,
    steps=1200,
    batch_size=64,
    tuning_steps=300,
    learning_rate=2e-3,
    warmup=50,
    ema_decay=0.99,
    precision="fp32",
    samples=512,
    tuning_samples=256,
    drawn_at_once=128,
    device="cpu",
)
PRESETS = {
    "cpu": _CPU,
    # To test whether the order of a few cases changes with longer training; bfloat16 to save time.
    "cpu-long": dataclasses.replace(_CPU, steps=3000, precision="bf16"),
    "gpu": Scale(
        size=32,
        network={},  # the default: the network of Ho et al. 2020
        steps=100_000,
        batch_size=128,
        tuning_steps=5000,
        learning_rate=2e-4,
        warmup=1000,
        ema_decay=0.9995,
        precision="bf16",
        samples=10_000,
        tuning_samples=2000,
        drawn_at_once=1000,
        device="cuda",
    ),
    "tiny": Scale(  # to check that everything works
        size=8,
        network={**_SMALL, "widths": (8, 16), "attention": (4,)},
        steps=4,
        batch_size=8,
        tuning_steps=2,
        learning_rate=1e-3,
        warmup=1,
        ema_decay=0.5,
        precision="fp32",
        samples=20,
        tuning_samples=20,
        drawn_at_once=16,
        device="cpu",
    ),
}
