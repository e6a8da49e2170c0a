"""Laws of the family: end states, colours of noise, delays, clocks, and the data's mean."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.corruptions import ClockCorruption, StaggeredCorruption, per_sample
from tests.worlds import CORRUPTIONS, SHAPE, Sharpen, correlated_images, spectrum, white

TIMES = torch.linspace(0, 1, 21, dtype=torch.float64)
FREQUENCY = sp.CosineBasis().frequencies(SHAPE[1:])[None]
DELAYS = FREQUENCY / FREQUENCY.max()


def variance(corruption: sp.Corruption, power: Tensor) -> Tensor:
    return corruption.signal(TIMES) ** 2 * power + corruption.noise(TIMES) ** 2


# --- end states -------------------------------------------------------------------------------------------


ENDS: dict[str, Callable[[sp.PowerSpectrum], sp.PowerSpectrum]] = {
    "tempered": lambda data: data.tempered(0.5),
    "the data's own": lambda data: data,
    "beyond white": lambda data: data.tempered(-0.3),
    "white, another basis": lambda data: sp.PowerSpectrum(sp.PixelBasis(), torch.full(SHAPE, 0.7).double()),
    "alike in all channels, unrotated": lambda data: sp.PowerSpectrum.matern(
        SHAPE, length=0.2, smoothness=1.0, basis=sp.CosineBasis()
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_path_to_any_end_is_the_geodesic(end: str) -> None:
    data = spectrum()
    final = ENDS[end](data)
    corruption = sp.ShortestPathCorruption(data, final=final)
    t = per_sample(TIMES, 2)
    along = variance(corruption, data.power)
    torch.testing.assert_close(along, data.power ** (1 - t) * final.power**t, rtol=1e-10, atol=0)
    torch.testing.assert_close(corruption.power.expand(SHAPE), data.power, rtol=1e-12, atol=0)
    distance = math.sqrt(0.5 * float((data.power / final.power).log().square().sum()))
    chords = [sp.fisher_distance(a, b) for a, b in itertools.pairwise(along)]
    assert chords == pytest.approx([distance / 20] * 20, rel=1e-8, abs=1e-12)
    independent = sp.PowerSpectrum(data.basis, data.power)
    assert sp.path_length(corruption, independent) == pytest.approx(distance, rel=1e-9, abs=1e-9)


def test_the_path_to_the_datas_own_power_is_the_limit_without_length() -> None:
    data = spectrum()
    corruption = sp.ShortestPathCorruption(data, final=data)
    t = per_sample(TIMES, 2)
    signal = corruption.signal(TIMES).expand(-1, *SHAPE)
    torch.testing.assert_close(signal**2, (1 - t).expand(-1, *SHAPE), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(corruption.noise(TIMES) ** 2, t * data.power, rtol=1e-12, atol=1e-15)


def test_a_white_end_of_power_one_is_the_default() -> None:
    data = spectrum()
    white_end = sp.PowerSpectrum(data.basis, torch.ones(SHAPE, dtype=torch.float64))
    ours, default = sp.ShortestPathCorruption(data, final=white_end), sp.ShortestPathCorruption(data)
    torch.testing.assert_close(ours.scales(TIMES), default.scales(TIMES), rtol=1e-14, atol=0)


def other_rotation() -> sp.PowerSpectrum:
    rotation = torch.linalg.qr(white(1)[0].reshape(3, -1)[:, :3]).Q
    return sp.PowerSpectrum(sp.CosineBasis(2, rotation), spectrum().power)


@pytest.mark.parametrize(
    ("final", "error", "message"),
    [
        (lambda: torch.ones(SHAPE), TypeError, "final must be a PowerSpectrum, got Tensor"),
        (lambda: spectrum("fourier"), ValueError, "final must be diagonal in the basis of spectrum"),
        (other_rotation, ValueError, "covariances that do not commute"),
        (
            lambda: sp.PowerSpectrum(sp.CosineBasis(), torch.ones(3, 4, 4)),
            ValueError,
            r"final must have the shape of spectrum, \(3, 8, 8\), got \(3, 4, 4\)",
        ),
        (
            lambda: sp.PowerSpectrum(spectrum().basis, spectrum().power, mean=torch.ones(SHAPE)),
            ValueError,
            "final has another mean than spectrum",
        ),
        (
            lambda: sp.PowerSpectrum.band(SHAPE, 0, 2, basis=sp.CosineBasis()),
            ValueError,
            "final .*empty",
        ),
    ],
)
def test_an_end_that_is_none_is_refused(
    final: Callable[[], sp.PowerSpectrum], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sp.ShortestPathCorruption(spectrum(), final=final())


# --- coloured noise ---------------------------------------------------------------------------------------


COLORS: dict[str, Callable[[], sp.PowerSpectrum]] = {
    "equal SNR": spectrum,
    "half way": lambda: spectrum().tempered(0.5),
    "Matérn": lambda: sp.PowerSpectrum.matern(SHAPE, length=0.3, smoothness=1.5),
    "power law": lambda: sp.PowerSpectrum.power_law(SHAPE, amplitude=1.0, offset=1.0, exponent=-1.0),
    "principal": lambda: spectrum("principal"),
}


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("schedule", ["cosine", "linear", "flow"])
def test_noise_of_a_color_has_its_covariance(color: str, schedule: str) -> None:
    noise = COLORS[color]()
    corruption = sp.GaussianCorruption(schedule, noise=noise)  # type: ignore[arg-type]
    size = math.prod(SHAPE)
    pixels = torch.eye(size, dtype=torch.float64).reshape(size, *SHAPE)
    x_t = corruption.corrupt(torch.zeros_like(pixels), 0.6, pixels)
    shift = corruption.corrupt(torch.zeros_like(pixels[:1]), 0.6, torch.zeros_like(pixels[:1]))
    root = (x_t - shift).flatten(1)
    sigma = sp.GaussianCorruption(schedule).noise(torch.tensor([0.6], dtype=torch.float64)).item()  # type: ignore[arg-type]
    basis = noise.basis.analyze(pixels).flatten(1)
    expected = sigma**2 * basis @ torch.diag(noise.power.flatten()) @ basis.T
    torch.testing.assert_close(root.T @ root, expected, rtol=1e-9, atol=1e-12)


def test_white_noise_of_color_one_is_the_default() -> None:
    noise = sp.PowerSpectrum(sp.PixelBasis(), torch.ones(SHAPE, dtype=torch.float64))
    x_0, eps = correlated_images(4), white(4)
    ours = sp.GaussianCorruption(noise=noise).corrupt(x_0, 0.3, eps)
    torch.testing.assert_close(ours, sp.GaussianCorruption().corrupt(x_0, 0.3, eps), rtol=1e-14, atol=1e-14)


def test_coefficients_of_an_empty_band_stay() -> None:
    noise = sp.PowerSpectrum.band(SHAPE, 1.0, 3.0, basis=sp.CosineBasis())
    corruption = sp.GaussianCorruption("flow", noise=noise)
    inside = noise.power > 0
    signal, s = (scale.expand(-1, *SHAPE) for scale in corruption.scales(TIMES))
    assert 0 < int(inside.sum()) < inside.numel()
    assert bool((signal[:, ~inside] == 1).all())
    assert bool((s[:, ~inside] == 0).all())
    torch.testing.assert_close(signal[:, inside], (1 - TIMES)[:, None].expand(-1, int(inside.sum())))
    x_0, eps = correlated_images(4), white(4)
    x_1 = corruption.corrupt(x_0, 1.0, eps)
    torch.testing.assert_close(
        noise.basis.analyze(x_1 - x_0)[:, ~inside], torch.zeros(4, int((~inside).sum())).double()
    )
    sampler = sp.Sampler(lambda x, t: x_0, corruption, prediction="data", steps=5)
    with pytest.raises(ValueError, match="keeps part of the image at t = 1, .*: some coefficients have no noise; pass"):
        sampler.sample(x_0.shape, dtype=torch.float64)
    torch.testing.assert_close(sampler.sample(x_0.shape, x_1=x_1, dtype=torch.float64), x_0)


def test_options_of_colored_noise_are_checked() -> None:
    with pytest.raises(TypeError, match="noise must be a PowerSpectrum, got Tensor"):
        sp.GaussianCorruption(noise=torch.ones(SHAPE))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="noise has its own number of spatial axes, 2; omit dims=2"):
        sp.GaussianCorruption(noise=spectrum(), dims=2)


# --- delays -----------------------------------------------------------------------------------------------


class Bare:
    """A corruption with three members and nothing else."""

    def __init__(self, corruption: sp.Corruption) -> None:
        self.basis, self.signal, self.noise = corruption.basis, corruption.signal, corruption.noise


@pytest.mark.parametrize("name", [*CORRUPTIONS])
@pytest.mark.parametrize("spread", [0.0, 0.5, 4.0])
def test_every_coefficient_runs_at_its_own_time(name: str, spread: float) -> None:
    base = CORRUPTIONS[name]()
    delay = (DELAYS * 4).round() / 4  # five different
    corruption = StaggeredCorruption(base, delay, spread=spread)
    signal, noise = (scale.expand(21, *SHAPE) for scale in corruption.scales(TIMES))
    for value in delay.unique():
        begun, left = TIMES * (1 + spread) - spread * value, (1 - TIMES) * (1 + spread) - spread * (1 - value)
        own = torch.where(TIMES < 0.5, begun.clamp(0, 1), 1 - left.clamp(0, 1))  # the same, to rounding
        here = (delay == value).expand(SHAPE)
        for ours, theirs in ((signal, base.signal(own)), (noise, base.noise(own))):
            torch.testing.assert_close(ours[:, here], theirs.expand(21, *SHAPE)[:, here], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["shortest-cosine", "gaussian-flow", "blur"])
def test_a_corruption_without_a_base_class_is_delayed_alike(name: str) -> None:
    base = CORRUPTIONS[name]()
    ours = StaggeredCorruption(base, DELAYS, spread=1.5)
    theirs = StaggeredCorruption(Bare(base), DELAYS, spread=1.5)
    for a, b in zip(ours.scales(TIMES), theirs.scales(TIMES), strict=True):
        torch.testing.assert_close(a.expand(21, *SHAPE), b.expand(21, *SHAPE), rtol=1e-12, atol=1e-14)


def test_a_state_of_other_delays_is_mixed_as_it_was() -> None:
    law = sp.PowerSpectrum.power_law((1, 8, 8), amplitude=1.0, offset=0.1, exponent=2.0, basis=sp.FourierBasis())
    generator = torch.Generator().manual_seed(0)
    delays = torch.rand(1, 8, 8, dtype=torch.float64, generator=generator), torch.zeros(1, 8, 8, dtype=torch.float64)
    first, second = (StaggeredCorruption(sp.ShortestPathCorruption(law), each, spread=2.0) for each in delays)
    states = [copy.deepcopy(each.state_dict()) for each in (first, second)]
    x_0, eps = torch.randn(2, 2, 1, 8, 8, dtype=torch.float64, generator=generator)
    t = torch.tensor([0.4, 0.6], dtype=torch.float64)
    for loaded, state in ((second, states[0]), (first, states[1])):
        loaded.load_state_dict(state)
        signal, noise = loaded.scales(t)
        expected = loaded.basis.synthesize(signal * loaded.basis.analyze(x_0) + noise * loaded.basis.analyze(eps))
        torch.testing.assert_close(loaded.corrupt(x_0, t, eps), expected)


@pytest.mark.parametrize("parent", [sp.GaussianCorruption("flow"), sp.ShortestPathCorruption(spectrum())])
def test_scales_of_ones_own_are_delayed(parent: sp.Corruption) -> None:
    class Louder(type(parent)):  # type: ignore[misc]
        def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
            signal, noise = super().scales(t)
            return signal, 2 * noise

    base = Louder(*([spectrum()] if isinstance(parent, sp.ShortestPathCorruption) else ["flow"]))
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    still = StaggeredCorruption(base, torch.zeros(1, 1, 1), spread=0.0)
    torch.testing.assert_close(still.noise(t), 2 * parent.noise(t))
    nested = StaggeredCorruption(StaggeredCorruption(base, DELAYS, spread=0.5), DELAYS, spread=0.5)
    theirs = StaggeredCorruption(StaggeredCorruption(parent, DELAYS, spread=0.5), DELAYS, spread=0.5)
    torch.testing.assert_close(nested.noise(t), 2 * theirs.noise(t))
    torch.testing.assert_close(nested.signal(t), theirs.signal(t))


def test_a_large_spread_is_autoregression() -> None:
    rows = torch.arange(8).flip(0).view(1, 8, 1).double() / 7
    corruption = StaggeredCorruption(sp.GaussianCorruption("flow"), rows, spread=7.0)
    for t in torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64):
        noise = corruption.noise(t[None]).flatten()
        busy = (noise > 0) & (noise < 1)
        assert int(busy.sum()) <= 1
        assert bool((noise.diff() >= 0).all())  # the first row is the last to be corrupted


def test_generation_by_rows_samples_gaussian_data_exactly() -> None:
    data = sp.PowerSpectrum(sp.PixelBasis(), 0.2 + white(1)[0] ** 2)
    rows = torch.linspace(1, 0, 8).view(1, 8, 1)
    for spread in (0.0, 1.0, 7.0, 100.0):
        corruption = StaggeredCorruption(sp.GaussianCorruption("flow"), rows, spread=spread)
        for solver in ("multistep", sp.solvers.Ancestral(variance="exact")):
            kl = sp.gaussian_kl(corruption, data, steps=7, grid="uniform", solver=solver, sampler_spectrum=data)  # type: ignore[arg-type]
            assert kl == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("spread", [0.7, 7.0])
def test_rows_that_have_not_started_stay_as_they_are(spread: float) -> None:
    rows = torch.linspace(1, 0, 8).view(1, 8, 1)
    corruption = StaggeredCorruption(sp.GaussianCorruption("flow"), rows, spread=spread)
    x_0 = correlated_images(2)
    start = 0.4
    x_t = corruption.corrupt(x_0, start, white(2))
    clean = (corruption.noise(torch.tensor([start], dtype=torch.float64)) == 0).expand(2, *SHAPE)
    assert 0 < int(clean.sum()) < clean.numel()
    torch.testing.assert_close(x_t[clean], x_0[clean])
    for solver in ("multistep", "ddim", "ancestral"):
        sampler = sp.Sampler(
            lambda x, t: 0.9 * x, corruption, prediction="data", solver=solver, steps=10, grid="uniform"
        )  # type: ignore[arg-type]
        path = list(sampler.trajectory(x_0.shape, x_1=x_t, start=start, dtype=torch.float64))
        torch.testing.assert_close(path[1].x_t[clean], x_0[clean])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"delay": torch.ones(8, 8)}, ValueError, r"delay must broadcast to coefficients \(C, \*spatial\) with 2"),
        ({"delay": torch.ones(0, 8, 8)}, ValueError, "delay must broadcast"),
        ({"delay": torch.full((1, 8, 8), 1.5)}, ValueError, r"delay must lie in \[0, 1\], got 1.5 … 1.5; divide it"),
        ({"delay": torch.full((1, 8, 8), math.nan)}, ValueError, r"delay must lie in \[0, 1\]"),
        ({"delay": torch.ones(1, 8, 8).long()}, TypeError, "delay must be a floating-point tensor"),
        ({"spread": -1.0}, ValueError, r"spread must lie in \[0, 1e\+09\], got -1.0"),
        ({"spread": math.inf}, ValueError, r"spread must lie in \[0, 1e\+09\], got inf"),
        (
            {"corruption": sp.BlurCorruption(spatial=(8, 8)), "delay": torch.rand(1, 6, 8)},
            ValueError,
            r"delay must broadcast to the coefficients of BlurCorruption, \(1, 8, 8\), got shape \(1, 6, 8\)",
        ),
        ({"spread": "wide"}, TypeError, "spread must be a number, got 'wide'"),
        ({"corruption": sp.CosineBasis()}, TypeError, "does not implement `Corruption`"),
    ],
)
def test_delays_are_checked(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    given = {"corruption": sp.GaussianCorruption(), "delay": torch.ones(1, 8, 8), "spread": 1.0, **arguments}
    with pytest.raises(error, match=message):
        StaggeredCorruption(given["corruption"], given["delay"], spread=given["spread"])  # type: ignore[arg-type]


# --- clocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "own"])
def test_any_corruption_is_given_by_its_angle_and_radius(name: str) -> None:
    base = CORRUPTIONS[name]()
    power = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.2
    if isinstance(base.basis, sp.FourierBasis):
        power = power + base.basis.mirror(power)
    data = sp.PowerSpectrum(base.basis, power)

    def scales(t: Tensor) -> tuple[Tensor, Tensor]:
        return base.signal(t.flatten()) * data.power.sqrt(), base.noise(t.flatten())

    clock = ClockCorruption(data, lambda t: torch.atan2(*reversed(scales(t))), lambda t: torch.hypot(*scales(t)))
    for ours, theirs in zip(clock.scales(TIMES), (base.signal(TIMES), base.noise(TIMES)), strict=True):
        torch.testing.assert_close(ours.expand(21, *SHAPE), theirs.expand(21, *SHAPE), rtol=1e-9, atol=1e-12)


def test_without_a_radius_the_squares_of_signal_and_noise_sum_to_one() -> None:
    clock = ClockCorruption(spectrum(), lambda t: math.pi / 2 * t)
    signal, noise = clock.scales(TIMES)
    torch.testing.assert_close(signal**2 + noise**2, torch.ones(21, *SHAPE, dtype=torch.float64))
    ratio = (signal[1:-1] / noise[1:-1]) ** 2 * spectrum().power  # equal for all coefficients
    torch.testing.assert_close(ratio, (1 / torch.tan(math.pi / 2 * per_sample(TIMES[1:-1], 2)) ** 2).expand_as(ratio))
    assert bool((signal[-1] == 0).all())
    assert bool((clock.signal(TIMES.float())[-1] >= 0).all())


def test_the_same_clock_is_the_same_learning_problem() -> None:
    """Multiplied by any radius, a corruption has another length, and the same best guess of the clean image."""
    data = sp.PowerSpectrum(sp.CosineBasis(), spectrum().power)
    gaussian = sp.GaussianCorruption("cosine")

    def clock(t: Tensor) -> Tensor:
        signal, noise = gaussian.scales(t.flatten())
        return torch.atan2(noise, signal * data.power.sqrt())

    geodesic = ClockCorruption(data, clock, lambda t: data.power ** ((1 - t) / 2))
    t = per_sample(TIMES, 2)
    torch.testing.assert_close(variance(geodesic, data.power), data.power ** (1 - t), rtol=1e-9, atol=0)
    assert sp.path_length(geodesic, data) == pytest.approx(sp.fisher_distance(data, 1.0), rel=1e-6)
    assert sp.path_length(gaussian, data) > 1.01 * sp.fisher_distance(data, 1.0)
    u_0, eps = white(2), white(2, seed=1)
    for each in (gaussian, geodesic):
        a, s = each.scales(TIMES[10:11])
        gain = a * data.power / (a**2 * data.power + s**2)
        guess = gain * (a * u_0 + s * eps)
        expected = gaussian.scales(TIMES[10:11])
        a_0, s_0 = expected
        torch.testing.assert_close(guess, a_0 * data.power / (a_0**2 * data.power + s_0**2) * (a_0 * u_0 + s_0 * eps))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"spectrum": torch.ones(SHAPE)}, TypeError, "spectrum must be a PowerSpectrum, got Tensor"),
        ({"angle": None}, TypeError, "angle must be a function of times"),
        ({"angle": 0.3}, TypeError, "angle must be a function of times"),
        ({"radius": 0.3}, TypeError, "radius must be a function of times"),
    ],
)
def test_clocks_are_checked(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    given = {"spectrum": spectrum(), "angle": lambda t: t, "radius": None, **arguments}
    with pytest.raises(error, match=message):
        ClockCorruption(given["spectrum"], given["angle"], given["radius"])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.3, 7.0, 1e8])
@pytest.mark.parametrize("delay", [0.0, 0.4, 1.0])
def test_delays_are_exact_at_both_ends(delay: float, spread: float, dtype: torch.dtype) -> None:
    for base in (sp.GaussianCorruption("flow"), sp.ShortestPathCorruption(spectrum())):
        corruption = StaggeredCorruption(base, torch.full((1, 1, 1), delay), spread=spread)
        ends = torch.tensor([0.0, 1.0], dtype=dtype)
        for ours, theirs in zip(corruption.scales(ends), (base.signal(ends), base.noise(ends)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_corruptions_own_their_end_states() -> None:
    data = spectrum()
    final = data.tempered(0.5)
    before = final.power.clone()
    corruption = sp.ShortestPathCorruption(data, final=final)
    corruption.load_state_dict(sp.ShortestPathCorruption(data, final=data.tempered(0.2)).state_dict())
    assert torch.equal(final.power, before)


def test_what_clocks_return_is_checked() -> None:
    with pytest.raises(
        TypeError, match=r"angle must return a tensor that broadcasts to \(B, C, \*spatial\).*, got float"
    ):
        ClockCorruption(spectrum(), lambda t: 0.5).scales(TIMES)  # type: ignore[arg-type, return-value]
    with pytest.raises(
        ValueError, match=r"radius must return a tensor that broadcasts to .*, got shape \(1, 1, 6, 6\)"
    ):
        ClockCorruption(spectrum(), lambda t: t, lambda t: torch.ones(1, 1, 6, 6)).scales(TIMES)
    with pytest.raises(ValueError, match="radius must return positive, finite values"):
        ClockCorruption(spectrum(), lambda t: t, lambda t: 1 / (0 * t)).scales(TIMES)
    with pytest.raises(ValueError, match=r"angle must return values in \[0, π/2\], got 0 … 3"):
        ClockCorruption(spectrum(), lambda t: 3 * t).scales(TIMES)
    with pytest.raises(ValueError, match="radius must return positive, finite values, got 0"):
        ClockCorruption(spectrum(), lambda t: t, lambda t: t).scales(TIMES)


# --- the data's mean --------------------------------------------------------------------------------------


MEAN = 0.5 * white(1, seed=5)[0]


def with_mean(basis: str = "cosine") -> sp.PowerSpectrum:
    known = spectrum(basis)
    return sp.PowerSpectrum(known.basis, known.power, mean=MEAN)


MADE_OF_A_SPECTRUM: dict[str, Callable[[sp.PowerSpectrum], sp.Corruption]] = {
    "shortest": sp.ShortestPathCorruption,
    "final": lambda data: sp.ShortestPathCorruption(data, final=data.tempered(0.5)),
    "coloured": lambda data: sp.GaussianCorruption("cosine", noise=data.tempered(0.5)),
    "clock": lambda data: ClockCorruption(data, lambda t: math.pi / 2 * t),
    "staggered": lambda data: StaggeredCorruption(sp.ShortestPathCorruption(data), DELAYS, spread=0.5),
}


@pytest.mark.parametrize("basis", ["cosine", "fourier", "principal"])
@pytest.mark.parametrize("name", MADE_OF_A_SPECTRUM)
def test_equation_1_leaves_the_mean_as_it_is(name: str, basis: str) -> None:
    corruption = MADE_OF_A_SPECTRUM[name](with_mean(basis))
    x_0, eps = correlated_images(4), white(4)
    for t in (0.0, 0.3, 1.0):
        a, s = corruption.signal(torch.tensor([t]).double()), corruption.noise(torch.tensor([t]).double())
        m, u_0, u = (corruption.basis.analyze(x) for x in (MEAN[None], x_0, eps))
        expected = corruption.basis.synthesize(m + a * (u_0 - m) + s * u)
        torch.testing.assert_close(sp.corrupt(corruption, x_0, t, eps), expected)
    still = sp.corrupt(corruption, MEAN[None], 0.5, torch.zeros(1, *SHAPE).double())
    torch.testing.assert_close(still, MEAN[None])


class GaussianWithMean(torch.nn.Module):
    """The exact denoiser of N(mean, Bᵀ diag(power) B), told nothing but x_t and t."""

    def __init__(self, corruption: sp.Corruption, data: sp.PowerSpectrum, prediction: str) -> None:
        super().__init__()
        self.corruption, self.data, self.prediction = corruption, data, prediction

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        basis, power = self.corruption.basis, self.data.power
        signal, noise = self.corruption.signal(t), self.corruption.noise(t)
        away = basis.analyze(x_t - MEAN)
        total = signal**2 * power + noise**2
        u_0, eps = signal * power / total * away, noise / total * away
        if self.prediction == "data":
            return MEAN + basis.synthesize(u_0)
        answer = {"noise": eps, "velocity": signal * eps - noise * u_0, "whitened-velocity": 0 * eps}
        return basis.synthesize(answer[self.prediction])


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity", "whitened-velocity"])
@pytest.mark.parametrize("name", [name for name in MADE_OF_A_SPECTRUM if name != "staggered"])
def test_gaussian_data_with_a_mean_are_sampled_and_encoded_exactly(name: str, prediction: str) -> None:
    data = with_mean()
    corruption = MADE_OF_A_SPECTRUM[name](data)
    model = GaussianWithMean(corruption, data, prediction)
    sampler = sp.Sampler(model, corruption, prediction=prediction, steps=3, spectrum=data)  # type: ignore[arg-type]
    x_0 = correlated_images(6) + MEAN
    log_density = sampler.log_likelihood(x_0, generator=torch.Generator().manual_seed(0))
    u = data.basis.analyze(x_0 - MEAN)
    normal = -0.5 * (u**2 / data.power + (2 * math.pi * data.power).log()).flatten(1).sum(1)
    # A grid that ends before t = 1 starts from the variance there.
    torch.testing.assert_close(log_density, normal, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        sampler.sample(x_0.shape, x_1=sampler.invert(x_0), dtype=torch.float64), x_0, rtol=1e-9, atol=1e-9
    )
    loss = sp.DiffusionLoss(corruption, prediction, spectrum=data)  # type: ignore[arg-type]
    t = torch.full((6,), 0.4, dtype=torch.float64)
    task = loss.task(MEAN.expand(6, *SHAPE), t, torch.zeros(6, *SHAPE).double())
    torch.testing.assert_close(model(task.x_t, t), task.target, rtol=1e-9, atol=1e-9)


def test_images_in_the_middle_keep_the_mean() -> None:
    data = with_mean()
    corruption = sp.ShortestPathCorruption(data)
    sampler = sp.Sampler(GaussianWithMean(corruption, data, "data"), corruption, prediction="data", steps=8)
    between = sampler.image_to_image(MEAN.expand(512, *SHAPE), start=0.5, generator=torch.Generator().manual_seed(0))
    assert float((between.mean(0) - MEAN).abs().mean()) < 0.03
    edited = sampler.sample((1, *SHAPE), denoised_callback=lambda x_0, t: MEAN[None].to(x_0), dtype=torch.float64)
    torch.testing.assert_close(edited, MEAN[None])


UNTOLD: dict[str, Callable[[sp.PowerSpectrum], sp.Corruption]] = {
    "white": lambda data: sp.GaussianCorruption("cosine"),
    "coloured": lambda data: sp.GaussianCorruption(
        "flow", noise=sp.PowerSpectrum(data.basis, data.power).tempered(0.5)
    ),
    "shortest": lambda data: sp.ShortestPathCorruption(sp.PowerSpectrum(data.basis, data.power)),
    "another mean": lambda data: sp.ShortestPathCorruption(sp.PowerSpectrum(data.basis, data.power, mean=-0.3 * MEAN)),
}


class TellsNothing(torch.nn.Module):
    """The exact denoiser of N(MEAN, Bᵀ diag(power) B) under a corruption that was told another mean, or none."""

    def __init__(self, corruption: sp.Corruption, data: sp.PowerSpectrum, prediction: str) -> None:
        super().__init__()
        self.corruption, self.data, self.prediction = corruption, data, prediction

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        basis, power = self.data.basis, self.data.power
        known = getattr(self.corruption, "mean", None)
        known = torch.zeros(SHAPE).double() if known is None else known
        a, s = self.corruption.signal(t), self.corruption.noise(t)
        beyond = basis.analyze(MEAN - known)
        away = basis.analyze(x_t - known) - a * beyond
        total = a**2 * power + s**2
        w_0, eps = a * power / total * away, s / total * away
        if self.prediction == "data":
            return MEAN + basis.synthesize(w_0)
        velocity = a * eps - s * (w_0 + beyond)  # of images, about what the corruption knows
        return basis.synthesize({"noise": eps, "velocity": velocity, "whitened-velocity": 0 * eps}[self.prediction])


@pytest.mark.parametrize("basis", ["cosine", "fourier"])
@pytest.mark.parametrize("prediction", ["noise", "data", "velocity", "whitened-velocity"])
@pytest.mark.parametrize("name", UNTOLD)
def test_a_mean_that_the_corruption_was_not_told_costs_nothing(name: str, prediction: str, basis: str) -> None:
    data = with_mean(basis)
    corruption = UNTOLD[name](data)
    model = TellsNothing(corruption, data, prediction)
    sampler = sp.Sampler(model, corruption, prediction=prediction, steps=3, spectrum=data)  # type: ignore[arg-type]
    x_0 = correlated_images(6) + MEAN
    u = data.basis.analyze(x_0 - MEAN)
    normal = -0.5 * (u**2 / data.power + (2 * math.pi * data.power).log()).flatten(1).sum(1)
    torch.testing.assert_close(sampler.log_likelihood(x_0), normal, rtol=1e-9, atol=1e-9)
    path = list(sampler.trajectory(x_0.shape, x_1=sampler.invert(x_0), dtype=torch.float64))
    torch.testing.assert_close(path[-1].x_t, x_0, rtol=1e-8, atol=1e-8)
    again = sampler.sample(x_0.shape, x_1=sampler.invert(x_0), dtype=torch.float64)
    torch.testing.assert_close(again, x_0, rtol=1e-8, atol=1e-8)
    # The mean image goes through its own corrupted versions without noise.
    still = next(iter(sampler.trajectory((1, *SHAPE), x_1=sampler.invert(MEAN[None]), dtype=torch.float64)))
    clean = sp.corrupt(corruption, MEAN[None], still.t, torch.zeros(1, *SHAPE).double())
    torch.testing.assert_close(still.x_t, clean, rtol=1e-8, atol=1e-8)

    loss = sp.DiffusionLoss(corruption, prediction, spectrum=data)  # type: ignore[arg-type]
    t = torch.full((1,), 0.4, dtype=torch.float64)
    task = loss.task(MEAN[None], t, torch.zeros(1, *SHAPE).double())
    torch.testing.assert_close(model(task.x_t, t), task.target, rtol=1e-9, atol=1e-9)
    task = loss.task(x_0[:1], t, white(1))  # the target undoes the corruption exactly
    told = sp.Sampler(
        lambda x_t, t: task.target,
        corruption,
        prediction=prediction,  # type: ignore[arg-type]
        spectrum=data,
        times=[0.4, 0.0],
    )
    torch.testing.assert_close(told.step(task.x_t, 0.4, 0.0).x_0_hat, x_0[:1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("solver", ["multistep", sp.solvers.Ancestral(variance="exact")])
def test_samples_of_data_with_a_mean_have_it_and_their_variance(solver: str | sp.solvers.Solver) -> None:
    data = with_mean()
    corruption = sp.GaussianCorruption("cosine")
    sampler = sp.Sampler(
        TellsNothing(corruption, data, "data"),
        corruption,
        prediction="data",
        solver=solver,  # type: ignore[arg-type]
        steps=3,
        spectrum=data,
    )
    images = sampler.sample((3000, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    away = data.basis.analyze(images - MEAN)
    assert float((away.square().mean(0) / data.power - 1).abs().max()) < 0.12  # of 192, each errs by 2.6 %
    assert float((away.mean(0) / (data.power / 3000).sqrt()).abs().max()) < 4.5


def test_the_mean_moves_and_is_saved_with_the_corruption() -> None:
    corruption = sp.ShortestPathCorruption(with_mean())
    assert corruption.half().mean is not None
    torch.testing.assert_close(corruption.mean, MEAN)
    other = sp.ShortestPathCorruption(sp.PowerSpectrum(spectrum().basis, spectrum().power, mean=0 * MEAN))
    other.load_state_dict(corruption.state_dict())
    torch.testing.assert_close(other.mean, MEAN)
    fits_all = sp.GaussianCorruption()
    fits_all.mean = MEAN
    with pytest.raises(ValueError, match=r"the data's mean has shape \(3, 8, 8\), the images \(1, 3, 4, 4\)"):
        fits_all.corrupt(torch.zeros(1, 3, 4, 4), 0.5, torch.zeros(1, 3, 4, 4))


def flat_or_steep() -> list[sp.Corruption]:
    return [sp.ShortestPathCorruption(spectrum().tempered(power)) for power in (0.5, 50.0)]


def with_or_without_noise_everywhere() -> list[sp.Corruption]:
    data = spectrum()
    power = data.power.clone()
    power[0, 0, 0] = 0
    return [sp.GaussianCorruption(noise=each) for each in (data, sp.PowerSpectrum(data.basis, power))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("pair", [flat_or_steep, with_or_without_noise_everywhere])
def test_what_is_known_of_tables_follows_a_state_that_is_loaded(
    pair: Callable[[], list[sp.Corruption]], order: int, dtype: torch.dtype
) -> None:
    saved, loaded = pair()[::order]
    loaded.load_state_dict(saved.state_dict())
    for ours, theirs in zip(loaded.scales(TIMES.to(dtype)), saved.scales(TIMES.to(dtype)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


# --- some of the coefficients -----------------------------------------------------------------------------


ELEMENTWISE = {
    **{name: make for name, make in CORRUPTIONS.items() if name != "own"},
    **{name: (lambda make=make: make(spectrum())) for name, make in MADE_OF_A_SPECTRUM.items()},
    "staggered clock": lambda: StaggeredCorruption(MADE_OF_A_SPECTRUM["clock"](spectrum()), DELAYS, spread=0.5),
    "staggered own": lambda: StaggeredCorruption(Sharpen(), DELAYS, spread=0.5),
    "staggered twice": lambda: StaggeredCorruption(MADE_OF_A_SPECTRUM["staggered"](spectrum()), DELAYS, spread=0.2),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_scales_of_some_coefficients_are_those_of_all(name: str) -> None:
    corruption = ELEMENTWISE[name]()
    index = torch.tensor([0, 5, 63, 64, 130, 191])

    def pick(x: Tensor) -> Tensor:
        return x.expand(*x.shape[:-3], *SHAPE).flatten(-3)[..., None, None, index]

    assert isinstance(corruption, sp.corruptions.ElementwiseCorruption)
    some = corruption.scales_of(TIMES, pick)
    for ours, theirs in zip(some, corruption.scales(TIMES), strict=True):
        expected = theirs.expand(21, *SHAPE).flatten(1)[:, index]
        torch.testing.assert_close(ours.expand(21, 1, 1, 6).flatten(1), expected, rtol=1e-13, atol=0)
