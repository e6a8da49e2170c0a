"""Draws pictures from a checkpoint of train_cifar10.py, with its averaged weights.

    python examples/sample_cifar10.py outputs/cifar10 --count 50000
    torchrun --nproc_per_node 4 examples/sample_cifar10.py outputs/cifar10 --count 50000   # the same, sooner
    python examples/sample_cifar10.py outputs/ddpm --solver ancestral --steps 1000         # DDPM
    python examples/sample_cifar10.py outputs/ddpm --solver ddim --steps 50                # DDIM

Picture i follows from the checkpoint, the options, the seed and i: the number of processes does not change it, nor,
but for rounding, the batch size. Interrupted, it continues when it is run again. Writes the pictures to `--out`
(images: uint8, N × H × W × C; labels, if there are classes; metadata: JSON), and the first of them as a PNG beside it.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in the quickstart
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import hashlib
import json
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

import shortest_path as sp
from images import to_uint8
from quickstart import positive
from ranks import Ranks, ranks
from runs import LABELS, Run, load_run, make_sampler
from settings import to_dict
from shortest_path.grids import GridName
from shortest_path.progress import Progress
from shortest_path.sampler import Solver

FORMAT = "shortest_path.samples"
SHOWN, COLUMNS = 100, 10  # pictures in the PNG; of ten classes, each has a column
_NOT_ASKED = ("checkpoint", "out", "batch_size", "device", "bf16")  # options that a request holds otherwise, or not


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    try:
        check_options(args)
        with ranks(args.device) as here:
            draw(args, here)
    except (OSError, ValueError) as error:
        raise SystemExit(f"sample_cifar10: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("\nStopped. Run the same command again, and sampling continues.") from None


def draw(args: argparse.Namespace, here: Ranks) -> None:
    """Draw what is not there yet, this process its share of it, and put everything together."""
    run = load_run(args.checkpoint, here.device)
    check_labels(args, run)
    request = make_request(args, run, here.device)
    sampler = make_sampler(
        run._replace(model=Bf16(run.model)) if request["bf16"] else run,
        solver=args.solver,
        steps=args.steps,
        grid=args.grid,
        eta=args.eta,
        order=args.order,
        guidance_scale=args.guidance_scale,
        guidance_interval=tuple(args.guidance_interval),
    )
    labels = make_labels(args, run.classes)
    chunks = Chunks(args.out.with_suffix(".parts"), args.count, args.chunk)
    if args.out.exists():
        check_same(args.out, read_metadata(args.out)["request"], request)
        if here.first:
            chunks.remove()
            print(f"{args.out}: all {args.count} pictures are there already")
        return
    chunks.open(request, write=here.first)
    missing = chunks.missing()
    if here.world > 1:
        dist.barrier()  # no process may draw before all have seen what is missing
    left = sum(map(len, missing))
    if here.first:
        found = f"; {args.count - left} are there already" if left < args.count else ""
        print(f"Drawing {args.count} pictures with the network of step {run.step}{found}", flush=True)

    own = missing[here.rank :: here.world]
    with Progress("sampling", total=sum(map(len, own)), unit="images", show=here.first) as bar:
        for indices in own:
            drawn = []
            rows = None if labels is None else torch.from_numpy(labels[indices.start : indices.stop]).to(here.device)
            for images in sampler.batches(
                indices,
                run.shape,
                batch_size=args.batch_size,
                seed=args.seed,
                conditioning=None if rows is None else {LABELS: rows},
                clip=(-1, 1) if args.clip else None,
                device=here.device,
                progress=False,
            ):
                drawn.append(finite(images))
                bar.advance(len(images))
            chunks.write(indices, np.concatenate(drawn))

    # Files tell when the others are done: a collective would give up after some minutes.
    while chunks.missing() if here.first else chunks.folder.exists():
        time.sleep(0.1)
    if here.first:
        images = chunks.join()
        picture = args.out.with_suffix(".png")
        with replacing(picture) as file:
            contact_sheet(images[:SHOWN]).save(file, "PNG")
        write(args.out, images, labels, make_metadata(run, request))
        chunks.remove()
        print(f"{args.out}: {len(images)} pictures\n{picture}: the first {min(SHOWN, len(images))} of them")


# What is asked for ----------------------------------------------------------------------------------------------------


def check_options(args: argparse.Namespace) -> None:
    """Raise a ValueError for options that do not go together."""
    if args.out.suffix != ".npz":
        raise ValueError(f"--out must end in .npz, got {args.out}")
    if args.solver == "ancestral" and args.eta:
        raise ValueError("--eta is an option of ddim and multistep; ancestral sampling has its own noise")
    if args.solver != "multistep" and args.order != 2:
        raise ValueError(f"--order is an option of multistep; {args.solver} has order 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU; leave out --device, or pass --device cpu")


def check_labels(args: argparse.Namespace, run: Run) -> None:
    """Raise a ValueError for labels or guidance that the network was not trained for."""
    if not run.classes and (args.label != "all" or args.guidance_scale != 1):
        raise ValueError(
            f"{args.checkpoint} was trained without labels, as --label and --guidance-scale need them; "
            "train with --class-conditional"
        )
    if args.label != "all" and args.label >= run.classes:
        raise ValueError(f"--label must be below {run.classes}, the number of classes, got {args.label}")


def make_request(args: argparse.Namespace, run: Run, device: torch.device) -> dict[str, Any]:
    """Return all that decides the pictures, as plain values."""
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported() if args.bf16 == "auto" else args.bf16 == "yes"
    return {
        "checkpoint": f"of step {run.step} ({fingerprint(run)})",
        **{name: value for name, value in vars(args).items() if name not in _NOT_ASKED},
        "device": device.type,  # each kind has random numbers of its own
        "bf16": bf16,
    }


def fingerprint(run: Run) -> str:
    """Return a short hash of what the checkpoint says about pictures, wherever the file lies."""
    settings = to_dict(run.settings) | {"out": None}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for tensor in (run.spectrum.power, *run.model.state_dict().values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def make_labels(args: argparse.Namespace, classes: int) -> np.ndarray | None:
    """Return the label of every picture: all classes equally often, or the one that is asked for."""
    if not classes:
        return None
    return np.arange(args.count) % classes if args.label == "all" else np.full(args.count, args.label)


def check_same(place: Path, found: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """Raise a ValueError that says in what the request found at a place differs from this one."""
    names = [name for name in request if found.get(name) != request[name]]
    if names:
        different = "; ".join(f"{name} {found.get(name)} there, {request[name]} here" for name in names)
        raise ValueError(f"{place} is of another request: {different}; delete it, or pass another --out")


# Drawing --------------------------------------------------------------------------------------------------------------


class Bf16(nn.Module):
    """Runs a network in bfloat16 where that is safe, as in training; what it returns is float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, t: Tensor, **conditioning: object) -> Tensor:
        with torch.autocast(x_t.device.type, torch.bfloat16):
            return self.network(x_t, t, **conditioning).float()


def finite(images: Tensor) -> np.ndarray:
    """Return pictures as uint8, sure that they are numbers."""
    if not torch.isfinite(images).all():
        raise ValueError("the network draws pictures that are not finite; its training has diverged")
    return to_uint8(images)


class Chunks:
    """Finished pictures in a folder, a file for each range of indices, and the request that they answer.

    Args:
        folder: Made by `open`, removed by `remove`.
        count: Pictures in all.
        size: Pictures in a file.
    """

    def __init__(self, folder: Path, count: int, size: int) -> None:
        self.folder = folder
        self.ranges = [range(first, min(first + size, count)) for first in range(0, count, size)]
        self._request = folder / "request.json"

    def open(self, request: Mapping[str, Any], *, write: bool) -> None:
        """Make the folder, or continue with one of the same request; only one process may `write`.

        Raises:
            ValueError: the folder holds pictures of another request, or something else.
        """
        if self._request.exists() and any(self.folder.glob("images-*.npy")):
            check_same(self.folder, json.loads(self._request.read_text()), request)
        elif write:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(not path.name.startswith((self._request.name, "images-")) for path in self.folder.iterdir()):
                raise ValueError(f"{self.folder} is needed for unfinished work, but holds something else; move it away")
            with replacing(self._request) as file:
                file.write(json.dumps(request, indent=2).encode())

    def missing(self) -> list[range]:
        """Return the ranges that are not drawn yet."""
        return [indices for indices in self.ranges if not self._path(indices).exists()]

    def write(self, indices: range, images: np.ndarray) -> None:
        """Keep the pictures of a range."""
        with replacing(self._path(indices)) as file:
            np.save(file, images)

    def join(self) -> np.ndarray:
        """Return all pictures."""
        return np.concatenate([np.load(self._path(indices), allow_pickle=False) for indices in self.ranges])

    def remove(self) -> None:
        """Remove the folder, if it is one of ours."""
        if self._request.exists():
            shutil.rmtree(self.folder)

    def _path(self, indices: range) -> Path:
        return self.folder / f"images-{indices[0]:08d}-{indices[-1]:08d}.npy"


# Files ----------------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` once it is whole."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write(path: Path, images: np.ndarray, labels: np.ndarray | None, metadata: Mapping[str, Any]) -> None:
    """Write pictures to an .npz archive without pickles."""
    arrays = {"images": images, "metadata": np.array(json.dumps(metadata))}
    if labels is not None:
        arrays["labels"] = labels
    with replacing(path) as file:
        np.savez(file, **arrays)


def read_metadata(path: Path) -> dict[str, Any]:
    """Return what `write` was told about its pictures.

    Raises:
        ValueError: the file is of something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            metadata = json.loads(str(archive["metadata"]))
        if metadata["format"] == FORMAT:
            return metadata
    except (KeyError, TypeError, ValueError, AttributeError, EOFError, zipfile.BadZipFile):
        pass
    raise ValueError(f"{path} exists, and is not of sample_cifar10.py; move it away, or pass another --out")


def make_metadata(run: Run, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the pictures come from, as plain values."""
    return {
        "format": FORMAT,
        "request": dict(request),
        "step": run.step,
        "settings": to_dict(run.settings),
        "provenance": run.provenance,
        "shortest_path": sp.__version__,
        "torch": torch.__version__,
    }


def contact_sheet(images: np.ndarray) -> Image.Image:
    """Return pictures (n, H, W, C) in rows, on white, at twice their size."""
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    _, height, width, channels = images.shape
    cells = np.full((rows * columns, height + 2, width + 2, channels), 255, dtype=np.uint8)
    cells[: len(images), 1:-1, 1:-1] = images
    sheet = cells.reshape(rows, columns, height + 2, width + 2, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + 2), columns * (width + 2), channels).repeat(2, 0).repeat(2, 1)
    return Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet)


# The command line -----------------------------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("checkpoint", type=Path, help="file, or a folder for the newest in it")
    add("--out", type=Path, default=Path("samples.npz"), help="archive to write (%(default)s)")
    add("--count", type=positive, default=50_000, help="pictures (%(default)s)")
    add("--solver", choices=get_args(Solver), default="multistep", help="(%(default)s)")
    add("--steps", type=positive, default=20, help="calls of the network for each picture (%(default)s)")
    add("--grid", choices=get_args(GridName), help="times at which to call it (default: the solver's)")
    add("--eta", type=float, default=0.0, help="of ddim and multistep: share of noise, 0 to 1 (%(default)s)")
    add("--order", type=int, choices=(1, 2), default=2, help="of multistep (%(default)s)")
    add("--seed", type=int, default=0, help="of all random numbers (%(default)s)")
    add("--batch-size", type=positive, default=250, help="pictures at once in each process (%(default)s)")
    add("--guidance-scale", type=float, default=1.0, help="above 1: more typical of the class (%(default)s)")
    add("--guidance-interval", type=float, nargs=2, default=[0.0, 1.0], metavar=("LOW", "HIGH"), help="times of it")
    add("--label", type=label, default="all", help="of one class, or all in turn (%(default)s)")
    add("--clip", action=argparse.BooleanOptionalAction, default=True, help="clean pictures to [-1, 1] in every step")
    add("--bf16", choices=("auto", "yes", "no"), default="auto", help="the network; auto: on a GPU that has it")
    add("--device", choices=("cpu", "cuda"), help="(default: a GPU if there is one)")
    add("--chunk", type=positive, default=1000, help="pictures to draw between two saves (%(default)s)")
    return parser.parse_args(argv)


def label(text: str) -> int | str:
    """Return a class, or "all"."""
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected the number of a class or 'all', got {text!r}")
    return text if text == "all" else int(text)


if __name__ == "__main__":
    main()
