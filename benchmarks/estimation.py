"""Time to estimate the spectrum of a data set of the size of CIFAR-10, and of 1,000 images of 256 × 256.

    python -m benchmarks.estimation [--clock cpu] [--json FILE]

The images are generated before, one batch that is passed again and again, so that nothing is read. `in float64` passes
the same images in float64, whose coefficients are then in float64 as well. One thread, interleaved repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

import shortest_path as sp
from benchmarks.generated_images import generated_images
from benchmarks.timing import Row, duration, interleaved, one_thread, parser, print_report, save_report, warm_heap

SETS = ((50_000, 32, 250, 2.0), (1_000, 256, 10, 5.0))
"""Number of images, their size, images in a batch, and the bound in seconds."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    arguments = parser("benchmarks.estimation", __doc__, repeats=5).parse_args(argv)
    one_thread()
    warm_heap()
    rows: list[Row] = []
    for count, size, batch, bound in SETS:
        images = generated_images(batch, size)
        for basis in ("cosine", "fourier"):
            calls = {"ours": estimating(basis, images, count), "in float64": estimating(basis, images.double(), count)}
            timings = interleaved(calls, repeats=arguments.repeats, warmup=1, clock=arguments.clock)
            ratio, seconds = timings.ratio("ours", "in float64"), timings.median("ours")
            what = f"{count:,} × 3 × {size}², {basis}"
            rows.append(
                Row(
                    what,
                    duration(timings.median("in float64")),
                    duration(seconds),
                    ratio.median,
                    (ratio.low, ratio.high),
                    bound,
                    f"≤ {bound:g} s",
                    value=seconds,
                )
            )
    print_report(f"Estimating a spectrum, {arguments.clock} time; reference: in float64", rows)
    save_report(arguments.json, rows, clock=arguments.clock)


def estimating(basis: Literal["cosine", "fourier"], images: Tensor, count: int) -> Callable[[], object]:
    """Return a function that estimates a spectrum from `images`, passed until there are `count`."""

    def run() -> sp.PowerSpectrum:
        return sp.PowerSpectrum.estimate([images] * (count // len(images)), basis, progress=False)

    return run


if __name__ == "__main__":
    main()
