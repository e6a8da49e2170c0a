"""Command lines of all studies, benchmarks and figures: their help, and what the documentation's figures name."""

from __future__ import annotations

import importlib
import re
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
    assert len(PROGRAMS) == 6 + 11 + 14


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_docstring_name_the_command(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(program)
    command = f"python -m {program.removesuffix('.__main__')}"
    assert f"\n    {command}" in module.__doc__
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {command} ")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(program)
    with pytest.raises(SystemExit):
        module.main(["--help"])
    (tmp_path / "file").touch()
    told = capsys.readouterr().out
    for flag in ("--json", "--plot", "--out"):
        if f"\n  {flag} " not in told:
            continue
        with pytest.raises(SystemExit, match="2"):
            module.main([flag, str(tmp_path / "file" / "a.svg")])
        assert re.search(f"argument {flag}: cannot write to .*a.svg .Not a directory.;", capsys.readouterr().err)
        if flag == "--plot" or (flag == "--out" and program.startswith("docs.figures")):
            with pytest.raises(SystemExit, match="2"):
                module.main([flag, str(tmp_path / "a.xyz")])
            assert "a.xyz must end in .png or .svg or .pdf" in capsys.readouterr().err


@pytest.mark.parametrize("program", [each for each in PROGRAMS if each.startswith(("docs.figures", "studies"))])
def test_data_that_are_not_there_end_a_program_with_one_line(
    program: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    module = importlib.import_module(program)
    with pytest.raises(SystemExit):
        module.main(["--help"])
    if "[--data DATA]" not in capsys.readouterr().out:
        return
    with pytest.raises(SystemExit, match="^[a-z_]+: .*nope does not exist; pass"):
        module.main(["--data", str(tmp_path / "nope")])
