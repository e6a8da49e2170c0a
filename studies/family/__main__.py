"""Compare the family of corruptions exactly, on a measured spectrum: what Fisher length says and what it does not.

    python -m studies.family --data cifar10-train.parquet
    python -m studies.family                               # generated images, needs no data

The data are modelled as Gaussian with the spectrum of the images and their mirror images, in the cosine basis with
rotated channels. Nothing is trained or sampled, so there is no statistical error.

1. Five processes, with channels taken as independent in that basis: Fisher length of the path divided by the distance
   between the data and white noise, and KL(generated ‖ data) in nats of 50 ancestral steps with the optimal denoiser;
   for second moments about 0 with the channels rotated by the mean covariance, and for the default estimate. "Rescaled"
   has the clock of Gaussian noise, and so its learning problem, and the covariances of the shortest path.
2. The rotation of the channels: KL of the shortest path against the covariances between channels, for no rotation, the
   eigenvectors of the mean covariance, and those of the mean of C / tr C, which `PowerSpectrum.estimate` takes.
3. The family side by side, as `shortest_path.geometry.compare` prints it.

The parquet file has a column `img` of encoded images {bytes, path}, as the Hugging Face data set `uoft-cs/cifar10`.
Use lossless images: length and KL depend on the lowest bits of the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import shortest_path as sp
from benchmarks.timing import Row, one_thread, parser, print_report, save_report
from studies.family.cases import family, five_processes, rotations
from studies.measured import add_options, read

_STEPS = 50
_KL_BOUND = 0.05  # nats at 50 steps, with the default estimate


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    options = parser("studies.family", __doc__, repeats=None)
    add_options(options)
    arguments = options.parse_args(argv)
    one_thread()

    data_given = arguments.data is not None
    found = read(arguments, "family")
    data = sp.PowerSpectrum.estimate(found.mirrored(), progress=False)
    print(f"{found.source}: {len(found.images)} and their mirrors, {data.floored} values floored")

    moments = sp.PowerSpectrum.estimate(found.mirrored(), center=False, progress=False)
    models = [rotations(moments)["mean of C"], data]
    models = [sp.PowerSpectrum(model.basis, model.power) for model in models]  # channels taken as independent
    to_noise = sp.fisher_distance(models[0], 1.0)
    print(f"\n| corruption | length / distance to white noise | KL, T = {_STEPS}, moments | KL, default estimate |")
    print("|---|---|---|---|")
    processes = {}
    for (name, corruption), other in zip(
        five_processes(models[0]).items(), five_processes(models[1]).values(), strict=True
    ):
        length = sp.path_length(corruption, models[0], rtol=1e-5) / to_noise
        kls = [
            sp.gaussian_kl(each, model, steps=_STEPS) for each, model in zip((corruption, other), models, strict=True)
        ]
        processes[name] = (length, *kls)
        print(f"| {name} | {length:.3f} | {_digits(kls[0])} | {_digits(kls[1])} |", flush=True)

    print(f"\n| basis, rotation of the channels | excess length | KL, T = {_STEPS} |\n|---|---|---|")
    rotated = {}
    for basis in ("cosine", "fourier"):
        whole = data if basis == "cosine" else sp.PowerSpectrum.estimate(found.mirrored(), "fourier", progress=False)
        geodesic = sp.fisher_distance(whole, 1.0)
        for name, spectrum in rotations(whole).items():
            corruption = sp.ShortestPathCorruption(spectrum)
            excess = sp.path_length(corruption, whole, rtol=1e-6) / geodesic - 1
            rotated[f"{basis}, {name}"] = (excess, sp.gaussian_kl(corruption, whole, steps=_STEPS))
            print(f"| {basis}, {name} | {100 * excess:.3g} % | {rotated[f'{basis}, {name}'][1]:.3g} |", flush=True)

    print()
    print(sp.geometry.compare(data, family(data), steps=(10, _STEPS)))

    default = rotated["cosine, mean of C / tr C"][1]
    rows = [
        Row(
            f"exact Gaussian KL, default estimate, T = {_STEPS}; eigenvectors of the mean covariance",
            f"{rotated['cosine, mean of C'][1]:.3g} nats",
            f"{default:.3g} nats",
            bound=_KL_BOUND if data_given else None,
            bound_text=f"≤ {_KL_BOUND:g} nats" if data_given else "",
            value=default,
        )
    ]
    print_report("Summary", rows)
    save_report(
        arguments.json, rows, source=found.source, images=len(found.images), processes=processes, rotations=rotated
    )


def _digits(value: float) -> str:
    """Return three digits, without an exponent for large numbers."""
    return f"{float(f'{value:.3g}'):g}"


if __name__ == "__main__":
    main()
