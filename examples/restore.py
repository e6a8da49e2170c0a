"""What a trained model can do beyond drawing: repair, vary, encode and judge pictures that it has never seen.

    python examples/quickstart.py                    # trains the network
    python examples/restore.py                       # uses it; takes a minute or two on a CPU

The argument is the folder that the quickstart wrote. Trained on your own pictures, the network needs others to be
tried on: `--data PATH`, of which the last ones are taken, or a quickstart with `--images N`, which leaves the rest.
All that is drawn and measured goes to the folder `--out`.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in the quickstart
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

import shortest_path as sp
from dead_leaves import dead_leaves
from images import load_images, to_uint8, to_unit
from quickstart import positive, stage
from shortest_path.checkpoint import latest_checkpoint, load_checkpoint
from unet import WhitenedInput, small_unet

COARSER = 4  # of super-resolution
AGAIN = (0.8, 0.6, 0.4)  # times from which a restored picture is drawn again, for its parts to settle
STARTS = (0.3, 0.5, 0.7)  # of image-to-image
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of interpolation
LEVEL = 1 / 127.5  # of 8-bit pictures in [-1, 1]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    seconds: dict[str, float] = {}

    with stage("Reading the network, and pictures it was not trained on", seconds, "reading"):
        try:
            trained = read(args.folder)
            count = max(args.pictures, args.likelihood_pictures)
            unseen = to_unit(held_out(trained.settings, args.data, count))
        except (OSError, ValueError) as error:
            raise SystemExit(f"restore: {error}") from error
        if unseen.shape[1:] != trained.spectrum.shape:
            raise SystemExit(
                f"restore: pictures of shape {tuple(unseen.shape[1:])} do not fit a network "
                f"for {trained.spectrum.shape}; train one on such pictures"
            )
        pictures = unseen[: args.pictures]
        args.out.mkdir(parents=True, exist_ok=True)

    with stage("Restoring pictures of which something is missing", seconds, "restoring"):
        restored = restore(trained, pictures, args.out / "restored.png", args.steps, args.draws, args.seed)

    with stage("Drawing pictures anew from the middle, and there and back again", seconds, "varying"):
        varied = vary(trained, pictures, args.out / "variations.png", args.steps, args.seed)

    with stage("Drawing pictures between two", seconds, "interpolating"):
        between(trained, pictures, args.out / "interpolations.png", args.steps)

    chosen = unseen[: args.likelihood_pictures]
    with stage(f"Asking how likely {len(chosen)} pictures are", seconds, "likelihood"):
        likelihood = judge(trained, chosen, args.likelihood_steps, args.seed)

    report = {
        "restored": restored,
        "varied": varied,
        "likelihood": likelihood,
        "seconds": seconds,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
    }
    (args.out / "restore.json").write_text(json.dumps(report, indent=2) + "\n")
    summarise(args.out, report)


# What the quickstart left ---------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """What sampling needs, and the settings of the quickstart that made it."""

    model: WhitenedInput
    corruption: sp.ShortestPathCorruption
    spectrum: sp.PowerSpectrum
    settings: Mapping[str, Any]

    def sampler(self, **options: Any) -> sp.Sampler:
        return sp.Sampler(self.model, self.corruption, prediction="whitened-velocity", **options)


def read(folder: Path) -> Trained:
    """Read the network of a finished quickstart, with averaged weights, and its spectrum.

    Raises:
        FileNotFoundError: the folder does not exist, or no quickstart finished in it.
        ValueError: a file in it is damaged, or of something else.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; run examples/quickstart.py first, or pass its --out folder")
    path = latest_checkpoint(folder / "checkpoints")
    if path is None or not (folder / "figures.json").exists():
        raise FileNotFoundError(
            f"{folder} is not the folder of a finished quickstart: it needs figures.json and "
            "checkpoints/checkpoint-*.pt; run examples/quickstart.py, or pass its --out folder"
        )
    state = load_checkpoint(path)  # weights only: nothing in the file is executed
    try:
        settings = json.loads((folder / "figures.json").read_text())["settings"]
        shape = state["ema"]["power"].shape
        # One channel stands for all where all have the same power; not so in the spectrum.
        power = state["corruption"]["log_power"].exp().expand(shape)
        spectrum = sp.PowerSpectrum(sp.CosineBasis(2, state["corruption"].get("basis.channel_rotation")), power)
        corruption = sp.ShortestPathCorruption(spectrum)
        network = small_unet(channels=shape[0], size=settings["size"], inputs=2 * shape[0])
        model = WhitenedInput(network, corruption, spectrum)
        model.load_state_dict(state["ema"])
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} does not hold the network of examples/quickstart.py ({type(error).__name__}: {error})"
        ) from error
    return Trained(model.eval().requires_grad_(False), corruption, spectrum, settings)


def held_out(settings: Mapping[str, Any], data: Path | None, count: int) -> np.ndarray:
    """Return the last `count` pictures that the network was not trained on, or fewer if there are not so many.

    Args:
        settings: Of the quickstart.
        data: Where to look; None paints new leaves, or looks where the quickstart did.
        count: How many.

    Raises:
        OSError: the pictures cannot be found.
        ValueError: there are fewer than two.
    """
    size, source = settings["size"], settings["data"]
    if source is None and data is None:
        return dead_leaves(count, size, settings["seed"] + 1)
    images = load_images(data or source, size)
    if source is not None:
        try:
            known = load_images(source, size)[: settings["images"]]
        except FileNotFoundError:
            print(f"  {source}, which the network was trained on, is gone: the pictures cannot be compared with it")
            known = images[:0]
        seen = {image.tobytes() for image in known}  # by what they show, as a picture may have two names
        images = images[[image.tobytes() not in seen for image in images]]
    if len(images) < 2:
        raise ValueError(
            f"the network was trained on all but {len(images)} pictures of {data or source}; pass others with --data, "
            "or train it with quickstart.py --images N to leave some out"
        )
    return images[-count:]


# Restoring ------------------------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """A linear measurement A of pictures, and a pseudo-inverse: A A⁺ A = A."""

    forward: Callable[[Tensor], Tensor]
    pseudo_inverse: Callable[[Tensor], Tensor]


def problems(channels: int, size: int) -> dict[str, Problem]:
    """Return the measurements to restore pictures from, by name; colour only where there is some."""
    mask = torch.ones(size, size)
    edge = size * 5 // 16
    mask[edge : size - edge, edge : size - edge] = 0
    found = {
        "inpainting": Problem(lambda x: mask * x, lambda y: mask * y),
        f"super-resolution {COARSER}×": Problem(
            lambda x: avg_pool2d(x, COARSER), lambda y: interpolate(y, scale_factor=COARSER)
        ),
    }
    if channels > 1:
        found["colourisation"] = Problem(lambda x: x.mean(1, keepdim=True), lambda y: y.expand(-1, channels, -1, -1))
    return found


def restore(trained: Trained, pictures: Tensor, path: Path, steps: int, draws: int, seed: int) -> dict[str, Any]:
    """Draw pictures that agree with measurements of `pictures`; return how well, by problem."""
    # With the posterior's noise, a draw can still take back its first guess.
    sampler = trained.sampler(solver="ddim", eta=1.0, grid="spectrum", steps=steps)
    truth = pictures.repeat_interleave(draws, 0)
    rows, report = [("picture", pictures)], {}
    for name, (forward, pseudo_inverse) in problems(*pictures.shape[1:3]).items():
        known = forward(truth)
        if name == "inpainting":
            edit = sp.inpaint(truth, forward(torch.ones_like(truth)))
        else:
            edit = sp.project(known, forward, pseudo_inverse)
        options = {
            "denoised_callback": sp.compose(limit, edit),  # in this order: the measurement has the last word
            "generator": torch.Generator().manual_seed(seed),
        }
        found = sampler.sample(truth.shape, **options)
        for start in AGAIN:
            found = sampler.image_to_image(found, start=start, **options)
        several = found.unflatten(0, (-1, draws))
        shown = {
            f"{name}:\nwhat is known": pseudo_inverse(known)[::draws],
            "one draw": several[:, 0],
            f"mean of {draws} draws": several.mean(1),
        }
        rows += [(f"{label}\n{psnr(images, pictures):.1f} dB", images) for label, images in shown.items()]
        ratios = [psnr(images, pictures) for images in shown.values()]
        report[name] = {
            "pseudo_inverse_error": (forward(pseudo_inverse(known)) - known).abs().max().item(),
            "measurement_error": (forward(found) - known).abs().max().item(),
            "psnr": dict(zip(("known", "draw", "mean"), ratios, strict=True)),
        }
    draw_rows(path, "What is missing, drawn by the network", rows)
    return report


def limit(x_0: Tensor, t: float) -> Tensor:
    """Keep predicted pictures in their range."""
    return x_0.clamp(-1, 1)


def psnr(found: Tensor, pictures: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB, its mean over pictures."""
    error = (found.clamp(-1, 1) - pictures).square().flatten(1).mean(1)
    return (10 * torch.log10(4 / error)).mean().item()


# Varying, encoding and judging ----------------------------------------------------------------------------------------


def vary(trained: Trained, pictures: Tensor, path: Path, steps: int, seed: int) -> dict[str, Any]:
    """Draw pictures anew from times in the middle, and through their encodings; return how much they change."""
    sampler = trained.sampler(solver="multistep", steps=steps)
    rows, change = [("picture", pictures)], {}
    for start in STARTS:
        generator = torch.Generator().manual_seed(seed)
        found = sampler.image_to_image(pictures, start=start, generator=generator, denoised_callback=limit)
        rows.append((f"anew from t = {start:g}", found))
        change[f"{start:g}"] = rms(found - pictures)
    encoded = sampler.invert(pictures)
    back = sampler.sample(pictures.shape, x_1=encoded)
    # Noise reaches three standard deviations, pictures one unit.
    rows += [("encoded", encoded / 3), ("and back", back), ("difference × 10", 10 * (back - pictures))]
    draw_rows(path, "Pictures drawn anew, and encoded", rows)
    return {
        "image_to_image_rms": change,
        "round_trip_rms": rms(back - pictures),
        "encoding_deviation": encoded.std().item(),
    }


def between(trained: Trained, pictures: Tensor, path: Path, steps: int) -> None:
    """Draw pictures on the way from each of the first half to one of the second."""
    sampler = trained.sampler(solver="multistep", steps=steps)
    pairs = len(pictures) // 2
    found = sampler.interpolate(pictures[:pairs], pictures[pairs : 2 * pairs], SHARES, denoised_callback=limit)
    rows = [(f"pair {number}", row) for number, row in enumerate(found.transpose(0, 1), 1)]
    draw_rows(path, "From one picture to another", rows, [f"{share:g}" for share in SHARES])


def judge(trained: Trained, pictures: Tensor, steps: int, seed: int) -> dict[str, Any]:
    """Return bits per dimension of pictures, by the network and by the spectrum alone."""
    generator = torch.Generator().manual_seed(seed)
    # Whole levels have no density: noise of one level spreads each over its share of the line.
    x_0 = pictures + LEVEL * (torch.rand(pictures.shape, generator=generator) - 0.5)
    shape, power = pictures.shape[1:], trained.spectrum.power
    sampler = trained.sampler(solver="multistep", steps=steps)
    by_network = torch.cat([sampler.log_likelihood(part, generator=generator) for part in x_0.split(32)])
    normal = torch.distributions.Normal(0.0, power.sqrt())
    by_spectrum = normal.log_prob(trained.spectrum.basis.analyze(x_0.double())).flatten(1).sum(1)
    return {
        "network": mean_and_error(sp.bits_per_dim(by_network.double(), shape)),
        "spectrum_alone": mean_and_error(sp.bits_per_dim(by_spectrum, shape)),
        "gain": mean_and_error(sp.bits_per_dim(by_spectrum, shape) - sp.bits_per_dim(by_network.double(), shape)),
        "pictures": len(pictures),
    }


def mean_and_error(values: Tensor) -> dict[str, float]:
    """Return the mean over pictures, and its standard error."""
    return {"mean": values.mean().item(), "standard_error": values.std().item() / math.sqrt(len(values))}


def rms(x: Tensor) -> float:
    """Return the root mean square."""
    return x.square().mean().sqrt().item()


# Drawing and telling --------------------------------------------------------------------------------------------------


def draw_rows(path: Path, title: str, rows: Sequence[tuple[str, Tensor]], columns: Sequence[str] | None = None) -> None:
    """Draw rows of pictures (n, C, H, W) with their labels, and labels over the columns if there are any."""
    count = max(len(images) for _, images in rows)
    figure = Figure(figsize=(1.1 * count + 1.6, 1.1 * len(rows) + 0.7), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for line, (label, images) in zip(figure.subplots(len(rows), count, squeeze=False), rows, strict=True):
        for axis in line:
            axis.axis("off")
        for axis, picture in zip(line, to_uint8(images), strict=False):
            axis.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=255)
        line[0].text(-0.12, 0.5, label, transform=line[0].transAxes, ha="right", va="center", fontsize=10)
    for axis, label in zip(figure.axes, columns or (), strict=False):
        axis.set_title(label, fontsize=10)
    figure.suptitle(title, fontsize=13)
    figure.savefig(path, dpi=150)


def summarise(out: Path, report: Mapping[str, Any]) -> None:
    """Print what was found, and where to look."""
    print(f"\nDone in {sum(report['seconds'].values()):.0f} s.\n")
    print(f"{'peak signal-to-noise ratio, dB':<32}{'what is known':>14}{'one draw':>10}{'mean of draws':>15}")
    for name, found in report["restored"].items():
        ratios = found["psnr"]
        print(f"{name:<32}{ratios['known']:>14.1f}{ratios['draw']:>10.1f}{ratios['mean']:>15.1f}")
    for start, change in report["varied"]["image_to_image_rms"].items():
        print(f"{'changed anew from t = ' + start:<32}{change:>14.3f} rms, of pictures in [-1, 1]")
    print(f"{'changed there and back again':<32}{report['varied']['round_trip_rms']:>14.4f} rms")
    print()
    for label, name in {"the network": "network", "the spectrum alone": "spectrum_alone", "gain": "gain"}.items():
        found = report["likelihood"][name]
        print(f"{'bits per dimension, ' + label:<40}{found['mean']:>6.3f} ± {found['standard_error']:.3f}")
    print(f"(mean ± standard error over {report['likelihood']['pictures']} pictures)\n")
    for file, what in {
        "restored.png": "what is missing, drawn by the network",
        "variations.png": "pictures drawn anew, and encoded",
        "interpolations.png": "pictures between two",
        "restore.json": "all numbers",
    }.items():
        print(f"{out / file}: {what}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", type=Path, nargs="?", default=Path("outputs/quickstart"), help="of the quickstart (%(default)s)")
    add("--data", type=Path, help="pictures it was not trained on (default: more of the same)")
    add("--out", type=Path, default=Path("outputs/restore"), help="folder for all results (%(default)s)")
    add("--pictures", type=two_or_more, default=6, help="pictures to work on, 2 or more (%(default)s)")
    add("--steps", type=positive, default=25, help="from noise to picture (%(default)s)")
    add("--draws", type=positive, default=4, help="of every picture to restore (%(default)s)")
    add("--likelihood-pictures", type=two_or_more, default=64, help="whose likelihood is taken (%(default)s)")
    add("--likelihood-steps", type=positive, default=80, help="from picture to noise (%(default)s)")
    add("--seed", type=int, default=0, help="of everything random (%(default)s)")
    add("--threads", type=positive, help="of the processor (default: torch decides)")
    return parser.parse_args(argv)


def two_or_more(text: str) -> int:
    """Return a whole number above one."""
    if (number := positive(text)) < 2:
        raise argparse.ArgumentTypeError(f"expected 2 or more, got {text!r}")
    return number


if __name__ == "__main__":
    main()
