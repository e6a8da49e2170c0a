"""Measuring a spectrum in parts, in one process or many."""

from __future__ import annotations

from ._covariances import Channels
from ._moments import Moments
from ._spectrum import PowerSpectrum


class SpectrumEstimator(Moments):
    """Accumulates second moments batch by batch; estimates from parts of a data set can be merged.

    Holds the covariance between the channels at every frequency in float64, or, for the principal
    basis, the whole covariance matrix, which costs 8 (C · Π spatial)² bytes. For the precision of coefficients see
    `PowerSpectrum.estimate`.

    Args:
        basis: `"cosine"` (the default), `"fourier"`, `"principal"`, or a basis; see `PowerSpectrum.estimate`.
        center: Measure about the mean image, which the spectrum then keeps; see `PowerSpectrum.estimate`.
        check_range: Refuse data that look like images in [0, 255].
        image_key: Key of the images in batches that are mappings.

    Raises:
        TypeError: `basis` is neither a basis nor a name.
        ValueError: unknown basis name, or a `PrincipalBasis` with a channel rotation.

    Example:
        >>> import torch
        >>> parts = [SpectrumEstimator("cosine") for _ in range(2)]
        >>> for part in parts:
        ...     _ = part.update(torch.randn(10, 3, 8, 8))
        >>> parts[0].merge(parts[1])
        >>> parts[0].spectrum("rotate").count
        20
    """

    def spectrum(self, channels: Channels = "rotate", *, floor: float = 1e-6) -> PowerSpectrum:
        """Return the spectrum of everything seen so far; see `PowerSpectrum.estimate`.

        Raises:
            ValueError: unknown `channels`, no data, one image about its own mean, data without power, or values
                whose squares overflow.
        """
        return PowerSpectrum(**vars(self.measured(channels, floor=floor)))
