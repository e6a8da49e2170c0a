"""The values of a spectrum, and the spectra that can be made from one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from typing_extensions import Self

from .._checks import check_count, check_finite, check_numbers
from .._exact import same_but_rounding
from .._html import curves, table
from ..bases import Basis
from ._covariances import block_power, floor_blocks, raise_to_floor
from ._power_law import PowerLaw, fit_power_law
from ._resize import new_sizes, resize_mean, resize_moments
from ._rings import ring_means, smooth_rings
from ._validation import checked_cross, checked_mean, checked_power


class BaseSpectrum:
    """Power, covariances and mean of a data set; see `PowerSpectrum`."""

    def __init__(
        self,
        basis: Basis,
        power: Tensor,
        *,
        cross: Tensor | None = None,
        mean: Tensor | None = None,
        count: int = 0,
        floored: int = 0,
    ) -> None:
        if not isinstance(basis, Basis):
            raise TypeError(f"basis must be a Basis, such as CosineBasis(2), got {type(basis).__name__}")
        self.basis = basis
        self.power = checked_power(basis, power)
        self.cross: Tensor | None = None
        if cross is not None:
            require_power(self, "cross")
            self.cross = checked_cross(cross, self.power)
        self.mean = None if mean is None else checked_mean(mean, self.shape)
        self.count = check_count("count", count, least=0)
        self.floored = check_count("floored", floored, least=0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, *spatial)."""
        return tuple(self.power.shape)

    @property
    def empty(self) -> int:
        """Number of coefficients without power."""
        return int((self.power == 0).sum())

    def tempered(self, scale: float) -> Self:
        """Return this spectrum with log S multiplied by `scale`: a deviation from the measured path.

        Coefficients without power remain without; the mean image is kept, `cross` is not.

        Raises:
            TypeError: `scale` is not a number.
            ValueError: `scale` is not finite, or is 0 or negative and there are coefficients without power, or S^scale
                is beyond float64.

        Source: Das et al. 2023, arXiv:2306.00501, section 5 (deviations from the shortest path).
        """
        check_finite(scale=scale)
        scale = float(scale)
        if not scale > 0:
            require_power(self, f"tempered({scale:g})")
        power = self.power**scale
        if not bool((power.isfinite() & ((power > 0) | (self.power == 0))).all()):
            low, high = float(self.power[self.power > 0].min()), float(self.power.max())
            raise ValueError(
                f"S^scale is beyond float64 for scale={scale:g} and S from {low:.3g} to {high:.3g}; pass a scale "
                "nearer to 0"
            )
        return type(self)(self.basis, power, mean=self.mean, count=self.count)

    def raised(self, floor: float) -> Self:
        """Return this spectrum with at least `floor` times the mean power in every coefficient.

        The eigenvalues of `cross` are raised to the same value, and the power follows them.

        Args:
            floor: Fraction of the mean power, in (0, 1).

        Raises:
            TypeError: `floor` is not a number.
            ValueError: `floor` outside (0, 1).

        Example:
            >>> from shortest_path import PowerSpectrum
            >>> band = PowerSpectrum.band((1, 8, 8), 1.0, 3.0)
            >>> band.empty, band.raised(1e-6).empty
            (40, 0)
        """
        check_numbers(floor=floor)
        floor = float(floor)
        if not 0 < floor < 1:
            raise ValueError(f"floor is a fraction of the mean power and must lie in (0, 1), got {floor}")
        power, raised = raise_to_floor(self.power, floor)
        cross = None
        if self.cross is not None:
            cross = floor_blocks(self.cross, floor)[0]
            before, after = (block_power(each, self.basis.channel_rotation) for each in (self.cross, cross))
            if not same_but_rounding(before, self.power):  # all channels share their mean power
                before, after = (each.mean(0, keepdim=True).expand_as(each) for each in (before, after))
            if same_but_rounding(before, self.power):
                power = after
        floored = max(raised, self.floored)  # values that were floored before are the lowest now
        return type(self)(self.basis, power, cross=cross, mean=self.mean, count=self.count, floored=floored)

    def resized(self, spatial: Sequence[int]) -> Self:
        """Return the spectrum of the same data at another size.

            S'(k) = S(k) · Π_axes N'/N

        Coefficient k keeps its frequency, in cycles per side along each axis; an orthonormal coefficient grows with the
        square root of the number of pixels. A smaller size drops the coefficients that it cannot hold. At a larger
        size, coefficients outside the old band have the power law

            log S_c = a_c − b_c log |f|

        of their channel c, in the rotated channels, with |f| as it is at the old size: b_c by least squares over the
        old coefficients with |f| of at least half the largest, a_c such that the law has the mean log S of the
        outermost old coefficients. So an exact power law is continued exactly. `cross` is scaled in the old band, and
        Rᵀ diag(S) R outside it. In the Fourier basis, k and −k have the same power at every size; the Nyquist frequency
        of an even size is in its band. The mean image is resized by its cosine coefficients: a constant image stays
        the same constant.

        Args:
            spatial: New size of every spatial axis.

        Returns:
            A new spectrum with the same `count`.

        Raises:
            TypeError: `spatial` is not made of whole numbers.
            ValueError: `spatial` has another number of axes or a size below 1, the basis is neither a `CosineBasis`
                nor a `FourierBasis`, or a larger size has nothing to extend: there are coefficients without power, or
                fewer than two different frequencies above 0.

        Example:
            >>> from shortest_path import PowerSpectrum
            >>> law = PowerSpectrum.power_law((3, 32, 32), amplitude=1.0, offset=1e-4, exponent=2.0)
            >>> law.resized((64, 64))
            PowerSpectrum(3×64×64 in FourierBasis(dims=2), analytic, power 0.00195 … 4e+08, mean 9.77e+04)
        """
        sizes = new_sizes(self.basis, spatial)
        if any(new > old for new, old in zip(sizes, self.shape[1:], strict=True)):
            require_power(self, "resized to a larger size")
        power, cross = resize_moments(self.basis, self.power, self.cross, sizes)
        mean = None if self.mean is None else resize_mean(self.mean, sizes)
        return type(self)(self.basis, power, cross=cross, mean=mean, count=self.count)

    def smoothed(self) -> Self:
        """Return an isotropic spectrum, a function of |f| alone in every channel.

        log S is linear in |f| between the mean |f| of neighbouring rings, the rings of `radial_average`, and each ring
        is then scaled to the total power that it had. For data sets of few images, whose power at single coefficients
        is mostly chance. The basis with its channel rotation, the mean image and the count are kept. `cross` is not:
        a smoothed spectrum is a model, to be judged against the measured one.

        Raises:
            ValueError: the basis has no frequencies or no spatial axes, or there are coefficients without power.

        Example:
            >>> import torch
            >>> from shortest_path import PowerSpectrum
            >>> few = PowerSpectrum.estimate([torch.randn(10, 1, 16, 16)])
            >>> torch.allclose(few.smoothed().power.sum(), few.power.sum())
            True
        """
        if not self.basis.dims:
            raise ValueError("smoothed requires spatial axes with frequencies, got a spectrum of vectors")
        frequency = self.basis.frequencies(self.shape[1:])
        require_power(self, "smoothed")
        return type(self)(self.basis, smooth_rings(frequency, self.power), mean=self.mean, count=self.count)

    def fit_power_law(self, channel: int | None = None) -> PowerLaw:
        """Fit S(f) = amplitude / (offset + |f|)^exponent by least squares on log S.

        The offset is sought in [1e-4, 1] cycles: it keeps S(0) finite. Spectra of photographs bend more than any power
        law, so look at `r_squared` before using a fit. Warns if the best offset lies at a bound.

        Args:
            channel: Which channel of the basis to fit; None fits the mean over channels.

        Raises:
            ValueError: the basis has no frequencies, there are fewer than three different ones, coefficients without
                power, or no such channel.
        """
        frequency = self.basis.frequencies(self.shape[1:]).flatten()
        if channel is not None and check_count("channel", channel, least=0) >= self.shape[0]:
            raise ValueError(f"channel must be one of 0 … {self.shape[0] - 1}, got {channel}")
        require_power(self, "fit_power_law")
        power = self.power.mean(0) if channel is None else self.power[channel]
        log_power = power.flatten().log()
        if len(set(frequency.tolist())) < 3:
            raise ValueError(f"a power law needs at least three different frequencies, got shape {self.shape}")
        return fit_power_law(frequency, log_power)

    def radial_average(self) -> tuple[Tensor, Tensor]:
        """Average S over rings of equal |f|, to the nearest whole cycle per longest side, halves upwards.

        Returns:
            Frequencies (n,) and mean power (C, n).

        Raises:
            ValueError: the basis has no frequencies.
        """
        if not self.basis.dims:
            raise ValueError("radial_average requires spatial axes with frequencies, got a spectrum of vectors")
        return ring_means(self.basis.frequencies(self.shape[1:]), self.power)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: facts, and the power of rings against frequency."""
        low, high = (value.item() for value in (self.power.min(), self.power.max()))
        facts = {
            "shape": "×".join(map(str, self.shape)),
            "basis": repr(self.basis),
            "images": self.count or "none, analytic",
            "mean": "kept" if self.mean is not None else "0",
            "power": f"{low:.3g} … {high:.3g}",
        }
        try:
            frequency, rings = self.radial_average()
        except ValueError:  # a basis without frequencies, e.g. that of pixels
            return table(type(self).__name__, facts)
        if self.empty:  # which has no place on a logarithmic axis
            return table(type(self).__name__, facts)
        lines = {
            f"channel {channel + 1}": list(zip(frequency[1:].log().tolist(), ring[1:].log().tolist(), strict=True))
            for channel, ring in enumerate(rings[:4])
        }
        return table(type(self).__name__, facts, curves("log power against log frequency", lines))

    def __repr__(self) -> str:
        source = f"{self.count} images" if self.count else "analytic"
        centred = "" if self.mean is None else " and their mean" if self.count else " with a mean"
        notes = f", {self.empty} empty" if self.empty else ""
        notes += f", {self.floored} values floored" if self.floored else ""
        low, high, mean = (value.item() for value in (self.power.min(), self.power.max(), self.power.mean()))
        return (
            f"PowerSpectrum({'×'.join(map(str, self.shape))} in {self.basis!r}, {source}{centred}, "
            f"power {low:.3g} … {high:.3g}, mean {mean:.3g}{notes})"
        )


def require_power(spectrum: BaseSpectrum, purpose: str) -> None:
    """Raise a ValueError unless every coefficient has power.

    Args:
        spectrum: A spectrum, of which some coefficients may be empty.
        purpose: What requires the power, as the error names it, e.g. "ShortestPathCorruption".

    Raises:
        ValueError: at least one coefficient has no power.

    Example:
        >>> from shortest_path import PowerSpectrum
        >>> require_power(PowerSpectrum.band((1, 8, 8), 1.0, 3.0).raised(1e-6), "this example")
        >>> require_power(PowerSpectrum.band((1, 8, 8), 1.0, 3.0), "this example")
        Traceback (most recent call last):
        ValueError: this example requires power in every coefficient, got 40 of 64 empty; ...
    """
    if spectrum.empty:
        raise ValueError(
            f"{purpose} requires power in every coefficient, got {spectrum.empty} of {spectrum.power.numel()} empty; "
            "pass outside=1e-6 to PowerSpectrum.band, or use spectrum.raised(1e-6)"
        )
