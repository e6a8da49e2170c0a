"""Corruption processes for diffusion models.

Every corruption is a diagonal Gaussian process in an orthonormal basis B, for continuous time t from
0 (data) to 1 (noise):

    x_t = Bᵀ[ signal(t) ⊙ B x_0 + noise(t) ⊙ B ε ],    ε ~ N(0, I)

`PowerSpectrum` measures the data, `ShortestPathCorruption` turns a spectrum into the shortest path of the
Fisher metric, and `DiffusionTrainer` and `Sampler` work with any corruption and any model.
"""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from .basis import Basis, CosineBasis, FourierBasis, PixelBasis, PrincipalBasis
from .blur import BlurCorruption, HeatDissipationCorruption
from .corruption import Corruption, DiagonalCorruption, corrupt
from .edits import compose, dynamic_threshold, inpaint, project
from .encoding import bits_per_dim
from .estimation import SpectrumEstimator
from .gaussian import GaussianCorruption
from .geometry import FisherGrid, fisher_distance, gaussian_kl, path_length
from .grids import (
    CosineGrid,
    LogSnrGrid,
    PowerGrid,
    ReferenceGrid,
    SpectrumGrid,
    TimeGrid,
    UniformGrid,
    reference_times,
)
from .nonfinite import NonFiniteError
from .power_law import PowerLaw
from .preemption import EX_TEMPFAIL, Preempted
from .sampler import Sampler, SampleStep
from .shortest import ShortestPathCorruption
from .spectrum import PowerSpectrum
from .trainer import DiffusionTrainer, TrainStep

try:
    __version__ = _version("shortest-path")
except _PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "EX_TEMPFAIL",
    "Basis",
    "BlurCorruption",
    "Corruption",
    "CosineBasis",
    "CosineGrid",
    "DiagonalCorruption",
    "DiffusionTrainer",
    "FisherGrid",
    "FourierBasis",
    "GaussianCorruption",
    "HeatDissipationCorruption",
    "LogSnrGrid",
    "NonFiniteError",
    "PixelBasis",
    "PowerGrid",
    "PowerLaw",
    "PowerSpectrum",
    "Preempted",
    "PrincipalBasis",
    "ReferenceGrid",
    "SampleStep",
    "Sampler",
    "ShortestPathCorruption",
    "SpectrumEstimator",
    "SpectrumGrid",
    "TimeGrid",
    "TrainStep",
    "UniformGrid",
    "bits_per_dim",
    "compose",
    "corrupt",
    "dynamic_threshold",
    "fisher_distance",
    "gaussian_kl",
    "inpaint",
    "path_length",
    "project",
    "reference_times",
]
