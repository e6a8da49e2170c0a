"""What the README and the documentation show is run, and shows what it prints; what they name exists."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import io
import itertools
import math
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import shortest_path as sp
from tests.examples.commands import run
from tests.test_layers import FILES, imports, room

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = ["CONTRIBUTING.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
FOLDERS = ("examples", "examples/notebooks", "benchmarks", "studies")
PAGES = ["README.md", *(f"{folder}/README.md" for folder in FOLDERS), *CODE]
PYTHON = re.compile(r"(?:<!-- (?P<mark>[\w: ]+) -->\n)?```python\n(?P<code>.*?)```\n", re.DOTALL)
OUTPUT = re.compile(r"\n*<!-- output -->\n```text\n(?P<text>.*?)```", re.DOTALL)
MARK = re.compile(r"run|gpu|network|needs: \w+")  # the middle two cannot run here, the last only with a package
FENCED = re.compile(r"^```(?:python|bash|sh|yaml)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"```(?:bash|sh)\n(.*?)```", re.DOTALL)
LINE = re.compile(r"(?<=`)(?:python3?|torchrun) [^`]+(?=`)|^ {4}(?:python3?|torchrun) .+$", re.MULTILINE)
PROGRAM = re.compile(r"\S+ (examples|benchmarks|studies|docs)/(?!test_)\S+\.py|-m (benchmarks|studies|docs)\.[a-z_.]+")
FILE = re.compile(r"\b((?:src|tests|examples|benchmarks|studies|docs)/[\w./-]+\.(?:py|md|yaml|json|svg|png|ipynb))\b")
OPTIONAL = {"plots": "matplotlib", "integrations.diffusers": "diffusers"}
NAME = re.compile(r"\b(?:sp|shortest_path)\.([A-Za-z]\w*(?:\.[A-Za-z]\w*)*)")


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def block(text: str, mark: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, mark
    return found[1]


def printed_by(code: str, where: str, names: dict[str, object]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, where, "exec"), names)
    return printed.getvalue()


def check_page(text: str, page: str) -> None:
    """Run the marked blocks of a page in one namespace, and compare what they print with what the page shows."""
    names: dict[str, object] = {"__name__": page}
    compared = 0
    for number, found in enumerate(PYTHON.finditer(text)):
        where, mark = f"{page}[{number}]", found["mark"] or ""
        assert MARK.fullmatch(mark), f"{where}: a block of Python must be marked as run, gpu, network or needs: package"
        if not (mark == "run" or (mark.startswith("needs: ") and find_spec(mark[7:]))):
            compared += mark.startswith("needs: ") and OUTPUT.match(text, found.end()) is not None  # where it is found
            continue
        printed = printed_by(found["code"], where, names)
        if shown := OUTPUT.match(text, found.end()):
            assert printed == shown["text"], where
            compared += 1
    lines = text.splitlines()
    assert lines.count("```python") == len(PYTHON.findall(text)), f"{page}: a block of Python that is not closed"
    assert lines.count("<!-- output -->") == compared, f"{page}: an output that follows no block that was run"


def test_the_readmes_snippet_prints_what_the_readme_says_and_is_shared_as_it_says(tmp_path: Path) -> None:
    code = block(README, "snippet")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    names: dict[str, Any] = {"__name__": "readme"}
    assert printed_by(code, "README.md", names) == block(README, "output")
    names["trainer"].save_pretrained(tmp_path)
    loading = re.search(r"`(sp\.Sampler\.from_pretrained\(.*\))`", README)
    assert loading is not None
    shared = eval(loading[1], {**names, "folder": tmp_path})
    images = torch.zeros(2, 3, 16, 16)
    torch.testing.assert_close(shared.model(images, torch.ones(2)), names["trainer"].ema_model(images, torch.ones(2)))


def test_the_readmes_table_of_corruptions_makes_corruptions() -> None:
    spectrum = sp.PowerSpectrum.power_law((3, 16, 8), amplitude=1.0, offset=0.1, exponent=2.0, basis=sp.CosineBasis())
    values = {"spectrum": spectrum, "H": 16, "W": 8, "delay": torch.rand(3, 16, 8), "w": 1.0}
    values |= {"corruption": sp.GaussianCorruption("flow"), "angle": lambda t: t * math.pi / 2}
    rows = re.findall(r"^\| (`.*?) \|", README.split("## Corruptions")[1], re.MULTILINE)
    codes = [code for row in rows for code in re.findall(r"`(\w+Corruption\([^`]*\))`", row)]
    assert len(codes) == 7
    for code in codes:
        made = eval(code, {**vars(sp), **vars(sp.corruptions), **values})
        noised = sp.corrupt(made, torch.zeros(2, 3, 16, 8), torch.tensor([0.1, 0.5]), torch.randn(2, 3, 16, 8))
        assert noised.isfinite().all(), code


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
@pytest.mark.parametrize("page", [page for page in CODE if "```python" in read(page)])
def test_code_in_the_documentation_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # pages may write files
    check_page(read(page), page)


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("<!-- slow -->\n```python\n1\n```\n", "must be marked"),
        ("<!-- run -->\n```python\nprint(1)\n```\n\n<!-- output -->\n```text\n2\n```\n", r"page\[0\]"),
        ("<!-- gpu -->\n```python\nprint(1)\n```\n\n<!-- output -->\n```text\n1\n```\n", "an output that follows"),
        ("<!-- needs: torch -->\n```python\nprint(1)\n```\n\n<!-- output -->\n```text\n2\n```\n", r"page\[0\]"),
        ("<!-- run -->\n```python\nprint(1)\n", "not closed"),
    ],
)
def test_a_page_that_is_wrong_is_found(page: str, error: str) -> None:
    with pytest.raises(AssertionError, match=error):
        check_page(page, "page")


def test_the_drawing_of_the_layers_is_true() -> None:
    drawing = block(read("CONTRIBUTING.md"), "layers")
    rows = [re.findall(r"\w+", row) for row in reversed(re.split(r"[├└┌][─┬┴┼]+[┤┘┐]", drawing)) if row.strip()]
    level = {name: number for number, row in enumerate(rows) for name in row}
    assert set(level) == {room(path) for path in FILES} - {"__init__"}
    for path in FILES:
        for name, ours in imports(path):
            if ours and room(path) not in ("__init__", name[0]):
                assert level[name[0]] < level[room(path)], f"{room(path)} imports {name[0]}"


@pytest.mark.parametrize("page", [page for page in CODE if page.startswith("docs/")])
def test_code_fits_the_width_of_a_page(page: str) -> None:
    lines = [line for found in FENCED.findall(read(page)) for line in found.splitlines()]
    assert [line for line in lines if len(line) > 78] == []


def test_the_questions_quote_errors_as_the_library_writes_them() -> None:
    texts = []
    for node in (node for path in FILES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            texts.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    quoted = re.findall(r"^### .*`(.{40,})`$", read("docs/how-to/faq.md"), re.MULTILINE)
    assert len(quoted) >= 6
    for quote in quoted:
        pattern = ".*".join(map(re.escape, quote.split("…")))
        assert any(re.search(pattern, text, re.DOTALL) for text in texts), quote


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_files_links_and_names_of_the_library_exist(page: str) -> None:
    text = read(page)
    links = [(ROOT / page).parent / target for target in re.findall(r"\]\((?!http|#)([^)#\s]+)", text)]
    assert [str(path) for path in [*links, *(ROOT / path for path in FILE.findall(text))] if not path.exists()] == []
    for optional in ("plots", "integrations.diffusers"):  # imported by name only
        if find_spec(OPTIONAL[optional]):
            import_module(f"shortest_path.{optional}")
    for found in NAME.findall(text):
        value: object = sp
        for name in found.split("."):
            if isinstance(value, type(sp) | type):  # else an attribute of an instance
                assert hasattr(value, name), f"{page}: {found}"
                value = getattr(value, name)


def test_there_are_exactly_two_set_up_commands() -> None:
    found = re.findall(r"<!-- command: (\w+) -->\n```bash\n(.*?)\n```", README)
    assert [name for name, _ in found] == ["quickstart", "test"]
    assert README.count("```bash") == 2
    assert all(command.startswith("python3 -m venv .venv && .venv/bin/pip install ") for _, command in found)


# Commands -------------------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (program, options) for every example and every module of this repository that a page runs in a shell."""
    blocks = [line for found in SHELL.findall(text) for line in found.replace("\\\n", " ").splitlines()]
    for line in [*blocks, *LINE.findall(text)]:
        words = shlex.split(line.replace("\n", " "), comments=True)
        programs = [place for place, word in enumerate(words) if PROGRAM.fullmatch(f"{words[place - 1]} {word}")]
        for start, end in itertools.pairwise([*programs, len(words)]):
            options = [word.split("=")[0] for word in words[start + 1 : end] if re.match(r"--[a-z]", word)]
            yield words[start], options


@functools.cache
def known_options(program: str) -> frozenset[str]:
    """Return the options in a program's --help, dashes written as underscores."""
    if program.endswith(".py"):
        text = run(Path(program).stem, "--help").out
    else:
        package = (ROOT / program.replace(".", "/")).is_dir()
        with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
            importlib.import_module(f"{program}.__main__" if package else program).main(["--help"])
        text = printed.getvalue()
    found = {name.replace("-", "_") for name in re.findall(r"--([a-z][\w-]*)", text)}
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_programs_and_options_that_exist(page: str) -> None:
    for program, options in commands(read(page)):
        known = (ROOT / program).is_file() if program.startswith("examples/") else find_spec(program)
        assert known, f"{page}: {program}"
        unknown = {name[2:].replace("-", "_") for name in options} - (known_options(program) if options else set())
        assert not unknown, f"{page}: {program} has no {', '.join(sorted(unknown))}"


def test_commands_are_found_in_blocks_and_in_lines() -> None:
    text = """
```bash
torchrun --standalone --nproc_per_node 2 examples/a.py --batch-size 3 \\
    --out=x  # --comment
FOO=1 .venv/bin/python examples/b.py -q --c && python -m benchmarks.d
```
and `python -m studies.e PATH --f`, `python --version`, `pip install x`, `python -m pytest -n 2`

    python examples/g.py --h i
"""
    assert list(commands(text)) == [
        ("examples/a.py", ["--batch-size", "--out"]),
        ("examples/b.py", ["--c"]),
        ("benchmarks.d", []),
        ("studies.e", ["--f"]),
        ("examples/g.py", ["--h"]),
    ]
