"""How many calls of the model does each corruption need? Measured without a network's error, then with one.

    python benchmarks/few_step.py                                              # painted leaves, runs anywhere
    python benchmarks/few_step.py --data cifar10-train.parquet --network outputs/quickstart

(a) Gaussian data with the measured spectrum, where the solution of the probability-flow ODE is known in closed form.

(b) A mixture of N pictures with a Gaussian cloud around each (`mixture.py`), whose exact denoiser takes the model's
place. The error of an image is its root mean square distance, in pixels of range [-1, 1], from the converged ODE of the
*same* corruption from the same noise: many steps of the library's second-order solver (EDM: of its own). So
each corruption is compared with itself, and the tables say how far a solver is from done, not which corruption
has the better images. Beside it, the sliced Wasserstein distance of a set of samples to fresh draws from the mixture.

The mixture's clouds are diagonal in the corruption's basis: cosine with rotated channels, or Fourier with the paper's
unrotated ones. All else is the same.

(c) A network that `examples/quickstart.py` trained, if one is given: its distance from its own converged ODE, and
that of its samples from the data.

Solvers: "exponential" does not know the data's spectrum ("order 2, log-snr" is DPM-Solver++(2M)), "rotation" does; the
one on the "default grid" is what `Sampler(solver="multistep")` does by itself. Peers on the same mixture: diffusers'
DDIM and DPM-Solver++(2M) on the linear schedule, told the exact time of each of their noise levels; EDM's Heun
solver, written from the paper.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import shortest_path as sp
from few_step_cases import (
    DDIM,
    DEFAULT,
    EDM,
    FEW,
    FULL,
    OURS,
    QUICK,
    SETS,
    Error,
    Process,
    Setting,
    Sizes,
    diffusers_peers,
    distance,
    error,
    examples,
    noise,
    processes,
    settings,
    solve,
)
from few_step_network import network_part
from few_step_report import against_isotropic, best_setting, draw, header, line, show, summary, title
from mixture import Mixture, edm_heun, random_directions, sliced_distance
from timing import describe_machine, one_thread, parser, print_report, save_report


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    one_thread()
    began = time.perf_counter()
    images, source = read_images(arguments)
    sizes = QUICK if arguments.quick else FULL
    mixtures = [
        Mixture(images[: arguments.mixture], spectrum, residual=arguments.residual) for spectrum in spectra(images)
    ]
    white = noise(arguments.images, images.shape[1:], seed=2)
    print(f"{source}: {len(images)} pictures, {arguments.mixture} of them centres, clouds of {arguments.residual:g} S")
    print(f"{len(white)} starting noises; {describe_machine()}", flush=True)

    gaussian = [Mixture(images[:1], each.spectrum, residual=1.0) for each in mixtures]
    exact = gaussian_part(processes(gaussian), white, arguments.calls)
    tested = processes(mixtures)
    errors, doubts = mixture_part(tested, white, arguments.calls, sizes)
    distances = distance_part(tested, errors, arguments.calls, sizes)
    network = None
    if arguments.network is None:
        print("\n## (c) A trained network\n\nLeft out: no --network was given.", flush=True)
    else:
        network = network_part(arguments.network, images, len(white), arguments.calls, sizes)

    comparison = against_isotropic(errors, tested, arguments.calls)
    rows, notes = summary(exact, errors, tested, arguments.calls, sizes)
    notes.append(f"{time.perf_counter() - began:.0f} s in all.")
    print_report("## Summary", rows, notes)
    if arguments.plot is not None:
        draw(arguments.plot, errors, tested, network)
    save_report(
        arguments.json,
        rows,
        source=source,
        images=len(images),
        settings={name: str(value) for name, value in vars(arguments).items()},
        gaussian=[error._asdict() for error in exact],
        mixture=[error._asdict() for error in errors],
        reference_doubt=doubts,
        distances=distances,
        comparison=comparison,
        network=network,
        seconds=time.perf_counter() - began,
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser(__doc__, repeats=None)
    add = options.add_argument
    add("--data", type=Path, help="parquet file, folder of pictures or .npy array; without it, painted leaves")
    add("--mixture", type=int, default=300, metavar="N", help="centres (default %(default)s)")
    add("--residual", type=float, default=0.25, help="share of the spectrum in the clouds (default %(default)s)")
    add("--images", type=int, default=32, help="starting noises (default %(default)s)")
    add("--calls", type=int, nargs="+", default=[5, 10, 20, 35, 50, 100], help="calls of the model")
    add("--network", type=Path, metavar="DIR", help="the folder that examples/quickstart.py wrote")
    add("--plot", type=Path, metavar="FILE", help="also draw a figure; needs matplotlib")
    add("--quick", action="store_true", help="tiny pictures and few of everything: only to see that it runs")
    arguments = options.parse_args(argv)
    if arguments.quick:
        arguments.mixture, arguments.images, arguments.calls = 16, 4, [3, 5]
    if min(arguments.calls) < 3 or min(arguments.calls) > FEW:
        options.error(f"--calls must be 3 or more each, which is two steps of Heun's solver, and one at most {FEW}")
    if min(arguments.mixture, arguments.images) < 1:
        options.error("--mixture and --images must be 1 or more")
    arguments.calls = sorted(set(arguments.calls))
    return arguments


def read_images(arguments: argparse.Namespace) -> tuple[Tensor, str]:
    """Return pictures in [-1, 1], (n, C, H, W), float64, and what to call them."""
    examples()
    from dead_leaves import dead_leaves
    from images import load_images, to_unit

    if arguments.data is not None:
        pictures, source = load_images(arguments.data), arguments.data.name
    else:
        pictures, source = dead_leaves(128 if arguments.quick else 3000, 8 if arguments.quick else 32), "painted leaves"
    if len(pictures) < arguments.mixture:
        raise SystemExit(
            f"few_step: --mixture {arguments.mixture} needs as many pictures, {source} has {len(pictures)}"
        )
    return to_unit(pictures).double(), source


def spectra(images: Tensor) -> list[sp.PowerSpectrum]:
    """Return the measured spectrum in the cosine basis with rotated channels, and in the paper's basis."""
    kinds = (("cosine", "rotate"), ("fourier", "independent"))
    return [sp.PowerSpectrum.estimate(images.split(512), *kind, progress=False) for kind in kinds]


def gaussian_part(tested: Sequence[Process], white: Tensor, calls: Sequence[int]) -> list[Error]:
    """Print and return errors relative to the root mean square of the exact images; `upper` is the worst image's."""
    names = (
        *(DDIM, "DDIM, spectrum grid", DEFAULT),
        *("exponential, order 2, log-snr", "exponential, order 2 + corrector, log-snr"),
    )
    print("\n## (a) Gaussian data: relative error of the images\n")
    header(["corruption", "solver", *(str(count) for count in calls)])
    result = []
    for process in tested:
        basis, power = process.mixture.basis, process.mixture.power
        exact = basis.synthesize(power.sqrt() * basis.analyze(white))
        size = exact.square().mean().sqrt().item()
        for setting in settings(process):
            if setting.name not in names:
                continue
            row = []
            for count in calls:
                each = distance(solve(process, setting, count, white), exact) / size
                row.append(Error(process.name, setting.name, count, each.median().item(), each.max().item()))
            line([process.name, setting.name, *(f"{one.median:.2g}" for one in row)])
            result += row
    return result


def mixture_part(
    tested: Sequence[Process], white: Tensor, calls: Sequence[int], sizes: Sizes
) -> tuple[list[Error], dict[str, float]]:
    """Print and return the errors of every process, solver and number of calls, and how sure the references are."""
    print("\n## (b) Mixture: RMSE from the converged ODE, median over images (90 % quantile)")
    result: list[Error] = []
    doubts: dict[str, float] = {}
    references: dict[tuple[int, int], Tensor] = {}
    for process in tested:
        key = id(process.corruption), id(process.mixture)
        if key not in references:
            # The truth is told to the reference whatever the process's own solvers are told.
            best = process._replace(told=process.mixture.spectrum)
            final = Setting("", True, {"solver": "multistep", "grid": "spectrum"})
            references[key] = solve(best, final, sizes.reference, white)
            some = white[:8]
            doubt = distance(solve(best, final, sizes.reference // 2, some), references[key][:8])
            doubts[process.name] = doubt.quantile(0.9).item()
        title(process.name, calls)
        for setting in settings(process):
            more = sizes.many if process.name == OURS and setting.name == DDIM else ()
            result += show(
                error(process.name, setting.name, count, solve(process, setting, count, white), references[key])
                for count in (*calls, *more)
            )
        if process.name == "Gaussian, linear":
            for name, solver in diffusers_peers(process, white).items():
                found = ((count, solver(count)) for count in calls)
                result += show(error(process.name, name, count, x, references[key]) for count, x in found)
    title(EDM, calls)
    denoise = tested[0].mixture.denoise
    converged = edm_heun(denoise, white, sizes.reference // 2)
    doubts[EDM] = distance(edm_heun(denoise, white[:8], sizes.reference // 4), converged[:8]).quantile(0.9).item()
    result += show(
        error(EDM, "Heun, 2 N − 1 calls, not more", count, edm_heun(denoise, white, (count + 1) // 2), converged)
        for count in calls
    )
    print(
        "\nHow sure the converged ODEs are: 90 % quantile of their distance from half as many steps, "
        + "; ".join(f"{name} {value:.1e}" for name, value in doubts.items()),
        flush=True,
    )
    return result, doubts


def distance_part(
    tested: Sequence[Process], errors: Sequence[Error], calls: Sequence[int], sizes: Sizes
) -> list[dict[str, Any]]:
    """Print and return sliced Wasserstein distances of samples to the mixture: DDIM's, and the best solver's."""
    print(f"\n## (b) Mixture: sliced Wasserstein distance of {sizes.samples} samples to fresh draws\n")
    header(["corruption", "solver", *(str(count) for count in calls), "fresh draws themselves"])
    result: list[dict[str, Any]] = []
    targets: dict[int, tuple[list[Tensor], float, float]] = {}
    for process in tested:
        shape = process.mixture.spectrum.shape
        directions = random_directions(shape)
        if id(process.mixture) not in targets:
            sets = [process.mixture.draw(sizes.samples, seed).float() for seed in range(2 * SETS)]
            floor = [sliced_distance(a, b, directions) for a, b in zip(sets[:SETS], sets[SETS:], strict=True)]
            targets[id(process.mixture)] = sets[:SETS], statistics.mean(floor), statistics.stdev(floor)
        sets, middle, spread = targets[id(process.mixture)]
        white = noise(sizes.samples, shape, seed=3, dtype=torch.float32)
        best = best_setting(errors, process)
        for setting in settings(process):
            if setting.name not in (DDIM, best):
                continue
            row = {}
            for count in calls:
                found = solve(process, setting, count, white)
                row[count] = statistics.mean(sliced_distance(found, fresh, directions) for fresh in sets)
            line([process.name, setting.name, *(f"{one:.4f}" for one in row.values()), f"{middle:.4f} ± {spread:.4f}"])
            result.append(
                {"process": process.name, "setting": setting.name, "distance": row, "floor": middle, "spread": spread}
            )
    return result


if __name__ == "__main__":
    main()
