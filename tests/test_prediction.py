"""Laws of the prediction types."""

from __future__ import annotations

import pytest
import torch

import shortest_path as sp
from shortest_path.prediction import data_weights, denoise, target

PREDICTIONS = ["noise", "data", "velocity"]


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
    u_t = signal * u_0 + noise * eps
    output = target(prediction, u_0, eps, signal, noise)
    found = denoise(prediction, output, u_t, signal, noise)
    visible = (signal > 1e-6).expand(shape)  # heat dissipation leaves nothing of high frequencies to convert
    torch.testing.assert_close(found.u_0[visible], u_0[visible], rtol=0, atol=1e-8)
    torch.testing.assert_close(found.eps, eps, rtol=0, atol=1e-8)
    of_state, of_output = data_weights(prediction, signal, noise)
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
