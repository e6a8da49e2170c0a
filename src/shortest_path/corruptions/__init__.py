"""How are data corrupted? The protocol, equation 1, and the corruptions.

Every corruption is a diagonal Gaussian process in an orthonormal basis B (equation 1 of docs/theory.md):

    u_t = a_t ⊙ u_0 + s_t ⊙ ε,    ε ~ N(0, I),    x_t = Bᵀ u_t,    u_0 = B x_0

`signal(t)` is a_t and `noise(t)` is s_t, for continuous t from 0 (data) to 1 (noise). Processes that mix
coefficients (a full matrix a_t) are out of scope: choose a basis in which they are diagonal.

To add a corruption: one file with a subclass of `DiagonalCorruption` that defines `signal` and `noise`, its export here
and at the top, and its entry in `CORRUPTIONS` of tests/worlds.py, which runs the laws on it.
"""

from ._blur import BlurCorruption
from ._corrupt import corrupt
from ._diagonal import DiagonalCorruption
from ._gaussian import GaussianCorruption
from ._heat import HeatDissipationCorruption
from ._process import Process, prior_deviation
from ._protocol import Corruption, check_corruption
from ._scales import Point, as_times, both_scales, check_device, known_power, one_time, per_sample, scales
from ._schedules import Schedule, ScheduleName
from ._shortest_path import ShortestPathCorruption

__all__ = [
    "BlurCorruption",
    "Corruption",
    "DiagonalCorruption",
    "GaussianCorruption",
    "HeatDissipationCorruption",
    "Point",
    "Process",
    "Schedule",
    "ScheduleName",
    "ShortestPathCorruption",
    "as_times",
    "both_scales",
    "check_corruption",
    "check_device",
    "corrupt",
    "known_power",
    "one_time",
    "per_sample",
    "prior_deviation",
    "scales",
]
