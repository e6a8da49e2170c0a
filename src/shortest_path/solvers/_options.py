"""A check that solvers share."""

from __future__ import annotations

from numbers import Real


def check_eta(eta: object) -> None:
    """Raise unless `eta` is a number in [0, 1]."""
    if isinstance(eta, bool) or not isinstance(eta, Real):
        raise TypeError(f"eta must be a number in [0, 1], got {eta!r}")
    if not 0 <= float(eta) <= 1:
        raise ValueError(f"eta must lie in [0, 1] (0 = deterministic, 1 = posterior), got {eta}")
