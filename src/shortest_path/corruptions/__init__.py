"""How are data corrupted? The protocol, equation 1, and the corruptions.

Every corruption is a diagonal Gaussian process in an orthonormal basis B (equation 1 of docs/theory.md):

    u_t = m + a_t ⊙ (u_0 − m) + s_t ⊙ ε,    ε ~ N(0, I),    x_t = Bᵀ u_t,    u_0 = B x_0

`signal(t)` is a_t and `noise(t)` is s_t, for continuous t from 0 (data) to 1 (noise); m is the data's mean where the
corruption is made of a spectrum that has it, else 0. Processes that mix coefficients (a full matrix a_t) are out of
scope: choose a basis in which they are diagonal.

To add a corruption: one file with a subclass of `ElementwiseCorruption` that defines `_scales` (or of
`DiagonalCorruption`, with `signal` and `noise`), its export here and at the top, and its entry in `CORRUPTIONS` of
tests/worlds.py, which runs the laws on it.
"""

from ._blur import BlurCorruption
from ._clock import ClockCorruption
from ._corrupt import corrupt
from ._diagonal import DiagonalCorruption
from ._elementwise import ElementwiseCorruption, Pick, computes_picked
from ._end import same_rotation
from ._gaussian import GaussianCorruption
from ._heat import HeatDissipationCorruption
from ._process import Process, common_basis, prior_deviation
from ._protocol import Corruption, check_corruption
from ._registry import corruption_from_state, corruption_state, register
from ._rows import Rows, divided, in_parts
from ._scales import (
    Point,
    as_times,
    both_scales,
    check_device,
    check_noise,
    known_mean,
    known_power,
    one_time,
    per_sample,
    scales,
)
from ._schedules import LinearSchedule, Schedule, ScheduleName
from ._shortest_path import ShortestPathCorruption
from ._staggered import StaggeredCorruption

__all__ = [
    "BlurCorruption",
    "ClockCorruption",
    "Corruption",
    "DiagonalCorruption",
    "ElementwiseCorruption",
    "GaussianCorruption",
    "HeatDissipationCorruption",
    "LinearSchedule",
    "Pick",
    "Point",
    "Process",
    "Rows",
    "Schedule",
    "ScheduleName",
    "ShortestPathCorruption",
    "StaggeredCorruption",
    "as_times",
    "both_scales",
    "check_corruption",
    "check_device",
    "check_noise",
    "common_basis",
    "computes_picked",
    "corrupt",
    "corruption_from_state",
    "corruption_state",
    "divided",
    "in_parts",
    "known_mean",
    "known_power",
    "one_time",
    "per_sample",
    "prior_deviation",
    "register",
    "same_rotation",
    "scales",
]
