"""How does sampling move from one time to the next? Solvers.

A solver is a frozen value with its options, and one method, `start`, that makes the step function of a run:
`step(u_t, u_0, here, there, noise)` returns u_s. The sampler and the exact analysis take any such value; the strings
`"multistep"`, `"ddim"` and `"ancestral"` are shorthands for the defaults.

To add a solver: one file with a frozen dataclass, its export here, and its entry in `SOLVERS` of tests/worlds.py. A
solver for a study of your own needs no change here (docs/write-your-own-solver.md).
"""

from ..corruptions import Point
from ._ancestral import Ancestral, Variance
from ._coordinates import Exponential, Form, Rotation, Whitened, extrapolation
from ._ddim import DDIM
from ._multistep import Multistep
from ._names import SolverName, check_step, is_deterministic, make_solver
from ._numbers import StepNumbers, add_scaled
from ._protocol import Solver, Step
from ._transition import ForwardWeights, StepWeights, forward_weights, noise_ratio, posterior_weights

__all__ = [
    "DDIM",
    "Ancestral",
    "Exponential",
    "Form",
    "ForwardWeights",
    "Multistep",
    "Point",
    "Rotation",
    "Solver",
    "SolverName",
    "Step",
    "StepNumbers",
    "StepWeights",
    "Variance",
    "Whitened",
    "add_scaled",
    "check_step",
    "extrapolation",
    "forward_weights",
    "is_deterministic",
    "make_solver",
    "noise_ratio",
    "posterior_weights",
]
