"""Generate samples from a checkpoint of train_cifar10.py, with its averaged weights.

    python examples/sample_cifar10.py outputs/cifar10 --count 50000
    torchrun --nproc_per_node 4 examples/sample_cifar10.py outputs/cifar10 --count 50000   # the same, sooner
    python examples/sample_cifar10.py outputs/ddpm --solver ancestral --steps 1000 --start 1   # DDPM
    python examples/sample_cifar10.py outputs/ddpm --solver ddim --steps 50                # DDIM
    python examples/sample_cifar10.py outputs/reference --solver ancestral --grid reference --steps 4000 --no-clip

Sample i depends on the checkpoint, the options, the seed and i alone: the number of processes does not change it, and
the batch size changes only its rounding. After an interruption the same command continues. Writes the samples to
`--out` (images: uint8, N × H × W × C; labels, if there are classes; metadata: JSON), and the first of them as a PNG.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in the quickstart
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import hashlib
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from tqdm import tqdm

import shortest_path as sp
from recipe.arguments import label, output_file, path, positive, seed
from recipe.chunks import Chunks, check_same
from recipe.files import replacing
from recipe.images import to_uint8
from recipe.ranks import Ranks, ranks
from recipe.runs import LABELS, Run, load_run, make_sampler
from recipe.settings import to_dict
from recipe.solvers import add_solver, solver_of
from recipe.unet import Bf16
from shortest_path.grids import GridName

FORMAT = "shortest_path.samples"
SHOWN, COLUMNS = 100, 10  # samples in the PNG; each of ten classes has a column
_NOT_ASKED = (
    "checkpoint",
    "out",
    "batch_size",
    "device",
    "bf16",
    "eta",
    "order",
    "variance",
    "ema",
    "chunk",
)  # options outside the request


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    try:
        check_options(args)
        with ranks(args.device) as here:
            sample(args, here)
    except (OSError, ValueError) as error:
        raise SystemExit(f"sample_cifar10: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("\nStopped. Run the same command again, and sampling continues.") from None


def sample(args: argparse.Namespace, here: Ranks) -> None:
    """Generate the missing samples, divided among the processes, and join all in one file."""
    run = load_run(args.checkpoint, here.device, ema_decay=args.ema)
    check_labels(args, run)
    request = make_request(args, run, here.device)
    sampler = make_sampler(
        run._replace(model=Bf16(run.model)) if request["bf16"] else run,
        solver=solver_of(args),
        steps=args.steps,
        grid=args.grid,
        start=args.start,
        guidance_scale=args.guidance_scale,
        guidance_interval=args.guidance_interval,
    )
    labels = make_labels(args, run.classes)
    chunks = Chunks(args.out.with_suffix(".parts"), args.count, args.chunk)
    if args.out.exists():
        check_same(args.out, read_metadata(args.out)["request"], request)
        if here.first:
            chunks.remove()
            print(f"{args.out}: all {args.count} samples are there already")
        return
    chunks.open({**request, "chunk": args.chunk}, write=here.first)  # which names the files of unfinished work
    missing = chunks.missing()
    if here.world > 1:
        dist.barrier()  # no process may write before all have seen what is missing
    left = sum(map(len, missing))
    if here.first:
        found = f"; {args.count - left} are there already" if left < args.count else ""
        print(f"Generating {args.count} samples with the network of step {run.step}{found}", flush=True)

    own = missing[here.rank :: here.world]
    total, shown = sum(map(len, own)), None if here.first else True
    with tqdm(total=total, desc="sampling", unit=" images", disable=shown) as bar:
        for indices in own:
            samples = []
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
                samples.append(finite(images))
                bar.update(len(images))
            chunks.write(indices, np.concatenate(samples))

    # Wait for files, not in a collective, which would time out after some minutes.
    while chunks.missing() if here.first else chunks.folder.exists():
        time.sleep(0.1)
    if here.first:
        images = chunks.join()
        sheet = args.out.with_suffix(".png")
        with replacing(sheet) as file:
            contact_sheet(images[:SHOWN]).save(file, "PNG")
        write(args.out, images, labels, make_metadata(run, request))
        chunks.remove()
        print(f"{args.out}: {len(images)} samples\n{sheet}: the first {min(SHOWN, len(images))} of them")


# What is asked for ----------------------------------------------------------------------------------------------------


def check_options(args: argparse.Namespace) -> None:
    """Raise a ValueError for options that cannot be combined."""
    if args.out.suffix != ".npz":
        raise ValueError(f"--out must end in .npz, got {args.out}")
    solver_of(args)
    if args.guidance_interval is not None and args.guidance_scale is None:
        raise ValueError("--guidance-interval has no effect without --guidance-scale")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no GPU; omit --device, or pass --device cpu")


def check_labels(args: argparse.Namespace, run: Run) -> None:
    """Raise a ValueError for labels or guidance that the network was not trained for."""
    guided = args.guidance_scale is not None
    if not run.classes and (args.label != "all" or guided):
        raise ValueError(
            f"--label and --guidance-scale require a network trained with --class-conditional, got {args.checkpoint}"
        )
    if guided and not run.settings.drop_labels:
        raise ValueError(
            f"--guidance-scale requires a network trained with --drop-labels above 0, got {args.checkpoint}"
        )
    if args.label != "all" and args.label >= run.classes:
        raise ValueError(f"--label must be below {run.classes}, the number of classes, got {args.label}")


def make_request(args: argparse.Namespace, run: Run, device: torch.device) -> dict[str, Any]:
    """Return everything that determines the samples, as plain values."""
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported() if args.bf16 == "auto" else args.bf16 == "yes"
    return {
        "checkpoint": f"of step {run.step} ({fingerprint(run)})",
        **{name: value for name, value in vars(args).items() if name not in _NOT_ASKED},
        "solver": repr(solver_of(args)),
        "device": device.type,  # each kind has random numbers of its own
        "bf16": bf16,
    }


def fingerprint(run: Run) -> str:
    """Return a short hash of the contents of a checkpoint that determine samples, wherever the file is."""
    settings = to_dict(run.settings) | {"out": None}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for tensor in (run.spectrum.power, *run.model.state_dict().values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def make_labels(args: argparse.Namespace, classes: int) -> np.ndarray | None:
    """Return the label of every sample: all classes equally often, or the chosen one."""
    if not classes:
        return None
    return np.arange(args.count) % classes if args.label == "all" else np.full(args.count, args.label)


# Images ---------------------------------------------------------------------------------------------------------------


def finite(images: Tensor) -> np.ndarray:
    """Return samples as uint8, after checking that they are finite."""
    if not torch.isfinite(images).all():
        raise ValueError("the network gives samples that are not finite; its training has diverged")
    return to_uint8(images)


# Files ----------------------------------------------------------------------------------------------------------------


def write(path: Path, images: np.ndarray, labels: np.ndarray | None, metadata: Mapping[str, Any]) -> None:
    """Write samples to an .npz archive without pickles."""
    arrays = {"images": images, "metadata": np.array(json.dumps(metadata))}
    if labels is not None:
        arrays["labels"] = labels
    with replacing(path) as file:
        np.savez(file, **arrays)


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata that `write` was given.

    Raises:
        ValueError: the file is of another program.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            metadata = json.loads(str(archive["metadata"]))
        if metadata["format"] == FORMAT:
            return metadata
    except (KeyError, TypeError, ValueError, AttributeError, EOFError, zipfile.BadZipFile):
        pass
    raise ValueError(f"{path} exists, and was not written by sample_cifar10.py; move it away, or pass another --out")


def make_metadata(run: Run, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the origin of the samples, as plain values."""
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
    """Return images (n, H, W, C) in rows, on white, at twice their size."""
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
    add("checkpoint", type=path, help="file, or a folder for the newest in it")
    add("--out", type=output_file, default="samples.npz", help="archive to write (%(default)s)")
    add("--count", type=positive, default=50_000, help="number of samples (%(default)s)")
    add("--ema", type=float, metavar="DECAY", help="which of several averages (default: the first)")
    add_solver(parser)
    add("--steps", type=positive, default=20, help="model calls for each sample (%(default)s)")
    add("--grid", choices=get_args(GridName), help="time grid (default: the solver's)")
    add("--start", type=float, help="first time of the grid (default: see Sampler; 1 is the whole chain)")
    add("--seed", type=seed, default=0, help="random seed (%(default)s)")
    add("--batch-size", type=positive, default=250, help="samples in a batch of a process (%(default)s)")
    add("--guidance-scale", type=float, help="above 1: more typical of the class (default: no guidance)")
    add("--guidance-interval", type=float, nargs=2, metavar=("LOW", "HIGH"), help="times of guidance (default: all)")
    add("--label", type=label, default="all", help="number of a class, or all in turn (%(default)s)")
    add(
        "--clip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="clip predicted clean images to [-1, 1] (default: yes)",
    )
    add("--bf16", choices=("auto", "yes", "no"), default="auto", help="bfloat16; auto: on a GPU that has it")
    add("--device", choices=("cpu", "cuda"), help="(default: a GPU if there is one)")
    add("--chunk", type=positive, default=1000, help="samples in a file of unfinished work (%(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
