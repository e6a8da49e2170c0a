"""Train a small classifier, in whose features images are compared by Fréchet and kernel distances.

    python -m studies.trained_networks.classifier --data TRAIN.parquet --test TEST.parquet --size 16 --out classifier16

Inception is too large for one CPU core, and its 2048 features require tens of thousands of images. This network is
trained on the data set itself, at the size at which images are compared. It has 128 features (4 × `--width`), whose
covariance requires a few hundred images. Distances in these features are not FIDs, and depend on the weights.

The folder `--out` receives `classifier.safetensors`; `classifier.json`, with all settings; and `checkpoint.pt`, from
which the same command continues after an interruption. `load_classifier` reads the first two. The test images select
nothing: the weights are those after the last epoch, and are written only if they classify the fraction
`--required-accuracy` of the unmodified test images correctly.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from examples.recipe.arguments import output_folder
from examples.recipe.cifar10 import Pictures, load
from shortest_path.training import load_checkpoint, write_checkpoint
from studies.trained_networks.images import averaged, cropped

FORMAT, SMALLEST = 1, 8  # of the files; pixels, as two poolings leave 2×2
SMOOTHING, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4
RISE = 0.2  # fraction of training in which the learning rate rises; then it falls to 0
LOGIT_SCALE = 0.125  # keeps the first losses small at a high learning rate (as in D. Page's ResNet-9)
PART = 500  # images in a batch where no gradient is needed


class Classifier(nn.Module):
    """A residual network of at least seven convolutions, with the mean over pixels of its last layer as features.

    Args:
        size: Height and width of images; every doubling above 16 adds a convolution and a pooling.
        width: Channels of the first layer; there are 4 × width features.
        classes: Number of classes.
    """

    def __init__(self, *, size: int, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        if size < SMALLEST or width < 1 or classes < 2:
            wanted = f"size ≥ {SMALLEST}, width ≥ 1 and 2 classes or more"
            raise ValueError(f"expected {wanted}; got size {size}, width {width} and {classes} classes")
        self.size, self.classes = size, classes
        self.body = nn.Sequential(
            _unit(3, width),
            *(_unit(width, width, pool=True) for _ in range(round(math.log2(size / 16)))),
            _unit(width, 2 * width, pool=True),
            _Residual(2 * width),
            _unit(2 * width, 4 * width, pool=True),
            _Residual(4 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images in [-1, 1], (B, 3, H, W), as (B, classes)."""
        return LOGIT_SCALE * self.head(self.body(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the features in which images are compared; all are non-negative.

        Args:
            images: Floats in [-1, 1], (B, 3, H, W), on any device. A large B is split into batches.

        Returns:
            (B, 4 × width), with the dtype and on the device of the weights.

        Raises:
            ValueError: shape or dtype differ from the above, or values are outside [-1, 1].
        """
        wanted, got = (3, self.size, self.size), tuple(images.shape)
        if got[1:] != wanted or not images.numel() or not images.is_floating_point():
            raise ValueError(f"expected floats of shape (B ≥ 1, *{wanted}), got {images.dtype} {got}; convert them")
        low, high = (value.item() for value in images.detach().aminmax())
        if not (low >= -1.001 and high <= 1.001):  # rounding is allowed; NaN fails both
            raise ValueError(f"images must be in [-1, 1], got [{low:.4g}, {high:.4g}]; scale or clip them")
        weights = self.head.weight
        return torch.cat([self.body(part.to(weights.device, weights.dtype)) for part in images.split(PART)])


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_unit(channels, channels), _unit(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def _unit(inputs: int, outputs: int, *, pool: bool = False) -> nn.Sequential:
    pooling = [nn.MaxPool2d(2)] if pool else []  # before the normalization, which then costs a quarter
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, *pooling, nn.BatchNorm2d(outputs), nn.ReLU())


def load_classifier(folder: str | Path) -> Classifier:
    """Return the classifier in a folder: on the CPU, in evaluation mode, with frozen weights.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the files are damaged, do not belong together, or have another format.
    """
    file, weights = Path(folder) / "classifier.json", Path(folder) / "classifier.safetensors"
    try:
        facts, data = json.loads(file.read_text(encoding="utf-8")), weights.read_bytes()
        if facts["format"] != FORMAT or facts["weights_sha256"] != hashlib.sha256(data).hexdigest():
            raise ValueError(f"expected format {FORMAT} and the SHA-256 of {weights.name}")
        classifier = Classifier(size=facts["size"], width=facts["width"], classes=facts["classes"])
        classifier.load_state_dict(safetensors.torch.load(data))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error.filename} does not exist; make it with studies.trained_networks.classifier"
        ) from error
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{file} is unusable ({error!r}); make it again with studies.trained_networks.classifier"
        ) from error
    return classifier.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def augmented(images: Tensor, *, shift: int, generator: torch.Generator) -> Tensor:
    """Return uint8 images (B, H, W, 3), randomly mirrored and shifted by up to `shift` < H, W pixels each way.

    Edges are padded by reflection. The generator is on the CPU.
    """
    batch, height, width = images.shape[:3]
    offsets = torch.randint(-shift, shift + 1, (2, batch, 1), generator=generator)
    mirrored = torch.rand(batch, 1, generator=generator) < 0.5

    def reflected(places: Tensor, length: int) -> Tensor:
        return (length - 1) - ((length - 1) - places.abs()).abs()

    rows = reflected(torch.arange(height) + offsets[0], height).to(images.device)
    columns = reflected(torch.arange(width) + offsets[1], width)
    columns = torch.where(mirrored, columns.flip(-1), columns).to(images.device)
    return images[torch.arange(batch, device=images.device)[:, None, None], rows[:, :, None], columns[:, None, :]]


def unit_range(images: Tensor) -> Tensor:
    """Return uint8 (B, H, W, 3) as floats in [-1, 1], (B, 3, H, W) with the channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def train_epoch(
    network: Classifier, optimizer: torch.optim.Optimizer, data: Sequence[Tensor], epoch: int, args: argparse.Namespace
) -> float:
    """Train for one epoch, reproducible from the seed, its number and the state before; return the mean loss."""
    images, labels = data
    state = int(np.random.SeedSequence((args.seed, epoch)).generate_state(1, np.uint64)[0] >> 1)
    generator = torch.Generator().manual_seed(state)
    order = torch.randperm(len(images), generator=generator).to(images.device)
    steps, shift = len(images) // args.batch_size, max(1, args.size // 8)
    total = torch.zeros((), device=images.device)
    network.train()
    for step in range(steps):
        progress = (epoch * steps + step + 0.5) / (args.epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * min(progress / RISE, (1 - progress) / (1 - RISE))
        rows = order[step * args.batch_size : (step + 1) * args.batch_size]
        with torch.autocast(images.device.type, torch.bfloat16, enabled=args.precision == "bf16"):
            logits = network(unit_range(augmented(images[rows], shift=shift, generator=generator)))
        loss = nn.functional.cross_entropy(logits.float(), labels[rows], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total.item() / steps


@torch.no_grad()
def accuracy(network: Classifier, data: Sequence[Tensor]) -> float:
    """Return the fraction of images classified correctly, in float32."""
    network.eval()
    pairs = zip(*(tensor.split(PART) for tensor in data), strict=True)
    return sum((network(unit_range(x)).argmax(1) == y).sum().item() for x, y in pairs) / len(data[1])


def read(args: argparse.Namespace) -> tuple[Pictures, Pictures]:
    """Return the training and test images.

    Raises:
        ValueError: images or settings do not fit.
    """
    if args.crops and not args.average_from:
        raise ValueError("--crops requires --average-from, the size to cut from; pass e.g. --average-from 32")
    training, test = (
        load(source, size=args.average_from or args.size, labels=True) for source in (args.data, args.test)
    )
    if args.average_from:
        training, test = (_smaller(part, args) for part in (training, test))
    for name, data in (("--data", training), ("--test", test)):
        if (channels := data.images.shape[3]) != 3:
            raise ValueError(f"{name} requires images of three channels, got {channels}; pass colour images")
    if training.provenance["sha256"] == test.provenance["sha256"]:
        raise ValueError("--data and --test are the same images; pass other images as --test")
    if test.classes > training.classes:
        raise ValueError(
            f"--test has {test.classes} classes, --data {training.classes}; pass two parts of one data set"
        )
    ours, theirs = (part.provenance.get("class_names", []) for part in (training, test))
    if theirs != ours[: len(theirs)]:
        raise ValueError(
            f"--test has the classes {', '.join(theirs)}, --data {', '.join(ours)}; pass two parts of one data set"
        )
    if not 1 <= args.batch_size <= len(training.images):
        raise ValueError(f"--batch-size must be from 1 to {len(training.images)} images, got {args.batch_size}")
    if args.epochs < 1 or not args.learning_rate > 0:
        raise ValueError(f"expected --epochs ≥ 1 and --learning-rate > 0, got {args.epochs}, {args.learning_rate}")
    return training, test


def _smaller(part: Pictures, args: argparse.Namespace) -> Pictures:
    if not args.crops:
        return part._replace(images=averaged(part.images, args.size))
    crops = cropped(part.images, args.size)
    return part._replace(images=crops, labels=np.repeat(part.labels, len(crops) // len(part.images)))


def write(folder: Path, network: Classifier, facts: Mapping[str, Any]) -> None:
    """Write the two files that `load_classifier` reads, each to a temporary file that is renamed."""
    data = safetensors.torch.save({name: value.cpu().contiguous() for name, value in network.state_dict().items()})
    whole = json.dumps({**facts, "weights_sha256": hashlib.sha256(data).hexdigest()}, indent=2) + "\n"
    for name, content in (("classifier.safetensors", data), ("classifier.json", whole.encode())):
        beside = folder / f".{name}.new"
        beside.write_bytes(content)
        os.replace(beside, folder / name)


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Train, or continue; write the classifier, and return the content of classifier.json.

    Raises:
        ValueError: settings or images do not fit, the folder holds another run, or the accuracy is too low.
    """
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    out, (training, test) = args.out, read(args)
    names = ("size", "average_from", "crops", "width", "epochs", "batch_size", "learning_rate", "precision", "seed")
    run = {name: getattr(args, name) for name in names} | {"training_data": training.provenance}
    torch.manual_seed(args.seed)  # for the weights; everything else has its own generator
    network = Classifier(size=args.size, width=args.width, classes=training.classes)
    network.to(device, memory_format=torch.channels_last)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in network.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=args.learning_rate, momentum=MOMENTUM, nesterov=True)
    data, held = ([torch.tensor(each).to(device) for each in part[:2]] for part in (training, test))
    epoch, seconds, file = 0, 0.0, out / "checkpoint.pt"
    out.mkdir(parents=True, exist_ok=True)
    if file.exists():
        state = load_checkpoint(file)
        before = state.get("run", {}) if state.get("format") == FORMAT else {}
        if changed := [f"{key} was {before.get(key)}, is {run[key]}" for key in run if before.get(key) != run[key]]:
            raise ValueError(f"{file} is of another run: {'; '.join(changed)}. Use its settings, or another --out")
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        epoch, seconds = state["epoch"], state["seconds"]
        print(f"continuing after epoch {epoch}", flush=True)
    while epoch < args.epochs:
        start = time.perf_counter()
        loss = train_epoch(network, optimizer, data, epoch, args)
        if not math.isfinite(loss):
            raise ValueError(f"the loss became {loss} in epoch {epoch + 1}; use a smaller --learning-rate")
        score = accuracy(network, held)
        epoch, seconds = epoch + 1, seconds + time.perf_counter() - start
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        write_checkpoint(file, {"format": FORMAT, "run": run, "epoch": epoch, "seconds": seconds, **state})
        print(f"epoch {epoch}/{args.epochs}: loss {loss:.4f}, test accuracy {score:.4f}, {seconds:.0f} s", flush=True)
    score = accuracy(network, held)  # again, as --test may differ from that of the finished training
    if score < args.required_accuracy:
        short = f"test accuracy is {score:.4f}, expected {args.required_accuracy}, nothing was written"
        raise ValueError(f"{short}; use more --epochs or --width in another --out")
    facts = {"format": FORMAT, **run, "classes": network.classes, "features": network.head.in_features}
    facts |= {"parameters": sum(p.numel() for p in network.parameters())}
    facts |= {"architecture": " ".join(str(network).split())}
    facts |= {"test_accuracy": score, "test_data": test.provenance, "seconds": round(seconds, 1)}
    facts |= {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    write(out, network, facts)
    return facts


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.trained_networks.classifier",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, help="training images with labels, as for examples/train_cifar10.py")
    parser.add_argument("--test", required=True, help="test images with labels")
    parser.add_argument("--size", type=int, default=16, help="height and width to which images are resized (Lanczos)")
    parser.add_argument(
        "--average-from",
        type=int,
        default=0,
        help="resize to this instead, and from there average over boxes to --size",
    )
    parser.add_argument("--crops", action="store_true", help="cut into crops of --size instead of averaging")
    parser.add_argument("--out", type=output_folder, required=True, help="folder for the classifier and its checkpoint")
    for name, default in (("epochs", 50), ("batch-size", 256), ("learning-rate", 0.2), ("width", 32), ("seed", 0)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--precision", choices=["bf16", "fp32"], default="bf16", help="precision of training; features are float32"
    )
    parser.add_argument("--required-accuracy", type=float, default=0.8, help="least accuracy on test images")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train the classifier, or continue."""
    args = parse(argv)
    try:
        facts = train(args)
    except (OSError, ValueError) as error:
        raise SystemExit(f"classifier: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("\nStopped. The same command continues after the last printed epoch.") from None
    print("{test_accuracy:.2%} correct; {parameters:,} parameters, {features} features, {seconds} s".format(**facts))


if __name__ == "__main__":
    main()
