"""Command lines of all studies, benchmarks and figures: their help, and what the documentation's figures name."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("benchmarks", "studies", "docs")
    for path in (ROOT / folder).rglob("*.py")
    if 'if __name__ == "__main__"' in path.read_text()
)


def test_all_programs_are_found() -> None:
    assert len(PROGRAMS) == 6 + 9 + 14


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_docstring_name_the_command(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(program)
    command = f"python -m {program.removesuffix('.__main__')}"
    assert f"\n    {command}" in module.__doc__
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {command} ")
