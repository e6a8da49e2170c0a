"""Everything that decides a CIFAR-10 run: one flat set of settings, from a YAML file and the command line."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jsonargparse

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Args:
        data: Name of a data set on the Hugging Face hub, or a parquet file, folder of pictures, .npy or .npz array.
        images: Use only the first so many pictures.
        on_error: What to do with pictures that cannot be read: stop, or skip them and say how many.
        size: Height and width; pictures from a path are fitted to it.
        flip: Mirror every second picture at random.
        data_on_device: Keep all pictures on the device; "auto": on a GPU if they take less than a quarter of it.
        corruption: The corruption process.
        schedule: Of gaussian: how the noise grows.
        max_blur: Of blur: the standard deviation of the final blur, in pixels.
        basis: Of shortest-path: where the spectrum is measured.
        channels: Of shortest-path: rotate the channels, leave them, or one spectrum for all.
        spectrum: Of shortest-path: measured on the training pictures, or the constants of the paper's code.
        log_power_scale: Of shortest-path: multiplies log S; a departure from the shortest path on purpose.
        prediction: What the network predicts. The default was the best after short training (docs/results.md).
        weighting: The prediction whose squared error is the loss; null for the network's own.
        whitened_input: Show the network the corrupted picture whitened as well (`WhitenedInput` in unet.py);
            docs/results.md.
        widths: Channels at each resolution, from the full one down.
        blocks: Residual blocks at each resolution.
        attention: Sizes of the feature maps at which attention works.
        head_channels: Channels of an attention head.
        groups: Groups of the normalisation.
        dropout: Share of features dropped in training.
        class_conditional: Train with the labels, for classifier-free guidance.
        drop_labels: How often a label is dropped in class-conditional training.
        steps: Optimizer steps in all.
        batch_size: Pictures in a step on one device; N devices take N times as many.
        accumulation: Batches whose gradients make one step.
        learning_rate: Of AdamW, after the warm-up.
        warmup: Steps over which the learning rate rises.
        weight_decay: Of AdamW.
        max_grad_norm: Clip the gradient to this norm; null does not clip.
        ema_decay: Of the averaged weights.
        time_sampling: How training times are drawn; "discrete": those of the paper's code.
        discrete_steps: T, for discrete times.
        bf16: Run the network in bfloat16; "auto": on a GPU that has it.
        channels_last: Memory layout in which convolutions are fastest.
        compile: Compile the network; "auto": on a GPU.
        fused: Fused AdamW; "auto": on a GPU.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: How many of the newest to keep, beside the best.
        evaluate_every: Steps between evaluations; 0 evaluates at the end alone.
        evaluation_samples: Pictures to draw for an evaluation; 0 draws none.
        evaluation_steps: Network calls for each of them.
        log_every: Steps between lines of the log.
        seed: Of everything random.
        resume: Continue from the newest checkpoint in `out`, if there is one.
        out: Folder for everything that is written.
    """

    data: str = "uoft-cs/cifar10"
    images: int | None = None
    on_error: Literal["raise", "skip"] = "raise"
    size: int = 32
    flip: bool = True
    data_on_device: Literal["auto", "yes", "no"] = "auto"

    corruption: Literal["gaussian", "blur", "shortest-path"] = "shortest-path"
    schedule: Literal["cosine", "linear", "flow"] = "cosine"
    max_blur: float = 20.0
    basis: Literal["cosine", "fourier", "principal"] = "cosine"
    channels: Literal["rotate", "independent", "shared"] = "rotate"
    spectrum: Literal["measured", "reference"] = "measured"
    log_power_scale: float = 1.0
    prediction: Literal["noise", "data", "velocity", "whitened-velocity"] = "whitened-velocity"
    weighting: Literal["noise", "data", "velocity", "whitened-velocity"] | None = None
    whitened_input: bool = True

    widths: tuple[int, ...] = (128, 256, 256, 256)
    blocks: int = 2
    attention: tuple[int, ...] = (16,)
    head_channels: int = 64
    groups: int = 32
    dropout: float = 0.1
    class_conditional: bool = False
    drop_labels: float = 0.1

    steps: int = 200_000
    batch_size: int = 128
    accumulation: int = 1
    learning_rate: float = 2e-4
    warmup: int = 5000
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    ema_decay: float = 0.9999
    time_sampling: Literal["uniform", "stratified", "discrete"] = "stratified"
    discrete_steps: int = 4000

    bf16: Literal["auto", "yes", "no"] = "auto"
    channels_last: bool = True
    compile: Literal["auto", "yes", "no"] = "auto"
    fused: Literal["auto", "yes", "no"] = "auto"

    checkpoint_every: int = 10_000
    keep_checkpoints: int = 3
    evaluate_every: int = 10_000
    evaluation_samples: int = 1024
    evaluation_steps: int = 20
    log_every: int = 100
    seed: int = 0
    resume: bool = True
    out: str = "outputs/cifar10"

    def __post_init__(self) -> None:
        for name in ("size", "blocks", "steps", "batch_size", "accumulation", "checkpoint_every", "keep_checkpoints"):
            _at_least(name, getattr(self, name), 1)
        for name in ("warmup", "evaluate_every", "evaluation_samples", "weight_decay"):
            _at_least(name, getattr(self, name), 0)
        for name in ("evaluation_steps", "log_every", "discrete_steps"):
            _at_least(name, getattr(self, name), 1)
        if not 0 <= self.dropout < 1 or not 0 <= self.drop_labels < 1:
            raise ValueError(f"dropout and drop_labels must lie in [0, 1), got {self.dropout} and {self.drop_labels}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if self.spectrum == "reference" and (self.basis, self.channels) == ("principal", "rotate"):
            raise ValueError("the reference's constants are for basis=fourier or cosine")


def parse(argv: Sequence[str] | None = None) -> Settings:
    """Return the settings of a command line: defaults, then `--config FILE`, then `--name value`.

    `--print-config` prints them as YAML and exits. A name may be written with dashes, and a switch without its value.
    An unknown name, in the file too, ends the program with a message.
    """
    parser = jsonargparse.ArgumentParser(
        prog="train_cifar10.py",
        allow_abbrev=False,
        print_config="--print_config",
        description="Train a diffusion model on CIFAR-10. torchrun runs it on several GPUs; see examples/README.md.",
    )
    parser.add_argument("--config", action="config", help="YAML file of settings; configs/ holds some")
    parser.add_class_arguments(Settings, None)
    words = _with_underscores(sys.argv[1:] if argv is None else argv)
    chosen = parser.parse_args(words).as_dict()
    chosen.pop("config")
    try:
        return from_dict(chosen)
    except ValueError as error:
        raise SystemExit(f"train_cifar10: {error}") from error


def to_dict(settings: Settings) -> dict[str, Any]:
    """Return settings as plain values, for YAML or a checkpoint."""
    plain = dataclasses.asdict(settings)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def from_dict(values: dict[str, Any]) -> Settings:
    """Return the settings that `to_dict` described.

    Raises:
        ValueError: a name that is not a setting, or a value out of range.
    """
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"unknown settings {', '.join(unknown)}; the settings are {', '.join(sorted(known))}")
    return Settings(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _with_underscores(words: Sequence[str]) -> list[str]:
    """Turn `--batch-size 8` into `--batch_size 8`, and a switch without its value into `--switch=true`."""
    switches = {field.name for field in dataclasses.fields(Settings) if field.type == "bool"}
    result: list[str] = []
    for index, word in enumerate(words):
        if not re.match(r"--[a-z]", word):
            result.append(word)
            continue
        name, *value = word.split("=", 1)
        name = name.replace("-", "_").replace("__", "--", 1)
        alone = not value and (index + 1 == len(words) or words[index + 1].startswith("--"))
        if name[2:] in switches and alone:
            value = ["true"]
        result.append("=".join([name, *value]))
    return result


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")
