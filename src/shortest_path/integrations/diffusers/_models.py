"""Models of diffusers, called the way the library calls a model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from diffusers import DiTTransformer2DModel, ModelMixin, UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn
from typing_extensions import Self, override

from ...sampling import register_model

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
        self.model: Any = model
        self.steps, self.shift = steps, shift

    @override
    def forward(self, x_t: Tensor, t: Tensor, **conditioning: Any) -> Tensor:
        # A float tensor of shape (B,): a Python float would be cut down to a whole number.
        output: Tensor = self.model(x_t, self.steps * t + self.shift, **conditioning).sample
        return output[:, : x_t.shape[1]]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model by its own `save_pretrained`, and beside it how it counts time.

        Raises:
            ValueError: the model is of another class than those that `from_pretrained` loads.
        """
        kind = type(self.model).__name__
        if kind not in _MODELS or not isinstance(self.model, ModelMixin):
            raise ValueError(f"only {', '.join(_MODELS)} can be saved, got {kind}; pass a wrapper of your own")
        self.model.save_pretrained(folder)  # type: ignore[attr-defined]
        facts = {"class": kind, "steps": self.steps, "shift": self.shift}
        (Path(folder) / _WRAPPER).write_text(json.dumps(facts) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the model in a folder.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the class of the model is not one of the three.
        """
        facts = json.loads((Path(folder) / _WRAPPER).read_text(encoding="utf-8"))
        if facts["class"] not in _MODELS:
            raise ValueError(f"the model in {folder} is a {facts['class']}, expected one of {', '.join(_MODELS)}")
        model = _MODELS[facts["class"]].from_pretrained(folder)
        return cls(model, steps=facts["steps"], shift=facts["shift"])
