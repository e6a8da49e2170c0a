"""The other libraries: each is optional, and what cannot be imported is named in the report."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from typing import Any

NAMES = {  # what is imported of each
    "diffusers": ("diffusers", "diffusers.training_utils"),
    "azula": ("azula.denoise", "azula.noise", "azula.sample"),
    "flow_matching": ("flow_matching.path", "flow_matching.solver"),
    "k_diffusion": ("k_diffusion.sampling", "k_diffusion.layers"),
}
_IMAGE_TOOLS = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")


def available() -> tuple[set[str], list[str]]:
    """Return the names of the libraries that can be imported, and a sentence for each of the others."""
    found, missing = set(), []
    for library in NAMES:
        reason = _reason_without(library)
        if reason is None:
            found.add(library)
        else:
            missing.append(f"{library} is left out: {reason}.")
    return found, missing


def _reason_without(library: str) -> str | None:
    """Import a library, or return why it cannot be imported."""
    try:
        if library == "k_diffusion":
            _import_k_diffusion(NAMES[library])
        for module in NAMES[library]:
            importlib.import_module(module)
    except ImportError as error:
        return str(error)
    return None


def _import_k_diffusion(modules: tuple[str, ...]) -> None:
    """Import parts of k-diffusion, without its package file, which requires a dozen packages for image features.

    `k_diffusion.utils` imports torchvision to show images; an empty module takes its place where it is not installed.
    """
    spec = importlib.machinery.PathFinder.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("No module named 'k_diffusion'")
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules.setdefault("k_diffusion", package)
    absent = () if importlib.util.find_spec("torchvision") else _IMAGE_TOOLS
    for name in absent:
        sys.modules[name] = types.ModuleType(name)
    for name in absent[:-1]:
        setattr(sys.modules[name], absent[-1].rpartition(".")[2], sys.modules[absent[-1]])
    try:
        for module in modules:
            importlib.import_module(module)
    finally:
        for name in absent:
            del sys.modules[name]


def load(module: str) -> Any:
    """Return a module that `available` has imported."""
    return sys.modules[module]
