"""The five cases that are compared, and the sizes of networks and trainings; chosen before any run, and not tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import shortest_path as sp
from examples.recipe import runs
from examples.recipe.settings import Settings


class Case(NamedTuple):
    """A corruption and what its network predicts; `settings` are those of examples/recipe/settings.py."""

    title: str
    settings: Mapping[str, Any]
    equal_snr: bool = False

    def corruption(self, settings: Settings, spectrum: sp.PowerSpectrum) -> sp.DiagonalCorruption:
        """Return the corruption; equal SNR is the only one that `Settings` cannot name."""
        if self.equal_snr:
            return sp.GaussianCorruption(settings.schedule, noise=spectrum)
        made = runs.make_corruption(settings, spectrum)
        assert isinstance(made, sp.DiagonalCorruption)
        return made


_RAW = {"prediction": "noise", "whitened_input": False}
_AUTHORS = {"spectrum": "reference", "basis": "fourier", "channels": "shared"}
CASES = {
    "linear": Case("noise on raw input, Gaussian linear", {"corruption": "gaussian", "schedule": "linear", **_RAW}),
    "authors": Case("noise on raw input, shortest path, authors' constants", {**_AUTHORS, **_RAW}),
    "gaussian": Case("whitened velocity, Gaussian cosine", {"corruption": "gaussian"}),
    "shortest": Case("whitened velocity, shortest path", {}),
    "equal-snr": Case("whitened velocity, equal SNR", {"corruption": "gaussian"}, equal_snr=True),
}


class Size(NamedTuple):
    """Sizes of a comparison or of a long training.

    `images` is the side of an image, and `network` has settings of examples/recipe/settings.py. `learning_rate` is
    constant after `warmup` steps, as the number of steps is not known before. `samples` is the number of samples for a
    distance, `judged` that of test images for bits/dim, and `at_once` that of samples in a batch. `bits` are numbers of
    steps of the ODE, and `drawn` solvers with numbers of steps; the first of each is the primary measure.
    """

    images: int
    network: Mapping[str, Any]
    batch_size: int
    learning_rate: float
    warmup: int
    ema_decay: float
    samples: int
    judged: int
    at_once: int
    bits: tuple[int, ...]
    drawn: tuple[tuple[str, int], ...]

    @property
    def measures(self) -> dict[str, list[str]]:
        """Names of the measures of each kind, the primary one first."""
        return {
            "bits": [str(steps) for steps in self.bits],
            "quality": [f"{each}-{steps}" for each, steps in self.drawn],
        }


_TOY = Size(
    images=8,
    network={"widths": (8, 16), "blocks": 1, "attention": (4,), "head_channels": 8, "groups": 8, "dropout": 0.0},
    batch_size=8,
    learning_rate=1e-3,
    warmup=2,
    ema_decay=0.9,
    samples=40,
    judged=6,
    at_once=20,
    bits=(2, 1),
    drawn=(("multistep", 2), ("ancestral", 2)),
)
COMPARE = {
    "toy": _TOY,
    "full": Size(
        images=32,
        network={"widths": (64, 128, 128, 128), "head_channels": 32, "dropout": 0.0},  # DDPM's, half as wide: 9.0 M
        batch_size=256,
        learning_rate=5e-4,
        warmup=500,
        ema_decay=0.999,
        samples=10_000,
        judged=1000,
        at_once=1000,
        bits=(100, 50),
        drawn=(("multistep", 20), ("multistep", 50), ("ancestral", 250)),
    ),
}
WINNER = {
    "toy": _TOY,
    "full": COMPARE["full"]._replace(  # DDPM's network: 35.7 M
        network={}, learning_rate=3e-4, ema_decay=0.9995, bits=(100,), drawn=(("multistep", 20),)
    ),
}


def settings_of(case: Case, size: Size, precision: str) -> Settings:
    """Return the settings of a case at a size; `precision` is "bf16" or "fp32"."""
    return Settings(
        **{**size.network, **case.settings},
        size=size.images,
        batch_size=size.batch_size,
        learning_rate=size.learning_rate,
        warmup=size.warmup,
        ema_decay=size.ema_decay,
        bf16="yes" if precision == "bf16" else "no",
    )
