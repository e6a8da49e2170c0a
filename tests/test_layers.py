"""The house: layers, circles, private files, dependencies, what is public. No exceptions."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shortest_path as sp

SOURCE = Path(sp.__file__).parent
ROOT = Path(__file__).parents[1]
ALLOWED = {"torch", "numpy", "einops", "typing_extensions", *sys.stdlib_module_names}
# Rooms with an extra, imported by name only; diffusers brings safetensors.
OPTIONAL = {"plots": {"matplotlib"}, "integrations": {"diffusers", "safetensors"}}
# A room is a folder or a file of src/shortest_path. It imports only from the layers above its own in this list.
LAYERS = [
    ["_checks", "_described", "_devices", "_exact", "_files", "_html", "_listed", "_model"],
    ["_blocks", "_conditioning", "_folders", "_in_place", "_progress", "_strata"],
    ["bases"],
    ["spectra"],
    ["corruptions"],
    ["_picked"],
    ["_covariance", "prediction"],
    ["solvers"],
    ["grids"],
    ["geometry", "sampling"],
    ["training", "models"],
    ["__init__"],
    ["plots", "integrations"],  # optional, imported by name only
]
FILES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def module(path: Path) -> tuple[str, ...]:
    """The parts of a module's name below the package; a folder's `__init__` is the folder."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


def imports(path: Path) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield (parts of the module below the package, True) and (name of another package, False) of a file."""
    package = module(path) if path.name == "__init__.py" and path.parent != SOURCE else module(path)[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            if node.module:
                yield (*base, *node.module.split(".")), True
            else:
                yield from (((*base, alias.name), True) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ((node.module or "").split(".")[0],), False
        elif isinstance(node, ast.Import):
            yield from (((alias.name.split(".")[0],), False) for alias in node.names)


def named(path: Path) -> str:
    return "/".join(path.relative_to(SOURCE).parts)


def test_every_room_has_a_layer() -> None:
    rooms = {room(path) for path in FILES}
    assert rooms == {name for layer in LAYERS for name in layer}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_rooms_import_from_lower_layers_only(path: Path) -> None:
    level = next(index for index, layer in enumerate(LAYERS) if room(path) in layer)
    allowed = {room(path), *(name for layer in LAYERS[:level] for name in layer)}
    for name, ours in imports(path):
        packages = ALLOWED | OPTIONAL.get(room(path), set())
        assert name[0] in (allowed if ours else packages), f"{named(path)} imports {'.'.join(name)}"


def test_no_circle_among_files() -> None:
    files = {module(path): path for path in FILES}
    arrows = {
        name: {found for found, ours in imports(path) if ours and found in files} - {name}
        for name, path in files.items()
    }
    done: set[tuple[str, ...]] = set()

    def visit(name: tuple[str, ...], trail: tuple[tuple[str, ...], ...]) -> None:
        assert name not in trail, f"circle: {' → '.join('/'.join(each) for each in (*trail, name))}"
        if name not in done:
            for other in arrows[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in files:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_import_hides_in_a_function_and_no_file_is_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for outer in ast.walk(ast.parse(text)):
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(outer))
        assert not (isinstance(outer, ast.Name) and outer.id == "TYPE_CHECKING")
    assert len(text.splitlines()) <= 350


@pytest.mark.parametrize("path", FILES, ids=named)
def test_private_files_are_imported_in_their_own_folder_only(path: Path) -> None:
    for name, ours in imports(path):
        if ours and len(name) > 1 and name[1].startswith("_"):
            assert name[0] == room(path), f"{named(path)} imports {'.'.join(name)}"


def test_others_import_no_private_file_but_a_folders_own_tests() -> None:
    for folder in ("examples", "benchmarks", "studies", "docs", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            own = path.relative_to(ROOT / folder).parts[0] if folder == "tests" else None
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shortest_path"):
                    parts = (*(node.module or "").split("."), *(alias.name for alias in node.names))[1:]
                elif isinstance(node, ast.Import):
                    parts = tuple(
                        part
                        for alias in node.names
                        for part in alias.name.split(".")[1:]
                        if "shortest_path" in alias.name
                    )
                else:
                    continue
                private = [part for part in parts if part.startswith("_") and not part.startswith("__")]
                if private and folder == "tests":  # of the folder that is tested, or of the package as a whole
                    private = [] if parts[0] in (own, private[0]) else private
                assert not private, f"{path.relative_to(ROOT)} imports {'.'.join(parts)}"


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=named)
def test_every_folder_says_what_belongs_there_and_how_to_add_one(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert text
    if path.parent != SOURCE:
        assert text.split("\n")[0].split("? ")[0].split(" ")[0] in ("How", "In", "At", "Which", "Where"), "a question"
        assert "To add" in text


@pytest.mark.parametrize("name", ["", *(name for layer in LAYERS[1:-1] for name in layer if name[0] != "_")])
def test_everything_public_is_exported_and_documented(name: str) -> None:
    space = getattr(sp, name) if name else sp
    public = getattr(space, "__all__", [each for each in vars(space) if not each.startswith("_")])
    assert len(set(public)) == len(public)  # ruff keeps their order
    for each in public:
        value = getattr(space, each)
        if inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value):
            assert value.__doc__, each


def test_the_top_shows_the_common_names_and_the_namespaces() -> None:
    assert dir(sp) == sorted([*sp.__all__, "__version__"])
    spaces = [name for name in sp.__all__ if name.islower() and hasattr(getattr(sp, name), "__path__")]
    folders = {name for layer in LAYERS for name in layer if (SOURCE / name).is_dir()}
    assert set(spaces) == folders - OPTIONAL.keys()
    assert len(sp.__all__) - len(spaces) <= 24


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
