"""How much power does a data set have, and where? Power spectra and how they are measured.

A `PowerSpectrum` is the power S of every coefficient in a basis about the mean image: measured from images
(`PowerSpectrum.estimate`, or `SpectrumEstimator` in parts), or an analytic law of |f| (`PowerSpectrum.power_law`,
`.matern`, `.band`). A spectrum at another size, with a floor or smoothed is a method of it.

To add a law: a function of |f| in `_laws.py`, and a class method of `PowerSpectrum`. To add a way to measure: one file
that fills a `PowerSpectrum`, and its export here.
"""

from ._base import require_power
from ._covariances import Channels
from ._estimator import SpectrumEstimator
from ._moments import NamedBasis
from ._power_law import PowerLaw
from ._spectrum import PowerSpectrum

__all__ = ["Channels", "NamedBasis", "PowerLaw", "PowerSpectrum", "SpectrumEstimator", "require_power"]
