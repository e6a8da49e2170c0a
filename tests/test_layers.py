"""The package's structure: layers, dependencies, what it exports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import shortest_path as sp

SOURCE = Path(sp.__file__).parent
ALLOWED = {"torch", "numpy", "einops", "typing_extensions", *sys.stdlib_module_names}
# Each module may import only from those before it, and the sampler and trainer not from each other.
LAYERS = [
    [
        *["checkpoint", "checks", "conditioning", "cosine", "ema", "exact", "forms", "model"],
        *["nonfinite", "power_law", "progress", "ranks"],
    ],
    ["batches", "drawing", "edits", "preemption", "weights"],
    ["training_state"],
    ["saving"],
    ["basis"],
    ["estimation"],
    ["spectrum"],
    ["corruption"],
    ["gaussian", "blur", "shortest", "prediction", "transition", "multistep", "grids", "encoding"],
    ["covariance", "options", "process"],
    ["denoiser", "objective"],
    ["geometry", "sampler", "trainer"],
]
CONCRETE = {"gaussian", "blur", "shortest"}


def imports(path: Path) -> tuple[set[str], set[str]]:
    """Return (modules of this package, top-level names of others) that a file imports at its top level."""
    ours, others = set(), set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            ours.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            others.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
    return ours, others


def test_every_module_has_a_layer() -> None:
    names = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert names == {name for layer in LAYERS for name in layer}


@pytest.mark.parametrize("level", range(len(LAYERS)))
def test_modules_import_from_lower_layers_only(level: int) -> None:
    below = {name for layer in LAYERS[:level] for name in layer}
    for name in LAYERS[level]:
        ours, others = imports(SOURCE / f"{name}.py")
        assert ours <= below, name
        assert others <= ALLOWED, name


def test_sampler_trainer_and_geometry_know_no_concrete_corruption() -> None:
    for name in ("sampler", "process", "denoiser", "trainer", "geometry", "transition", "prediction"):
        assert not imports(SOURCE / f"{name}.py")[0] & CONCRETE


def test_no_import_hides_in_a_function_but_one() -> None:
    hidden = [
        (path.stem, node.module)
        for path in SOURCE.glob("*.py")
        for outer in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(outer, ast.FunctionDef)
        for node in ast.walk(outer)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert {module for _, module in hidden} <= {"spectrum"}  # an estimator makes the spectrum that offers it


def test_everything_public_is_exported_and_documented() -> None:
    assert len(set(sp.__all__)) == len(sp.__all__)  # ruff keeps their order
    for name in sp.__all__:
        assert getattr(sp, name).__doc__, name


def test_imports_with_the_core_packages_alone_and_fast() -> None:
    program = """
import importlib.abc, sys, time
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {"scipy", "matplotlib", "diffusers", "torchvision", "PIL", "pyarrow", "tqdm"}:
            raise AssertionError("import of " + name)
import torch
before = set(sys.modules)
sys.meta_path.insert(0, Refuse())
start = time.perf_counter()
import shortest_path
print(time.perf_counter() - start)
print(*{name.split(".")[0] for name in set(sys.modules) - before if "." not in name})
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert float(lines[0]) < 3.0  # the figure is 0.3 s; this only catches an import that pulls in a world
    assert set(lines[1].split()) <= ALLOWED | {"shortest_path"}
