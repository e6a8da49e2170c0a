"""Speed of the parts, to find what a change makes slower.

    pytest benchmarks/test_speed.py
    pytest benchmarks/test_speed.py --benchmark-save=before        # then, after a change:
    pytest benchmarks/test_speed.py --benchmark-compare --benchmark-compare-fail=median:20%

Requires the `bench` extra. One thread, float32, a warm heap. For calls that do several units of work (steps, images),
`extra_info` of the JSON output (--benchmark-json=FILE) has the time or rate per unit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from benchmarks.generated_images import generated_images
from benchmarks.timing import warm_heap

BATCH, STEPS = 128, 10
CORRUPTIONS = ("gaussian", "blur", "shortest path, power law, Fourier", "shortest path, rotated cosine")


@pytest.fixture(autouse=True, scope="module")
def _one_warm_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    warm_heap()
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return generated_images(1024)


@pytest.fixture(scope="module")
def spectrum(images: Tensor) -> sp.PowerSpectrum:
    return sp.PowerSpectrum.estimate(images.split(256))


def build(name: str, spectrum: sp.PowerSpectrum) -> sp.DiagonalCorruption:
    if name == "gaussian":
        return sp.GaussianCorruption("cosine")
    if name == "blur":
        return sp.BlurCorruption()
    if name == "shortest path, power law, Fourier":
        law = sp.PowerSpectrum.power_law((3, 32, 32), amplitude=1.59, offset=0.0086, exponent=2.0)
        return sp.ShortestPathCorruption(law)
    return sp.ShortestPathCorruption(spectrum)


@pytest.mark.benchmark(group="corrupt a batch of 128×3×32×32, noise included")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupt(benchmark: Any, name: str, images: Tensor, spectrum: sp.PowerSpectrum) -> None:
    corruption, x_0, t = build(name, spectrum), images[:BATCH], torch.rand(BATCH)

    x_t = benchmark(lambda: corruption.corrupt(x_0, t, torch.randn_like(x_0)))

    assert torch.isfinite(x_t).all()


@pytest.mark.benchmark(group="scales of a batch of 128 times")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_scales(benchmark: Any, name: str, spectrum: sp.PowerSpectrum) -> None:
    corruption, t = build(name, spectrum), torch.rand(BATCH)

    signal, noise = benchmark(lambda: corruption.scales(t))

    assert ((signal**2 + noise**2) < 1 + 1e-5).all()


@pytest.mark.benchmark(group=f"sample 128×3×32×32 in {STEPS} steps, trivial model")
@pytest.mark.parametrize("solver", ["ancestral", "ddim"])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_reverse_steps(benchmark: Any, name: str, solver: Any, images: Tensor, spectrum: sp.PowerSpectrum) -> None:
    x_1, times = images[:BATCH], torch.linspace(0.6, 0.4, STEPS + 1, dtype=torch.float64)
    sampler = sp.Sampler(lambda x_t, t: x_t, build(name, spectrum), solver=solver, times=times)

    x_s = benchmark(lambda: sampler.sample(x_1.shape, x_1=x_1))

    per_unit(benchmark, "seconds_per_step", lambda seconds: seconds / STEPS)
    assert torch.isfinite(x_s).all()


@pytest.mark.benchmark(group="estimate a spectrum, a batch of 256×3×32×32")
@pytest.mark.parametrize("basis", ["cosine", "fourier"])
def test_estimate(benchmark: Any, basis: Any, images: Tensor) -> None:
    estimator, batch = sp.spectra.SpectrumEstimator(basis), images[:256]

    benchmark(lambda: estimator.update(batch))

    per_unit(benchmark, "images_per_second", lambda seconds: len(batch) / seconds)
    assert estimator.spectrum().count == estimator.count


@pytest.mark.benchmark(group="transform 1.5 Mi values")
@pytest.mark.parametrize("direction", ["analyze", "synthesize"])
@pytest.mark.parametrize("size", [32, 64, 256])
@pytest.mark.parametrize("name", ["cosine", "cosine, rotated", "Fourier", "Fourier, rotated"])
def test_transform(benchmark: Any, name: str, size: int, direction: str, spectrum: sp.PowerSpectrum) -> None:
    rotation = spectrum.basis.channel_rotation if "rotated" in name else None
    basis = (sp.CosineBasis if "cosine" in name else sp.FourierBasis)(2, rotation)
    x = torch.randn(2**21 // (4 * size**2), 3, size, size)  # the same number of values at every size
    transform: Callable[[Tensor], Tensor] = getattr(basis, direction)

    u = benchmark(lambda: transform(x))

    torch.testing.assert_close(u.square().sum(), x.square().sum(), rtol=1e-3, atol=0)


@pytest.mark.benchmark(group="cosine transform of 1.5 Mi values: matrix product or FFT")
@pytest.mark.parametrize("direction", ["analyze", "synthesize"])
@pytest.mark.parametrize("how", ["matrix", "FFT"])
@pytest.mark.parametrize("size", [64, 128, 160, 192, 512])
def test_matrix_limit(benchmark: Any, size: int, how: str, direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortest_path.bases._cosine._MATRIX_LIMIT", {"cpu": size if how == "matrix" else 0})
    x = torch.randn(max(1, 2**19 // size**2), 3, size, size)
    transform: Callable[[Tensor], Tensor] = getattr(sp.CosineBasis(), direction)

    u = benchmark(lambda: transform(x))

    torch.testing.assert_close(u.square().sum(), x.square().sum(), rtol=1e-3, atol=0)


@pytest.mark.benchmark(group="build a process")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_build(benchmark: Any, name: str, spectrum: sp.PowerSpectrum) -> None:
    corruption = benchmark(lambda: build(name, spectrum))

    assert isinstance(corruption, sp.Corruption)


@pytest.mark.benchmark(group="make a default sampler: of all coefficients, or of a part that stands for them")
@pytest.mark.parametrize("how", ["all", "part"])
@pytest.mark.parametrize("size", [32, 128, 512])
def test_make_sampler(benchmark: Any, size: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "all":
        if size == 512:
            pytest.skip("minutes, and gigabytes")
        monkeypatch.setattr("shortest_path.grids._coefficients._MOST", 10**9)
    law = sp.PowerSpectrum.power_law((3, size, size), amplitude=1.59, offset=0.0086, exponent=2.0)
    corruption = sp.ShortestPathCorruption(law)

    sampler = benchmark.pedantic(lambda: sp.Sampler(lambda x_t, t: x_t, corruption), rounds=5, warmup_rounds=1)

    assert sampler.steps == 50


def per_unit(benchmark: Any, name: str, convert: Callable[[float], float]) -> None:
    """Add the median per unit of work to the JSON output; --benchmark-disable has none."""
    if benchmark.stats is not None:
        benchmark.extra_info[name] = convert(benchmark.stats.stats.median)
