"""Types of arguments of command lines: what can be seen to fail is refused before any work."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.recipe import arguments
from tests.examples.commands import EXAMPLES


def test_arguments_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nothing")
    kinds: tuple[tuple[Callable[[str], Any], str, str], ...] = (
        (arguments.path, "", r"expected a path, got nothing; use \. for the present folder"),
        (arguments.four_or_more, "2", "expected a whole number, 4 or more, got '2'"),
        *(
            (arguments.module, text, "expected the name of a module, e.g. my_corruptions for my_corruptions.py, got ")
            for text in ("", "../x", ".x", "x.", "a b", "1x", "my.py")
        ),
        (arguments.seed, "-1", "expected a whole number, 0 or more, got '-1'"),
        (arguments.seed, str(2**63), r"expected a whole number from 0 to 2\*\*63 - 1, got '9223372036854775808'"),
        (arguments.device, "nope", "'nope' cannot be used (.*); choose another, e.g. cpu"),
        (arguments.device, "meta", "'meta' cannot be used (.*); choose another, e.g. cpu"),
        (arguments.output_folder, "", "expected a path, got nothing"),
        (arguments.output_folder, f"{tmp_path}/file", r"cannot write to .*file \(Not a directory\); choose another"),
        (arguments.output_folder, f"{tmp_path}/file/a", r"cannot write to .*a \(Not a directory\); choose another"),
        (arguments.output_folder, f"{tmp_path}/link", r"cannot write to .*link \(No such file or directory\); choose"),
        (arguments.output_file, "", "expected a path, got nothing"),
        (arguments.output_file, str(tmp_path), r"is a folder; name a file in it, e\.g\. .*results\.json"),
        (arguments.output_file, f"{tmp_path}/file/a.json", r"cannot write to .*a\.json \(Not a directory\); choose"),
        (arguments.output_figure, "", "expected a path, got nothing"),
        (arguments.output_figure, str(tmp_path), r"is a folder; name a file in it, e\.g\. .*figure\.png"),
        (arguments.output_figure, f"{tmp_path}/a.xyz", r"a\.xyz must end in \.png or \.svg or \.pdf, the kinds of fig"),
        (arguments.output_figure, f"{tmp_path}/file/a.png", r"cannot write to .*a\.png \(.*\); choose another"),
    )
    for kind, text, message in kinds:
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            kind(text)
    assert arguments.output_figure(f"{tmp_path}/new/deep/a.png") == tmp_path / "new" / "deep" / "a.png"
    assert arguments.output_folder(f"{tmp_path}/other") == tmp_path / "other"
    assert arguments.output_file(f"{tmp_path}/other/a") == tmp_path / "other" / "a"
    assert {each.name for each in tmp_path.iterdir()} == {"file", "link"}  # nothing is left of the trial
    assert arguments.module("package.my_corruptions") == "package.my_corruptions"
    assert arguments.path("~") == Path.home()
    assert arguments.device("cpu").type == "cpu"


def test_errors_name_the_flag() -> None:
    assert arguments.in_flags(ValueError('or skip such with on_error="skip"')) == "or skip such with --on-error skip"


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_imports_only_what_python_finds_from_its_own_folder(script: Path) -> None:
    assert not re.search(r"^\s*(from|import) (examples|tests|studies|benchmarks)\b", script.read_text(), re.MULTILINE)
