"""Types of command-line arguments."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Return an integer of 1 or more."""
    return _at_least(1, text)


def two_or_more(text: str) -> int:
    """Return an integer of 2 or more."""
    return _at_least(2, text)


def label(text: str) -> int | str:
    """Return the number of a class, or "all"."""
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected the number of a class or 'all', got {text!r}")
    return text if text == "all" else int(text)


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more, got {text!r}")
    return int(text)
