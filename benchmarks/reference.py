"""The reference research code, and its process built by this library."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import shortest_path as sp

BATCH, SHAPE = 128, (3, 32, 32)
CONSTANTS = {"amplitude": 1.59, "offset": 0.0086, "exponent": 2.0}


def import_reference(path: Path) -> types.ModuleType:
    """Import the reference's module of Fourier processes from a clone, without what only its data loading needs.

    Raises:
        SystemExit: `path` is not a clone of the reference, or it cannot be imported.
    """
    needed = [
        "nonunif_diffusion/script_util.py",
        "nonunif_diffusion/fourier_diffusion.py",
        "guided_diffusion/respace.py",
    ]
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise SystemExit(
            f"{path} is not a clone of the reference repository: it has no {', no '.join(missing)}. "
            "Run: git clone https://github.com/mtkresearch/shortest-path-diffusion"
        )
    for name in ("blobfile", "mpi4py"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["mpi4py"].MPI = types.SimpleNamespace()  # type: ignore[attr-defined]
    try:
        _import_packages(path.resolve(), "guided_diffusion", "nonunif_diffusion")
        fourier = importlib.import_module("nonunif_diffusion.fourier_diffusion")
        importlib.import_module("nonunif_diffusion.script_util")
    except ImportError as error:
        raise SystemExit(f"the reference in {path} cannot be imported: {error}; pip install pillow") from error
    channels, _cuda = fourier.pixel_and_fourier_noise.__defaults__
    fourier.pixel_and_fourier_noise.__defaults__ = (channels, torch.device("cpu"))
    return fourier


def _import_packages(folder: Path, *names: str) -> None:
    """Import packages of a folder that is not on the search path; they import each other by absolute names."""
    specs = [importlib.machinery.PathFinder.find_spec(name, [str(folder)]) for name in names]
    for name, spec in zip(names, specs, strict=True):
        sys.modules[name] = importlib.util.module_from_spec(spec)
    for name, spec in zip(names, specs, strict=True):
        spec.loader.exec_module(sys.modules[name])


def build_reference(fourier: types.ModuleType, steps: int) -> Any:
    """Build the reference's process with the paper's constants for CIFAR-10."""
    script_util = sys.modules[fourier.__name__.replace("fourier_diffusion", "script_util")]
    return script_util.create_fourier_diffusion(
        steps=steps,
        learn_sigma=False,
        sigma_small=False,
        use_kl=False,
        predict_xstart=False,
        rescale_timesteps=True,
        rescale_learned_sigmas=False,
        image_resolution=SHAPE,
        freq_filter_c1=CONSTANTS["amplitude"],
        freq_filter_c2=CONSTANTS["offset"],
        freq_filter_m=CONSTANTS["exponent"],
    )


def build_ours() -> sp.ShortestPathCorruption:
    """Build the same process with this library."""
    return sp.ShortestPathCorruption(sp.PowerSpectrum.power_law(SHAPE, **CONSTANTS))


def grid(steps: int) -> Tensor:
    """Return the times of the reference's indices 0 … T − 1, float64."""
    return sp.grids.Reference()(steps)[:-1].flip(0)
