"""Cost of corrupting, of a training task and of estimating a spectrum against the size of the images.

    python -m benchmarks.cost_by_size [--sizes 32 128] [--clock cpu] [--json FILE]

Everything is given relative to a floor: drawing the noise, and one complex FFT of the batch there and back. A batch has
384 Ki to 6 Mi values, so that times are milliseconds. `task` is `DiffusionLoss.task` with its noise, `estimate` one
update of a `SpectrumEstimator`. One thread, float32, a warm heap, interleaved repeats; medians of the ratios within a
repeat, with quartiles in the JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import shortest_path as sp
from benchmarks.timing import describe_machine, interleaved, one_thread, parser, warm_heap

BATCHES = {32: 128, 64: 64, 128: 32, 256: 8, 512: 4, 1024: 2}
"""Images in a batch by size."""

FLOOR = "floor"
LAW = sp.spectra.PowerLaw(amplitude=1.59, offset=0.0086, exponent=2.0, r_squared=1.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    arguments = parse(argv)
    one_thread()
    warm_heap()
    rows: dict[int, dict[str, Any]] = {}
    print(f"{describe_machine()}, {arguments.clock} time\n", flush=True)
    for size in arguments.sizes:
        timings = interleaved(contenders(size), repeats=arguments.repeats, warmup=2, clock=arguments.clock)
        ratios = {name: timings.ratio(name, FLOOR)._asdict() for name in timings.samples if name != FLOOR}
        rows[size] = {"batch": BATCHES[size], "floor_seconds": timings.median(FLOOR), "ratios": ratios}
        if len(rows) == 1:
            names = list(ratios)
            print(f"| size × batch | floor, ms | {' | '.join(names)} |\n|{'---|' * (len(names) + 2)}")
        cells = " | ".join(f"{ratio['median']:.2f}" for ratio in ratios.values())
        print(f"| {size} × {BATCHES[size]} | {1e3 * timings.median(FLOOR):.1f} | {cells} |", flush=True)
    if arguments.json is not None:
        command = " ".join(["python", *sys.orig_argv[1:]])
        report = {"machine": describe_machine(), "command": command, "clock": arguments.clock, "sizes": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def contenders(size: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, the floor first, for images of 3 × size × size."""
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randn(BATCHES[size], 3, size, size, generator=generator)
    t = torch.rand(len(x_0), generator=generator)
    spectrum = coloured(size)
    fourier = sp.ShortestPathCorruption(sp.PowerSpectrum.power_law((3, size, size), LAW))
    cosine = sp.ShortestPathCorruption(spectrum)
    corruptions = {
        "Gaussian": sp.GaussianCorruption("cosine"),
        "blur": sp.BlurCorruption(spatial=(size, size)),
        "path, Fourier": fourier,
        "path, rotated cosine": cosine,
    }
    calls: dict[str, Callable[[], object]] = {FLOOR: lambda: floor(x_0)}
    for name, corruption in corruptions.items():
        calls[name] = corrupting(corruption, x_0, t)
    for prediction in ("noise", "whitened-velocity"):
        calls[f"task, {prediction}"] = task(sp.DiffusionLoss(cosine, prediction), x_0, t)
    for basis in ("fourier", "cosine"):
        calls[f"estimate, {basis}"] = estimate(basis, x_0)
    return calls


def coloured(size: int) -> sp.PowerSpectrum:
    """Return a spectrum with three different channels, in a rotated cosine basis, as `estimate` measures one."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))[0]
    law = sp.PowerSpectrum.power_law((3, size, size), LAW, basis=sp.CosineBasis(2, rotation))
    strength = torch.tensor([2.5, 0.4, 0.1], dtype=torch.float64).view(3, 1, 1)
    return sp.PowerSpectrum(law.basis, law.power * strength)


def floor(x_0: Tensor) -> Tensor:
    """Draw noise, and transform a complex batch there and back."""
    z = torch.complex(x_0, torch.randn_like(x_0))
    return torch.fft.ifftn(torch.fft.fftn(z, dim=(-2, -1)), dim=(-2, -1))


def corrupting(corruption: sp.Corruption, x_0: Tensor, t: Tensor) -> Callable[[], object]:
    return lambda: sp.corrupt(corruption, x_0, t, torch.randn_like(x_0))


def task(loss: sp.DiffusionLoss, x_0: Tensor, t: Tensor) -> Callable[[], object]:
    return lambda: loss.task(x_0, t, torch.randn_like(x_0), analyzed=loss.draws_coefficients)


def estimate(basis: Any, x_0: Tensor) -> Callable[[], object]:
    estimator = sp.spectra.SpectrumEstimator(basis)
    return lambda: estimator.update(x_0)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    result = parser("benchmarks.cost_by_size", __doc__, repeats=11)
    result.add_argument("--sizes", type=int, nargs="+", choices=tuple(BATCHES), default=list(BATCHES), metavar="N")
    return result.parse_args(argv)


if __name__ == "__main__":
    main()
