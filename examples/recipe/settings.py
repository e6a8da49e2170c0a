"""The settings of a CIFAR-10 run: one flat set, from a YAML file and the command line."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

try:
    import jsonargparse
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'{error}; the examples for CIFAR-10 require the extra `cifar10`: pip install -e ".[cifar10]"', name=error.name
    ) from error

from .arguments import advised, output_folder

FREE = {  # settings that may change when a run continues; images, global batch and precision are compared themselves
    *("data", "images", "on_error", "data_on_device", "steps", "batch_size", "resume", "out"),
    *("bf16", "channels_last", "compile", "fused", "gradient_checkpointing"),
    *("checkpoint_every", "keep_checkpoints", "evaluate_every", "log_every"),
    *("evaluation_samples", "evaluation_steps", "evaluate_fid"),
}
_DISCRETE = {"discrete": 4000, "ddpm": 1000}  # and T where it is not given
_REQUIRED: dict[str, tuple[str, tuple[object, ...]]] = {  # settings without effect unless another has one of the values
    "discrete_steps": ("time_sampling", tuple(_DISCRETE)),
    "time_input": ("time_sampling", tuple(_DISCRETE)),
    "schedule_steps": ("schedule", ("linear",)),
    "schedule": ("corruption", ("gaussian",)),
    "max_blur": ("corruption", ("blur",)),
    **dict.fromkeys(("basis", "channels", "spectrum", "log_power_scale"), ("corruption", ("shortest-path",))),
    "drop_labels": ("class_conditional", (True,)),
}
CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Args:
        data: Name of a data set on the Hugging Face hub, or a folder of images or parquet files, parquet file,
            cifar-10-batches-py, .npy or .npz array.
        images: Maximum number of images; the first ones are used.
        on_error: What to do about images that cannot be read: stop, or skip them and give their number.
        size: Height and width; images from a path are fitted to it.
        flip: Mirror each image with probability 1/2.
        held_out: Maximum number of images that are not trained on, for the evaluations; with 0 all are trained on, and
            the evaluations use some of them.
        data_on_device: Keep all images on the device; "auto": on a GPU if they take less than a quarter of it.
        corruption: The corruption process.
        schedule: For gaussian: the noise schedule.
        schedule_steps: For schedule=linear: the number of steps T of DDPM's table; null is 1000.
        max_blur: For blur: the standard deviation of the final blur, in pixels.
        basis: For shortest-path: the basis of the spectrum.
        channels: For shortest-path: rotate the channels, leave them, or one spectrum for all. The reference's constants
            have no rotation.
        spectrum: For shortest-path: measured on the training images, or the constants of the paper's code.
        log_power_scale: For shortest-path: factor of log S; other than 1, it departs from the shortest path.
        prediction: What the network predicts. The default was the best after short training (docs/results.md).
        weighting: The prediction whose squared error is the loss; null for `prediction`.
        whitened_input: Show the network the whitened corrupted image as well (`shortest_path.models.WhitenedInput`);
            see docs/results.md.
        widths: Channels at each resolution, from the full one down.
        blocks: Residual blocks at each resolution.
        attention: Sizes of the feature maps at which attention works.
        head_channels: Channels of an attention head: 256 channels have four of 64.
        scale_shift: Let the time scale and shift the features after the second normalisation of a block; false adds it
            before.
        zero_init: Begin with zeros in the last layer of every block and of the network.
        time_input: What the network is told of the time: 1000 t, or for discrete times their scaled index 1000 k / T,
            as in the paper's code.
        groups: Groups of the normalisation.
        dropout: Fraction of features dropped in training.
        class_conditional: Train with the labels, which the data must have, for classifier-free guidance.
        drop_labels: Probability of dropping a label in class-conditional training.
        steps: Total number of optimizer steps.
        batch_size: Images in a step on one device; N devices take N times as many.
        accumulation: Number of batches whose gradients are summed in one step.
        learning_rate: Learning rate of AdamW after the warm-up.
        warmup: Steps over which the learning rate rises.
        decay: How it falls from there to 0 at the last step; "none" keeps it. With a decay, `steps` may not change when
            a run continues.
        weight_decay: Weight decay of AdamW.
        max_grad_norm: Clip the gradient to this norm; null does not clip.
        ema_decay: Decay of the averaged weights, or a list of several; the first is evaluated.
        ema_warmup: Let the average forget the initial weights sooner.
        time_sampling: How training times are drawn; "discrete": the times of the paper's code; "ddpm": k / T for
            k = 1 … T.
        discrete_steps: T, for discrete and ddpm times; null is 4000 and 1000.
        bf16: Run the network in bfloat16; "auto": on a GPU that has it.
        channels_last: Memory layout in which convolutions are fastest.
        compile: Compile the network; "auto": on a GPU.
        fused: Fused AdamW; "auto": on a GPU.
        gradient_checkpointing: Compute the features of each block again in the backward pass, which takes less memory.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: Number of the newest to keep, besides the best.
        evaluate_every: Steps between evaluations; 0 evaluates only at the end.
        evaluation_samples: Number of samples for an evaluation; may be 0.
        evaluation_steps: Model calls for each sample.
        evaluate_fid: Number of samples for the FID at each evaluation, against all images of `data`; 0 omits it.
            Requires the extra `fid`.
        log_every: Steps between lines of the log.
        seed: Random seed for everything.
        resume: Continue from the newest checkpoint in `out`, if there is one. A file of a checkpoint: begin from it
            where `out` has none.
        out: Folder for everything that is written.
    """

    data: str = "uoft-cs/cifar10"
    images: int | None = None
    on_error: Literal["raise", "skip"] = "raise"
    size: int = 32
    flip: bool = True
    held_out: int = 512
    data_on_device: Literal["auto", "yes", "no"] = "auto"

    corruption: Literal["gaussian", "blur", "shortest-path"] = "shortest-path"
    schedule: Literal["cosine", "linear", "flow"] = "cosine"
    schedule_steps: int | None = None
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
    scale_shift: bool = False
    zero_init: bool = False
    time_input: Literal["time", "index"] = "time"
    dropout: float = 0.1
    class_conditional: bool = False
    drop_labels: float = 0.1

    steps: int = 200_000
    batch_size: int = 128
    accumulation: int = 1
    learning_rate: float = 2e-4
    warmup: int = 5000
    decay: Literal["none", "linear", "cosine"] = "none"
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    ema_decay: float | tuple[float, ...] = 0.9999
    ema_warmup: bool = True
    time_sampling: Literal["uniform", "stratified", "discrete", "ddpm", "loss-second-moment"] = "stratified"
    discrete_steps: int | None = None

    bf16: Literal["auto", "yes", "no"] = "auto"
    channels_last: bool = True
    compile: Literal["auto", "yes", "no"] = "auto"
    fused: Literal["auto", "yes", "no"] = "auto"
    gradient_checkpointing: bool = False

    checkpoint_every: int = 10_000
    keep_checkpoints: int = 3
    evaluate_every: int = 10_000
    evaluation_samples: int = 1024
    evaluation_steps: int = 20
    evaluate_fid: int = 0
    log_every: int = 100
    seed: int = 0
    resume: bool | str = True
    out: str = "outputs/cifar10"

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError("widths must hold one number or more, got none")
        for width in self.widths:
            _at_least("widths", width, 1)
        for name in ("size", "blocks", "head_channels", "groups", "steps", "batch_size", "accumulation"):
            _at_least(name, getattr(self, name), 1)
        for name in ("held_out", "warmup", "evaluate_every", "evaluation_samples", "evaluate_fid", "weight_decay"):
            _at_least(name, getattr(self, name), 0)
        for name in ("evaluation_steps", "log_every", "checkpoint_every", "keep_checkpoints"):
            _at_least(name, getattr(self, name), 1)
        if self.images is not None:
            _at_least("images", self.images, 1)
        if self.evaluate_fid == 1:
            raise ValueError("evaluate_fid requires 2 samples or more, or 0 for no FID, got 1")
        if not 0 <= self.dropout < 1 or not 0 <= self.drop_labels < 1:
            raise ValueError(f"dropout and drop_labels must lie in [0, 1), got {self.dropout} and {self.drop_labels}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.discrete_steps is not None:
            _at_least("discrete_steps", self.discrete_steps, 3)
        self._check_effects()
        if self.warmup >= self.steps and self.decay != "none":
            raise ValueError(
                f"decay={self.decay} requires steps above warmup, got steps={self.steps} and warmup={self.warmup}"
            )
        if not self.out:
            raise ValueError("out is empty; use . for the present folder")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if self.seed >= 2**63:
            raise ValueError(f"seed must be at most 2**63 - 1, got {self.seed}")
        for decay in self.ema_decay if isinstance(self.ema_decay, tuple) else (self.ema_decay,):
            if not 0 <= decay < 1:
                raise ValueError(f"ema_decay must lie in [0, 1), got {decay}")
        if self.spectrum == "reference" and self.basis == "principal":
            raise ValueError("spectrum=reference requires basis=fourier or cosine, got principal")

    def _check_effects(self) -> None:
        """Raise a ValueError for a setting that is not the default and would have no effect."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, (other, values) in _REQUIRED.items():
            if getattr(self, name) != defaults[name] and getattr(self, other) not in values:
                needed = " or ".join(map(str, values))
                raise ValueError(
                    f"{name}={getattr(self, name)} requires {other}={needed}, got {getattr(self, other)}; omit it"
                )

    @property
    def chain_steps(self) -> int:
        """The number of discrete times, T."""
        return self.discrete_steps or _DISCRETE[self.time_sampling]


def parse(argv: Sequence[str] | None = None, program: str = "train_cifar10") -> Settings:
    """Return the settings of a command line: `--name value` overrides `--config FILE`, which overrides the defaults.

    `--print-config` prints them as YAML and exits. A name may be written with dashes, and a switch without its value.
    An unknown name, in the file too, or an empty line ends the program with a message.
    """
    parser, words = _parser(program), _with_underscores(sys.argv[1:] if argv is None else argv)
    files = [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    files += [word for flag, word in itertools.pairwise(words) if flag == "--config"]
    for file in files:  # each by itself, so that an error names it
        try:
            _parser(program, exit_on_error=False).parse_args(["--config", file])
        except jsonargparse.ArgumentError as error:  # noqa: PERF203
            parser.error(f"--config {file}: {advised(str(error))}")
        except UnicodeDecodeError as error:
            parser.error(f"--config {file}: it must be text in UTF-8 ({error}); save it again in that encoding")
    try:
        chosen = _parser(program, exit_on_error=False).parse_args(words).as_dict()
    except jsonargparse.ArgumentError as error:
        parser.error(advised(str(error)))
    chosen.pop("config")
    try:
        _check_given(chosen)
        settings = from_dict(chosen)
        output_folder(settings.out)
        return settings
    except (ValueError, argparse.ArgumentTypeError) as error:
        of = f" (settings of {', '.join(files)} and the command line)" if files else ""
        raise SystemExit(f"{program}: {error}{of}") from error


def _parser(program: str, **options: Any) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(
        prog=f"{program}.py",
        allow_abbrev=False,
        print_config="--print_config",
        description="Train a diffusion model on CIFAR-10. torchrun runs it on several GPUs; see examples/README.md. "
        "A name may be written with hyphens: --discrete-steps is --discrete_steps.",
        **options,
    )
    parser.add_argument("--config", action="config", help="YAML file of settings; configs/ holds some")
    parser.add_class_arguments(Settings, None)
    return parser


def _check_given(values: Mapping[str, Any]) -> None:
    """Raise a ValueError for a setting without a value, as an empty line of YAML has, unless its type has None."""
    for name, kind in get_type_hints(Settings).items():
        if values.get(name, ...) is None and type(None) not in get_args(kind):
            raise ValueError(f"{name} is empty in the configuration; give it a value, or omit the line")


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
    switches = {field.name for field in dataclasses.fields(Settings) if field.type.startswith("bool")}
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
    if not value >= least:  # NaN is neither
        raise ValueError(f"{name} must be {least} or more, got {value}")
