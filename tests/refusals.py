"""What every refusal of a wrong argument must be: an error of the library's own, with the reason in words."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest


def check_refused(call: Callable[[], object], message: str) -> None:
    """Assert that a call raises a TypeError or ValueError with a message, in the library and not below it."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert message in str(caught.value)
    assert "shortest_path" in traceback.extract_tb(caught.value.__traceback__)[-1].filename
