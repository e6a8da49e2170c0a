"""Grids by name."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from torch import Tensor

from .._checks import check_choice
from ..corruptions import Corruption
from ._cosine import Cosine
from ._log_snr import LogSnr
from ._power import Power
from ._protocol import TimeGrid
from ._reference import Reference
from ._spectrum import Spectrum
from ._uniform import Uniform

GridName: TypeAlias = Literal["uniform", "cosine", "power", "log-snr", "spectrum", "reference"]


def make_grid(name: GridName, corruption: Corruption, power: Tensor | None = None) -> TimeGrid:
    """Return a grid by its name, with default options.

    Args:
        name: `"uniform"`, `"cosine"`, `"power"`, `"log-snr"`, `"spectrum"` or `"reference"`.
        corruption: The corruption to sample.
        power: The data's power in its coefficients, for `"spectrum"`; None takes the corruption's own.

    Raises:
        ValueError: an unknown name, or no power for `"spectrum"`.
    """
    check_choice("grid", name, get_args(GridName))
    if name == "log-snr":
        return LogSnr(corruption)
    if name == "spectrum":
        return Spectrum(corruption, power)
    grids: dict[str, TimeGrid] = {
        "uniform": Uniform(),
        "cosine": Cosine(),
        "power": Power(),
        "reference": Reference(),
    }
    return grids[name]
