"""Laws of the corruptions: equations 1 and 3 of docs/theory.md, schedules, shapes."""

from __future__ import annotations

import copy
import itertools
import math
import shutil
from typing import Literal

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import shortest_path as sp
from shortest_path.corruptions import _elementwise, per_sample, prior_deviation
from shortest_path.corruptions._heat_kernel import laplacian_eigenvalues
from tests.strategies import fuzz
from tests.worlds import CORRUPTIONS, ENDS, SHAPE, SHORTEST, TO_NOISE, correlated_images, spectrum, white

TIMES = torch.linspace(0, 1, 41, dtype=torch.float64)


def test_every_corruption_satisfies_the_protocol(corruption: sp.Corruption) -> None:
    assert isinstance(corruption, sp.Corruption)
    for scale in (corruption.signal(TIMES), corruption.noise(TIMES)):
        assert torch.broadcast_shapes(scale.shape, (41, *SHAPE)) == (41, *SHAPE)
        assert scale.dtype == torch.float64
        assert bool((scale >= 0).all())


def test_equation_1_in_coefficients(corruption: sp.Corruption, images: Tensor) -> None:
    t, eps = torch.rand(16, dtype=torch.float64), torch.randn_like(images)
    x_t = sp.corrupt(corruption, images, t, eps)
    basis = corruption.basis
    for i in range(16):
        expected = corruption.signal(t[i : i + 1]) * basis.analyze(images[i : i + 1])
        expected = expected + corruption.noise(t[i : i + 1]) * basis.analyze(eps[i : i + 1])
        torch.testing.assert_close(basis.analyze(x_t[i : i + 1]), expected, atol=1e-12, rtol=0)


def test_the_signal_to_noise_ratio_never_rises(corruption: sp.Corruption) -> None:
    signal, noise = corruption.signal(TIMES), corruption.noise(TIMES)
    assert bool((signal[1:] * noise[:-1] <= signal[:-1] * noise[1:] + 1e-14).all())


@pytest.mark.parametrize("name", [name for name in TO_NOISE if name not in ("blur", "own")])
def test_ends_are_data_and_noise(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    signal, noise = corruption.signal(ends), corruption.noise(ends)
    torch.testing.assert_close(signal[0], torch.ones_like(signal[0]), atol=1e-15, rtol=0)
    assert bool((noise[0] == 0).all())
    left = 0.0064 if name == "gaussian-linear" else 1e-15  # DDPM's chain keeps √ᾱ_1000 = 0.00635
    assert bool((signal[1] <= left).all())
    final = ENDS[name].power.sqrt() if name in ENDS else 2.0 if name == "clock" else 1.0
    expected = final * torch.ones_like(noise[1])
    torch.testing.assert_close(noise[1], expected, atol=max(left**2, 1e-15), rtol=1e-12 * (name in ENDS))


def test_zero_noise_and_time_zero_return_the_image(images: Tensor) -> None:
    for name in TO_NOISE:
        if name != "blur":
            torch.testing.assert_close(
                sp.corrupt(CORRUPTIONS[name](), images, 0.0, torch.randn_like(images)), images, atol=1e-12, rtol=0
            )


def test_sampling_starts_from_noise_where_little_of_the_image_is_left() -> None:
    def point(signal: float, noise: float) -> sp.solvers.Point:
        return sp.solvers.Point(1.0, *(torch.tensor([[[value]]]).double().sqrt() for value in (signal, noise)))

    end = point(0, 1)
    assert prior_deviation(point(0.049, 0.951), end, None).item() ** 2 == pytest.approx(0.951)
    assert prior_deviation(point(0.051, 0.949), end, None) is None
    weak = point(0, 0.01)  # an end state of little power: what is left of the image is measured by it
    assert prior_deviation(point(0.049, 0.00951), weak, None).item() ** 2 == pytest.approx(0.00951)
    assert prior_deviation(point(0.051, 0.00949), weak, None) is None
    assert prior_deviation(point(1, 0), point(1, 0), None) is None  # no noise at all
    power = torch.full((1, 1, 1), 4.0, dtype=torch.float64)
    assert prior_deviation(point(0.24, 1), end, power).item() ** 2 == pytest.approx(1.96)
    assert prior_deviation(point(0.26, 1), end, power) is None


# --- the shortest path ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHORTEST)
def test_equation_3_covariance_is_a_power_of_the_spectrum(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    power = corruption.power
    variance = corruption.signal(TIMES) ** 2 * power + corruption.noise(TIMES) ** 2
    t = per_sample(TIMES, 2)
    final = ENDS[name].power if name in ENDS else torch.ones(())
    torch.testing.assert_close(variance, power ** (1 - t) * final**t, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", SHORTEST)
def test_equation_2_fisher_speed_is_constant(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    power = corruption.power.expand(SHAPE)
    variance = corruption.signal(TIMES) ** 2 * power + corruption.noise(TIMES) ** 2
    chords = [sp.fisher_distance(a, b) for a, b in itertools.pairwise(variance)]
    final = ENDS[name].power if name in ENDS else 1.0
    assert chords == pytest.approx([sp.fisher_distance(power, final) / 40] * 40, rel=1e-9)


def exact_log_snr(power: float, t: float) -> mpmath.mpf:
    with mpmath.workdps(60):
        s, time = mpmath.mpf(power), mpmath.mpf(t)
        if s == 1:
            return mpmath.log((1 - time) / time)
        alpha_bar = (1 - s ** (1 - time)) / (1 - s)
        return mpmath.log(alpha_bar / (1 - alpha_bar))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-14), (torch.float32, 1e-5)])
@pytest.mark.parametrize("power", [1e-8, 1e-4, 0.3, 1 - 1e-6, 1.0, 1 + 1e-9, 1.7, 1e4, 1e8])
def test_signal_to_noise_ratio_is_exact(power: float, dtype: torch.dtype, tolerance: float) -> None:
    times = torch.tensor([1e-6, 1e-3, 0.1, 0.25, 0.5, 0.9, 0.999, 1 - 2**-20], dtype=dtype)
    corruption = sp.ShortestPathCorruption(sp.PowerSpectrum(sp.PixelBasis(1), torch.tensor([[power]]).double()))
    log_snr = 2 * (corruption.signal(times).double().log() - corruption.noise(times).double().log()).flatten()
    stored = torch.tensor(power).item()  # the constructor is given float32 here
    expected = [float(exact_log_snr(stored, t)) for t in times.tolist()]
    assert log_snr.tolist() == pytest.approx(expected, abs=tolerance)


@fuzz(160)
@given(log_power=st.floats(-700, 700), t=st.floats(0, 1), dtype=st.sampled_from([torch.float32, torch.float64]))
@example(log_power=141.5, t=1e-5, dtype=torch.float64)
def test_scales_stay_finite_and_sum_to_one_for_any_power(log_power: float, t: float, dtype: torch.dtype) -> None:
    power = torch.tensor([[math.exp(log_power)]], dtype=torch.float64)
    corruption = sp.ShortestPathCorruption(sp.PowerSpectrum(sp.PixelBasis(1), power))
    time = torch.tensor([t], dtype=dtype)
    signal, noise = corruption.signal(time), corruption.noise(time)
    # In units of eps: an exponent (1 − t) L carries a quarter of |L| from 1 − t and half of |L| from the product.
    rounding = 4 + 3 / 4 * abs(log_power)
    assert (signal**2 + noise**2).item() == pytest.approx(1, abs=rounding * torch.finfo(dtype).eps)


def test_powers_too_far_from_those_of_the_end_are_refused() -> None:
    data, end = (
        sp.PowerSpectrum(sp.CosineBasis(1), torch.full((1, 4), power, dtype=torch.float64)) for power in (1e-160, 1e160)
    )
    with pytest.raises(ValueError, match=r"must lie in \[1e-304, 1e304\], got 1e320 or its inverse; raise the floor"):
        sp.ShortestPathCorruption(data, final=end)


def test_the_limit_of_unit_power() -> None:
    flat = sp.ShortestPathCorruption(sp.PowerSpectrum(sp.CosineBasis(), torch.ones(SHAPE, dtype=torch.float64)))
    torch.testing.assert_close(flat.signal(TIMES).flatten(1)[:, 0] ** 2, 1 - TIMES, atol=1e-15, rtol=1e-14)
    torch.testing.assert_close(flat.noise(TIMES).flatten(1)[:, 0] ** 2, TIMES, atol=1e-15, rtol=1e-14)


@pytest.mark.parametrize("steps", [10, 1000])
def test_the_reference_chain_from_the_closed_form(steps: int) -> None:
    # The authors' ᾱ, re-derived in float64 on their grid: (1 − S^τ) / (1 − S), τ = (T − linspace(1, T−1, T)) / T.
    spectrum = sp.PowerSpectrum.power_law((3, 32, 32), amplitude=1.59, offset=0.0086, exponent=2.0)
    power = spectrum.power.numpy()
    tau = (steps - np.linspace(1, steps - 1, steps)) / steps
    alpha_bar = (1 - power[None] ** tau[:, None, None, None]) / (1 - power[None])
    times = sp.grids.Reference()(steps)
    assert times[-1] == 0
    signal = sp.ShortestPathCorruption(spectrum).signal(times[:-1].flip(0)).expand(-1, 3, -1, -1)
    np.testing.assert_allclose(signal.square().numpy(), alpha_bar, rtol=1e-10)


def test_equal_channels_are_stored_once() -> None:
    assert CORRUPTIONS["shortest-reference"]().power.shape == (1, 8, 8)
    assert CORRUPTIONS["shortest-cosine"]().power.shape == SHAPE


# --- the other schedules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [101, 1000, 4000])
def test_linear_is_ddpms_table(steps: int) -> None:
    alpha_bar = np.cumprod(1 - np.linspace(0.1 / steps, 20 / steps, steps))
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    corruption = sp.GaussianCorruption("linear" if steps == 1000 else sp.corruptions.LinearSchedule(steps))
    precision = 1e-9 if steps == 101 else 1e-11
    np.testing.assert_allclose(corruption.signal(t).flatten() ** 2, alpha_bar, rtol=precision)
    np.testing.assert_allclose(corruption.noise(t).flatten() ** 2, 1 - alpha_bar, rtol=precision)
    single = corruption.noise(t.float()).flatten().double() ** 2
    np.testing.assert_allclose(single, 1 - alpha_bar, rtol=1e-5)
    for dtype in (torch.float64, torch.float32):
        early = torch.logspace(-9, 0, 10_001, dtype=dtype)
        signal, noise = corruption.signal(early).flatten(), corruption.noise(early).flatten()
        assert (signal.diff() <= 0).all()
        assert (noise.diff() > 0).all()
        assert (noise[0] > 0) & (signal[0] <= 1)


def test_linear_with_another_number_of_steps_is_another_corruption() -> None:
    ours, theirs = (sp.GaussianCorruption(sp.corruptions.LinearSchedule(steps)) for steps in (1000, 4000))
    assert repr(ours).startswith("GaussianCorruption(schedule=LinearSchedule(steps=1000), ")  # what checkpoints compare
    assert repr(ours) != repr(theirs)
    with pytest.raises(ValueError, match="steps must be 101 or more, got 100"):
        sp.corruptions.LinearSchedule(100)


def test_cosine_is_improved_ddpms() -> None:
    def f(t: np.ndarray) -> np.ndarray:
        return np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2

    t = np.linspace(0, 1, 101)
    corruption = sp.GaussianCorruption("cosine")
    np.testing.assert_allclose(corruption.signal(torch.tensor(t)).flatten() ** 2, f(t) / f(0.0), atol=1e-15)
    np.testing.assert_allclose(corruption.noise(torch.tensor(t)).flatten() ** 2, 1 - f(t) / f(0.0), atol=1e-15)


def test_flow_is_linear_interpolation() -> None:
    corruption = sp.GaussianCorruption("flow")
    assert torch.equal(corruption.signal(TIMES).flatten(), 1 - TIMES)
    assert torch.equal(corruption.noise(TIMES).flatten(), TIMES)


def test_gaussian_works_on_vectors() -> None:
    x = torch.randn(5, 5, dtype=torch.float64)  # the batch is as long as a vector: broadcasting must not mix them
    t = torch.rand(5, dtype=torch.float64)
    x_t = sp.corrupt(sp.GaussianCorruption("flow", dims=0), x, t, torch.zeros_like(x))
    torch.testing.assert_close(x_t, (1 - t)[:, None] * x)


def test_blur_is_hoogebooms() -> None:
    size, max_blur, min_scale = (6, 9), 20.0, 1e-3
    corruption = sp.BlurCorruption(max_blur, min_scale, spatial=size)
    for t in (0.0, 0.1, 0.5, 0.77, 1.0):
        first, last = math.atan(math.exp(-5.0)), math.atan(math.exp(5.0))
        log_snr = min(10.0, max(-10.0, -2 * math.log(math.tan(first + (last - first) * t))))
        signal_0, noise_0 = (math.sqrt(1 / (1 + math.exp(-sign * log_snr))) for sign in (1, -1))
        sigma = max_blur * math.sin(t * math.pi / 2) ** 2
        time = torch.tensor([t], dtype=torch.float64)
        for i, j in ((0, 0), (1, 0), (0, 1), (5, 8)):
            eigenvalue = (math.pi * i / 6) ** 2 + (math.pi * j / 9) ** 2
            scale = (1 - min_scale) * math.exp(-eigenvalue * sigma**2 / 2) + min_scale
            assert corruption.signal(time)[0, 0, i, j].item() == pytest.approx(signal_0 * scale, rel=1e-12)
        assert corruption.noise(time).item() == pytest.approx(noise_0, rel=1e-12)


def test_heat_dissipation_is_rissanens() -> None:
    corruption = sp.HeatDissipationCorruption(24.0, 0.5, 0.01, spatial=(32, 32))
    for t in (0.0, 0.3, 1.0):
        sigma = math.exp((1 - t) * math.log(0.5) + t * math.log(24.0))
        signal = corruption.signal(torch.tensor([t], dtype=torch.float64))
        assert signal[0, 0, 3, 5].item() == pytest.approx(
            math.exp(-((math.pi * 3 / 32) ** 2 + (math.pi * 5 / 32) ** 2) * sigma**2 / 2), rel=1e-12
        )
        assert corruption.noise(torch.tensor([t])).item() == pytest.approx(0.01)


def test_blur_without_noise_is_a_gaussian_filter() -> None:
    # A wide image, whose middle does not feel the border: the heat kernel is then a Gaussian in pixels.
    corruption = sp.HeatDissipationCorruption(2.0, 2.0, spatial=(41, 41))
    impulse = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    impulse[0, 0, 20, 20] = 1
    blurred = corruption.corrupt(impulse, 1.0, torch.zeros_like(impulse))[0, 0]
    axis = torch.arange(41, dtype=torch.float64) - 20
    gauss = torch.exp(-(axis**2) / (2 * 2.0**2))
    gauss = gauss / gauss.sum()
    torch.testing.assert_close(blurred, gauss[:, None] * gauss, atol=1e-6, rtol=0)


def test_laplacian_eigenvalues_divide_by_n() -> None:
    assert laplacian_eigenvalues((4,))[0].tolist() == pytest.approx([(math.pi * k / 4) ** 2 for k in range(4)])


# --- as modules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "own"])
def test_float32_is_near_float64(name: str, images: Tensor) -> None:
    corruption = CORRUPTIONS[name]()
    t, eps = torch.rand(16), torch.randn(images.shape)
    exact = corruption.corrupt(images, t.double(), eps.double())
    single = corruption.corrupt(images.float(), t, eps)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, atol=2e-5, rtol=0)


def test_half_precision_images_are_rounded_once(images: Tensor) -> None:
    corruption = CORRUPTIONS["shortest-cosine"]()
    x, eps, t = images.to(torch.bfloat16), torch.randn(images.shape).to(torch.bfloat16), torch.rand(16)
    expected = corruption.corrupt(x.float(), t, eps.float()).to(torch.bfloat16)
    assert torch.equal(corruption.corrupt(x, t, eps), expected)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "own"])
def test_state_dict_and_casts(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    restored = copy.deepcopy(corruption)
    for buffer in restored.buffers():
        buffer.zero_()
    restored.load_state_dict(corruption.state_dict(), strict=True)
    if name not in ("blur", "heat"):  # their tables follow from the arguments and are not stored
        assert torch.equal(restored.signal(TIMES), corruption.signal(TIMES))
    assert torch.equal(copy.deepcopy(corruption).to(torch.float16).signal(TIMES), corruption.signal(TIMES))


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "own"])
def test_every_table_follows_to_the_device(name: str, images: Tensor) -> None:
    corruption, t = CORRUPTIONS[name](), torch.rand(16)
    corruption.corrupt(images, t, images)  # makes the tables that a basis keeps for each device
    corruption.to("meta")
    assert all(buffer.is_meta for buffer in corruption.buffers())
    tensors = [each for part in corruption.modules() for each in vars(part).values() if isinstance(each, Tensor)]
    assert not tensors
    x, t = images.to("meta"), t.to("meta")
    assert [value.device.type for value in (*corruption.scales(t), corruption.corrupt(x, t, x))] == ["meta"] * 3
    assert all(str(matrix.device) in key for key, matrix in corruption.basis._cache.items())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex operators")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["blur", "shortest-reference"])
def test_compiles_without_graph_breaks(name: str, images: Tensor) -> None:
    corruption = CORRUPTIONS[name]()
    x, t, eps = images.float(), torch.rand(16), torch.randn(images.shape)
    compiled = torch.compile(corruption.corrupt, fullgraph=True)
    torch.testing.assert_close(compiled(x, t, eps), corruption.corrupt(x, t, eps), atol=2e-4, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("basis", [sp.CosineBasis(), sp.FourierBasis(), sp.bases.WaveletBasis()], ids=str)
def test_tasks_of_several_sizes_compile_without_graph_breaks(basis: sp.bases.Basis) -> None:
    if isinstance(basis, sp.FourierBasis) and torch.__version__ < "2.5":
        pytest.skip("torch 2.4 compiles FFTs of real numbers for known sizes only")
    torch.compiler.reset()
    for size in (8, 12, 16):  # sizes are numbers in the first graph, and unknown in those after it
        law = sp.PowerSpectrum.power_law((3, size, size), amplitude=1.0, offset=0.1, exponent=2.0, basis=basis)
        task = sp.DiffusionLoss(sp.ShortestPathCorruption(law), "whitened-velocity").task
        compiled = torch.compile(task, backend="eager", fullgraph=True)
        for count in (4, 3):
            x, t, eps = torch.randn(count, 3, size, size), torch.rand(count), torch.randn(count, 3, size, size)
            torch.testing.assert_close(compiled(x, t, eps)[:3], task(x, t, eps)[:3])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_numbers_as_times_and_wavelets_compile_without_graph_breaks() -> None:
    torch.compiler.reset()
    corruption, basis = sp.GaussianCorruption("cosine"), sp.bases.WaveletBasis()
    corrupt = torch.compile(lambda x, t, eps: sp.corrupt(corruption, x, t, eps), backend="eager", fullgraph=True)
    analyze = torch.compile(basis.analyze, backend="eager", fullgraph=True)
    for t, size in ((0.2, 8), (0.5, 12), (0.7, 16)):  # numbers are known in the first graph, and not in those after it
        x, eps = torch.randn(2, 3, size, size), torch.randn(2, 3, size, size)
        torch.testing.assert_close(corrupt(x, t, eps), sp.corrupt(corruption, x, t, eps))
        torch.testing.assert_close(analyze(x), basis.analyze(x))


def test_corrupting_does_without_the_power_of_every_coefficient() -> None:
    class Counting(sp.ShortestPathCorruption):
        looked = 0

        @property
        def power(self) -> Tensor:
            type(self).looked += 1
            return super().power

    corruption, x_0 = Counting(spectrum()), torch.zeros(2, *SHAPE)
    corruption.corrupt(x_0, torch.rand(2), torch.randn_like(x_0))
    assert Counting.looked == 0
    sp.Sampler(lambda x_t, t: x_t, corruption, steps=2)
    assert Counting.looked > 0


@pytest.mark.parametrize("parent", [sp.GaussianCorruption, sp.ShortestPathCorruption, sp.BlurCorruption])
@pytest.mark.parametrize("name", ["signal", "noise"])
def test_scales_that_corrupting_would_not_see_are_refused(parent: type, name: str) -> None:
    with pytest.raises(TypeError, match=rf"Louder overrides {name}, but images are corrupted with `scales\(t\)`"):
        type("Louder", (parent,), {name: lambda self, t: 2 * t})
    whole = {name: lambda self, t: self.scales(t)[0], "scales": lambda self, t: (t, t)}
    assert issubclass(type("Whole", (parent,), whole), parent)
    assert issubclass(type("Own", (sp.DiagonalCorruption,), {name: lambda self, t: t}), sp.DiagonalCorruption)


def test_corrupt_is_pure(corruption: sp.Corruption, images: Tensor) -> None:
    t, eps = torch.rand(16, dtype=torch.float64), torch.randn_like(images)
    before = [value.clone() for value in (images, t, eps)]
    state = torch.get_rng_state()
    first = sp.corrupt(corruption, images, t, eps)
    assert torch.equal(first, sp.corrupt(corruption, images, t, eps))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, (images, t, eps), strict=True))


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "own"])
def test_gradients_flow_to_times_and_images(name: str, images: Tensor) -> None:
    corruption = CORRUPTIONS[name]()
    t = torch.tensor([0.3, 0.6], dtype=torch.float64, requires_grad=True)
    x_0, eps = images[:2, :, :, :].requires_grad_(), torch.randn_like(images[:2])
    assert torch.autograd.gradcheck(
        lambda time, x: corruption.corrupt(x, time, eps).square().sum(), (t, x_0), fast_mode=True
    )


# --- wrong input ------------------------------------------------------------------------------------------

GOOD = torch.zeros(2, *SHAPE)


@pytest.mark.parametrize("t", [1.5, -0.1, math.nan, torch.tensor([0.5, 2.0])])
def test_times_outside_the_unit_interval(corruption: sp.Corruption, t: float | Tensor) -> None:
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\] \(0 = data, 1 = noise\), got"):
        sp.corrupt(corruption, GOOD, t, GOOD)
    if not isinstance(corruption, CORRUPTIONS["own"]):  # type: ignore[arg-type]
        for scale in (corruption.signal, corruption.noise):
            with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
                scale(torch.as_tensor(t).reshape(-1))


@pytest.mark.parametrize("count", [1, 5, 32, 33, 200])  # few times are compared one by one
@pytest.mark.parametrize("bad", [math.nan, -0.25, 1.25])
def test_one_time_of_many_outside_the_unit_interval(count: int, bad: float) -> None:
    corruption, t = sp.GaussianCorruption(), torch.linspace(0, 1, count)
    corruption.signal(t.requires_grad_())
    t.data[count // 2] = bad
    with pytest.raises(ValueError, match=rf"t must lie in \[0, 1\] .*, got {bad}"):
        corruption.signal(t)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((GOOD, torch.tensor([0, 1]), GOOD), TypeError, "t must be a floating-point tensor .* got torch.int64"),
        ((GOOD, torch.zeros(2, 1), GOOD), ValueError, r"scalar or have shape \(B,\), got shape \(2, 1\)"),
        ((GOOD, torch.zeros(3), GOOD), ValueError, "t has 3 times for a batch of 2"),
        ((GOOD.byte(), 0.5, GOOD), TypeError, r"x_0 must be a floating-point .* / 127\.5 - 1"),
        ((GOOD, 0.5, GOOD.long()), TypeError, "eps must be a floating-point tensor, got torch.int64"),
        ((GOOD, 0.5, GOOD[:1]), ValueError, r"eps must have the shape of x_0, \(2, 3, 8, 8\), got \(1, 3, 8, 8\)"),
        ((GOOD.numpy(), 0.5, GOOD), TypeError, "x_0 must be a torch.Tensor, got ndarray"),
    ],
)
def test_wrong_arguments_are_explained(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sp.corrupt(sp.GaussianCorruption(), *arguments)


@pytest.mark.parametrize("name", ["blur", "shortest-reference", "shortest-cosine"])
def test_images_of_another_shape(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    for shape in ((2, 3, 16, 16), (2, 3, 8), (2, 3, 2, 8, 8)):
        x = torch.zeros(shape)
        with pytest.raises(ValueError, match="does not broadcast against images of shape|needs at least|rotation is"):
            corruption.corrupt(x, 0.5, x)


@pytest.mark.parametrize("channels", ["rotate", "independent"])
def test_channels_that_come_last_are_told_from_another_size(channels: Literal["rotate", "independent"]) -> None:
    made = sp.PowerSpectrum.estimate([torch.randn(64, 3, 8, 6)], channels=channels, check_range=False)
    x, gaussian = torch.zeros(2, 8, 6, 3), sp.GaussianCorruption()
    hint = r"or, as channels come second, pass x\.permute\(0, 3, 1, 2\)$"
    for call in (
        lambda: sp.ShortestPathCorruption(made).corrupt(x, 0.5, x),
        lambda: made.basis.with_channel_rotation(torch.eye(3)).analyze(x),
        lambda: sp.Sampler(torch.zeros_like, gaussian, spectrum=made, steps=2).sample(x.shape),
        lambda: sp.DiffusionLoss(gaussian, "whitened-velocity", spectrum=made)(lambda x, t: x, x),
    ):
        with pytest.raises(ValueError, match=hint):
            call()
    mended = x.permute(0, 3, 1, 2)
    assert sp.ShortestPathCorruption(made).corrupt(mended, 0.5, mended).shape == mended.shape
    for shape in ((2, 3, 8, 5), (8, 6, 3), (2, 8, 6, 4)):
        with pytest.raises(ValueError, match=r"^(?!.*permute)"):
            sp.ShortestPathCorruption(made).corrupt(torch.zeros(shape), 0.5, torch.zeros(shape))


def test_vectors_need_dims_zero() -> None:
    x = torch.zeros(5, 5)
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1, 1\), which does not broadcast against images of shape"):
        sp.GaussianCorruption().corrupt(x, 0.5, x)


def test_the_shortest_path_needs_a_spectrum() -> None:
    with pytest.raises(TypeError, match="spectrum must be a PowerSpectrum, got Tensor; see PowerSpectrum.estimate"):
        sp.ShortestPathCorruption(torch.ones(3, 8, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sp.GaussianCorruption("sine"), "unknown schedule 'sine'; choose one of 'cosine', 'linear', 'flow'"),
        (lambda: sp.BlurCorruption(-1.0), "max_blur must be positive, got -1.0"),
        (lambda: sp.BlurCorruption(min_scale=2.0), r"min_scale must lie in \[0, 1\], got 2.0"),
        (lambda: sp.BlurCorruption(spatial=()), "spatial must hold at least one size"),
        (lambda: sp.HeatDissipationCorruption(1.0, 2.0), "min_blur must not exceed max_blur"),
        (lambda: sp.HeatDissipationCorruption(noise_level=0.0), "noise_level must be positive"),
    ],
)
def test_wrong_options_are_explained(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_scales_in_parts_are_those_of_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, in_parts = CORRUPTIONS[name](), CORRUPTIONS[name]()
    if not isinstance(whole, sp.corruptions.ElementwiseCorruption):
        return
    expected = whole.scales(TIMES)
    monkeypatch.setattr(_elementwise, "_PART", 20)
    for found, each in zip(in_parts.scales(TIMES), expected, strict=True):
        torch.testing.assert_close(found, each, rtol=1e-14, atol=0)
    if in_parts.picks and name.startswith(("blur", "shortest-cosine", "staggered")):
        assert len(in_parts._parts or []) == (3 if name == "blur" else 4)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch has no batched addcmul
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupt_under_vmap_and_grad(name: str) -> None:
    corruption, x_0, eps = CORRUPTIONS[name](), correlated_images(4), white()
    t = torch.tensor([0.0, 0.3, 0.6, 1.0], dtype=torch.float64)
    each = torch.func.vmap(lambda x, time, noise: sp.corrupt(corruption, x[None], time[None], noise[None])[0])
    torch.testing.assert_close(each(x_0, t, eps), sp.corrupt(corruption, x_0, t, eps), rtol=1e-12, atol=1e-12)
    if name != "own":  # whose noise has an infinite derivative at t = 0
        slope = torch.func.grad(lambda time: sp.corrupt(corruption, x_0, time, eps).square().sum())(t)
        assert slope.isfinite().all()
        x_0, eps, t = x_0[1:3], eps[1:3], t[1:3]
        low, high = (sp.corrupt(corruption, x_0, t + step, eps).square().sum((1, 2, 3)) for step in (-1e-6, 1e-6))
        torch.testing.assert_close(slope[1:3], (high - low) / 2e-6, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch has no batched addcmul
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupt_maps_over_one_argument_alone(name: str) -> None:
    corruption, x_0, eps = CORRUPTIONS[name](), correlated_images(4), white()
    t = torch.tensor([0.0, 0.3, 0.6, 1.0], dtype=torch.float64)
    given = (x_0, t, eps)
    for place in range(3):
        others = torch.stack([given[place], given[place].flip(0)])

        def one(value: Tensor, place: int = place) -> Tensor:
            x, time, noise = (*given[:place], value, *given[place + 1 :])
            return sp.corrupt(corruption, x, time, noise)

        mapped = torch.func.vmap(one)(others)
        torch.testing.assert_close(mapped, torch.stack([one(each) for each in others]), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "own"])
def test_forward_derivatives_are_those_that_go_backward(name: str) -> None:
    corruption, x_0, eps = CORRUPTIONS[name](), correlated_images(4), white()
    t = torch.tensor([0.0, 0.3, 0.6, 1.0], dtype=torch.float64)

    def total(time: Tensor) -> Tensor:
        return sp.corrupt(corruption, x_0, time, eps).square().sum((1, 2, 3))

    slope = torch.func.grad(lambda time: total(time).sum())(t)
    torch.testing.assert_close(torch.func.jvp(total, (t,), (torch.ones_like(t),))[1], slope)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(t, torch.ones_like(t))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(total(dual)).tangent, slope)


@pytest.mark.parametrize("known", [sp.ShortestPathCorruption, sp.GaussianCorruption])
def test_scales_of_a_subclass_need_no_symmetry(known: type) -> None:
    fourier = sp.PowerSpectrum.estimate([correlated_images(20)], "fourier")

    class Tilted(known):  # type: ignore[misc, valid-type]
        def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
            signal, noise = super().scales(t)
            return signal * torch.linspace(0.5, 1, SHAPE[-1], dtype=signal.dtype), noise

    corruption = Tilted(fourier) if known is sp.ShortestPathCorruption else Tilted(noise=fourier)
    x_0, eps, t = correlated_images(4), white(), torch.full((4,), 0.4, dtype=torch.float64)
    signal, noise = corruption.scales(t)
    basis = corruption.basis
    expected = basis.synthesize(signal * basis.analyze(x_0 - corruption.mean) + noise * basis.analyze(eps))
    torch.testing.assert_close(corruption.corrupt(x_0, t, eps), expected + corruption.mean)
