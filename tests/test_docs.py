"""What the README and the documentation show is run, and shows what it prints."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_layers import LAYERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
PYTHON = re.compile(r"(?:<!-- (?P<mark>[\w: ]+) -->\n)?```python\n(?P<code>.*?)```\n", re.DOTALL)
OUTPUT = re.compile(r"\n*<!-- output -->\n```text\n(?P<text>.*?)```", re.DOTALL)
MARKS = {"run", "gpu", "network"}  # the last two: cannot run here, and say so
SHELL = re.compile(r"```(?:bash|sh)\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`((?:python3?|torchrun) [^`]+)`")
INDENTED = re.compile(r"^ {4}((?:python3?|torchrun) .+)$", re.MULTILINE)


def block(text: str, mark: str, language: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n```{language}\n(.*?)```", text, re.DOTALL)
    assert found, mark
    return found[1]


def printed_by(code: str, where: str, names: dict[str, object]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, where, "exec"), names)
    return printed.getvalue()


def check_page(text: str, page: str) -> None:
    """Run the marked blocks of a page in one namespace, and compare what they print with what the page shows."""
    names: dict[str, object] = {"__name__": page}
    compared = 0
    for number, found in enumerate(PYTHON.finditer(text)):
        where = f"{page}[{number}]"
        assert found["mark"] in MARKS, f"{where}: a block of Python must be marked as one of {', '.join(sorted(MARKS))}"
        if found["mark"] != "run":
            continue
        printed = printed_by(found["code"], where, names)
        if shown := OUTPUT.match(text, found.end()):
            assert printed == shown["text"], where
            compared += 1
    lines = text.splitlines()
    assert lines.count("```python") == len(PYTHON.findall(text)), f"{page}: a block of Python that is not closed"
    assert lines.count("<!-- output -->") == compared, f"{page}: an output that follows no block that was run"


def test_the_readmes_snippet_prints_what_the_readme_says() -> None:
    code = block(README, "snippet", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 18
    assert printed_by(code, "README.md", {"__name__": "readme"}) == block(README, "output", "text")


def test_the_readmes_own_corruption_trains_and_samples() -> None:
    import torch

    import shortest_path as sp

    code = re.search(r"## Write your own corruption\n.*?```python\n(.*?)```", README, re.DOTALL)
    assert code
    assert len(code[1].splitlines()) <= 8
    names: dict[str, object] = {"sp": sp}
    exec(compile(code[1], "README.md", "exec"), names)
    corruption = names["Fade"]()  # type: ignore[operator]
    model = torch.nn.Conv2d(3, 3, 1)
    model.forward = lambda x_t, t, forward=model.forward: forward(x_t)  # type: ignore[method-assign]
    trainer = sp.DiffusionTrainer(model, corruption)
    trainer.fit([torch.rand(4, 3, 16, 16)], steps=1)
    assert sp.Sampler(trainer.ema_model, corruption, steps=2).sample((1, 3, 16, 16)).shape == (1, 3, 16, 16)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
@pytest.mark.parametrize("page", PAGES)
def test_code_in_the_documentation_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # pages may write files
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    check_page((DOCS / page).read_text(encoding="utf-8"), page)


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("```python\n1\n```\n", "must be marked"),
        ("<!-- slow -->\n```python\n1\n```\n", "must be marked"),
        ("<!-- run -->\n```python\nprint(1)\n```\n\n<!-- output -->\n```text\n2\n```\n", r"page\[0\]"),
        ("<!-- gpu -->\n```python\nprint(1)\n```\n\n<!-- output -->\n```text\n1\n```\n", "an output that follows"),
        ("<!-- run -->\n```python\nprint(1)\n", "not closed"),
    ],
)
def test_a_page_that_is_wrong_is_found(page: str, error: str) -> None:
    with pytest.raises(AssertionError, match=error):
        check_page(page, "page")


def test_the_picture_of_the_layers_is_true() -> None:
    picture = block((DOCS / "contributing.md").read_text(encoding="utf-8"), "layers", "text")
    boxes = re.split(r"├─+┤", picture.strip("┌─┐└┘\n"))
    assert [re.findall(r"\w+", box) for box in reversed(boxes)] == LAYERS


# Commands -------------------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (script, options) for every script of this repository that a page runs in a shell."""
    blocks = [line for found in SHELL.findall(text) for line in found.replace("\\\n", " ").splitlines()]
    inline = [found.replace("\n", " ") for found in INLINE.findall(text)]
    for line in [*blocks, *inline, *INDENTED.findall(text)]:
        words = shlex.split(line, comments=True)
        scripts = [
            place for place, word in enumerate(words) if re.fullmatch(r"(examples|benchmarks)/(?!test_)\S+\.py", word)
        ]
        for start, end in itertools.pairwise([*scripts, len(words)]):
            options = [word.split("=")[0] for word in words[start + 1 : end] if re.match(r"--[a-z]", word)]
            yield words[start], options


@functools.cache
def known_options(script: str) -> frozenset[str]:
    """Return the options in a script's --help, dashes written as underscores."""
    help_, path, argv, variables = io.StringIO(), sys.path[:], sys.argv, dict(os.environ)
    sys.path.insert(0, str((ROOT / script).parent))
    sys.argv = [script, "--help"]
    try:
        with contextlib.redirect_stdout(help_):
            runpy.run_path(str(ROOT / script), run_name="__main__")
        code = None
    except SystemExit as left:
        code = left.code
    finally:
        sys.path[:], sys.argv = path, argv
        os.environ.clear()
        os.environ.update(variables)
    assert not code, script
    found = {name.replace("-", "_") for name in re.findall(r"--([a-z][\w-]*)", help_.getvalue())}
    if script == "examples/deviation_study.py":  # passes others on
        found |= known_options("examples/train_cifar10.py")
    return frozenset(found)


@pytest.mark.parametrize(
    "page", ["README.md", "examples/README.md", "benchmarks/README.md", *(f"docs/{page}" for page in PAGES)]
)
def test_commands_name_scripts_and_options_that_exist(page: str) -> None:
    for script, options in commands((ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / script).is_file(), f"{page}: {script}"
        unknown = {name[2:].replace("-", "_") for name in options} - (known_options(script) if options else set())
        assert not unknown, f"{page}: {script} has no {', '.join(sorted(unknown))}"


def test_commands_are_found_in_blocks_and_in_lines() -> None:
    text = """
```bash
torchrun --standalone --nproc_per_node 2 examples/a.py --batch-size 3 \\
    --out=x  # --comment
FOO=1 .venv/bin/python examples/b.py -q --c && python benchmarks/d.py
```
and `python examples/e.py PATH --f`, `python --version`, `pip install x`

    python examples/g.py --h i
"""
    assert list(commands(text)) == [
        ("examples/a.py", ["--batch-size", "--out"]),
        ("examples/b.py", ["--c"]),
        ("benchmarks/d.py", []),
        ("examples/e.py", ["--f"]),
        ("examples/g.py", ["--h"]),
    ]


def test_there_are_exactly_two_set_up_commands() -> None:
    found = re.findall(r"<!-- command: (\w+) -->\n```bash\n(.*?)\n```", README)
    assert [name for name, _ in found] == ["quickstart", "test"]
    assert README.count("```bash") == 2
    for _, command in found:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_links_between_files_lead_somewhere() -> None:
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(DOCS / page for page in PAGES)):
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"
