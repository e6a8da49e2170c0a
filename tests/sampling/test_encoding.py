"""Laws of encoding, likelihood and interpolation by the probability-flow ODE."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.sampling._encoding import log_density, spherical
from tests.worlds import (
    BLIND,
    CORRUPTIONS,
    SHAPE,
    TO_NOISE,
    Mixture,
    correlated_images,
    gaussian_world,
    spectrum,
    white,
)

SIZE = math.prod(SHAPE)
DOUBLE = {"dtype": torch.float64, "progress": False}
# Blur keeps noise at t = 0, so that clean images are a jump away from the process.
TO_CLEAN = [name for name in TO_NOISE if name != "blur"]


def gaussian_sampler(name: str, steps: int, prediction: str = "data", **options: object) -> tuple[sp.Sampler, Tensor]:
    """Return a sampler with the exact model of Gaussian data, and their power."""
    corruption = CORRUPTIONS[name]()
    world = gaussian_world(corruption, prediction)
    options = {"spectrum": sp.PowerSpectrum(corruption.basis, world.power), **options}
    return sp.Sampler(
        world.model, corruption, prediction=prediction, solver="multistep", steps=steps, **options
    ), world.power


def mixture_sampler(name: str, steps: int, **options: object) -> tuple[sp.Sampler, Mixture]:
    corruption = CORRUPTIONS[name]()
    power = gaussian_world(corruption).power
    model = Mixture(corruption, power)
    model.centres *= 6  # 0.9 standard deviations apart from 0 in every coefficient: two clear clusters
    options = {"spectrum": sp.PowerSpectrum(corruption.basis, power), **options}
    return sp.Sampler(model, corruption, prediction="data", solver="multistep", steps=steps, **options), model


def images_of(sampler: sp.Sampler, power: Tensor) -> Tensor:
    """Draw Gaussian data of a power in the sampler's basis."""
    return sampler.corruption.basis.synthesize(power.sqrt() * white(seed=5))


# --- encoding ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "prediction"),
    [pair for pair in itertools.product(TO_NOISE, ["noise", "data", "velocity"]) if pair not in BLIND],
)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_encoding_gaussian_data_is_exact_at_any_number_of_steps(name: str, prediction: str, steps: int) -> None:
    sampler, power = gaussian_sampler(name, steps, prediction)
    x_0, basis, t = images_of(sampler, power), sampler.corruption.basis, sampler.times[:1]
    deviation = (sampler.corruption.signal(t) ** 2 * power + sampler.corruption.noise(t) ** 2).sqrt()
    expected = basis.synthesize(deviation * basis.analyze(x_0) / power.sqrt())
    torch.testing.assert_close(sampler.invert(x_0), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["shortest-fourier", "own"])
def test_there_and_back_again(name: str) -> None:
    errors = []
    for steps in (40, 80, 160):
        sampler, model = mixture_sampler(name, steps)
        basis = sampler.corruption.basis
        x_0 = basis.synthesize(model.centres[[0, 1, 0, 1]] + 0.5 * model.power.sqrt() * white(seed=5))
        back = sampler.sample(x_0.shape, x_1=sampler.invert(x_0), **DOUBLE)
        errors.append((back - x_0).square().mean().sqrt().item())
    assert errors[-1] < 1e-3
    assert math.log2(errors[0] / errors[2]) / 2 > 1.7, errors


def test_encoding_without_a_spectrum_and_with_ddim() -> None:
    # Unit power is then only a choice of coordinates: the same noise in the end.
    known, model = mixture_sampler("gaussian-flow", 400)
    x_0 = known.corruption.basis.synthesize(model.centres[[0, 1]])
    other = sp.Sampler(model, known.corruption, prediction="data", solver="ddim", grid="cosine", steps=400)
    torch.testing.assert_close(other.invert(x_0), known.invert(x_0), rtol=0, atol=2e-3)


def test_encoding_from_a_time_above_zero() -> None:
    full, model = mixture_sampler("shortest-cosine", 300)
    times = full.times[full.times > 0.2]
    half = sp.Sampler(model, full.corruption, prediction="data", solver="multistep", times=times)
    x_t = half.sample((4, *SHAPE), x_1=white(), **DOUBLE)
    torch.testing.assert_close(half.invert(x_t), white(), rtol=0, atol=1e-4)


def test_encoding_works_from_float32_and_calls_the_model_once_a_step() -> None:
    calls: list[Tensor] = []

    def model(x_t: Tensor, t: Tensor, *, scale: float) -> Tensor:
        calls.append(t)
        return scale * x_t

    sampler = sp.Sampler(model, CORRUPTIONS["shortest-cosine"](), prediction="data", solver="multistep", steps=6)
    x_1 = sampler.invert(correlated_images(2).float(), conditioning={"scale": 0.5})
    assert x_1.dtype == torch.float32
    assert x_1.shape == (2, *SHAPE)
    assert [t[0].item() for t in calls] == pytest.approx(sampler.times.flip(0)[1:].tolist())


# --- interpolation ----------------------------------------------------------------------------------------


def test_interpolation_of_gaussian_data_is_the_arc_of_whitened_coefficients() -> None:
    sampler, power = gaussian_sampler("shortest-cosine", 3)
    basis = sampler.corruption.basis
    a, b = images_of(sampler, power), images_of(sampler, power).roll(1, 0)
    between = sampler.interpolate(a, b, (0.0, 0.5, 1.0), progress=False)
    assert between.shape == (3, *a.shape)
    torch.testing.assert_close(between[0], a)
    torch.testing.assert_close(between[2], b)
    middle = ((basis.analyze(a) + basis.analyze(b)) / power.sqrt()).flatten(1)
    length = (basis.analyze(a) / power.sqrt()).flatten(1).norm(dim=1, keepdim=True)
    found = (basis.analyze(between[1]) / power.sqrt()).flatten(1)
    # The middle of an arc points half way, and is no shorter than its ends on average.
    torch.testing.assert_close(found / found.norm(dim=1, keepdim=True), middle / middle.norm(dim=1, keepdim=True))
    assert (found.norm(dim=1) / length.squeeze(1)).mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("angle", [1e-9, 0.01, 0.5, 1.5, 3.0])
def test_an_arc_is_divided_by_its_angle(angle: float) -> None:
    def at(fraction: float) -> Tensor:
        turned = torch.tensor([[fraction * angle]], dtype=torch.float64)
        return torch.cat([turned.cos(), turned.sin()], 1)

    torch.testing.assert_close(spherical(at(0), at(1), 0.3), at(0.3), rtol=0, atol=1e-13)


def test_interpolation_between_an_image_and_itself() -> None:
    sampler, power = gaussian_sampler("shortest-cosine", 2)
    x_0 = images_of(sampler, power)
    torch.testing.assert_close(sampler.interpolate(x_0, x_0, [0.3], progress=False)[0], x_0)


def test_images_of_a_last_time_above_0_come_back_where_the_mean_was_not_told() -> None:
    shape, corruption = (2, 3, 4), sp.GaussianCorruption("flow")
    x = correlated_images(200, shape) + 1
    known = sp.PowerSpectrum.estimate([x], "cosine", "independent")
    basis, power, mean = known.basis, known.power, known.mean

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise = corruption.scales(t)
        w = basis.analyze(x_t - signal * mean) / (signal**2 * power + noise**2)
        return basis.synthesize(signal * noise * w - noise * signal * power * w) - noise * mean

    last = 0.5
    times = torch.linspace(1, last, 101, dtype=torch.float64)
    sampler = sp.Sampler(model, corruption, prediction="velocity", times=times, spectrum=known)
    y = sp.corrupt(corruption, x[:3], last, white(3, seed=1)[:, :, :3, :4].reshape(3, -1)[:, :24].reshape(3, *shape))
    torch.testing.assert_close(sampler.sample(y.shape, x_1=sampler.invert(y), dtype=y.dtype), y)
    torch.testing.assert_close(sampler.interpolate(y[:1], y[1:2], (0.0,))[0], y[:1])
    w, variance = basis.analyze(y - (1 - last) * mean), (1 - last) ** 2 * power + last**2
    exact = -0.5 * (w**2 / variance + variance.log() + math.log(2 * math.pi)).flatten(1).sum(1)
    torch.testing.assert_close(sampler.log_likelihood(y), exact)


# --- likelihood -------------------------------------------------------------------------------------------


def exact_gaussian(u_0: Tensor, power: Tensor) -> Tensor:
    return torch.distributions.Normal(0.0, power.sqrt()).log_prob(u_0).flatten(1).sum(1)


@pytest.mark.parametrize("name", TO_NOISE)
@pytest.mark.parametrize("steps", [1, 3])
def test_the_likelihood_of_gaussian_data_is_exact_at_any_number_of_steps(name: str, steps: int) -> None:
    sampler, power = gaussian_sampler(name, steps)
    x_0 = images_of(sampler, power)
    exact = exact_gaussian(sampler.corruption.basis.analyze(x_0), power)
    torch.testing.assert_close(sampler.log_likelihood(x_0), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["gaussian-cosine", "shortest-fourier"])
def test_with_another_spectrum_it_converges_to_the_same_likelihood(name: str) -> None:
    # The trace is now of a diagonal matrix, which random signs give without error.
    _, power = gaussian_sampler(name, 1)
    basis = CORRUPTIONS[name]().basis
    wrong = sp.PowerSpectrum(basis, power**0.5)
    errors = []
    for steps in (50, 100, 200):
        sampler, _ = gaussian_sampler(name, steps, spectrum=wrong)
        x_0 = images_of(sampler, power)
        errors.append((sampler.log_likelihood(x_0) - exact_gaussian(basis.analyze(x_0), power)).abs().max().item())
    assert errors[-1] < 0.02 * SIZE / 100  # of about 2.7 nats a coefficient
    assert math.log2(errors[0] / errors[2]) / 2 > 1.6, errors


def test_without_a_spectrum_it_converges_too() -> None:
    sampler, power = gaussian_sampler("gaussian-flow", 400, spectrum=None)
    x_0 = images_of(sampler, power)
    found, exact = sampler.log_likelihood(x_0), exact_gaussian(sampler.corruption.basis.analyze(x_0), power)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.05)


@pytest.mark.parametrize("start", [1.0, 0.9, 0.86])
def test_it_is_the_density_of_samples_from_where_they_begin(start: float) -> None:
    """The linear map from noise to samples tells their density, also where some of the image is left at the start."""
    matrix = 0.2 * torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        return (x_t.flatten(1) @ matrix).reshape(x_t.shape)

    corruption = sp.GaussianCorruption("cosine")
    sampler = sp.Sampler(model, corruption, prediction="velocity", start=start, steps=400, grid="cosine")
    units = torch.eye(4, dtype=torch.float64).reshape(4, 1, 2, 2)
    images = sampler.sample(units.shape, x_1=sampler.initial_noise(units), dtype=torch.float64).flatten(1)
    x_0 = torch.randn(1, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    normal = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), images.T @ images)
    encoded = sampler._encode(x_0, None, None, (2 * units)[:, None].unbind())
    prior = sampler._process.prior(sampler._process.at(start, x_0.shape, x_0.device))
    assert log_density(encoded, prior).item() == pytest.approx(normal.log_prob(x_0.flatten()).item(), abs=2e-3)


def mixture_images(model: Mixture, basis: sp.bases.Basis, towards: float) -> tuple[Tensor, Tensor]:
    """Return images between the clusters, 0.5 half way, and their exact log-density."""
    middle = torch.lerp(model.centres[0], model.centres[1], towards)
    u_0 = middle + 0.3 * model.power.sqrt() * white(2, seed=9)
    parts = torch.stack([exact_gaussian(u_0 - centre, model.power) for centre in model.centres])
    return basis.synthesize(u_0), torch.logsumexp(parts, 0) - math.log(2)


def test_the_likelihood_of_a_mixture() -> None:
    # Half way between the clusters the density is far from Gaussian and the trace far from that of a diagonal matrix.
    sampler, model = mixture_sampler("shortest-cosine", 28)
    model.centres /= 2
    x_0, exact = mixture_images(model, sampler.corruption.basis, 0.5)
    # √D times every unit vector: a complete set of probes, whose mean is the trace itself.
    units = SIZE**0.5 * torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, 1, *SHAPE).expand(-1, 2, *SHAPE)
    encoded = sampler._encode(x_0, None, None, units.unbind())
    found = log_density(encoded, encoded.radius_1)
    gaussian = exact_gaussian(sampler.corruption.basis.analyze(x_0), model.power)
    assert (exact - gaussian).abs().min() > 0.5
    torch.testing.assert_close(found, exact, rtol=0, atol=0.02)


def test_random_signs_estimate_the_trace_without_bias() -> None:
    sampler, model = mixture_sampler("shortest-cosine", 20)
    model.centres /= 3
    x_0, exact = mixture_images(model, sampler.corruption.basis, 0.1)
    many = sampler.log_likelihood(x_0.repeat(100, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    draws = many.view(100, len(x_0))
    error = draws.std(0) / len(draws) ** 0.5
    assert error.max() < 0.8  # nats, of 300: 100 draws tell that much
    assert ((draws.mean(0) - exact).abs() < 4 * error + 0.05).all(), (draws.mean(0) - exact, error)
    seeds = torch.stack([sampler.log_likelihood(x_0, generator=torch.Generator().manual_seed(1)) for _ in range(2)])
    assert torch.equal(*seeds)


def test_bits_per_dim_of_uniform_levels() -> None:
    # 8-bit images in [-1, 1] of which every level is as likely: density ½ a dimension, and nearly 8 bits.
    log_likelihood = torch.tensor([SIZE * math.log(0.5)])
    assert sp.bits_per_dim(log_likelihood, SHAPE).item() == pytest.approx(math.log2(255))
    assert sp.bits_per_dim(log_likelihood, SHAPE, scale=0.5).item() == pytest.approx(0, abs=1e-6)


# --- wrong input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["ancestral", sp.solvers.DDIM(eta=0.5), sp.solvers.Multistep(eta=0.5)])
def test_stochastic_solvers_do_not_encode(solver: sp.solvers.Solver) -> None:
    sampler = sp.Sampler(lambda x_t, t: x_t, CORRUPTIONS["shortest-cosine"](), solver=solver)
    x_0 = correlated_images(2)
    for ask in (sampler.invert, sampler.log_likelihood, lambda x: sampler.interpolate(x, x)):
        with pytest.raises(ValueError, match="encoding requires a deterministic solver, got"):
            ask(x_0)


def test_wrong_images_are_explained() -> None:
    sampler, _ = gaussian_sampler("shortest-cosine", 2)
    with pytest.raises(TypeError, match=r"x_0 must be a floating-point tensor, got torch.uint8"):
        sampler.invert(torch.zeros(1, *SHAPE, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"x_0 must be a floating-point tensor, got torch.uint8"):
        sampler.log_likelihood(torch.zeros(1, *SHAPE, dtype=torch.uint8))
    with pytest.raises(ValueError, match="probes must be 1 or more, got 0"):
        sampler.log_likelihood(torch.zeros(1, *SHAPE), probes=0)
    with pytest.raises(ValueError, match=r"both images must have one shape, got \(1, 3, 8, 8\) and \(2, 3, 8, 8\)"):
        sampler.interpolate(torch.zeros(1, *SHAPE), torch.zeros(2, *SHAPE))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("start", 0.5, r"interpolate takes no start: .* first of sampler.times .*, Sampler\(start=...\)"),
        ("start", None, "interpolate takes no start"),
        ("x_1", torch.zeros(1, *SHAPE), "interpolate takes no x_1: .* encodings of x_a and x_b; omit x_1"),
        ("shape", (1, *SHAPE), "interpolate takes no shape: .* that of x_a and x_b; omit shape"),
    ],
)
def test_an_interpolation_has_its_own_start(name: str, value: Any, message: str) -> None:
    sampler, _ = gaussian_sampler("shortest-cosine", 2)
    x = correlated_images(1)
    with pytest.raises(TypeError, match=message):
        sampler.interpolate(x, x, (0.5,), **{name: value})


@pytest.mark.parametrize("name", ["x_1", "shape"])
def test_an_image_to_image_has_its_own_start(name: str) -> None:
    sampler, _ = gaussian_sampler("shortest-cosine", 2)
    x = correlated_images(1)
    with pytest.raises(TypeError, match=f"image_to_image takes no {name}: "):
        sampler.image_to_image(x, start=0.5, **{name: x if name == "x_1" else x.shape})


class Detached(torch.nn.Module):
    """A network whose input is detached: its output has a gradient, but only in the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.factor * x_t.detach()


def through_numpy(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.from_numpy(0.3 * x_t.detach().numpy())


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity", "whitened-velocity"])
@pytest.mark.parametrize(
    "model",
    [
        torch.no_grad()(lambda x_t, t: 0.3 * x_t),
        torch.inference_mode()(lambda x_t, t: 0.3 * x_t),
        Detached(),
        torch.no_grad()(Detached()),
        through_numpy,
    ],
)
def test_a_model_without_a_derivative_has_no_likelihood(model: Any, prediction: Any) -> None:
    sampler = sp.Sampler(model, sp.ShortestPathCorruption(spectrum()), prediction=prediction, steps=3)
    sampler.invert(torch.zeros(2, *SHAPE))
    with pytest.raises(ValueError, match="the likelihood requires the derivative of model"):
        sampler.log_likelihood(torch.zeros(2, *SHAPE))


def test_a_guided_model_without_a_derivative_has_no_likelihood() -> None:
    def model(x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return x_t * 0.3 if int(label[0]) else x_t.detach() * 0.3

    options = {"guidance_scale": 2.0, "null_conditioning": {"label": 0}, "prediction": "data", "steps": 3}
    sampler = sp.Sampler(model, sp.GaussianCorruption("flow"), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the likelihood requires the derivative of model"):
        sampler.log_likelihood(torch.zeros(2, *SHAPE), conditioning={"label": torch.ones(2)})


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity", "whitened-velocity"])
def test_a_constant_model_has_a_likelihood(prediction: Any) -> None:
    def likelihood(model: Any) -> Tensor:
        sampler = sp.Sampler(model, sp.ShortestPathCorruption(spectrum()), prediction=prediction, steps=3)
        return sampler.log_likelihood(torch.zeros(2, *SHAPE), generator=torch.Generator().manual_seed(0))

    constant = likelihood(lambda x_t, t: torch.full_like(x_t, 0.2))
    assert torch.equal(constant, likelihood(lambda x_t, t: 0 * x_t + 0.2))


@pytest.mark.parametrize("encode", [sp.Sampler.invert, sp.Sampler.log_likelihood])
def test_a_model_of_the_data_that_does_not_return_clean_images_is_told(encode: Any) -> None:
    # The slope at the data's end, (u_0 − û_0) / sin 0, then has no limit, and steps without end change the result.
    def sampler(prediction: Any, factor: float, **options: Any) -> sp.Sampler:
        corruption = sp.ShortestPathCorruption(spectrum())
        return sp.Sampler(lambda x_t, t: factor * x_t, corruption, prediction=prediction, **options)

    images, times = correlated_images(2), [0.99, 0.6, 0.2, 0.05]
    with pytest.warns(RuntimeWarning, match="pass times that end above 0") as said:
        encode(sampler("data", 0.5, steps=100), images)
    if encode is sp.Sampler.invert:
        assert said[0].filename == __file__
    encode(sampler("data", 0.5, times=times), images)
    encode(sampler("data", 1.0, steps=100), images)
    encode(sampler("velocity", 0.5, steps=100), images)


def test_a_model_may_change_its_input_in_place_where_it_is_derived() -> None:
    def in_place(x_t: Tensor, t: Tensor) -> Tensor:
        result = 0.3 * x_t
        x_t.zero_()
        return result

    for corruption in (sp.GaussianCorruption("flow"), sp.ShortestPathCorruption(spectrum())):
        found = [
            sp.Sampler(model, corruption, prediction="data", steps=3).log_likelihood(
                torch.zeros(2, *SHAPE), generator=torch.Generator().manual_seed(0)
            )
            for model in (in_place, lambda x_t, t: 0.3 * x_t)
        ]
        assert torch.equal(*found)


def test_heat_dissipation_has_no_likelihood() -> None:
    sampler = sp.Sampler(lambda x_t, t: x_t, CORRUPTIONS["heat"](), prediction="data", solver="multistep", steps=4)
    with pytest.raises(ValueError, match="keeps part of the image at t = 1"):
        sampler.log_likelihood(correlated_images(2))
