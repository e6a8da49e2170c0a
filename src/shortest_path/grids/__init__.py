"""At which times is the model called? Time grids.

A grid is a frozen value: called with a number of steps, it returns falling times. `Sampler(grid=...)` and
`gaussian_kl(grid=...)` take one of these, the name of one, or any function of the same form.

To add a grid: one file with a frozen dataclass, its export here, and its entry in `GRIDS` of tests/worlds.py.
"""

from .._picked import any_scale, coefficients_shape, scales_at
from ._coefficients import by_power, evenly, of_coefficients
from ._cosine import Cosine
from ._fisher import Fisher
from ._log_snr import LogSnr
from ._names import GridName, make_grid
from ._power import Power
from ._protocol import TimeGrid
from ._reference import Reference
from ._spectrum import Spectrum
from ._times import falling_times, has_own_start, make_times
from ._uniform import Uniform

__all__ = [
    "Cosine",
    "Fisher",
    "GridName",
    "LogSnr",
    "Power",
    "Reference",
    "Spectrum",
    "TimeGrid",
    "Uniform",
    "any_scale",
    "by_power",
    "coefficients_shape",
    "evenly",
    "falling_times",
    "has_own_start",
    "make_grid",
    "make_times",
    "of_coefficients",
    "scales_at",
]
