"""A check that solvers share."""

from __future__ import annotations


def check_eta(eta: float) -> None:
    """Raise a ValueError unless `eta` lies in [0, 1]."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1] (0 = deterministic, 1 = posterior), got {eta}")
