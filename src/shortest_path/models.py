"""Wrappers of networks: what a network sees of a corrupted image."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self, override

from ._checks import check_flag, check_network
from ._exact import has_values, moved, same_table
from ._files import SAMPLER_FILE, checked_path, read_description
from ._folders import reading, replace_folder
from ._model import weights_dtype
from .corruptions import Corruption, Process, both_scales, corruption_from_state, corruption_state
from .prediction import check_fits_float32
from .sampling import Sampler, describe_model, model_from_description, register_model
from .spectra import PowerSpectrum

__all__ = ["WhitenedInput"]

_WRAPPER = "whitened_input.json"


@register_model
class WhitenedInput(nn.Module):
    """Shows a network the corrupted image whitened as well: it learns from numbers of about unit size.

        network(x_t, Bᵀ[(u_t − m − a_t δ) / √V], t),    V = a_t² S + s_t²

    with the data's mean m + δ, as in equation 1. With `prediction="whitened-velocity"` it is the recommended set-up.

    Args:
        network: Takes images with twice the channels, the corrupted ones first, and t; returns images.
        corruption: A corruption that is diagonal in the spectrum's basis; isotropic ones are in any.
        spectrum: The data's power S.
        alone: Whether the network sees the whitened image alone, with as many channels as an image has.

    Raises:
        TypeError: `network` cannot be called, `spectrum` is not a `PowerSpectrum`, or `alone` is not True or False.
        ValueError: the corruption is not diagonal in the spectrum's basis, or power outside 1e-37 to 1e37.

    Source: docs/theory.md, equation 4.

    Example:
        >>> import shortest_path as sp
        >>> law = sp.PowerSpectrum.power_law((3, 8, 8), amplitude=1.0, offset=0.01, exponent=2.0)
        >>> network = WhitenedInput(lambda x, t: x[:, 3:], sp.ShortestPathCorruption(law), law)
        >>> network(law.basis.synthesize(law.power.sqrt())[None].float(), torch.zeros(1)).shape
        torch.Size([1, 3, 8, 8])
    """

    table_names: ClassVar = ("mean", "power", "shift")
    """Tensors that follow from corruption and spectrum, and not from training."""
    power: Tensor
    mean: Tensor | None
    shift: Tensor | None

    def __init__(self, network: Any, corruption: Corruption, spectrum: PowerSpectrum, *, alone: bool = False) -> None:
        super().__init__()
        check_network("network", network)
        check_flag("alone", alone)
        process = Process(corruption, spectrum)
        self.network, self.corruption, self.basis = network, corruption, copy.deepcopy(process.basis)
        self.alone, self.spectrum = alone, spectrum
        check_fits_float32("WhitenedInput", spectrum.power)
        self.register_buffer("power", spectrum.power.float())
        known = getattr(corruption, "mean", None)
        self.register_buffer("mean", None if known is None else known.float())
        self.register_buffer("shift", None if process.shift is None else process.shift.float())

    @property
    def input_dtype(self) -> torch.dtype:
        """Type of the images that it takes: float32 where the network is in less, float64 where it is in that.

        Rounded to bfloat16, an image has lost its weakest coefficients, which whitening makes as large as the others.
        """
        return torch.promote_types(weights_dtype(self.network, torch.float32), torch.float32)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Cast the network, and no table: `.bfloat16()` would round the power."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._buffers.update({name: None if table is None else moved(table, fn) for name, table in before.items()})
        return self

    @override
    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Load the network's weights: with other tables, the model would not be what `description` tells."""
        *_, errors = args
        for name, own in self._buffers.items():
            given = state_dict.get(f"{prefix}{name}")
            if own is None or not has_values(own) or not isinstance(given, Tensor) or same_table(name, given, own):
                continue
            errors.append(
                f"{prefix}{name} is of another corruption or spectrum; make the model with those of the state, or load "
                "the state of `network` alone"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    @override
    def forward(self, x_t: Tensor, t: Tensor, **conditioning: Any) -> Tensor:
        whitened = self.whiten(x_t, t)
        shown = whitened if self.alone else torch.cat([x_t, whitened], 1)
        output: Tensor = self.network(shown.to(weights_dtype(self.network, x_t.dtype)), t, **conditioning)
        return output

    def whiten(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the whitened images.

        Args:
            x_t: Corrupted images, (B, C, *spatial).
            t: Their times, (B,), or (1,) for one time of all.

        Returns:
            Images of the shape of x_t, with about unit variance in every coefficient.
        """
        a, s = both_scales(self.corruption, t)
        u_t = self.basis.analyze(x_t if self.mean is None else x_t - self.mean)
        if self.shift is not None:
            u_t = u_t - a * self.shift
        return self.basis.synthesize(u_t / (a**2 * self.power + s**2).sqrt())

    def description(self) -> dict[str, Any]:
        """Return network, corruption and spectrum as plain values and tensors, without the network's weights.

        Raises:
            TypeError: a corruption that cannot be saved.
            ValueError: a corruption or basis that is not registered.
        """
        return {
            "network": describe_model(self.network),
            "corruption": corruption_state(self.corruption),
            "spectrum": self.spectrum.state_dict(),
            "alone": self.alone,
        }

    @classmethod
    def from_description(cls, values: Mapping[str, Any], network: Any = None) -> Self:
        """Return the model of a description, with weights that are arbitrary.

        Args:
            values: What `description` returned.
            network: As of `model_from_description`.

        Raises:
            TypeError: `network` is no module.
            ValueError: a corruption or basis that is not registered.
        """
        network = model_from_description(values["network"], network)
        spectrum = PowerSpectrum.from_state_dict(values["spectrum"])
        return cls(network, corruption_from_state(values["corruption"]), spectrum, alone=values["alone"])

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write network, corruption and spectrum to a folder; see `Sampler.save_pretrained`.

        Raises:
            TypeError: a network or corruption that cannot be saved, or `folder` is not a path.
            ValueError: a corruption or basis that is not registered, or `folder` is empty.
        """
        folder = checked_path("folder", folder, "'.' for the present folder")
        sampler = Sampler(self.network, self.corruption, prediction="data", spectrum=self.spectrum, steps=1)

        def write(new: Path) -> None:
            sampler.save_pretrained(new)
            (new / _WRAPPER).write_text(json.dumps({"alone": self.alone}) + "\n", encoding="utf-8")

        replace_folder(folder, write, SAMPLER_FILE)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], network: Any = None) -> Self:
        """Return the model in a folder.

        Args:
            folder: The folder.
            network: As `model` of `Sampler.from_pretrained`.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a damaged file, or a class that is not registered.
        """
        with reading(checked_path("folder", folder, "'.' for the present folder"), SAMPLER_FILE) as here:
            saved = Sampler.from_pretrained(here, network)
            facts = _facts(here)
        if saved.spectrum is None:
            raise ValueError(f"{folder} holds no spectrum, which WhitenedInput requires; download the folder again")
        return cls(saved.model, saved.corruption, saved.spectrum, alone=facts["alone"])

    def load_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Load the weights in a folder into this model and its network.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a damaged file, or a model of another kind.
        """
        with reading(checked_path("folder", folder, "'.' for the present folder"), SAMPLER_FILE) as here:
            alone = _facts(here)["alone"]
            if alone != self.alone:
                raise ValueError(f"the model in {folder} has alone={alone}, got a model with alone={self.alone}")
            saved = type(self).from_pretrained(here, self.network)
        before, device = dict(self._buffers), self.power.device
        self._buffers.update(
            {name: None if table is None else table.to(device) for name, table in saved._buffers.items()}
        )
        try:
            self.load_state_dict(saved.state_dict())
        except RuntimeError as error:
            self._buffers.update(before)
            raise ValueError(
                f"the model in {folder} has another corruption or spectrum than the model that was passed; pass its "
                f"network alone, which takes those of the folder ({error})"
            ) from error
        self.spectrum = saved.spectrum


def _facts(folder: Path) -> dict[str, Any]:
    """Return the description of the wrapper in a folder."""
    return read_description(folder / _WRAPPER, "the description of a WhitenedInput", alone="true or false")
