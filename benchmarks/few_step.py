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
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import shortest_path as sp
from mixture import Mixture, Model, edm_heun, random_directions, sliced_distance
from shortest_path.checkpoint import latest_checkpoint, load_checkpoint
from timing import Row, describe_machine, one_thread, parser, print_report, save_report

EXACT_BOUND = 1e-6  # relative error on Gaussian data
FEW, MANY = 50, 400  # the shortest path in FEW calls against DDIM in MANY
COMPARED = (10, 20, 50)
OURS = "shortest path, cosine + rotation"
EDM = "EDM, variance exploding"
DDIM, DEFAULT = "DDIM, uniform", "rotation, order 2 + corrector, default grid"
_SETS = 8  # of fresh draws that a set of samples is compared with


class Process(NamedTuple):
    """A corruption, data whose exact denoiser is known under it, and what its solvers are told of the data.

    `told` None leaves the solver with what the corruption itself knows. `exact`: that is the truth.
    """

    name: str
    corruption: sp.Corruption
    mixture: Mixture
    told: sp.PowerSpectrum | None
    isotropic: bool = False
    exact: bool = True

    @property
    def knows(self) -> bool:
        """Whether the corruption knows a spectrum, so that no solver does without."""
        return isinstance(self.corruption, sp.ShortestPathCorruption)


class Setting(NamedTuple):
    """A solver and its grid; `informed` ones are told the spectrum."""

    name: str
    informed: bool
    options: dict[str, Any]


class Error(NamedTuple):
    """Root mean square distance from the converged ODE, over images."""

    process: str
    setting: str
    calls: int
    median: float
    upper: float
    """The 90 % quantile."""


class Sizes(NamedTuple):
    """How much to compute."""

    reference: int
    many: tuple[int, ...]
    samples: int
    network_reference: int
    network_samples: int


FULL = Sizes(reference=1000, many=(200, 400, 800), samples=512, network_reference=400, network_samples=256)
QUICK = Sizes(reference=32, many=(8, 16), samples=32, network_reference=32, network_samples=16)


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


# What is compared -----------------------------------------------------------------------------------------------------


def examples() -> None:
    """Put the examples' folder on the path: readers of pictures and the network are there."""
    folder = str(Path(__file__).parents[1] / "examples")
    if folder not in sys.path:
        sys.path.insert(0, folder)


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


def processes(mixtures: Sequence[Mixture]) -> list[Process]:
    """Return the processes, given the data in the cosine and in the Fourier basis."""
    cosine, fourier = mixtures
    shape = cosine.spectrum.shape
    law = sp.PowerSpectrum.power_law(shape, amplitude=1.59, offset=0.0086, exponent=2.0)
    constants = sp.ShortestPathCorruption(law)
    isotropic = [
        Process(f"Gaussian, {name}", sp.GaussianCorruption(name), cosine, cosine.spectrum, isotropic=True)
        for name in ("cosine", "linear", "flow")
    ]
    return [
        *isotropic,
        Process("blur", sp.BlurCorruption(20.0, spatial=shape[1:]), cosine, cosine.spectrum),
        Process("shortest path, reference constants", constants, fourier, None, exact=False),
        Process("shortest path, reference constants; solver told the truth", constants, fourier, fourier.spectrum),
        Process("shortest path, Fourier, RGB", sp.ShortestPathCorruption(fourier.spectrum), fourier, None),
        Process(OURS, sp.ShortestPathCorruption(cosine.spectrum), cosine, None),
    ]


def settings(process: Process) -> list[Setting]:
    """Return the solvers and grids worth a row."""

    def multistep(name: str, grid: str | None, order: int, corrector: bool, informed: bool = True) -> Setting:
        kind = "rotation" if informed else "exponential"
        options = {"solver": "multistep", "order": order, "corrector": corrector, "grid": grid}
        return Setting(f"{kind}, order {order}{' + corrector' if corrector else ''}, {name}", informed, options)

    result = [
        Setting(DDIM, False, {"solver": "ddim", "grid": "uniform"}),
        Setting("DDIM, spectrum grid", True, {"solver": "ddim", "grid": "spectrum"}),
    ]
    if not process.knows:
        result += [
            multistep("uniform", "uniform", 2, False, informed=False),
            multistep("log-snr", "log-snr", 2, False, informed=False),
            multistep("log-snr", "log-snr", 2, True, informed=False),
            multistep("default grid", None, 2, True, informed=False),
        ]
    return [
        *result,
        multistep("spectrum grid", "spectrum", 1, False),
        multistep("cosine", "cosine", 2, False),
        multistep("spectrum grid", "spectrum", 2, False),
        multistep("cosine", "cosine", 2, True),
        multistep("power", "power", 2, True),
        multistep("log-snr", "log-snr", 2, True),
        multistep("default grid", None, 2, True),
    ]


def sampler(process: Process, setting: Setting, model: Model, steps: int) -> sp.Sampler:
    spectrum = process.told if setting.informed else None
    return sp.Sampler(model, process.corruption, prediction="data", steps=steps, spectrum=spectrum, **setting.options)


def solve(process: Process, setting: Setting, steps: int, white: Tensor) -> Tensor:
    """Return the images that a solver makes of white noise, in its type.

    Grids begin at different times, so the noise is shaped to the first of each: the same point in whitened coordinates.
    """
    chosen = sampler(process, setting, process.mixture.model(process.corruption), steps)
    x_1 = process.mixture.start(process.corruption, chosen.times[0], white)
    return chosen.sample(x_1.shape, x_1=x_1, dtype=white.dtype, progress=False)


def noise(count: int, shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the root mean square difference of each pair of images."""
    return (x - y).square().flatten(1).mean(1).sqrt()


def error(process: str, setting: str, calls: int, found: Tensor, converged: Tensor) -> Error:
    each = distance(found, converged).double()
    return Error(process, setting, calls, each.median().item(), each.quantile(0.9).item())


# (a) Gaussian data ----------------------------------------------------------------------------------------------------


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


# (b) The mixture ------------------------------------------------------------------------------------------------------


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


def diffusers_peers(process: Process, white: Tensor) -> dict[str, Callable[[int], Tensor]]:
    """Return diffusers' solvers by name, as functions of the number of calls, on the linear schedule."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    model = process.mixture.model(process.corruption)

    def ddim(calls: int) -> Tensor:
        scheduler = DDIMScheduler(1000, clip_sample=False, prediction_type="sample", timestep_spacing="trailing")
        scheduler.set_timesteps(calls)
        return run(scheduler, [(int(index) + 1) / 1000 for index in scheduler.timesteps])

    def multistep(calls: int, **options: Any) -> Tensor:
        scheduler = DPMSolverMultistepScheduler(1000, prediction_type="sample", final_sigmas_type="zero", **options)
        scheduler.set_timesteps(calls)
        # The scheduler rounds its times to whole indices. The model is told the exact one of each noise level.
        return run(scheduler, [time_of(process.corruption, float(sigma)) for sigma in scheduler.sigmas[:-1]])

    def run(scheduler: Any, times: Iterable[float]) -> Tensor:
        times = list(times)
        x = process.mixture.start(process.corruption, times[0], white)
        for index, t in zip(scheduler.timesteps, times, strict=True):
            x_0 = model(x, torch.full((len(x),), t, dtype=torch.float64))
            x = scheduler.step(x_0, index, x).prev_sample
        return x

    return {
        "diffusers DDIM, trailing": ddim,
        "diffusers DPM-Solver++(2M), linspace": multistep,
        "diffusers DPM-Solver++(2M), equal log-snr": lambda calls: multistep(calls, use_lu_lambdas=True),
    }


def time_of(corruption: sp.Corruption, ratio: float) -> float:
    """Return the time at which noise / signal has a value, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = torch.tensor([(low + high) / 2], dtype=torch.float64)
        below = bool(corruption.noise(middle) < ratio * corruption.signal(middle))
        low, high = (float(middle), high) if below else (low, float(middle))
    return high


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
            sets = [process.mixture.draw(sizes.samples, seed).float() for seed in range(2 * _SETS)]
            floor = [sliced_distance(a, b, directions) for a, b in zip(sets[:_SETS], sets[_SETS:], strict=True)]
            targets[id(process.mixture)] = sets[:_SETS], statistics.mean(floor), statistics.stdev(floor)
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


def best_setting(errors: Sequence[Error], process: Process) -> str:
    """Return the library's setting with the least median error, in the geometric mean over calls."""
    names = {setting.name for setting in settings(process)}
    logs: dict[str, dict[int, float]] = {}
    for one in errors:
        if one.process == process.name and one.setting in names:
            logs.setdefault(one.setting, {})[one.calls] = math.log(one.median)
    common = set.intersection(*(set(each) for each in logs.values()))
    return min(logs, key=lambda name: statistics.mean(logs[name][count] for count in common))


# (c) A trained network ------------------------------------------------------------------------------------------------


def load_network(folder: Path) -> tuple[torch.nn.Module, sp.Corruption, sp.PowerSpectrum]:
    """Return the averaged network that examples/quickstart.py left, its corruption, and its data's spectrum.

    Raises:
        SystemExit: no checkpoint there, or one of another kind.
    """
    examples()
    from unet import SpectralModel, small_unet

    path = latest_checkpoint(folder / "checkpoints") or latest_checkpoint(folder)
    if path is None:
        raise SystemExit(f"few_step: {folder} holds no checkpoint; make one with examples/quickstart.py --out {folder}")
    state = load_checkpoint(path)
    try:
        power, rotation = state["corruption"]["log_power"].exp(), state["corruption"]["basis.channel_rotation"]
        spectrum = sp.PowerSpectrum(sp.CosineBasis(2, rotation), power)
        corruption = sp.ShortestPathCorruption(spectrum)
        channels, size = power.shape[:2]
        model = SpectralModel(small_unet(channels, size, inputs=2 * channels), corruption, spectrum)
        model.load_state_dict(state["ema"])
    except (KeyError, RuntimeError) as problem:
        raise SystemExit(f"few_step: {path} is not from examples/quickstart.py ({problem})") from problem
    return model.eval(), corruption, spectrum


def network_part(folder: Path, images: Tensor, count: int, calls: Sequence[int], sizes: Sizes) -> dict[str, Any]:
    """Print and return a network's distance from its own converged ODE, and its samples' from the data."""
    model, corruption, spectrum = load_network(folder)
    shape = spectrum.shape
    if tuple(images.shape[1:]) != shape:
        raise SystemExit(
            f"few_step: the network draws {shape}, the pictures are {tuple(images.shape[1:])}; pass its --data"
        )
    options: dict[str, dict[str, Any]] = {DDIM: {"solver": "ddim", "grid": "uniform"}}
    for grid in ("cosine", "spectrum"):
        for corrector in (False, True):
            name = f"rotation, order 2{' + corrector' if corrector else ''}, {grid} grid"
            options[name] = {"solver": "multistep", "grid": grid, "corrector": corrector}

    def samples(name: str, steps: int, batch: int, seed: int, clip: tuple[float, float] | None) -> Tensor:
        chosen = sp.Sampler(model, corruption, prediction="velocity", steps=steps, **options[name])
        generator = torch.Generator().manual_seed(seed)
        return chosen.sample((batch, *shape), generator=generator, clip=clip, progress=False)

    best = "rotation, order 2 + corrector, spectrum grid"
    converged = samples(best, sizes.network_reference, count, 2, None)
    print(f"\n## (c) A trained network: RMSE from its ODE in {sizes.network_reference} calls, median (90 % quantile)")
    title(str(folder), calls)
    errors: list[Error] = []
    for name in options:
        errors += show(error("network", name, n, samples(name, n, count, 2, None), converged) for n in calls)

    number = min(sizes.network_samples, len(images) // 2)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(5))
    parts = [images[part].float() for part in order.split(number) if len(part) == number][: 2 * _SETS]
    directions, whole = random_directions(shape), radial_power(images, spectrum)
    half = len(parts) // 2
    floor = [sliced_distance(a, b, directions) for a, b in zip(parts[:half], parts[half : 2 * half], strict=True)]
    ripple = [radial_error(part, whole, spectrum) for part in parts]
    print(
        f"\n{number} samples clipped to [-1, 1]: sliced Wasserstein distance to the data; relative error of the power\n"
    )
    few = [n for n in calls if n <= FEW]
    header(["solver", *(str(n) for n in few), "data themselves"])
    sets = []
    for name in (DDIM, best):
        drawn = {n: samples(name, n, number, 6, (-1.0, 1.0)) for n in few}
        sliced = {n: statistics.mean(sliced_distance(x, part, directions) for part in parts) for n, x in drawn.items()}
        power = {n: radial_error(x, whole, spectrum) for n, x in drawn.items()}
        cells = [f"{sliced[n]:.4f}; {power[n]:.3f}" for n in few]
        line([name, *cells, f"{statistics.mean(floor):.4f}; {statistics.mean(ripple):.3f}"])
        sets.append({"setting": name, "sliced": sliced, "power": power})
    return {
        "folder": str(folder),
        "errors": [one._asdict() for one in errors],
        "samples": sets,
        "floor": {"sliced": statistics.mean(floor), "power": statistics.mean(ripple)},
    }


def radial_power(images: Tensor, spectrum: sp.PowerSpectrum) -> Tensor:
    """Return the mean power of images in rings of frequency, (C, rings)."""
    power = spectrum.basis.analyze(images.double()).square().mean(0)
    return sp.PowerSpectrum(spectrum.basis, power).radial_average()[1]


def radial_error(images: Tensor, of_data: Tensor, spectrum: sp.PowerSpectrum) -> float:
    """Return the mean of |power / data's power − 1| over channels and rings."""
    return (radial_power(images, spectrum) / of_data - 1).abs().mean().item()


# What comes out -------------------------------------------------------------------------------------------------------


def summary(
    exact: Sequence[Error], errors: Sequence[Error], tested: Sequence[Process], calls: Sequence[int], sizes: Sizes
) -> tuple[list[Row], list[str]]:
    """Return the rows of the bars to reach, and notes."""
    truthful = {process.name for process in tested if process.exact}
    worst = max(one.upper for one in exact if one.setting == DEFAULT and one.process in truthful)
    ddim = max(one.upper for one in exact if one.setting == DDIM and one.calls == calls[-1])
    rows = [
        Row(
            f"Gaussian data: largest relative error of the rotation solver in {calls[0]} to {calls[-1]} calls; "
            f"DDIM's in {calls[-1]}",
            f"{ddim:.2g}",
            f"{worst:.2g}",
            bound=EXACT_BOUND,
            bound_text=f"≤ {EXACT_BOUND:g}",
            value=worst,
        )
    ]
    ours = {one.calls: one for one in errors if one.process == OURS and one.setting == DEFAULT}
    slow = {one.calls: one for one in errors if one.process == OURS and one.setting == DDIM}
    few, many = max(n for n in calls if n <= FEW), min(n for n in sizes.many if n >= min(MANY, sizes.many[-1]))
    ratio = ours[few].median / slow[many].median
    rows.append(
        Row(
            f"{OURS}: median error of DDIM, uniform, in {many} calls; of the default in {few}",
            f"{slow[many].median:.2g}",
            f"{ours[few].median:.2g}",
            ratio,
            bound=1.0,
            bound_text="≤ 1×",
        )
    )
    notes = []
    for count in sizes.many:
        enough = [n for n, one in ours.items() if one.median <= slow[count].median]
        notes.append(
            f"The default shortest path reaches the median error of DDIM in {count} calls, {slow[count].median:.2g}, "
            + (f"in {min(enough)} calls." if enough else f"in more than {max(ours)} calls.")
        )
    return rows, notes


def against_isotropic(errors: Sequence[Error], tested: Sequence[Process], calls: Sequence[int]) -> list[dict[str, Any]]:
    """Print and return how the default shortest path compares with the best of the isotropic processes."""
    print("\n## The default shortest path against the best isotropic pairing: median (90 % quantile)\n")
    header(["calls", "rival", "its error", "shortest path", "ratio of medians", "of 90 % quantiles"])
    ours = {one.calls: one for one in errors if one.process == OURS and one.setting == DEFAULT}
    isotropic = {process.name for process in tested if process.isotropic} | {EDM}
    everywhere = [one for one in errors if one.process in isotropic]
    # Those that do without a measured spectrum; and among them what other libraries and papers have.
    unaware = [one for one in everywhere if not one.setting.startswith("rotation") and "spectrum" not in one.setting]
    peers = [one for one in unaware if one.process == EDM or one.setting.startswith("diffusers")]
    kinds = {"best": everywhere, "best without the spectrum": unaware, "best peer": peers}
    result = []
    for count in [n for n in COMPARED if n in calls] or calls:
        for kind, rivals in kinds.items():
            rival, mine = min((one for one in rivals if one.calls == count), key=lambda one: one.median), ours[count]
            ratios = mine.median / rival.median, mine.upper / rival.upper
            name = f"{kind}: {rival.process}; {rival.setting}"
            line([str(count), name, cell(rival), cell(mine), *(f"{ratio:.3g}" for ratio in ratios)])
            result.append(
                {"kind": kind, "rival": rival._asdict(), "ours": mine._asdict(), "ratios": ratios, "calls": count}
            )
    return result


def title(name: str, calls: Sequence[int]) -> None:
    print(f"\n### {name}\n")
    header(["solver", *(f"{count}" for count in calls)])


def header(cells: Sequence[str]) -> None:
    line(cells)
    print("|---" * len(cells) + "|", flush=True)


def line(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def show(errors: Iterable[Error]) -> list[Error]:
    """Print one solver's row as its numbers come in, and return them."""
    result = []
    for one in errors:
        if not result:
            print(f"| {one.setting} |", end="")
        print(f" {cell(one)} |", end="", flush=True)
        result.append(one)
    print(flush=True)
    return result


def cell(one: Error) -> str:
    return f"{one.median:.2g} ({one.upper:.2g})"


def draw(path: Path, errors: Sequence[Error], tested: Sequence[Process], network: Mapping[str, Any] | None) -> None:
    """Draw error against calls: the solvers of the shortest path, the best of each process, and the network's."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    curves: dict[tuple[str, str], list[Error]] = {}
    for one in errors:
        curves.setdefault((one.process, one.setting), []).append(one)
    solvers = {
        DDIM: DDIM,
        "DDIM, spectrum grid": "DDIM, spectrum grid",
        "rotation, order 1, spectrum grid": "order 1",
        "rotation, order 2, spectrum grid": "order 2",
        "rotation, order 2 + corrector, cosine": "order 2 + corrector, cosine grid",
        DEFAULT: "order 2 + corrector (default)",
    }
    left = {label: curves[OURS, name] for name, label in solvers.items()}
    right = {
        "Gaussian, cosine: DDIM, uniform": curves["Gaussian, cosine", DDIM],
        "Gaussian, linear: DPM-Solver++(2M)": curves["Gaussian, linear", "diffusers DPM-Solver++(2M), equal log-snr"],
        "EDM: Heun": next(curve for (process, _), curve in curves.items() if process == EDM),
    }
    best = {process.name: best_setting(errors, process) for process in tested}
    gaussian = min(
        (process.name for process in tested if process.isotropic),
        key=lambda name: statistics.mean(math.log(one.median) for one in curves[name, best[name]]),
    )
    for name in (gaussian, "blur", "shortest path, Fourier, RGB"):
        right[f"{name}: {best[name]}"] = curves[name, best[name]]
    right["shortest path (default)"] = curves[OURS, DEFAULT]
    panels = {"Shortest path: solvers": left, "Corruptions, each against its own ODE": right}
    if network is not None:
        trained: dict[str, list[Error]] = {}
        for one in network["errors"]:
            trained.setdefault(one["setting"], []).append(Error(**one))
        panels["A small trained network"] = trained
    style = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    colours = ("#9A9A9A", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#D55E00", "#0072B2")
    with rc_context(style):
        figure = Figure(figsize=(5.2 * len(panels), 6.4), layout="constrained")
        for axis, (name, content) in zip(
            figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels.items(), strict=True
        ):
            for index, (label, curve) in enumerate(content.items()):
                last = index == len(content) - 1
                axis.loglog(
                    [one.calls for one in curve],
                    [one.median for one in curve],
                    marker="os^Dv<>"[index],
                    markersize=4,
                    linewidth=2.4 if last else 1.4,
                    color="#0072B2" if last else colours[index],
                    label=label,
                )
            ticks = sorted({one.calls for curve in content.values() for one in curve})
            axis.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=8)
            axis.minorticks_off()
            axis.grid(color="#E6E6E6")
            axis.set_axisbelow(True)
            axis.set_title(name)
            axis.set_xlabel("calls of the model")
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=8.5)
        figure.axes[0].set_ylim(top=1.0)  # EDM's grid begins at σ = 80: in few calls it is far off the scale
        figure.axes[0].set_ylabel("distance from the converged ODE, RMSE in pixels (median)")
        figure.savefig(path, dpi=150)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
