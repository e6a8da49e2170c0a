"""Corruption processes for diffusion models.

Every corruption is a diagonal Gaussian process in an orthonormal basis B, for continuous time t from
0 (data) to 1 (noise):

    x_t = Bᵀ[ signal(t) ⊙ B x_0 + noise(t) ⊙ B ε ],    ε ~ N(0, I)

`PowerSpectrum` measures the data, `ShortestPathCorruption` turns a spectrum into the shortest path of the
Fisher metric, and `DiffusionTrainer` and `Sampler` work with any corruption and any model.

The common names are here; everything else is in the namespaces `bases`, `spectra`, `corruptions`, `prediction`,
`solvers`, `grids`, `geometry`, `sampling`, `edits`, `models` and `training`.
"""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import bases, corruptions, geometry, grids, models, prediction, sampling, solvers, spectra, training
from .bases import CosineBasis, FourierBasis, PixelBasis, PrincipalBasis
from .corruptions import (
    BlurCorruption,
    ClockCorruption,
    Corruption,
    DiagonalCorruption,
    GaussianCorruption,
    HeatDissipationCorruption,
    ShortestPathCorruption,
    StaggeredCorruption,
    corrupt,
)
from .geometry import fisher_distance, gaussian_kl, path_length
from .sampling import Sampler, bits_per_dim, edits
from .spectra import PowerSpectrum
from .training import DiffusionLoss, DiffusionTrainer

try:
    __version__ = _version("shortest-path")
except _PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "BlurCorruption",
    "ClockCorruption",
    "Corruption",
    "CosineBasis",
    "DiagonalCorruption",
    "DiffusionLoss",
    "DiffusionTrainer",
    "FourierBasis",
    "GaussianCorruption",
    "HeatDissipationCorruption",
    "PixelBasis",
    "PowerSpectrum",
    "PrincipalBasis",
    "Sampler",
    "ShortestPathCorruption",
    "StaggeredCorruption",
    "bases",
    "bits_per_dim",
    "corrupt",
    "corruptions",
    "edits",
    "fisher_distance",
    "gaussian_kl",
    "geometry",
    "grids",
    "models",
    "path_length",
    "prediction",
    "sampling",
    "solvers",
    "spectra",
    "training",
]


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
