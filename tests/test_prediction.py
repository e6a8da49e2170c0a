"""Laws of the prediction types."""

from __future__ import annotations

import math

import pytest
import torch

import shortest_path as sp
from shortest_path.prediction import data_weights, denoise, error_weight, mixture, target, target_weights
from shortest_path.solvers import Point, Rotation

SHAPE = (3, 8, 8)
PREDICTIONS = ["noise", "data", "velocity", "whitened-velocity"]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (5, 5), (3, 2, 7)])
def test_targets_and_conversions_are_inverse(
    prediction: str, shape: tuple[int, ...], corruption: sp.Corruption
) -> None:
    u_0, eps = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    if shape == (4, 3, 8, 8):
        t = torch.tensor([0.05, 0.3, 0.6, 0.9], dtype=torch.float64)
        signal, noise = corruption.signal(t), corruption.noise(t)
    else:  # (5, 5) is the shape at which wrong broadcasting goes unseen
        signal = torch.rand(shape[0], *(1,) * (len(shape) - 1), dtype=torch.float64) + 0.1
        noise = torch.rand(shape, dtype=torch.float64) + 0.1
    power = torch.rand(shape[1:], dtype=torch.float64) + 0.1
    u_t = signal * u_0 + noise * eps
    output = target(prediction, u_0, eps, signal, noise, power)
    found = denoise(prediction, output, u_t, signal, noise, power)
    visible = (signal > 1e-6).expand(shape)  # heat dissipation leaves nothing of high frequencies to convert
    noisy = (noise > 0).expand(shape)  # delayed coefficients have no noise yet
    torch.testing.assert_close(found.u_0[visible], u_0[visible], rtol=0, atol=1e-8)
    torch.testing.assert_close(found.eps[noisy], eps[noisy], rtol=0, atol=1e-8)
    of_state, of_output = data_weights(prediction, signal, noise, power)
    torch.testing.assert_close((of_state * u_t + of_output * output)[visible], u_0[visible], rtol=0, atol=1e-8)


def test_velocity_is_the_rotation_of_salimans_and_ho() -> None:
    angle = torch.tensor(0.7, dtype=torch.float64)
    u_0, eps = torch.randn(2, 5, dtype=torch.float64).unbind()
    velocity = target("velocity", u_0, eps, torch.cos(angle), torch.sin(angle))
    nudge = 1e-6
    derivative = (
        (torch.cos(angle + nudge) * u_0 + torch.sin(angle + nudge) * eps)
        - (torch.cos(angle - nudge) * u_0 + torch.sin(angle - nudge) * eps)
    ) / (2 * nudge)
    torch.testing.assert_close(velocity, derivative, rtol=0, atol=1e-9)


def test_the_whitened_velocity_is_the_slope_of_equation_4(corruption: sp.Corruption) -> None:
    power = torch.rand(SHAPE, dtype=torch.float64) + 0.1
    u_0, eps = torch.randn(2, *SHAPE, dtype=torch.float64), torch.randn(2, *SHAPE, dtype=torch.float64)
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    a, s = corruption.signal(t), corruption.noise(t)
    rotation = Rotation(power)
    point = Point(0.5, a, s)
    angle = rotation.whitened(point).angle
    velocity = target("whitened-velocity", u_0, eps, a, s, power)
    torch.testing.assert_close(velocity, torch.cos(angle) * eps - torch.sin(angle) * u_0 / power.sqrt())
    visible = (torch.sin(angle) > 1e-3).expand(u_0.shape)  # where the solver's division is well-conditioned
    slope = rotation.slope(a * u_0 + s * eps, u_0, point)
    torch.testing.assert_close(slope[visible], velocity[visible], rtol=0, atol=1e-6)


def test_the_whitened_velocity_of_gaussian_data_has_unit_size_and_the_best_guess_of_it_is_zero(
    corruption: sp.Corruption,
) -> None:
    power = torch.logspace(-3, 2, math.prod(SHAPE), dtype=torch.float64).reshape(SHAPE)
    u_0 = power.sqrt() * torch.randn(20_000, *SHAPE, dtype=torch.float64)
    eps = torch.randn(u_0.shape, dtype=torch.float64)
    t = torch.tensor([0.4], dtype=torch.float64)
    a, s = corruption.signal(t), corruption.noise(t)
    velocity, u_t = target("whitened-velocity", u_0, eps, a, s, power), a * u_0 + s * eps
    assert velocity.var(0) == pytest.approx(torch.ones(SHAPE).numpy(), abs=0.08)
    correlation = (velocity * u_t).mean(0) / u_t.square().mean(0).sqrt()
    assert correlation.abs().max() < 0.05


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("measured_in", PREDICTIONS)
def test_an_error_of_one_prediction_is_so_large_as_an_error_of_another(prediction: str, measured_in: str) -> None:
    a, s, power, u_0, eps, wrong = (torch.rand(7, dtype=torch.float64) + 0.1 for _ in range(6))
    output = target(prediction, u_0, eps, a, s, power) + wrong
    found = denoise(prediction, output, a * u_0 + s * eps, a, s, power)
    error = target(measured_in, *found, a, s, power) - target(measured_in, u_0, eps, a, s, power)
    weight = error_weight(measured_in, prediction, a, s, power)
    torch.testing.assert_close(error.abs(), weight * wrong, rtol=1e-9, atol=0)


def test_a_whitened_velocity_without_a_power_is_refused() -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="'whitened-velocity' requires the data's power spectrum; pass spec"):
        mixture("whitened-velocity", one, one)


def test_the_weights_of_a_whitened_velocity_are_exact_in_float32_for_any_power() -> None:
    power = torch.logspace(-36, 36, 145, dtype=torch.float64)
    angle = torch.tensor([0, 1e-4, 0.3, 1.5, math.pi / 2], dtype=torch.float64)[:, None]
    a, s = (angle.cos().float(), angle.sin().float())
    found = target_weights("whitened-velocity", a, s, power)
    weighted, noise = a.double() * power.sqrt(), s.double()
    radius = torch.hypot(weighted, noise)
    expected = -noise / power.sqrt() / radius, weighted / radius
    for ours, exact in zip(found, expected, strict=True):
        normal = (exact == 0) | ((exact.abs() > 1e-37) & (exact.abs() < 1e38))  # float32 holds it with all its digits
        assert normal.float().mean() > 0.7
        torch.testing.assert_close(ours.double()[normal], exact[normal], rtol=1e-6, atol=0)
