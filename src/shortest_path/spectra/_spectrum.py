"""The power spectrum of a data set: what the shortest path is computed from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from typing_extensions import Self

from .._checks import check_batches
from .._progress import Progress
from ..bases import Basis
from ._archive import pack, read, unpack, write
from ._base import BaseSpectrum
from ._covariances import Channels
from ._laws import band, law_frequencies, law_parameters, matern, power_law
from ._moments import Moments, NamedBasis
from ._power_law import PowerLaw


class PowerSpectrum(BaseSpectrum):
    """The power S of every coefficient of a data set about its mean, in an orthonormal basis.

        S = E[(B x − B m)²]

    The data are modelled as N(m, Bᵀ diag(S) B). Beside S, the covariance between the channels at each
    frequency is kept where it was measured, so that any corruption can be judged against the data
    rather than against its own assumptions.

    Args:
        basis: The basis of the coefficients, channel rotation included.
        power: S, (C, *spatial), 0 or positive; in the unit of the data squared.
        cross: E[c c*] between the channels at each frequency *before* the channel rotation,
            (C, C, *spatial), Hermitian; complex for the Fourier basis. None where channels are taken as
            independent in `basis`.
        mean: Mean image m in pixels, (C, *spatial); None is zero. A corruption that is given the spectrum
            obeys equation 1 with this mean (docs/theory.md).
        count: Number of images behind the estimate; 0 for an analytic spectrum.
        floored: How many values were raised to the floor because the data have no power there.

    Raises:
        TypeError: `power` or `mean` is not a floating-point tensor, `cross` not a tensor, or `basis` not a basis.
        ValueError: `power` negative, not finite or zero everywhere, of another shape than `basis` expects, or, for
            the Fourier basis, different at k and −k; `cross` not Hermitian and positive definite, or with empty
            coefficients; or `mean` not finite or of another shape than `power`.

    Example:
        >>> spectrum = PowerSpectrum.power_law((3, 32, 32), amplitude=1.59, offset=0.0086, exponent=2.0)
        >>> spectrum
        PowerSpectrum(3×32×32 in FourierBasis(dims=2), analytic, power 0.0031 … 2.15e+04, mean 21)
    """

    @classmethod
    def estimate(
        cls,
        batches: Iterable[object],
        basis: Basis | NamedBasis | None = None,
        channels: Channels = "rotate",
        *,
        center: bool = True,
        floor: float = 1e-6,
        check_range: bool = True,
        image_key: str | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Measure the spectrum of a data set in one pass, in memory that does not grow with its size.

        Args:
            batches: An iterable of images (B, C, *spatial), floating point, or of tuples that begin with
                them, such as a `DataLoader`.
            basis: `"cosine"` (the default), `"fourier"`, `"principal"`, or a basis. A channel rotation that it has,
                e.g. that of another spectrum, is kept.
            channels: `"rotate"`: rotate channels as the basis does, or onto the eigenvectors of their covariances, each
                frequency of equal weight (docs/theory.md). `"independent"`: leave them as they are (the paper).
                `"shared"`: one spectrum for all channels, their mean. With `"principal"` the channels are part of the
                components and this is not used.
            center: Measure about the mean image, and keep it as `mean`: a corruption then obeys equation 1 with it.
                False measures the second moment about zero, as the paper's model has no mean; it is the better
                choice for few images, whose mean is mostly chance.
            floor: Values below `floor` times the mean power are raised to it. 1e-6 is well below the rounding
                error of 8-bit images; it acts on constant channels, zero padding, or fewer images than channels.
            check_range: Refuse data that look like images in [0, 255]; False for latents or audio of any scale.
            image_key: Key of the images in batches that are mappings.
            progress: True or False; None shows progress on a terminal if the work is long.

        Returns:
            The spectrum, on the CPU in float64.

        Raises:
            TypeError: an item is not a floating-point tensor or a tuple that begins with one.
            ValueError: no data, batches of unequal shape, NaN, an image range of [0, 255], one image about its own
                mean, or no power at all.

        The defaults follow from the exact analysis (docs/theory.md): rotated channels, and the cosine basis, which
        does not assume periodic images. docs/results.md compares them with the paper's, which has neither.

        Sums are in float64. On the CPU, coefficients of images in float32 are computed in float32, unless in the
        Fourier basis: the power of 8-bit images is right to 1e-6 of itself. For powers below 1e-10 of the mean, and a
        `floor` below that, pass images in float64.

        To estimate over several processes, give each a part of the data and use `SpectrumEstimator`.
        """
        check_batches(batches)
        moments = Moments(basis, center=center, check_range=check_range, image_key=image_key)
        with Progress("spectrum", unit="images", show=progress) as bar:
            for batch in batches:
                bar.advance(moments.update(batch))
        return cls(**vars(moments.measured(channels, floor=floor)))

    @classmethod
    def power_law(
        cls,
        shape: Sequence[int],
        law: PowerLaw | None = None,
        *,
        amplitude: float | None = None,
        offset: float | None = None,
        exponent: float | None = None,
        basis: Basis | None = None,
    ) -> Self:
        """Return the analytic spectrum of a power law.

            S(f) = amplitude / |offset + |f||^exponent

        with |f| in cycles per longest side (integer FFT frequencies in the Fourier basis).

        Args:
            shape: (C, *spatial).
            law: A fitted law, `PowerSpectrum.fit_power_law`, in place of the three numbers.
            amplitude: Positive.
            offset: Positive, so that the power at f = 0 is finite.
            exponent: Any real number; about 2 for natural images.
            basis: A `FourierBasis` (the default, as in the paper) or a `CosineBasis`.

        Raises:
            TypeError: `shape` is not made of whole numbers, neither a law nor all three numbers, or both.
            ValueError: a parameter out of range, or a basis without frequencies.

        Source: Das et al. 2023, arXiv:2306.00501, equation 19; amplitude 1.59, offset 0.0086, exponent 2
            are the constants of the authors' code for CIFAR-10.
        """
        numbers = law_parameters(law, {"amplitude": amplitude, "offset": offset, "exponent": exponent})
        basis, frequency = law_frequencies(shape, basis)
        return cls(basis, power_law(frequency[:1], **numbers).expand_as(frequency))

    @classmethod
    def matern(cls, shape: Sequence[int], *, length: float, smoothness: float, basis: Basis | None = None) -> Self:
        """Return the spectrum of a Matérn process: white below the frequency 1 / length, then a power law.

            S(f) = (1 + (length |f|)²)^(−smoothness − d/2)

        with |f| in cycles per longest side and d the number of spatial axes.

        Args:
            shape: (C, *spatial).
            length: Correlation length in longest sides, positive.
            smoothness: The process has derivatives of every order below `smoothness`, positive.
            basis: A `FourierBasis` (the default) or a `CosineBasis`.

        Raises:
            TypeError: `shape` is not made of whole numbers, or a parameter not a number.
            ValueError: a parameter out of range, or a basis without frequencies.

        Source: Lim et al. 2023, arXiv:2302.07400 (DDO): noise that converges in function space.

        Example:
            >>> PowerSpectrum.matern((1, 64), length=0.1, smoothness=0.5).power[0, :3].tolist()
            [1.0, 0.9900990099009901, 0.9615384615384615]
        """
        basis, frequency = law_frequencies(shape, basis)
        power = matern(frequency[:1], length=length, smoothness=smoothness, dims=basis.dims)
        return cls(basis, power.expand_as(frequency))

    @classmethod
    def band(
        cls,
        shape: Sequence[int],
        low: float,
        high: float,
        *,
        power: float = 1.0,
        outside: float = 0.0,
        basis: Basis | None = None,
    ) -> Self:
        """Return a spectrum of two values, one within a band of frequencies and one outside it.

            S(f) = power where low ≤ |f| < high, outside elsewhere

        with |f| in cycles per longest side. Either value may be 0, i.e. the coefficients are empty.

        Args:
            shape: (C, *spatial).
            low: Lowest frequency of the band, 0 or positive.
            high: Frequency at which the band ends, above `low`; infinity takes all above.
            power: Power within the band, 0 or positive.
            outside: Power elsewhere, 0 or positive.
            basis: A `FourierBasis` (the default) or a `CosineBasis`.

        Raises:
            TypeError: `shape` is not made of whole numbers, or a parameter not a number.
            ValueError: a parameter out of range, no coefficient with power, or a basis without frequencies.

        Source: SAGD, arXiv:2510.09660 (noise in bands of frequencies).

        Example:
            >>> PowerSpectrum.band((1, 8), 1, 3).power.tolist()
            [[0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0]]
        """
        basis, frequency = law_frequencies(shape, basis)
        return cls(basis, band(frequency, low, high, power=power, outside=outside))

    def state_dict(self) -> dict[str, Any]:
        """Return the spectrum as tensors and plain values, e.g. for a checkpoint; `from_state_dict` reads it.

        Raises:
            ValueError: its basis is not registered (`bases.register`), or has an argument named like a value of this.
        """
        tensors = {"power": self.power, "cross": self.cross, "mean": self.mean}
        return pack(self.basis, tensors, {"count": self.count, "floored": self.floored})

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the spectrum that `state_dict` described.

        Raises:
            TypeError: it is not a mapping.
            ValueError: it is of another kind, of a later version, or inconsistent, or its basis is not registered.
        """
        return unpack(state, cls)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the spectrum to `path` as an .npz archive without pickles; an existing file is replaced whole.

        Raises:
            FileNotFoundError: the folder of `path` does not exist.
            TypeError: not a path.
            ValueError: `path` is a folder or empty, or its basis is not registered; see `state_dict`.
        """
        write(path, self.state_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a spectrum that `save` wrote. Nothing in the file is executed.

        Raises:
            FileNotFoundError: there is no such file.
            TypeError: not a path.
            ValueError: a folder, a file that is damaged, of another kind or of a later version, or its basis is not
                registered.
        """
        return read(path, cls)
