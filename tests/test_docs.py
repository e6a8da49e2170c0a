"""What the README and the documentation show is run, and shows what it prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(text: str, mark: str, language: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n```{language}\n(.*?)```", text, re.DOTALL)
    assert found, mark
    return found[1]


def test_the_readmes_snippet_prints_what_the_readme_says() -> None:
    code = block(README, "snippet", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 18
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert printed.getvalue() == block(README, "output", "text")


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


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_code_in_the_documentation_runs(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": page}
    for number, code in enumerate(re.findall(r"<!-- run -->\n```python\n(.*?)```", text, re.DOTALL)):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, f"{page}[{number}]", "exec"), names)
    assert text.count("```python") == text.count("<!-- run -->")


def test_there_are_exactly_two_set_up_commands() -> None:
    commands = re.findall(r"<!-- command: (\w+) -->\n```bash\n(.*?)\n```", README)
    assert [name for name, _ in commands] == ["quickstart", "test"]
    assert README.count("```bash") == 2
    for _, command in commands:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_links_between_files_lead_somewhere() -> None:
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
