"""The power spectrum of a data set: what the shortest path is computed from."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from .._checks import check_batches, check_count, check_numbers, check_sizes
from .._files import replace_file
from .._progress import Progress
from ..bases import Basis, CosineBasis, FourierBasis, PixelBasis, PrincipalBasis
from ._covariances import Channels
from ._moments import Moments, NamedBasis
from ._power_law import PowerLaw, fit_power_law
from ._validation import checked_cross, checked_power

_FORMAT = "shortest_path.PowerSpectrum"
_VERSION = 1
_reading = threading.Lock()  # numpy parses headers as Python, which CPython 3.11 does in one thread at a time only
_BASES: dict[str, type[Basis]] = {
    basis.__name__: basis for basis in (CosineBasis, FourierBasis, PixelBasis, PrincipalBasis)
}


class PowerSpectrum:
    """The second moment S of every coefficient of a data set, in an orthonormal basis.

    The data are modelled as N(0, Bᵀ diag(S) B). Beside S, the covariance between the channels at each
    frequency is kept where it was measured, so that any corruption can be judged against the data
    rather than against its own assumptions.

    Args:
        basis: The basis of the coefficients, channel rotation included.
        power: S, (C, *spatial), positive; in the unit of the data squared.
        cross: E[c c*] between the channels at each frequency *before* the channel rotation,
            (C, C, *spatial), Hermitian; complex for the Fourier basis. None where channels are taken as
            independent in `basis`.
        count: Number of images behind the estimate; 0 for an analytic spectrum.
        floored: How many values were raised to the floor because the data have no power there.

    Raises:
        TypeError: `power` is not a floating-point tensor, `cross` not a tensor, or `basis` not a basis.
        ValueError: `power` not positive and finite, of another shape than `basis` expects, or, for the
            Fourier basis, different at k and −k; or `cross` not Hermitian and positive definite.

    Example:
        >>> spectrum = PowerSpectrum.power_law((3, 32, 32), amplitude=1.59, offset=0.0086, exponent=2.0)
        >>> spectrum
        PowerSpectrum(3×32×32 in FourierBasis(dims=2), analytic, power 0.0031 … 2.15e+04, mean 21)
    """

    def __init__(
        self,
        basis: Basis,
        power: Tensor,
        *,
        cross: Tensor | None = None,
        count: int = 0,
        floored: int = 0,
    ) -> None:
        if not isinstance(basis, Basis):
            raise TypeError(f"basis must be a Basis, such as CosineBasis(2), got {type(basis).__name__}")
        self.basis = basis
        self.power = checked_power(basis, power)
        self.cross = None if cross is None else checked_cross(cross, self.power)
        self.count = count
        self.floored = floored

    @classmethod
    def estimate(
        cls,
        batches: Iterable[object],
        basis: Basis | NamedBasis | None = None,
        channels: Channels = "rotate",
        *,
        center: bool = False,
        floor: float = 1e-6,
        check_range: bool = True,
        image_key: str | None = None,
        progress: bool | None = None,
    ) -> PowerSpectrum:
        """Measure the spectrum of a data set in one pass, in memory that does not grow with its size.

        Args:
            batches: An iterable of images (B, C, *spatial), floating point, or of tuples that begin with
                them, such as a `DataLoader`.
            basis: `"cosine"` (the default), `"fourier"`, `"principal"`, or a basis without channel rotation.
            channels: `"rotate"`: rotate channels onto the eigenvectors of their covariance. `"independent"`:
                leave them as they are (the paper). `"shared"`: one spectrum for all channels, their mean.
                With `"principal"` the channels are part of the components and this is not used.
            center: Subtract the mean image. By default S is the second moment, as the paper's model is zero-mean.
            floor: Values below `floor` times the mean power are raised to it. 1e-6 is well below the rounding
                error of 8-bit images; it acts on constant channels, zero padding, or fewer images than channels.
            check_range: Refuse data that look like images in [0, 255]; False for latents or audio of any scale.
            image_key: Key of the images in batches that are mappings.
            progress: True or False; None shows progress on a terminal if the work is long.

        Returns:
            The spectrum, on the CPU in float64.

        Raises:
            TypeError: an item is not a floating-point tensor or a tuple that begins with one.
            ValueError: no data, batches of unequal shape, NaN, an image range of [0, 255], or no power at all.

        The defaults follow from the exact analysis (docs/theory.md): rotated channels, and the cosine basis, which
        does not assume periodic images. docs/results.md compares them with the paper's, which has neither.

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
        *,
        amplitude: float,
        offset: float,
        exponent: float,
        basis: Basis | None = None,
    ) -> PowerSpectrum:
        """Return the analytic spectrum of a power law.

            S(f) = amplitude / |offset + |f||^exponent

        with |f| in cycles per longest side (integer FFT frequencies in the Fourier basis).

        Args:
            shape: (C, *spatial).
            amplitude: Positive.
            offset: Positive, so that the power at f = 0 is finite.
            exponent: Any real number; about 2 for natural images.
            basis: A `FourierBasis` (the default, as in the paper) or a `CosineBasis`.

        Raises:
            TypeError: `shape` is not made of whole numbers.
            ValueError: a parameter out of range, or a basis without frequencies.

        Source: Das et al. 2023, arXiv:2306.00501, equation 19; amplitude 1.59, offset 0.0086, exponent 2
            are the constants of the authors' code for CIFAR-10.
        """
        shape = check_sizes("shape", shape)
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError(f"shape must be (C, *spatial) with every size 1 or more, got {tuple(shape)}")
        check_numbers(amplitude=amplitude, offset=offset, exponent=exponent)
        if not (amplitude > 0 and offset > 0):
            raise ValueError(f"amplitude and offset must be positive, got {amplitude} and {offset}")
        basis = FourierBasis(len(shape) - 1) if basis is None else basis
        power = float(amplitude) / (float(offset) + basis.frequencies(shape[1:])) ** float(exponent)
        return cls(basis, power.expand(*shape).clone())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, *spatial)."""
        return tuple(self.power.shape)

    def tempered(self, scale: float) -> PowerSpectrum:
        """Return this spectrum with log S multiplied by `scale`: a deviation from the measured path.

        Source: Das et al. 2023, arXiv:2306.00501, section 5 (deviations from the shortest path).
        """
        return PowerSpectrum(self.basis, self.power**scale, count=self.count)

    def fit_power_law(self, channel: int | None = None) -> PowerLaw:
        """Fit S(f) = amplitude / (offset + |f|)^exponent by least squares on log S.

        The offset is sought in [1e-4, 1] cycles: it keeps S(0) finite. Spectra of photographs bend more than any power
        law, so look at `r_squared` before using a fit. Warns if the best offset lies at a bound.

        Args:
            channel: Which channel of the basis to fit; None fits the mean over channels.

        Raises:
            ValueError: the basis has no frequencies, there are fewer than three different ones, or no such channel.
        """
        frequency = self.basis.frequencies(self.shape[1:]).flatten()
        if channel is not None and check_count("channel", channel, least=0) >= self.shape[0]:
            raise ValueError(f"channel must be one of 0 … {self.shape[0] - 1}, got {channel}")
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
        ring = self.basis.frequencies(self.shape[1:]).flatten().add(0.5).floor().long()
        total = torch.zeros(self.shape[0], int(ring.max()) + 1, dtype=torch.float64, device="cpu")
        total.index_add_(1, ring, self.power.flatten(1))
        size = torch.bincount(ring)
        filled = size > 0
        return filled.nonzero().flatten().to(torch.float64), total[:, filled] / size[filled]

    def state_dict(self) -> dict[str, Any]:
        """Return the spectrum as tensors and plain values, e.g. for a checkpoint; `from_state_dict` reads it.

        Raises:
            ValueError: its basis is not one of this library's.
        """
        kind = type(self.basis).__name__
        if kind not in _BASES:
            raise ValueError(f"cannot save a spectrum in {kind}; only {', '.join(_BASES)} can be saved")
        tensors = {
            "power": self.power,
            "cross": self.cross,
            "channel_rotation": self.basis.channel_rotation,
            "matrix": self.basis.matrix if isinstance(self.basis, PrincipalBasis) else None,
        }
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "basis": kind,
            "dims": self.basis.dims,
            "count": self.count,
            "floored": self.floored,
            **{name: value.cpu() for name, value in tensors.items() if value is not None},
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the spectrum that `state_dict` described.

        Raises:
            TypeError: it is not a mapping.
            ValueError: it is of another kind, of a later version, or inconsistent.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be what state_dict() returned, got {type(state).__name__}")
        if state.get("format") != _FORMAT:
            raise ValueError(f"not the state of a power spectrum: format {state.get('format')!r}, expected {_FORMAT!r}")
        version = state.get("version")
        if not isinstance(version, int) or version < 1:
            raise ValueError(f"an inconsistent power spectrum: version {version!r}, expected a number from 1 on")
        if version > _VERSION:
            raise ValueError(
                f"the power spectrum has format version {version}, this library reads up to {_VERSION}; "
                "update shortest_path"
            )
        try:
            kind = _BASES[state["basis"]]
            if kind is PrincipalBasis:
                basis: Basis = PrincipalBasis(state["matrix"], state["dims"])
            else:
                basis = kind(state["dims"], state.get("channel_rotation"))
            counts = {name: check_count(name, state[name], least=0) for name in ("count", "floored")}
            return cls(basis, state["power"], cross=state.get("cross"), **counts)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"an inconsistent power spectrum: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the spectrum to `path` as an .npz archive without pickles; an existing file is replaced whole."""
        state = self.state_dict()
        arrays: dict[str, Any] = {name: value.numpy() for name, value in state.items() if isinstance(value, Tensor)}
        header = np.array(json.dumps({name: value for name, value in state.items() if name not in arrays}))
        path = Path(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"cannot save to {path}: its folder does not exist; make it first")
        replace_file(path, lambda file: np.savez(file, header=header, **arrays))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a spectrum that `save` wrote. Nothing in the file is executed.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, of another kind, or of a later version.
        """
        try:
            with _reading, open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: torch.from_numpy(archive[name]) for name in archive.files if name != "header"}
                header = json.loads(str(archive["header"]))
            if header["format"] != _FORMAT:
                raise KeyError(header["format"])
        except FileNotFoundError:
            raise
        except Exception as error:  # what a damaged archive raises is anyone's guess: zlib.error, MemoryError, …
            raise ValueError(
                f"{os.fspath(path)} is not a readable power spectrum ({type(error).__name__}: {error}); "
                "make one with PowerSpectrum.estimate(...).save(path)"
            ) from error
        try:
            return cls.from_state_dict({**header, **arrays})
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} holds {error}") from error

    def __repr__(self) -> str:
        source = f"{self.count} images" if self.count else "analytic"
        floored = f", {self.floored} values floored" if self.floored else ""
        low, high, mean = (value.item() for value in (self.power.min(), self.power.max(), self.power.mean()))
        return (
            f"PowerSpectrum({'×'.join(map(str, self.shape))} in {self.basis!r}, {source}, "
            f"power {low:.3g} … {high:.3g}, mean {mean:.3g}{floored})"
        )
