"""A finished quickstart: its network, ready to sample from, and images that the network was not trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import shortest_path as sp
from shortest_path.models import WhitenedInput
from shortest_path.training import latest_checkpoint, load_checkpoint

from .images import load_images
from .landscapes import landscapes
from .mlp import ResidualMLP

_CHECKPOINTS = "checkpoints/shortest-path"


class Trained(NamedTuple):
    """The network of the shortest path, its corruption and spectrum, and the settings of its quickstart."""

    model: WhitenedInput
    corruption: sp.ShortestPathCorruption
    spectrum: sp.PowerSpectrum
    settings: Mapping[str, Any]

    def sampler(self, **options: Any) -> sp.Sampler:
        return sp.Sampler(self.model, self.corruption, prediction="whitened-velocity", **options)


def load_trained(folder: Path) -> Trained:
    """Read the averaged network of a finished quickstart, and its spectrum.

    Raises:
        FileNotFoundError: the folder does not exist, or no quickstart finished in it.
        ValueError: a file in it is damaged, or of another program.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; run examples/quickstart.py first, or pass its --out folder")
    path = latest_checkpoint(folder / _CHECKPOINTS)
    if path is None or not (folder / "figures.json").exists():
        raise FileNotFoundError(
            f"{folder} is not the folder of a finished quickstart: it needs figures.json and "
            f"{_CHECKPOINTS}/checkpoint-*.pt; run examples/quickstart.py, or pass its --out folder"
        )
    state = load_checkpoint(path)  # weights only: nothing in the file is executed
    try:
        report = json.loads((folder / "figures.json").read_text())
        shape = state["ema"]["power"].shape
        # One channel stands for all where all have the same power; not so in the spectrum.
        known = state["corruption"]
        power = known["log_ratio"].exp().expand(shape)
        basis = sp.CosineBasis(2, known.get("basis.channel_rotation"))
        spectrum = sp.PowerSpectrum(basis, power, mean=known.get("mean"))
        corruption = sp.ShortestPathCorruption(spectrum)
        model = WhitenedInput(ResidualMLP(shape), corruption, spectrum, alone=True)
        model.load_state_dict(state["ema"])
        settings = {**report["settings"], "images": report["images"]}  # as many as were trained on, also by default
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} does not hold the network of examples/quickstart.py ({type(error).__name__}: {error})"
        ) from error
    return Trained(model.eval().requires_grad_(False), corruption, spectrum, settings)


def held_out(settings: Mapping[str, Any], data: Path | None, count: int) -> np.ndarray:
    """Return the last `count` images that the network was not trained on, or fewer if there are not as many.

    Args:
        settings: Settings of the quickstart.
        data: Path of images; None generates new landscapes, or reads the images of the quickstart.
        count: Maximum number of images.

    Raises:
        OSError: the images are not found.
        ValueError: there are fewer than two such images.
    """
    size, source = settings["size"], settings["data"]
    if source is None and data is None:
        return landscapes(count, size, settings["seed"] + 1)
    images = load_images(data or source, size)
    if source is not None:
        try:
            known = load_images(source, size)[: settings["images"]]
        except FileNotFoundError:
            print(f"  {source} is gone: images that the network was trained on cannot be left out")
            known = images[:0]
        seen = {image.tobytes() for image in known}  # by their pixels, as an image may have two names
        images = images[[image.tobytes() not in seen for image in images]]
    if len(images) < 2:
        raise ValueError(
            f"the network was trained on all but {len(images)} images of {data or source}; pass others with --data, "
            "or train it with quickstart.py --images N to leave some out"
        )
    return images[-count:]
