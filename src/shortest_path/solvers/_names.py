"""Solvers by name."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from torch import Tensor

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
    if isinstance(solver, type):
        raise TypeError(f"solver must be a value, got the class {solver.__name__}; pass {solver.__name__}()")
    if not callable(getattr(solver, "start", None)):
        raise TypeError(
            f"solver must be one of {', '.join(map(repr, get_args(SolverName)))} or implement `Solver`, "
            f"got {type(solver).__name__}; see shortest_path.solvers"
        )
    return solver


def check_step(u_s: object, u_t: Tensor, name: str) -> Tensor:
    """Return what a step function returned, after checking that it is like its input.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: another shape.
    """
    if not isinstance(u_s, Tensor):
        raise TypeError(f"a step of solver {name} must return a tensor like u_t, got {type(u_s).__name__}")
    if u_s.shape != u_t.shape:
        raise ValueError(
            f"a step of solver {name} must return the shape of u_t, {tuple(u_t.shape)}, got {tuple(u_s.shape)}"
        )
    return u_s


def is_deterministic(solver: Solver) -> bool:
    """Return whether a solver draws no noise; see `Solver`."""
    return bool(getattr(solver, "deterministic", True))
