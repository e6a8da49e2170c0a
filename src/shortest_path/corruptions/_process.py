"""Equation 1: a corruption bound to the basis in which it is seen and to what is known of the data.

u_t = m + a_t ⊙ (u_0 − m) + s_t ⊙ ε,    ε ~ N(0, I),    x_t = Bᵀ u_t,    u_0 = B x_0

with the data's mean m where the corruption knows it, else 0. Solvers work in deviations from the mean of u_t,

    w_t = u_t − m − a_t ⊙ δ = a_t ⊙ w_0 + s_t ⊙ ε

where δ is what else the data's spectrum says of their mean: a mean that the corruption was not told fades with the
signal.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import broadcasts, channels_last
from .._devices import device_of
from .._exact import as_dtype, exact_dtype, working_dtype
from .._in_place import add_product
from ..bases import Basis, PixelBasis
from ..spectra import PowerSpectrum
from ._end import check_spectrum, same_rotation
from ._protocol import Corruption, check_corruption
from ._scales import Point, both_scales, check_device, known_mean, known_power, one_time, scales, several_times

_MOST_KEPT = 1.0
"""Power of the image in a coefficient, in units of the noise's, at which sampling can still start from noise."""
_MOST_KEPT_UNKNOWN = 1 / 19
"""The same where the data's power is not known, and so not in the noise from which sampling starts."""


class Process:
    """A corruption, a basis in which it is diagonal, and the data's power there.

    Args:
        corruption: Any object that implements `Corruption`.
        spectrum: The data's power; None takes the corruption's own, if it has one. An isotropic corruption is seen in
            the spectrum's basis.
        informed: Whether to look up the power that the corruption knows: a table of the size of an image, which
            corrupting does without.

    Raises:
        TypeError: `spectrum` is not a `PowerSpectrum`.
        ValueError: the corruption is not diagonal in the spectrum's basis.
    """

    def __init__(self, corruption: Corruption, spectrum: PowerSpectrum | None = None, *, informed: bool = True) -> None:
        if spectrum is not None:
            check_spectrum(spectrum)
        self.corruption = corruption
        self.basis = self._basis = corruption.basis if spectrum is None else common_basis(corruption, spectrum)
        self._centred = known_mean(corruption) is not None
        self._in_pixels = type(self.basis) is PixelBasis and self.basis.channel_rotation is None
        found = known_power(corruption) if informed and spectrum is None else None
        self.power = self._power = found if spectrum is None else spectrum.power
        self.shift = self._shift = None if spectrum is None else _mean_not_told(corruption, spectrum, self.basis)
        self._device: torch.device | None = None

    def scales(self, t: Tensor, x_0: Tensor) -> tuple[Tensor, Tensor]:
        """Return (signal(t), noise(t)) for images, in the type in which they are mixed."""
        pair = scales(self.corruption, t, x_0.shape, working_dtype(x_0))
        self.check_shape(x_0.shape)
        return pair

    def mix(
        self,
        x_0: Tensor,
        eps: Tensor,
        at_t: tuple[Tensor, Tensor],
        *weights: tuple[Tensor, Tensor],
        analyzed: bool = False,
        centred: bool = False,
    ) -> tuple[Tensor, ...]:
        """Return the corrupted images x_t by equation 1 and, for each pair of weights, another mixture.

            x_t = x̄ + Bᵀ[ signal(t) ⊙ B (x_0 − x̄) + noise(t) ⊙ B eps ],    Bᵀ[ w_0 ⊙ B (x_0 − x̄) + w_ε ⊙ B eps ]

        with the mean image x̄ = Bᵀ m that the corruption knows.

        Args:
            x_0: Clean images, (B, C, *spatial), of any floating-point type.
            eps: White noise in pixels, same shape.
            at_t: (signal(t), noise(t)), as `scales` returns them.
            *weights: Pairs (w_0, w_ε), each broadcastable to the coefficients.
            analyzed: Whether `eps` are coefficients, in which noise is as white.
            centred: Whether the other mixtures are of x_0 less its whole mean, x̄ + Bᵀ δ.

        Returns:
            Images in float32 or float64.
        """
        shift = self._shift_like(x_0) if centred else None
        if (analyzed or self._in_pixels) and self.mixes_coefficients:  # where pixels are coefficients
            return self._mix_coefficients(x_0, eps, at_t, *weights, shift=shift)
        if analyzed:
            eps = self.basis.synthesize(eps)
        x_0, eps, mean = self._prepared(x_0, eps)
        if mean is not None:
            x_0 = x_0 - mean
        mix = getattr(self.corruption, "mix", self.corruption.basis.mix)
        if self.basis is self.corruption.basis:
            x_t, *others = mix(x_0, eps, at_t, *weights)
            if shift is not None:
                others = [
                    other - self.basis.synthesize((of_data * shift).expand(x_0.shape))
                    for other, (of_data, _) in zip(others, weights, strict=True)
                ]
        else:
            (x_t,) = mix(x_0, eps, at_t)
            away = x_0 if shift is None else x_0 - self.basis.synthesize(shift[None])
            others = list(self.basis.mix(away, eps, *weights) if weights else ())
        return (x_t if mean is None else x_t + mean, *others)

    @property
    def mixes_coefficients(self) -> bool:
        """Whether a mixture is made of coefficients, and not by a faster way of the basis or of the corruption."""
        own = getattr(type(self.corruption), "mix", None)
        by_basis = own is None or getattr(own, "is_of_basis", False)
        return by_basis and self.basis is self.corruption.basis and type(self.basis).mix is Basis.mix

    def _mix_coefficients(
        self,
        x_0: Tensor,
        eps: Tensor,
        at_t: tuple[Tensor, Tensor],
        *weights: tuple[Tensor, Tensor],
        shift: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Return what `mix` does for noise that is given as coefficients: a transform less."""
        x_0, eps, mean = self._prepared(x_0, eps)
        u_0 = self.coefficients(x_0 if mean is None else x_0 - mean)
        away = u_0 if shift is None else u_0 - shift
        x_t, *others = (
            self._images(add_product(as_dtype(of_data, x_0.dtype) * data, as_dtype(of_noise, x_0.dtype), eps))
            for data, (of_data, of_noise) in ((u_0, at_t), *((away, pair) for pair in weights))
        )
        return (x_t if mean is None else x_t + mean, *others)

    def _prepared(self, x_0: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return images and noise in the type in which they are mixed, and the mean image."""
        dtype = working_dtype(x_0)
        x_0 = as_dtype(x_0, dtype)
        return x_0, as_dtype(eps, dtype), self._mean_like(x_0)

    def analyze(self, x: Tensor, signal: Tensor | None = None) -> Tensor:
        """Return the deviations w_t = B (x_t − x̄) − a_t ⊙ δ of images from their mean.

        Args:
            x: Images at time t, (B, C, *spatial).
            signal: a_t, broadcastable to coefficients; None for clean images, a = 1.
        """
        mean = self._mean_like(x)
        w = self.coefficients(x if mean is None else x - mean)
        return w if self.shift is None else w - self._shifted(signal).to(w.dtype)

    def synthesize(self, w: Tensor, signal: Tensor | None = None) -> Tensor:
        """Return the images x̄ + Bᵀ(w_t + a_t ⊙ δ) of deviations from their mean; see `analyze`."""
        if self.shift is not None:
            w = w + self._shifted(signal).to(w.dtype)
        x, mean = self._images(w), self._mean_like(w)
        return x if mean is None else x + mean

    def coefficients(self, x: Tensor) -> Tensor:
        """Return B x."""
        return x if self._in_pixels and x.numel() else self.basis.analyze(x)  # which refuses images without pixels

    def _images(self, u: Tensor) -> Tensor:
        return u if self._in_pixels and u.numel() else self.basis.synthesize(u)

    def _shift_like(self, x: Tensor) -> Tensor | None:
        """Return δ on the device of images, in the type in which they are mixed."""
        return None if self.shift is None else self.shift.to(working_dtype(x)).to(x.device)

    def _shifted(self, signal: Tensor | None) -> Tensor:
        assert self.shift is not None
        return self.shift if signal is None else signal * self.shift

    def _mean_like(self, x: Tensor) -> Tensor | None:
        """Return the mean image of what the corruption leaves as it is, in the type and on the device of `x`."""
        mean = known_mean(self.corruption) if self._centred else None
        if mean is None:
            return None
        if x.ndim == mean.ndim:
            raise ValueError(_no_batch_axis(x.shape))
        if tuple(mean.shape) != tuple(x.shape[1:]):
            raise ValueError(
                f"the data's mean has shape {tuple(mean.shape)}, the images {tuple(x.shape)}; estimate the spectrum on "
                f"images of this shape{channels_last(x.shape, (1, *mean.shape))}"
            )
        return mean.to(x.device, x.dtype)

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raise a ValueError unless the known power belongs to images of a shape (B, C, *spatial)."""
        known = () if self.power is None else tuple(self.power.shape)
        if len(shape) == len(known) > 0:
            raise ValueError(_no_batch_axis(shape))
        if len(known) >= len(shape) or not broadcasts(known, tuple(shape)[len(shape) - len(known) :]):
            raise ValueError(
                f"the data's power has shape {known}, the images {tuple(shape)}; estimate the spectrum on images of "
                f"this shape{channels_last(shape, (1, *known))}"
            )

    def at(self, t: float, shape: Sequence[int], device: torch.device) -> Point:
        """Return the scales at one time for images of `shape`; never waits for the device."""
        return Point(t, *scales(self.corruption, one_time(t, device), shape))

    def along(self, times: Sequence[float], shape: Sequence[int], device: torch.device) -> list[Point]:
        """Return the scales at several times, found together, for images of `shape`; never waits for the device."""
        count = len(times)
        pair = scales(self.corruption, several_times(times, device), (count, *shape[1:]))
        rows = (torch.split(scale.expand(count, *scale.shape[1:]), 1) for scale in pair)
        return [Point(*each) for each in zip(times, *rows, strict=True)]

    def prior(self, first: Point, power: Tensor | None = None, end: Point | None = None) -> Tensor:
        """Return the standard deviations of the coefficients at the time where sampling starts.

        Args:
            first: That time and the scales there, of all coefficients, or of some, as in the other arguments.
            power: Power of these coefficients; None takes the data's.
            end: Their scales at t = 1, used where no power is known; None finds them.

        Raises:
            ValueError: too much of the image is left for them to be noise.
        """
        if power is None and self.power is not None:
            power = self.power.to(first.signal.device)
        if power is None and end is None:
            end = self._end(first.signal.device)
        deviation = prior_deviation(first, end, power)
        if deviation is None:
            raise ValueError(
                f"{type(self.corruption).__name__} keeps part of the image at t = {first.time:.4g}, so sampling cannot "
                f"start from noise: {_left(first, end, power)}; pass x_1=corruption.corrupt(training_images, t, eps), "
                "or x_1=torch.randn(shape) to start from white noise all the same"
            )
        return deviation

    def power_or_end(self, device: torch.device) -> Tensor:
        """Return the data's power where it is known, else that of the end state, 1 where that has none."""
        if self.power is not None:
            return self.power
        final = self._end(device).noise[0] ** 2
        return torch.where(final > 0, final, 1.0)

    def _end(self, device: torch.device) -> Point:
        return Point(1.0, *both_scales(self.corruption, one_time(1.0, device)))

    def to(self, device: torch.device) -> None:
        """Make ready for images on a device: the basis follows them, the corruption must be there already.

        Raises:
            ValueError: the corruption is on another device.
        """
        check_device(self.corruption, device)
        if device == self._device:
            return
        # From the first ones each time: what has been on the meta device, or on one without float64, is lost.
        if self._basis is not self.corruption.basis:
            self.basis = copy.deepcopy(self._basis).to(device)
        if self._power is not None:
            self.power = self._power.to(device, exact_dtype(device))
        if self._shift is not None:
            self.shift = self._shift.to(device, exact_dtype(device))
        self._device = device


def prior_deviation(first: Point, end: Point | None, power: Tensor | None) -> Tensor | None:
    """Return the standard deviation of the coefficients that sampling starts from, or None if it cannot.

        √(a² S + s²) where the data's power S is known, else s

    It cannot start from noise while much of the image is left: more than half of a coefficient's variance or, where S
    is unknown, a twentieth of it for data of the power of the end state, S = Q.

    Args:
        first: The first time and its scales.
        end: The scales at t = 1, where the noise is that of the end state, Q = s_1²; used only where S is unknown.
        power: S, broadcastable to coefficients, or None.
    """
    kept, most = _kept(first, end, power)
    noise = first.noise**2
    none = (noise == 0) & (first.signal > 0)
    if bool(((kept > most * noise) | none).any()):
        return None
    return first.noise if power is None else (kept + noise).sqrt()


def _no_batch_axis(shape: Sequence[int]) -> str:
    return f"images must have shape (B, C, *spatial), got {tuple(shape)}; add the batch axis of one image with x[None]"


def _left(first: Point, end: Point | None, power: Tensor | None) -> str:
    """Return in words how much of the image is left where `prior_deviation` is None."""
    if bool(((first.noise == 0) & (first.signal != 0)).any()):
        return "some coefficients have no noise"
    kept, most = _kept(first, end, power)
    ratio = float((kept / first.noise**2).nan_to_num().max())
    return (
        f"its power in the strongest coefficient is {ratio:.3g} times that of the noise, and may be {most:.3g} at most"
    )


def _kept(first: Point, end: Point | None, power: Tensor | None) -> tuple[Tensor, float]:
    """Return the power of the image that is left, and how much it may be in units of the noise's."""
    if power is not None:
        return first.signal**2 * power.to(first.signal), _MOST_KEPT
    assert end is not None
    return first.signal**2 * end.noise**2, _MOST_KEPT_UNKNOWN


def _mean_not_told(corruption: Corruption, spectrum: PowerSpectrum, basis: Basis) -> Tensor | None:
    """Return δ, the coefficients of the data's mean image beyond that which the corruption knows; None for zero."""
    known = known_mean(corruption)
    if spectrum.mean is None:  # not measured, or zero
        return None
    beyond = spectrum.mean if known is None else spectrum.mean - known.detach().cpu().double()
    if not bool(beyond.any()):
        return None
    return copy.deepcopy(basis).cpu().analyze(beyond)


def common_basis(corruption: Corruption, spectrum: PowerSpectrum) -> Basis:
    """Return the spectrum's basis, after checking that the corruption is diagonal in it.

    Raises:
        TypeError: `corruption` does not implement `Corruption`.
        ValueError: it is not, or is made for images of another shape.
    """
    check_corruption(corruption)
    device = device_of(corruption)
    pair = scales(corruption, one_time(0.5, device), (1, *spectrum.shape))
    ours, theirs = corruption.basis, spectrum.basis
    if same_rotation(ours, theirs) and ours.shares_transform(theirs):
        return ours
    isotropic = all(scale.numel() == 1 for scale in pair)
    alike_channels = all(scale.shape[1] == 1 for scale in pair)  # such scales commute with a channel rotation
    if not (isotropic or (ours.shares_transform(theirs) and alike_channels)):
        rotated = ours.channel_rotation is not None
        differ = rotated and theirs.channel_rotation is not None and ours.shares_transform(theirs)
        raise ValueError(
            f"the corruption works in {ours!r}, the spectrum was measured in {theirs!r}"
            + (", whose channel rotation differs; " if differ else "; ")
            + "estimate the spectrum in the corruption's basis, PowerSpectrum.estimate(batches, corruption.basis"
            + (")" if rotated else ", channels='independent')")
        )
    return copy.deepcopy(theirs).to(device)  # the spectrum's own stays where it is
