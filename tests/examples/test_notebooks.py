"""The notebooks: what is in git is code and text alone, and every cell runs."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import matplotlib.pyplot as plt
import pytest

from tests.examples.commands import EXAMPLES

FOLDER = EXAMPLES / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
MAGIC = re.compile(r"^\s*[%!?]|\bget_ipython\b", re.MULTILINE)


def read(name: str) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return notebook


def execute(name: str, monkeypatch: pytest.MonkeyPatch, **sizes: object) -> dict[str, Any]:
    """Run the cells of a notebook from its folder, with other values of its constants, and return its names."""
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr(sys, "path", [*sys.path])
    plt.switch_backend("agg")
    names: dict[str, Any] = {"__name__": name}
    for number, cell in enumerate(read(name)["cells"]):
        if cell["cell_type"] != "code":
            continue
        code = "".join(cell["source"])
        for constant in re.findall(r"^([A-Z]+) = ", code, re.MULTILINE):
            if constant in sizes:
                value = f"{constant} = {sizes.pop(constant)!r}  "
                code = re.sub(rf"^{constant} = [^#\n]+", value, code, flags=re.MULTILINE)
        exec(compile(code, f"{name}[{number}]", "exec"), names)
        plt.close("all")
    assert not sizes, f"{name} has no constants {', '.join(sizes)}"
    return names


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_in_git_is_code_and_text_alone(name: str) -> None:
    notebook = read(name)
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for number, cell in enumerate(cells):
        assert cell["metadata"] == {}, number
        text = "".join(cell["source"])
        assert max(map(len, text.splitlines())) <= 78, number
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), number
            assert not MAGIC.search(text), number
            assert len([line for line in text.splitlines() if line.strip()]) <= 18, number


def test_the_notebook_of_your_data_shares_a_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SIZE": 8, "IMAGES": 128, "STEPS": 20, "BATCH": 16, "SAMPLES": 4, "CALLS": 4}
    found = execute("your_data", monkeypatch, **sizes)
    assert bool((found["again"] == found["samples"]).all())
    assert sum(found["losses"][-5:]) < sum(found["losses"][:5])
    kl = {row.name: row.kl[20] for row in found["compared"].rows}
    assert kl["shortest path"] < kl["Gaussian, cosine"]


def test_the_notebook_of_few_steps_shows_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SIZE": 8, "IMAGES": 20, "SAMPLES": 8, "CALLS": (4, 8), "MANY": 40}
    found = execute("few_steps_guidance_editing", monkeypatch, **sizes)
    errors = found["errors"]
    assert errors["multistep, spectrum"][1] < errors["multistep"][1] < errors["DDIM"][1]
    warmth = found["mean_warmth"]
    assert warmth[0.0] < warmth[1.0] < warmth[3.0]
    assert float(found["known"]) < 1e-5
    assert float((found["coarse"](found["fine"]) - found["y"]).abs().max()) < 1e-5
