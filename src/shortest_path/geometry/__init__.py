"""How long is a path, and how well can it be sampled? Exact answers for Gaussian data.

The data are N(0, Σ_0) with the covariance that a `PowerSpectrum` holds, between the channels at every
frequency (C×C blocks), not only its diagonal. A corruption moves it along

    Σ_t = A_t Σ_0 A_t + N_t²,    A_t = diag(signal), N_t = diag(noise)

and the Fisher metric of zero-mean Gaussians is ds² = ½ tr((Σ⁻¹ dΣ)²) (equation 2 of docs/theory.md). No network, no
training, no sampling error: what is computed here is a property of the process and the spectrum alone.

To add a quantity: one file with a function of a corruption and a spectrum, and its export here.
"""

from ._compare import Compared, Comparison, compare
from ._fisher import fisher_distance, path_length
from ._gaussian_kl import gaussian_kl

__all__ = ["Compared", "Comparison", "compare", "fisher_distance", "gaussian_kl", "path_length"]
