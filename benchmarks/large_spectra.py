"""Time that samplers, grids and the exact analysis take to be made for large images.

    python -m benchmarks.large_spectra
    python -m benchmarks.large_spectra --sizes 256,512,1024 --channels 1

Every function is called with a new corruption of a power law with a rotation of the channels and another power in each,
and with the shortest path measured with covariances of the channels ("cross"). Bounds are 0.2 s at 512×512 and 1 s at
1024×1024 on one core of a quiet machine. Each repeat times every function, and beside them the transform of the same
image, the unit of the ratios, which tells a slow moment from a slow function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import shortest_path as sp
from benchmarks.timing import Row, duration, interleaved, one_thread, parser, print_report, save_report, warm_heap

BOUNDS = {512: 0.2, 1024: 1.0}
STEPS = 20


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the report."""
    options = parser("benchmarks.large_spectra", __doc__, repeats=5)
    options.add_argument("--sizes", default="512,1024", help="heights of the images (default 512,1024)")
    options.add_argument("--channels", type=int, default=3, help="channels of the images (default 3)")
    arguments = options.parse_args(argv)
    one_thread()
    warm_heap()
    rows: list[Row] = []
    seconds: dict[str, dict[str, list[float]]] = {}
    for size in map(int, arguments.sizes.split(",")):
        law, cross = spectra(arguments.channels, size)
        image = torch.randn(1, *law.shape)
        contenders: dict[str, Callable[[], object]] = {"transform": lambda law=law, x=image: law.basis.analyze(x)}
        contenders |= works(law, cross)
        timings = interleaved(contenders, repeats=arguments.repeats, warmup=1, clock=arguments.clock)
        seconds[str(size)] = timings.samples
        for name in list(contenders)[1:]:
            ratio, median, bound = timings.ratio(name, "transform"), timings.median(name), BOUNDS.get(size)
            text = "" if bound is None else f"≤ {bound:g} s"
            unit, spread = duration(timings.median("transform")), (ratio.low, ratio.high)
            what = f"{size}²: {name}"
            rows.append(Row(what, unit, duration(median), ratio.median, spread, bound, text, median))
    print_report("Large images (reference = the transform of one image)", rows)
    save_report(arguments.json, rows, seconds=seconds)


def spectra(channels: int, size: int) -> tuple[sp.PowerSpectrum, sp.PowerSpectrum]:
    """Return a power law, and the same with covariances between the channels."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(channels, channels, generator=generator, dtype=torch.float64))[0]
    basis = sp.CosineBasis().with_channel_rotation(rotation)
    shape = (channels, size, size)
    one = sp.PowerSpectrum.power_law(shape, amplitude=300.0, offset=0.5, exponent=2.5, basis=basis)
    law = sp.PowerSpectrum(basis, one.power * torch.logspace(0, -1, channels, dtype=torch.float64).view(-1, 1, 1))
    tilt = torch.eye(channels, dtype=torch.float64) + 0.1
    mixed = torch.einsum("ik, khw, jk -> ijhw", tilt @ rotation.T, law.power, tilt @ rotation.T)
    diagonal = torch.einsum("ki, ijhw, kj -> khw", rotation, mixed, rotation)
    return law, sp.PowerSpectrum(basis, diagonal, cross=mixed)


def works(law: sp.PowerSpectrum, cross: sp.PowerSpectrum) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    path, of_cross = sp.ShortestPathCorruption(law), sp.ShortestPathCorruption(cross)
    blur, cosine = sp.BlurCorruption(spatial=law.shape[1:]), sp.GaussianCorruption("cosine")
    clock = sp.ClockCorruption(law, lambda t: torch.pi / 2 * t)

    def sampler(corruption: sp.Corruption, **options: object) -> Callable[[], object]:
        return lambda: sp.Sampler(still, corruption, **options)

    analysed = {"shortest": (path, law), "blur": (blur, law), "cosine": (cosine, law), "clock": (clock, law)}
    analysed["cross"] = (of_cross, cross)
    pairs = analysed.items()
    return {
        "Sampler, shortest": sampler(path),
        "Sampler, cosine with spectrum": sampler(cosine, spectrum=law),
        "grid log-snr, shortest": lambda: sp.grids.LogSnr(path)(STEPS),
        "grid spectrum, shortest": lambda: sp.grids.Spectrum(path)(STEPS),
        "fisher_distance": lambda: sp.fisher_distance(law, 1.0),
        "fisher_distance, cross": lambda: sp.fisher_distance(cross, 1.0),
        **{f"grid Fisher, {name}": lambda pair=each: sp.grids.Fisher(*pair)(STEPS) for name, each in pairs},
        **{f"path_length, {name}": lambda pair=each: sp.path_length(*pair) for name, each in pairs},
        **{f"gaussian_kl, {name}": lambda pair=each: sp.gaussian_kl(*pair, steps=STEPS) for name, each in pairs},
        "compare, one corruption": lambda: sp.geometry.compare(law, {"path": path}, steps=[STEPS]),
    }  # fmt: skip


def still(x_t: Tensor, t: Tensor) -> Tensor:
    """Return a model's output that costs nothing."""
    return torch.zeros_like(x_t)


if __name__ == "__main__":
    main()
