"""The options of a training that decide what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from .checks import check_choice
from .drawing import TimeSampling
from .prediction import Prediction

Precision: TypeAlias = Literal["fp32", "bf16"]


def check_options(options: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the options with their null conditioning copied to the device, by the names of `DiffusionTrainer`.

    Raises:
        ValueError: one is unknown or out of range.
    """
    check_choice("prediction", options["prediction"], get_args(Prediction))
    if options["weighting"] is not None:
        check_choice("weighting", options["weighting"], get_args(Prediction))
    check_choice("precision", options["precision"], get_args(Precision))
    check_choice("time_sampling", options["time_sampling"], get_args(TimeSampling))
    for name, least in (("accumulation", 1), ("discrete_steps", 3)):
        if options[name] < least:
            raise ValueError(f"{name} must be {least} or more, got {options[name]}")
    norm, dropped, nulls = options["max_grad_norm"], options["drop_conditioning"], options["null_conditioning"] or {}
    if norm is not None and not norm > 0:
        raise ValueError(f"max_grad_norm must be positive, got {norm}; None does not clip")
    if not 0 <= dropped < 1:
        raise ValueError(f"drop_conditioning must be a probability in [0, 1), got {dropped}")
    if dropped > 0 and not nulls:
        raise ValueError(
            f"drop_conditioning is {dropped}, but nothing says what stands for 'none'; "
            "pass null_conditioning={'class_labels': 10}, say, a class of its own for 'none'"
        )
    copies = {
        name: null.detach().to(device, copy=True) if isinstance(null, Tensor) else null for name, null in nulls.items()
    }
    return {**options, "null_conditioning": copies}
