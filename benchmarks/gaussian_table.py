"""How short, and how well sampled, is each corruption's path? Exactly, on a measured spectrum.

    python benchmarks/gaussian_table.py --data cifar10-train.parquet
    python benchmarks/gaussian_table.py                               # generated images, runs anywhere

The data are modelled as a stationary Gaussian: a 3×3 covariance between the channels at every Fourier
frequency, measured on the images and their mirrors with the mean image removed. For each corruption the
table gives the Fisher length of its path relative to the true geodesic, and KL(generated ‖ data) in nats
after T ancestral steps ("large" variance) with the optimal denoiser. Nothing is trained and nothing is
sampled, so there is no statistical error: two runs give the same digits.

The KL stands there twice: "uniform t" takes steps of equal time, "even length" steps of equal Fisher length along the
corruption's own path, for which the data's covariance is needed. The first judges path and schedule together, the
second the path alone.

A second table, on uniform t, departs from the measured spectrum on purpose: log S times 0.9 and 1.1; the measured
spectrum tilted by f^±0.5; a power law fitted to it (each channel by itself), and that law with its exponent changed
by ±0.5. "log S × 1" is the measured spectrum itself: both length and KL should be least there.

The parquet file has a column `img` of encoded images {bytes, path}, as the Hugging Face data set
`uoft-cs/cifar10`. Length and KL depend on the pixels' last bits: use lossless images.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import shortest_path as sp
from timing import Row, one_thread, parser, print_report, save_report

_BATCH = 1024
_KL_BOUND = 0.1  # nats at 50 steps, for the channel rotation


class Result(NamedTuple):
    """One line of a table: relative length, and KL in nats by number of steps, of equal time or of equal length."""

    name: str
    length: float
    kl: dict[int, float]
    kl_even: dict[int, float]


def main() -> None:
    options = parser(__doc__, repeats=None)
    options.add_argument("--data", type=Path, help="parquet file with a column img; without it, generated images")
    options.add_argument("--steps", type=int, nargs="+", default=[50, 250, 1000], help="numbers of sampling steps T")
    options.add_argument("--images", type=int, default=None, help="use only the first so many images")
    arguments = options.parse_args()
    one_thread()

    images = generated_images(arguments.images or 2000) if arguments.data is None else read_parquet(arguments.data)
    images = images[: arguments.images]
    estimator = sp.SpectrumEstimator("fourier", center=True)
    for batch in images.split(_BATCH):
        estimator.update(torch.cat([batch, batch.flip(-1)]).double())
    data = estimator.spectrum("rotate")
    geodesic = sp.fisher_distance(data, 1.0)
    source = "generated images" if arguments.data is None else arguments.data.name
    print(f"{source}: {len(images)} and their mirrors, {data.floored} values floored; geodesic {geodesic:.4f} nats^½")

    per_frequency = eigenvalue_spectrum(data)
    full = sp.ShortestPathCorruption(per_frequency)
    steps = arguments.steps
    print_header("corruption", steps, even=steps)
    results = [evaluate("full 3×3 spectrum per frequency", full, per_frequency, geodesic, steps, even=steps)]
    print_result(results[0])
    for name, corruption in corruptions(data, estimator.spectrum("independent")).items():
        results.append(evaluate(name, corruption, data, geodesic, steps, even=steps))
        print_result(results[-1])

    few = steps[:2]  # the trend shows; the deviations take as long as all the corruptions together
    deviations = []
    print_header("deviation from the measured spectrum (channel rotation + Fourier)", few)
    for name, spectrum in deviating(data).items():
        deviations.append(evaluate(name, sp.ShortestPathCorruption(spectrum), data, geodesic, few))
        print_result(deviations[-1])

    first = steps[0]
    bounded = first == 50 and arguments.data is not None  # the figure to reach is for CIFAR-10
    rotated, constants = results[1], results[3]
    rows = [
        Row(
            f"exact Gaussian KL, channel rotation, T = {first}; reference constants at T = {steps[-1]}",
            f"{constants.kl[steps[-1]]:.3g} nats",
            f"{rotated.kl[first]:.3g} nats",
            bound=_KL_BOUND if bounded else None,
            bound_text=f"< {_KL_BOUND:g} nats" if bounded else "",
            value=rotated.kl[first],
        )
    ]
    print_report("Summary", rows)
    save_report(
        arguments.json,
        rows,
        source=source,
        images=len(images),
        geodesic=geodesic,
        table=[result._asdict() for result in results],
        deviations=[result._asdict() for result in deviations],
    )


def corruptions(data: sp.PowerSpectrum, unrotated: sp.PowerSpectrum) -> dict[str, sp.Corruption]:
    """Return the corruptions of the table, all judged against the same data."""
    constants = sp.PowerSpectrum.power_law(data.shape, amplitude=1.59, offset=0.0086, exponent=2.0)
    return {
        "channel rotation + Fourier": sp.ShortestPathCorruption(data),
        "RGB + Fourier, measured spectrum": sp.ShortestPathCorruption(unrotated),
        "reference constants (1.59, 0.0086, 2)": sp.ShortestPathCorruption(constants),
        "Gaussian, cosine": sp.GaussianCorruption("cosine"),
        "Gaussian, linear (continuous VP-SDE)": sp.GaussianCorruption(vp_sde_schedule),
        "Gaussian, linear (DDPM's table)": sp.GaussianCorruption("linear"),
        "Gaussian, flow": sp.GaussianCorruption("flow"),
    }


def deviating(data: sp.PowerSpectrum) -> dict[str, sp.PowerSpectrum]:
    """Return spectra at growing distance from the measured one, in its own basis."""
    laws = [data.fit_power_law(channel) for channel in range(data.shape[0])]
    frequency = data.basis.frequencies(data.shape[1:])
    log_f = torch.stack([(law.offset + frequency).log() for law in laws])
    log_f = log_f - log_f.mean((-2, -1), keepdim=True)  # so that a change of exponent keeps the mean of log S
    mean = data.power.log().mean((-2, -1), keepdim=True)
    exponent = torch.tensor([law.exponent for law in laws], dtype=torch.float64)[:, None, None]
    fitted = torch.exp(mean - exponent * log_f)
    result = {f"log S × {scale:g}": data.tempered(scale) for scale in (0.9, 1.0, 1.1)}
    for name, power in (("measured", data.power), ("fitted power law", fitted)):
        for change in (-0.5, 0.0, 0.5):
            if change or power is fitted:
                changed = f"{name}, exponent {change:+g}" if change else name
                result[changed] = sp.PowerSpectrum(data.basis, power * torch.exp(-change * log_f))
    return result


def vp_sde_schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return (a_t, s_t) of the continuous limit of DDPM's noise: ᾱ_t = exp(−(0.1 t + 9.95 t²)), β from 0.1 to 20."""
    log_alpha_bar = -(0.1 * t + 9.95 * t**2)
    return torch.exp(log_alpha_bar / 2), (-torch.expm1(log_alpha_bar)).sqrt()


def eigenvalue_spectrum(data: sp.PowerSpectrum) -> sp.PowerSpectrum:
    """Return the spectrum of the data seen in the eigenvectors of the channel covariance at *each* frequency.

    There the covariance is diagonal, and neither lengths nor KL depend on the frame. So the eigenvalues stand for
    three independent channels; real images have the same ones at k and −k.
    """
    assert data.cross is not None
    eigenvalues = torch.linalg.eigvalsh(data.cross.movedim((0, 1), (-2, -1)))
    return sp.PowerSpectrum(sp.FourierBasis(data.basis.dims), eigenvalues.movedim(-1, 0), count=data.count)


def evaluate(
    name: str,
    corruption: sp.Corruption,
    data: sp.PowerSpectrum,
    geodesic: float,
    steps: list[int],
    *,
    even: Sequence[int] = (),
) -> Result:
    """Return length and KL of a corruption, by `steps` of equal time and by `even` steps of equal Fisher length."""
    length = sp.path_length(corruption, data, rtol=1e-5) / geodesic
    uniform = {count: sp.gaussian_kl(corruption, data, steps=count) for count in steps}
    grid = sp.FisherGrid(corruption, data)
    return Result(name, length, uniform, {n: sp.gaussian_kl(corruption, data, times=grid(n)) for n in even})


def print_header(first: str, steps: Sequence[int], *, even: Sequence[int] = ()) -> None:
    columns = [f"KL, T = {n}, {grid}" for grid, ns in (("uniform t", steps), ("even length", even)) for n in ns]
    print(f"\n| {first} | length / geodesic | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")


def print_result(result: Result) -> None:
    values = " | ".join(f"{value:.3g}" for value in (*result.kl.values(), *result.kl_even.values()))
    print(f"| {result.name} | {result.length:.5f} | {values} |", flush=True)


def read_parquet(path: Path) -> Tensor:
    """Return the images of a parquet file as (N, C, H, W) in [-1, 1]."""
    import pyarrow.parquet as parquet  # the bench extra; not needed for generated images
    from PIL import Image

    records = parquet.read_table(path, columns=["img"])["img"].to_pylist()
    pixels = [np.asarray(Image.open(io.BytesIO(record["bytes"])).convert("RGB")) for record in records]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def generated_images(count: int, size: int = 32, seed: int = 0) -> Tensor:
    """Return coloured noise (count, 3, size, size) with a power law and channels correlated as in photographs.

    Brightness has by far the most power and falls off fastest. A little of it leaks into the colours at high
    frequency, so that one fixed rotation of the channels is nearly right, as for photographs, but not exactly.
    """
    generator = torch.Generator().manual_seed(seed)
    axis = torch.fft.fftfreq(size, 1 / size)
    frequency = (axis[:, None] ** 2 + axis**2).sqrt()
    amplitude = torch.tensor([5.0, 0.9, 0.35])[:, None, None]
    falloff = torch.stack([(0.5 + frequency) ** (-exponent / 2) for exponent in (2.8, 2.4, 2.4)])
    white = torch.fft.fft2(torch.randn(count, 3, size, size, generator=generator))
    components = torch.fft.ifft2(white * amplitude * falloff).real
    leak = torch.fft.ifft2(white[:, 0] * amplitude[0] * falloff[0] * 0.02 * frequency / size).real
    components[:, 1] += leak
    mixing = torch.tensor([[3**-0.5, 2**-0.5, 6**-0.5], [3**-0.5, 0.0, -(1.5**-0.5)], [3**-0.5, -(2**-0.5), 6**-0.5]])
    images = torch.einsum("kc,bchw->bkhw", mixing, components)
    return (0.5 * images / images.std()).contiguous()


if __name__ == "__main__":
    main()
