"""Cost of corrupting, of a training task and of estimating a spectrum against the size of the images.

    python -m benchmarks.cost_by_size [--sizes 32 128] [--clock cpu] [--json FILE] [--before FOLDER] [--compile]

Everything is given relative to a floor: drawing the noise, and one complex FFT of the batch there and back. A batch has
384 Ki to 6 Mi values, so that times are milliseconds. `task` is `DiffusionLoss.task` with its noise, `estimate` one
update of a `SpectrumEstimator`. One thread, float32, a warm heap, interleaved repeats; medians of the ratios within a
repeat, with quartiles in the JSON. With `--before`, an earlier version is timed in the same repeats: FOLDER is its
`src/shortest_path`, e.g. of a `git worktree`, 0.1 or later. With `--compile`, the tasks are also timed as compiled
functions, which are given their noise: on a CPU, a compiled function takes several times as long to draw it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import shortest_path as sp
from benchmarks.timing import describe_machine, interleaved, one_thread, parser, warm_heap
from shortest_path.prediction import Prediction

BATCHES = {32: 128, 64: 64, 128: 32, 256: 8, 512: 4, 1024: 2}
"""Images in a batch by size."""

FLOOR = "floor"
BEFORE = ", before"
PREDICTIONS: tuple[Prediction, ...] = ("noise", "whitened-velocity")
LAW = {"amplitude": 1.59, "offset": 0.0086, "exponent": 2.0}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    arguments = parse(argv)
    one_thread()
    warm_heap()
    rows: dict[int, dict[str, Any]] = {}
    earlier = None if arguments.before is None else imported(arguments.before)
    print(f"{describe_machine()}, {arguments.clock} time\n", flush=True)
    for size in arguments.sizes:
        calls = {FLOOR: floor(size), **contenders(size)}
        if arguments.compile:
            calls |= compiled(size)
        if earlier is not None:
            calls |= {f"{name}{BEFORE}": call for name, call in contenders(size, earlier).items()}
        timings = interleaved(calls, repeats=arguments.repeats, warmup=2, clock=arguments.clock)
        ratios = {name: timings.ratio(name, FLOOR)._asdict() for name in calls if name != FLOOR}
        rows[size] = {"batch": BATCHES[size], "floor_seconds": timings.median(FLOOR), "ratios": ratios}
        names = [name for name in ratios if not name.endswith(BEFORE)]
        if len(rows) == 1:
            print(f"| size × batch | floor, ms | {' | '.join(names)} |\n|{'---|' * (len(names) + 2)}")
        cells = " | ".join(cell(ratios, name) for name in names)
        print(f"| {size} × {BATCHES[size]} | {1e3 * timings.median(FLOOR):.1f} | {cells} |", flush=True)
    if arguments.json is not None:
        command = " ".join(["python", *sys.orig_argv[1:]])
        report = {"machine": describe_machine(), "command": command, "clock": arguments.clock, "sizes": rows}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def imported(folder: Path) -> Any:
    """Return the package in a folder, under a name of its own beside the installed one."""
    entry = folder / "__init__.py"
    if not entry.exists():
        raise SystemExit(f"cost_by_size: --before must be a package, such as OLD/src/shortest_path, got {folder}")
    name = "shortest_path_before"
    spec = importlib.util.spec_from_file_location(name, entry, submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def cell(ratios: dict[str, dict[str, float]], name: str) -> str:
    """Return the entry of a table: the cost before, if it was measured, and now."""
    before = ratios.get(f"{name}{BEFORE}")
    now = f"{ratios[name]['median']:.2f}"
    return now if before is None else f"{before['median']:.2f} → {now}"


def batch(size: int) -> Tensor:
    """Return images of 3 × size × size."""
    return torch.randn(BATCHES[size], 3, size, size, generator=torch.Generator().manual_seed(0))


def floor(size: int) -> Callable[[], object]:
    """Return what draws noise, and transforms a complex batch there and back."""
    x_0 = batch(size)

    def call() -> Tensor:
        z = torch.complex(x_0, torch.randn_like(x_0))
        return torch.fft.ifftn(torch.fft.fftn(z, dim=(-2, -1)), dim=(-2, -1))

    return call


def contenders(size: int, library: Any = sp) -> dict[str, Callable[[], object]]:
    """Return what is timed, for images of 3 × size × size."""
    x_0 = batch(size)
    t = torch.rand(len(x_0), generator=torch.Generator().manual_seed(1))
    fourier = library.ShortestPathCorruption(library.PowerSpectrum.power_law((3, size, size), **LAW))
    cosine = library.ShortestPathCorruption(coloured(size, library))
    corruptions = {
        "Gaussian": library.GaussianCorruption("cosine"),
        "blur": library.BlurCorruption(spatial=(size, size)),
        "path, Fourier": fourier,
        "path, rotated cosine": cosine,
    }
    calls = {name: corrupting(library, corruption, x_0, t) for name, corruption in corruptions.items()}
    for prediction in PREDICTIONS:
        calls[f"task, {prediction}"] = task(library, cosine, prediction, x_0, t)
    for basis in ("fourier", "cosine"):
        calls[f"estimate, {basis}"] = estimate(library, basis, x_0)
    return calls


def compiled(size: int) -> dict[str, Callable[[], object]]:
    """Return the tasks as compiled functions, after a first call each, in which they are compiled."""
    torch.compiler.reset()  # a graph for this size alone
    x_0 = batch(size)
    t = torch.rand(len(x_0), generator=torch.Generator().manual_seed(1))
    corruption = sp.ShortestPathCorruption(coloured(size))
    calls: dict[str, Callable[[], object]] = {}
    for prediction in PREDICTIONS:
        loss = sp.DiffusionLoss(corruption, prediction)
        faster = torch.compile(partial(loss.task, analyzed=loss.draws_coefficients), fullgraph=True)

        def call(faster: Callable[..., object] = faster) -> object:
            return faster(x_0, t, torch.randn_like(x_0))

        call()
        calls[f"task, {prediction}, compiled"] = call
    return calls


def coloured(size: int, library: Any = sp) -> Any:
    """Return a spectrum with three different channels, in a rotated cosine basis, as `estimate` measures one."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))[0]
    law = library.PowerSpectrum.power_law((3, size, size), **LAW, basis=library.CosineBasis(2, rotation))
    strength = torch.tensor([2.5, 0.4, 0.1], dtype=torch.float64).view(3, 1, 1)
    return library.PowerSpectrum(law.basis, law.power * strength)


def corrupting(library: Any, corruption: object, x_0: Tensor, t: Tensor) -> Callable[[], object]:
    return lambda: library.corrupt(corruption, x_0, t, torch.randn_like(x_0))


def task(library: Any, corruption: object, prediction: str, x_0: Tensor, t: Tensor) -> Callable[[], object]:
    if hasattr(library, "DiffusionLoss"):
        loss = library.DiffusionLoss(corruption, prediction)
        options = {"analyzed": True} if getattr(loss, "draws_coefficients", False) else {}
        return lambda: loss.task(x_0, t, torch.randn_like(x_0), **options)
    objective = importlib.import_module(f"{library.__name__}.objective").Objective(corruption, prediction)  # 0.1
    return lambda: objective.pose(x_0, t, torch.randn_like(x_0))


def estimate(library: Any, basis: str, x_0: Tensor) -> Callable[[], object]:
    estimator = getattr(library, "spectra", library).SpectrumEstimator(basis)
    return lambda: estimator.update(x_0)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    result = parser("benchmarks.cost_by_size", __doc__, repeats=11)
    result.add_argument("--sizes", type=int, nargs="+", choices=tuple(BATCHES), default=list(BATCHES), metavar="N")
    result.add_argument("--before", type=Path, metavar="FOLDER", help="package of an earlier version, timed as well")
    result.add_argument("--compile", action="store_true", help="time compiled tasks as well; needs a C++ compiler")
    return result.parse_args(argv)


if __name__ == "__main__":
    main()
