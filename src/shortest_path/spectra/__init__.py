"""How much power does a data set have, and where? Power spectra and how they are measured.

A `PowerSpectrum` is the second moment S of every coefficient in a basis: measured from images
(`PowerSpectrum.estimate`, or `SpectrumEstimator` in parts), or an analytic law (`PowerSpectrum.power_law`).

To add a law: a class method of `PowerSpectrum`, or a function here that returns one. To add a way to measure: one file
that fills a `PowerSpectrum`, and its export here.
"""

from ._covariances import Channels
from ._estimator import SpectrumEstimator
from ._moments import NamedBasis
from ._power_law import PowerLaw
from ._spectrum import PowerSpectrum

__all__ = ["Channels", "NamedBasis", "PowerLaw", "PowerSpectrum", "SpectrumEstimator"]
