"""Models of diffusers, called the way the library calls a model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import safetensors.torch  # noqa: F401 -- old versions of diffusers use it, and leave its import to others
from diffusers import DiTTransformer2DModel, ModelMixin, UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn
from typing_extensions import Self, override

from ..._checks import check_finite, check_network
from ..._files import check_entries, checked_path, naming, read_description
from ..._folders import reading, replace_folder
from ..._model import network_of
from ...sampling import (
    OnlyWeights,
    load_model,
    load_weights,
    register_model,
    restore_types,
    save_model,
)

STEPS = 1000
_MODELS: dict[str, Any] = {each.__name__: each for each in (UNet2DModel, UNet2DConditionModel, DiTTransformer2DModel)}
_WRAPPER = "timed_model.json"


@register_model
class TimedModel(nn.Module):
    """A model of diffusers, called with t in [0, 1].

        model(x_t, steps · t + shift).sample

    Channels of the output beyond those of x_t, a learned variance, are cut off.

    Args:
        model: A `UNet2DModel`, `UNet2DConditionModel`, `DiTTransformer2DModel`, or a model called the same way.
        steps: Number of steps that the model's time counts.
        shift: −1 (default): the numbers of diffusers' schedulers. 0 suits a model that was trained with `steps · t`.

    Raises:
        TypeError: `model` cannot be called, or `steps` or `shift` is not a number; when called, a model that returns
            a tensor or a tuple.
        ValueError: `steps` or `shift` is infinite or NaN.

    Example:
        >>> import torch
        >>> from diffusers import UNet2DModel
        >>> unet = UNet2DModel(8, 3, 3, block_out_channels=(8,), down_block_types=("DownBlock2D",),
        ...                    up_block_types=("UpBlock2D",), norm_num_groups=8)
        >>> TimedModel(unet)(torch.zeros(2, 3, 8, 8), torch.tensor([0.1, 0.5])).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, model: nn.Module, *, steps: float = STEPS, shift: float = -1.0) -> None:
        super().__init__()
        check_network("model", model)
        check_finite(steps=steps, shift=shift)
        self.model: Any = model
        self.steps, self.shift = _plain(steps), _plain(shift)

    @override
    def forward(self, x_t: Tensor, t: Tensor, **conditioning: Any) -> Tensor:
        # A float tensor of shape (B,): a Python float would be cut down to a whole number.
        output = self.model(x_t, self.steps * t + self.shift, **conditioning)
        if isinstance(output, (Tensor, tuple)):
            raise TypeError(
                f"{type(self.model).__name__} must return an output with .sample, as those of diffusers, got "
                f"{type(output).__name__}; a model that returns a tensor is passed as it is, without TimedModel"
            )
        sample: Tensor = output.sample
        return sample[:, : x_t.shape[1]]

    def description(self) -> dict[str, Any]:
        """Return the class and the configuration of the model, and how it counts time, as plain values."""
        network = network_of(self.model)
        config = json.loads(network.to_json_string()) if _is_known(network) else None
        return {"class": type(network).__name__, "config": config, "steps": self.steps, "shift": self.shift}

    @classmethod
    def from_description(cls, values: Mapping[str, Any], network: nn.Module | None = None) -> Self:
        """Return the model of a description, with weights that are arbitrary.

        Args:
            values: What `description` returned.
            network: The model to wrap, made as for training. None makes one of the three classes; instead of a model of
                another class, it wraps one that takes its weights and can be saved, and not called.
        """
        kind, config = values["class"], values["config"]
        if network is None:
            network = OnlyWeights(kind) if config is None or kind not in _MODELS else _MODELS[kind].from_config(config)
        return cls(network, steps=values["steps"], shift=values["shift"])

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model to a folder, and beside it how it counts time.

        A model of diffusers is written by its own `save_pretrained`; the weights of any other are written.
        """
        folder, network = checked_path("folder", folder, "'.' for the present folder"), network_of(self.model)
        facts = {"class": type(network).__name__, "steps": self.steps, "shift": self.shift}

        def write(new: Path) -> None:
            if _is_known(network):
                network.save_pretrained(new)
            else:
                facts["network"] = save_model(new, network)
            (new / _WRAPPER).write_text(json.dumps(facts), encoding="utf-8")

        replace_folder(folder, write, _WRAPPER)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], network: Any = None) -> Self:
        """Return the model in a folder.

        Args:
            folder: The folder.
            network: The model to wrap, made as for training, which takes the saved weights. None requires one of the
                three classes.

        Raises:
            FileNotFoundError: a file is missing.
            TypeError: `network` is no module.
            ValueError: the class of the model is not one of the three and `network` is None, or weights do not fit.
        """
        with _reading(folder) as saved:
            facts = _facts(saved)
            loaded = _load(saved, facts, network)
        return cls(loaded, steps=facts["steps"], shift=facts["shift"])

    def load_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Load the weights in a folder into this model.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: weights that do not fit, or a model that counts time in another way.
        """
        with _reading(folder) as saved:
            facts = _facts(saved)
            if (facts["steps"], facts["shift"]) != (self.steps, self.shift):
                raise ValueError(
                    f"the model in {folder} has steps={facts['steps']:g} and shift={facts['shift']:g}, got a model "
                    f"with steps={self.steps:g} and shift={self.shift:g}; pass the network in it, which needs neither"
                )
            _load(saved, facts, self.model)


def _reading(folder: str | os.PathLike[str]) -> AbstractContextManager[Path]:
    """Give where the last whole save to a folder is, while nothing changes it."""
    return reading(checked_path("folder", folder, "'.' for the present folder"), _WRAPPER)


def _facts(folder: Path) -> dict[str, Any]:
    """Return the description of the model in a folder."""
    kinds = {"class": "a string", "steps": "a number", "shift": "a number"}
    return read_description(folder / _WRAPPER, "the description of a TimedModel", **kinds)


def _load(folder: Path, facts: Mapping[str, Any], network: Any) -> Any:
    """Return the network in a folder: the given one, with these weights, or a new one."""
    kind = facts["class"]
    if "network" in facts:
        check_entries(folder / _WRAPPER, facts, network="an object")
        return load_model(folder, facts["network"], network)
    if kind not in _MODELS:
        raise ValueError(f"the model in {folder} is a {kind}, expected one of {', '.join(_MODELS)}")
    config = folder / _MODELS[kind].config_name
    read_description(config, f"the configuration of a {kind}")
    with naming(config):
        loaded = _MODELS[kind].from_pretrained(folder, low_cpu_mem_usage=False)  # True warns without accelerate
    restore_types(loaded, folder)
    if not isinstance(network, nn.Module):
        for tensor in (*loaded.parameters(), *loaded.buffers()):
            tensor.data = tensor.data.clone()  # out of the file, where odd addresses make products round differently
        return loaded
    load_weights(network, loaded.state_dict(), f"the weights in {folder}")
    return network


def _plain(number: Any) -> float:
    """Return a number as Python's own, which JSON holds."""
    return number if isinstance(number, int) else float(number)


def _is_known(model: object) -> bool:
    return type(model).__name__ in _MODELS and isinstance(model, ModelMixin)
