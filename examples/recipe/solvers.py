"""Solvers from the flags of a command line."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import get_args

from shortest_path.solvers import Solver, SolverName, Variance, make_solver

_KINDS = {name: type(make_solver(name)) for name in get_args(SolverName)}
_FLAGS = ("eta", "order", "variance")  # each is an option of some solvers


def add_solver(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `solver_of` reads."""
    add = parser.add_argument
    add("--solver", choices=tuple(_KINDS), default="multistep", help="(%(default)s)")
    add("--eta", type=float, help="for ddim and multistep: fraction of noise, 0 to 1 (default: 0)")
    add("--order", type=int, choices=(1, 2), help="for multistep (default: 2)")
    add("--variance", choices=get_args(Variance), help="of the noise, for ancestral (default: large)")


def solver_of(args: argparse.Namespace) -> Solver:
    """Return the solver that the flags describe.

    Raises:
        ValueError: a flag without effect, or a value out of range.
    """
    options = {name: {field.name for field in fields(kind)} for name, kind in _KINDS.items()}
    given = {flag: getattr(args, flag) for flag in _FLAGS if getattr(args, flag) is not None}
    for flag in sorted(given.keys() - options[args.solver]):
        others = " or ".join(name for name in _KINDS if flag in options[name])
        raise ValueError(f"--{flag} has no effect with --solver {args.solver}; omit it, or use --solver {others}")
    return _KINDS[args.solver](**given)
