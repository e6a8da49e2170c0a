"""Solvers by name."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from .._checks import check_choice
from ._ancestral import Ancestral
from ._ddim import DDIM
from ._multistep import Multistep
from ._protocol import Solver

SolverName: TypeAlias = Literal["multistep", "ddim", "ancestral"]


def make_solver(solver: SolverName | Solver) -> Solver:
    """Return a solver, by its name with default options, or as it is.

    Raises:
        TypeError: `solver` is neither a name nor implements `Solver`.
        ValueError: an unknown name.
    """
    if isinstance(solver, str):
        check_choice("solver", solver, get_args(SolverName))
        solvers: dict[str, Solver] = {"multistep": Multistep(), "ddim": DDIM(), "ancestral": Ancestral()}
        return solvers[solver]
    if isinstance(solver, type) or not callable(getattr(solver, "start", None)):
        name = solver.__name__ if isinstance(solver, type) else type(solver).__name__
        raise TypeError(
            f"solver must be a name or implement `Solver`, got {name}; pass solvers.Multistep(), with its parentheses"
        )
    return solver


def is_deterministic(solver: Solver) -> bool:
    """Return whether a solver draws no noise; see `Solver`."""
    return bool(getattr(solver, "deterministic", True))
