"""Measure the error of few-step sampling, first with an exact denoiser, then with a trained network.

    python -m studies.few_step                                              # dead leaves, needs no data
    python -m studies.few_step --data cifar10-train.parquet --network outputs/quickstart

(a) Gaussian data with the measured spectrum, for which the probability-flow ODE is solved in closed form.

(b) A mixture of N images, each with a Gaussian cloud around it (`mixture.py`), whose exact denoiser replaces the model.
The error of an image is its root mean square distance, in pixels of range [-1, 1], from the converged ODE of the *same*
corruption from the same noise: many steps of the library's second-order solver (for EDM: of its own solver). So each
corruption is compared with itself. The tables tell how far a solver is from convergence, not which corruption has the
better images. A second table has the sliced Wasserstein distance of a set of samples to fresh samples of the mixture.

The mixture's clouds are diagonal in the corruption's basis: cosine with rotated channels, or Fourier with the paper's
unrotated channels. All else is equal.

(c) A network trained by `examples/quickstart.py`, if one is given: its distance from its own converged ODE, and the
distance of its samples from the data.

Solvers: "exponential" does not know the data's spectrum ("order 2, log-snr" is DPM-Solver++(2M)), "rotation" knows it;
"default grid" is the default of `Sampler(solver="multistep")`. Peers on the same mixture: diffusers' DDIM and
DPM-Solver++(2M) on the linear schedule, with the exact time of each of their noise levels; EDM's Heun solver, written
from the paper.
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
from benchmarks.timing import describe_machine, one_thread, parser, print_report, save_report
from examples.recipe.arguments import output_figure
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.images import to_unit
from studies.few_step.cases import (
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
    noise,
    processes,
    settings,
    solve,
)
from studies.few_step.mixture import Mixture, edm_heun, random_directions, sliced_distance
from studies.few_step.network import load_network, network_part
from studies.few_step.report import against_isotropic, best_setting, draw, header, line, show, summary, title
from studies.measured import images_in


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study."""
    arguments = parse(argv)
    one_thread()
    began = time.perf_counter()
    images, source = read_images(arguments)
    trained = None if arguments.network is None else load_network(arguments.network)
    sizes = QUICK if arguments.quick else FULL
    mixtures = [
        Mixture(images[: arguments.mixture], spectrum, residual=arguments.residual) for spectrum in spectra(images)
    ]
    white = noise(arguments.images, images.shape[1:], seed=2)
    print(f"{source}: {len(images)} images, {arguments.mixture} of them centres, clouds of {arguments.residual:g} S")
    print(f"{len(white)} starting noises; {describe_machine()}", flush=True)

    gaussian = [Mixture(images[:1], each.spectrum, residual=1.0) for each in mixtures]
    exact = gaussian_part(processes(gaussian), white, arguments.calls)
    tested = processes(mixtures)
    errors, doubts = mixture_part(tested, white, arguments.calls, sizes)
    distances = distance_part(tested, errors, arguments.calls, sizes)
    network = None
    if trained is None:
        print("\n## (c) A trained network\n\nOmitted: no --network was given.", flush=True)
    else:
        network = network_part(arguments.network, trained, images, len(white), arguments.calls, sizes)

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
    """Return the options of the command line."""
    options = parser("studies.few_step", __doc__, repeats=None)
    add = options.add_argument
    add("--data", type=Path, help="parquet file, folder of images or .npy array (default: dead leaves)")
    add("--mixture", type=int, default=300, metavar="N", help="number of centres (default %(default)s)")
    add("--residual", type=float, default=0.25, help="fraction of the spectrum in the clouds (default %(default)s)")
    add("--images", type=int, default=32, help="number of starting noises (default %(default)s)")
    add("--calls", type=int, nargs="+", default=[5, 10, 20, 35, 50, 100], help="numbers of model calls")
    add("--network", type=Path, metavar="DIR", help="folder of examples/quickstart.py")
    add("--plot", type=output_figure, metavar="FILE", help="also write a plot")
    add("--quick", action="store_true", help="tiny sizes, to check that the program runs")
    arguments = options.parse_args(argv)
    if arguments.quick:
        arguments.mixture, arguments.images, arguments.calls = 16, 4, [3, 5]
    if min(arguments.calls) < 3 or min(arguments.calls) > FEW:
        options.error(f"--calls requires numbers of at least 3 (two steps of Heun's solver), one of them at most {FEW}")
    if min(arguments.mixture, arguments.images) < 1:
        options.error("--mixture and --images must be 1 or more")
    arguments.calls = sorted(set(arguments.calls))
    return arguments


def read_images(arguments: argparse.Namespace) -> tuple[Tensor, str]:
    """Return images in [-1, 1], (n, C, H, W), float64, and the name of their source."""
    if arguments.data is not None:
        images, source = images_in(arguments.data, "few_step"), arguments.data.name
    else:
        images, source = dead_leaves(128 if arguments.quick else 3000, 8 if arguments.quick else 32), "dead leaves"
    if len(images) < arguments.mixture:
        raise SystemExit(f"few_step: --mixture {arguments.mixture} requires as many images, {source} has {len(images)}")
    return to_unit(images).double(), source


def spectra(images: Tensor) -> list[sp.PowerSpectrum]:
    """Return the measured spectrum in the cosine basis with rotated channels, and in the paper's basis."""
    kinds = (("cosine", "rotate"), ("fourier", "independent"))
    # About 0, as the mixture's centres are images and not deviations from their mean.
    return [sp.PowerSpectrum.estimate(images.split(512), *kind, center=False, progress=False) for kind in kinds]


def gaussian_part(tested: Sequence[Process], white: Tensor, calls: Sequence[int]) -> list[Error]:
    """Print and return errors relative to the root mean square of the exact images; `upper` is the largest error."""
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
    """Print and return the errors of each process, solver and number of calls, and the references' uncertainty."""
    print("\n## (b) Mixture: RMSE from the converged ODE, median over images (90 % quantile)")
    result: list[Error] = []
    doubts: dict[str, float] = {}
    references: dict[tuple[int, int], Tensor] = {}
    for process in tested:
        key = id(process.corruption), id(process.mixture)
        if key not in references:
            # The reference always knows the true spectrum.
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
        "\nUncertainty of the converged ODEs, 90 % quantile of their distance from half as many steps: "
        + "; ".join(f"{name} {value:.1e}" for name, value in doubts.items()),
        flush=True,
    )
    return result, doubts


def distance_part(
    tested: Sequence[Process], errors: Sequence[Error], calls: Sequence[int], sizes: Sizes
) -> list[dict[str, Any]]:
    """Print and return sliced Wasserstein distances of samples to the mixture, for DDIM and the best solver."""
    print(f"\n## (b) Mixture: sliced Wasserstein distance of {sizes.samples} samples to fresh samples\n")
    header(["corruption", "solver", *(str(count) for count in calls), "fresh samples themselves"])
    result: list[dict[str, Any]] = []
    targets: dict[int, tuple[list[Tensor], float, float]] = {}
    for process in tested:
        shape = process.mixture.spectrum.shape
        directions = random_directions(shape)
        if id(process.mixture) not in targets:
            sets = [process.mixture.sample(sizes.samples, seed).float() for seed in range(2 * SETS)]
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
