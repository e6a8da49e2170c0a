"""What is published: metadata, bounds of the dependencies, and the files of the source distribution."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import shortest_path as sp

tomllib = pytest.importorskip("tomllib", reason="tomllib needs Python 3.11")

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
METADATA = PROJECT["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
FOLDERS = ["src", "tests", "examples", "benchmarks", "studies", "docs", ".ci"]
SCRIPTS = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]


def test_tests_and_the_processes_they_start_import_this_checkout() -> None:
    program = "import importlib.util; print(importlib.util.find_spec('shortest_path').origin)"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = (ROOT / "src/shortest_path/__init__.py").resolve()
    assert [Path(file).resolve() for file in (sp.__file__, child.stdout.strip())] == [here, here]


def bounds(lines: list[str], relation: str) -> dict[str, tuple[int, ...]]:
    """Return the version of each requirement, without zeros at its end."""
    found = [re.fullmatch(rf"([\w-]+){relation}([\d.]+)", line) for line in lines]
    assert all(found), lines
    numbers = {match[1]: [int(part) for part in match[2].split(".")] for match in found if match}
    return {name: tuple(parts[: max(i + 1 for i, part in enumerate(parts) if part)]) for name, parts in numbers.items()}


def test_every_lower_bound_is_the_version_that_is_tested() -> None:
    lines = (ROOT / ".ci/lowest.txt").read_text(encoding="utf-8").splitlines()
    declared = bounds(METADATA["dependencies"], ">=")
    oldest_torch = declared.pop("torch")
    assert bounds([line for line in lines if not line.startswith("#")], "==") == declared
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    assert f'.ci/lowest "torch=={".".join(map(str, oldest_torch))}.*"' in workflow


def test_the_oldest_diffusers_is_the_version_that_is_tested() -> None:
    (declared,) = bounds(METADATA["optional-dependencies"]["diffusers"], ">=").values()
    checks = (ROOT / ".ci/run").read_text(encoding="utf-8")
    (tested,) = bounds(re.findall(r'"(diffusers==[\d.]+)"', checks), "==").values()
    assert declared == tested


def test_pypi_gets_the_readme_without_relative_links() -> None:
    hook = runpy.run_path(str(ROOT / PROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]["path"]))
    assert METADATA["dynamic"] == ["readme"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/figures/quickstart-samples.png" in hook["relative_links"](text)
    for address in (None, "https://example.org/me/it/"):
        made = hook["readme"](text, address, "1.2.3")
        assert hook["relative_links"](made) == []
        assert "```python\nimport torch\nimport shortest_path as sp" in made
        assert ("](https://example.org/me/it/blob/v1.2.3/docs/theory.md)" in made) == (address is not None)
        image = "](https://example.org/me/it/raw/v1.2.3/docs/figures/quickstart-samples.png)"
        assert (image in made) == (address is not None)
    assert "- Choosing a corruption, and the idea, with" in hook["readme"](text, None, "1.2.3")
    with_caption = "above\n\n![an image](a.png)\n\n*Left, [this](b.md);\nright, that.*\n\n*Other* words.\n"
    assert hook["readme"](with_caption, None, "1") == "above\n\n*Other* words.\n"
    assert "*Left, [this](https://f/blob/v1/b.md);\nright, that.*" in hook["readme"](with_caption, "https://f", "1")
    for made in (hook["readme"](text, address, "1") for address in (None, "https://f")):
        assert len(re.findall(r"^\*Left, ", made, re.MULTILINE)) == len(re.findall(r"^!\[Left, ", made, re.MULTILINE))
    code = "[a](b) ![c](d)\n```python\nx[0](y)\n```\n[e](https://f) [g](#h)\n"
    assert hook["readme"](code, None, "1") == "a \n```python\nx[0](y)\n```\n[e](https://f) [g](#h)\n"


def test_the_version_is_the_same_everywhere() -> None:
    assert METADATA["version"] == CITATION["version"]
    assert sp.__version__ in (METADATA["version"], "0+unknown")  # the latter: a source tree that was never installed
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## (Unreleased|{re.escape(METADATA['version'])}\b)", changes, re.MULTILINE)


def test_the_authors_and_the_licence_are_the_same_everywhere() -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    for author in METADATA["authors"]:
        assert author["name"] in licence
        assert author["name"] in [other.get("name") for other in CITATION["authors"]]
    assert licence.startswith(f"{METADATA['license']} License")
    assert CITATION["license"] == METADATA["license"]


def test_the_repositorys_address_has_one_place() -> None:
    assert CITATION.get("repository-code") == METADATA.get("urls", {}).get("Repository")


def test_the_classifiers_name_the_tested_versions_of_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    tested = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    named = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in METADATA["classifiers"]]
    assert [match[1] for match in named if match] == tested
    assert METADATA["requires-python"] == f">={tested[0]}"


def test_pre_commit_formats_with_the_same_ruff() -> None:
    pinned = next(line for line in METADATA["optional-dependencies"]["dev"] if line.startswith("ruff=="))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert next(hook["rev"] for hook in hooks if hook["repo"].endswith("ruff-pre-commit")) == f"v{pinned[6:]}"


def test_what_the_distributions_include_exists() -> None:
    targets = PROJECT["tool"]["hatch"]["build"]["targets"]
    for name in [*targets["sdist"]["include"], *targets["wheel"]["packages"], *METADATA["license-files"]]:
        assert (ROOT / name.lstrip("/")).exists(), name
    assert targets["wheel"] == {"packages": ["src/shortest_path"]}
    assert (ROOT / "src/shortest_path/py.typed").is_file()


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r"^\s*sys\.path\.(insert|append)\b.*", id="import path"),
        pytest.param(r"""["'\s(=](/(home|Users|root|work)/|[A-Z]:\\Users).*""", id="folder of one machine"),
    ],
)
def test_scripts_leave_alone(pattern: str) -> None:
    assert len(SCRIPTS) > 100
    wrong = [
        f"{path.relative_to(ROOT)}: {found[0].strip()}"
        for path in SCRIPTS
        if (found := re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE))
    ]
    assert wrong == []
