"""Types of command-line arguments."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch

from .files import try_writing

LEAST_SIZE = 4
"""The least size of images that have more than one frequency."""

_FLAGS = {'on_error="skip"': "--on-error skip", "omit ema_decay": "omit --ema"}
_FIGURES = (".png", ".svg", ".pdf")


def in_flags(error: Exception) -> str:
    """Return the message of an error with flags in place of the arguments of Python."""
    text = str(error)
    for argument, flag in _FLAGS.items():
        text = text.replace(argument, flag)
    return text


def advised(message: str) -> str:
    """Return a message of jsonargparse, which says what was expected and what arrived, with how to mend it."""
    found = re.search(r'key "(\w+)":\s+Expected a (.*)\. Got value: (.+)', message)
    if found is None:
        return message
    name, expected, value = found.groups()
    if expected == "<class 'tuple'>":
        return f"{message}; a list has brackets; write [{value.replace(' ', '')}]"
    if "'yes'" in expected and value in ("True", "False"):
        word = "yes" if value == "True" else "no"
        return f"{message}; YAML takes yes, no, on and off without quotes for true and false; write {name}: '{word}'"
    return message


def positive(text: str) -> int:
    """Return an integer of 1 or more."""
    return _at_least(1, text)


def two_or_more(text: str) -> int:
    """Return an integer of 2 or more."""
    return _at_least(2, text)


def four_or_more(text: str) -> int:
    """Return an integer of 4 or more: a size of images that have more than one frequency."""
    return _at_least(LEAST_SIZE, text)


def seed(text: str) -> int:
    """Return a random seed that torch and numpy take: 0 to 2⁶³ − 1."""
    found = _at_least(0, text)
    if found >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**63 - 1, got {text!r}")
    return found


def label(text: str) -> int | str:
    """Return the number of a class, or "all"."""
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected the number of a class or 'all', got {text!r}")
    return text if text == "all" else int(text)


def add_on_error(parser: argparse.ArgumentParser) -> None:
    """Add the flag of what to do about images that cannot be read, under the name that train_cifar10.py has too."""
    help_ = "what to do about images that cannot be read (%(default)s)"
    parser.add_argument("--on-error", "--on_error", choices=("raise", "skip"), default="raise", help=help_)


def path(text: str) -> Path:
    """Return a path, with "~" expanded."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got nothing; use . for the present folder")
    return Path(text).expanduser()


def module(text: str) -> str:
    """Return the name of a module, as an import statement has it."""
    if text.endswith(".py") or not all(part.isidentifier() for part in text.split(".")):
        raise argparse.ArgumentTypeError(
            f"expected the name of a module, e.g. my_corruptions for my_corruptions.py, got {text!r}; its folder goes "
            "into PYTHONPATH"
        )
    return text


def device(text: str) -> torch.device:
    """Return a device on which a tensor can be made."""
    try:
        found = torch.device(text)
        torch.zeros(1, device=found).item()  # which the meta device does not have
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # the second: a torch without CUDA
        reason = " ".join(str(error).split(";")[0].split("\n")[0].split())
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used ({reason}); choose another, e.g. cpu") from error
    return found


def output_folder(text: str) -> Path:
    """Return a folder that can be written to, or made; nothing is left there before there is something to write."""
    return _tried(path(text), text)


def output_file(text: str) -> Path:
    """Return a file in a folder that can be written to, or made; nothing is left there."""
    return _output_file(text, "results.json")


def output_figure(text: str) -> Path:
    """Return a file for a figure, in a folder that can be written to, or made; nothing is left there."""
    file = _output_file(text, "figure.png")
    if file.suffix.lower() not in _FIGURES:
        raise argparse.ArgumentTypeError(f"{text} must end in {' or '.join(_FIGURES)}, the kinds of figures")
    return file


def _output_file(text: str, example: str) -> Path:
    file = path(text)
    if file.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file in it, e.g. {file / example}")
    _tried(file.parent, text)
    return file


def _tried(folder: Path, text: str) -> Path:
    """Return a folder after writing to it, or to the nearest one above it that is there."""
    try:
        try_writing(folder)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write to {text} ({error.strerror}); choose another") from error
    return folder


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more, got {text!r}")
    return int(text)
