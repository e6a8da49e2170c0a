"""The options of a training, in one place."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from .._checks import check_choice, check_count, check_flag, check_keywords, check_numbers
from .._exact import check_constant
from ..prediction import Prediction
from ._fingerprint import two_means
from ._loss import Weighting
from ._times import BY_LOSS, TimeSampling

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_FREE = ("max_skipped", "check_range", "image_key", "label_key")  # may differ between runs that continue one another


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of a `DiffusionTrainer`, with their defaults; documented there.

    `DiffusionLoss` checks `prediction`, `weighting`, `time_sampling` and `discrete_steps`.

    Raises:
        TypeError: an option of another type.
        ValueError: an option that is unknown, out of range, or without effect.
    """

    prediction: Prediction = "noise"
    weighting: Weighting | None = None
    learning_rate: float | None = None
    ema_decay: float | Sequence[float] | None = 0.9999
    ema_warmup: bool | None = None
    precision: Precision = "fp32"
    time_sampling: TimeSampling | Literal["loss-second-moment"] = "uniform"
    discrete_steps: int | None = None
    accumulation: int = 1
    max_grad_norm: float | None = None
    max_skipped: int = 10
    image_key: str | None = None
    label_name: str | None = None
    label_key: str | None = None
    drop_conditioning: float = 0.0
    null_conditioning: Mapping[str, Any] | None = None
    seed: int = 0
    check_range: bool = True

    def __post_init__(self) -> None:
        optional = {name: getattr(self, name) for name in ("learning_rate", "max_grad_norm")}
        check_numbers(drop_conditioning=self.drop_conditioning, **{k: v for k, v in optional.items() if v is not None})
        check_keywords("null_conditioning", self.null_conditioning, "{'class_labels': 10}")
        for name, null in (self.null_conditioning or {}).items():
            if isinstance(null, Tensor):
                check_constant(null, f"null_conditioning[{name!r}]")
        for name in ("image_key", "label_name", "label_key"):
            if not isinstance(value := getattr(self, name), (str, type(None))):
                raise TypeError(f"{name} must be a string or None, got {value!r}")
        check_flag("ema_warmup", self.ema_warmup, optional=True)
        check_flag("check_range", self.check_range)
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}; 2e-4 is usual")
        if self.time_sampling == BY_LOSS and self.discrete_steps is not None:
            raise ValueError(
                f"discrete_steps={self.discrete_steps} has no effect with time_sampling={BY_LOSS!r}; omit it"
            )
        check_choice("precision", self.precision, get_args(Precision))
        check_count("accumulation", self.accumulation)
        check_count("max_skipped", self.max_skipped, least=0)
        if isinstance(self.ema_decay, Sequence) and not isinstance(self.ema_decay, str):
            object.__setattr__(self, "ema_decay", tuple(self.ema_decay))
        given = self.ema_decay if isinstance(self.ema_decay, tuple) else (self.ema_decay,)
        for decay in given if self.ema_decay is not None else ():
            check_numbers(ema_decay=decay)
            if not 0 <= decay < 1:
                raise ValueError(f"ema_decay must lie in [0, 1), or be None for no average, got {decay}")
        if self.ema_decay is not None and not len(set(given)) == len(given) > 0:
            raise ValueError(f"a sequence of ema_decay must hold one or more different decays, got {self.ema_decay}")
        if self.ema_decay is None and self.ema_warmup is not None:
            raise ValueError(f"ema_warmup={self.ema_warmup} has no effect with ema_decay=None; omit it")
        object.__setattr__(self, "seed", check_count("seed", self.seed, least=0))
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive, got {self.max_grad_norm}; None does not clip")
        if self.label_key is not None and self.label_name is None:
            raise ValueError(
                f"label_key={self.label_key!r} has no effect without label_name, under which the model gets the labels"
            )
        if not 0 <= self.drop_conditioning < 1:
            raise ValueError(f"drop_conditioning must be a probability in [0, 1), got {self.drop_conditioning}")
        if self.drop_conditioning > 0 and not self.null_conditioning:
            raise ValueError(
                f"drop_conditioning={self.drop_conditioning} requires null_conditioning, e.g. {{'class_labels': 10}}"
            )
        if self.null_conditioning and self.drop_conditioning == 0:
            raise ValueError("null_conditioning has no effect with drop_conditioning=0; pass drop_conditioning=0.1")

    @property
    def decays(self) -> tuple[float, ...]:
        """The decays of all averages, the main one first."""
        if self.ema_decay is None:
            return ()
        given = self.ema_decay if isinstance(self.ema_decay, Sequence) else (self.ema_decay,)
        return tuple(float(decay) for decay in given)

    def recorded(self) -> dict[str, Any]:
        """Return what a checkpoint records and compares: plain values, and the names of functions."""
        names = (field.name for field in fields(self) if field.name not in _FREE)
        return {name: _plain(getattr(self, name)) for name in names}


def _plain(value: Any) -> Any:
    """Return tensors and numpy's numbers as Python's own, and a description in place of a function."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if callable(value):
        return described(value)
    return value.tolist() if hasattr(value, "tolist") else value


def described(value: Any) -> str:
    """Return what `_described` does; of what contains itself, `repr`."""
    try:
        return _described(value)
    except RecursionError:
        return _told(repr(value))


def _described(value: Any) -> str:
    """Return a text that is the same in every process and on every device of a kind, without addresses.

    Functions have their names, tensors and arrays their shape and two means to four digits, sets their elements in
    order; of partial functions and dataclasses, all parts are described. Of anything else it is `repr`, unless that
    shows an address.
    """
    if isinstance(value, functools.partial):
        return f"partial({_described(value.func)}, {_described(value.args)}, {_described(value.keywords)})"
    if hasattr(value, "__qualname__"):
        return _told(f"{value.__module__ or 'builtins'}.{value.__qualname__}")
    if isinstance(value, torch.device):
        return value.type
    if (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not any((value.is_meta, value.is_quantized, value.is_nested))
    ):
        return f"{tuple(value.shape)} {value.dtype} of {_means(value.detach().cpu())}"
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        wide = np.ascontiguousarray(value, dtype=np.complex128 if value.dtype.kind == "c" else np.float64)
        return f"{value.shape} {value.dtype} of {_means(torch.from_numpy(wide))}"
    if type(value) is dict:
        return f"{{{', '.join(f'{_described(key)}: {_described(each)}' for key, each in value.items())}}}"
    if type(value) is list:
        return f"[{', '.join(map(_described, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(_described, value))}{',' * (len(value) == 1)})"
    if type(value) in (set, frozenset):
        return f"{{{', '.join(sorted(map(_described, value)))}}}"
    if is_dataclass(value):
        parts = ", ".join(f"{each.name}={_described(getattr(value, each.name))}" for each in fields(value) if each.repr)
        return f"{type(value).__qualname__}({parts})"
    text, kind = repr(value), type(value)
    return _described(kind) if f"at {hex(id(value))}" in text else _told(text)


def _means(values: Tensor) -> str:
    """Return what tells values from others, but for rounding."""
    means = two_means(values.abs() if values.is_complex() else values)
    return f"means {', '.join(f'{float(each):.4g}' for each in means)}"


def digest(value: Any) -> str:
    """Return sixteen hexadecimal digits that differ where descriptions do."""
    return hashlib.sha256(described(value).encode()).hexdigest()[:16]


def _told(text: str) -> str:
    """Return a text without addresses, and without the name that a script has in the processes that it spawns."""
    return _ADDRESS.sub("", text).replace("__mp_main__", "__main__")


def alike(one: Any, other: Any) -> bool:
    """Whether two plain values are equal; NaN equals itself."""
    return bool(one == other) or repr(one) == repr(other)
