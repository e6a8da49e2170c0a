"""What models, callbacks and callers are given is theirs, in every basis; what they pass in is not written to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.worlds import CORRUPTIONS, SHAPE, SOLVERS, correlated_images


class Flipped(sp.bases.Basis):
    """A user's basis whose transform is a view of its argument."""

    def spatial_coefficients(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)

    def spatial_inverse(self, u: Tensor) -> Tensor:
        return u.transpose(-1, -2)


class InFlipped:
    basis = Flipped()

    def signal(self, t: Tensor) -> Tensor:
        return 1 - t.view(-1, 1, 1, 1)

    def noise(self, t: Tensor) -> Tensor:
        return t.view(-1, 1, 1, 1)


def make(name: str) -> sp.Corruption:
    return InFlipped() if name == "flipped" else CORRUPTIONS[name]()


NAMES = ["gaussian-flow", "shortest-cosine", "shortest-fourier", "shortest-principal", "flipped"]


def spoil(x: Tensor) -> Tensor:
    return x.clamp_(-1, 1).add_(1).mul_(127)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", NAMES)
def test_what_others_do_to_their_tensors_changes_nothing(name: str, solver: str) -> None:
    corruption = make(name)

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        return 0.3 * x_t + 0.1 * torch.sin(3 * x_t)

    def rough(x_t: Tensor, t: Tensor) -> Tensor:
        answer = model(x_t, t)
        spoil(x_t)
        t.zero_()
        return answer

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(1)

    def edit(x_0: Tensor, t: float) -> Tensor:
        return 0.9 * x_0

    kept: list[Tensor] = []

    def rough_edit(x_0: Tensor, t: float) -> Tensor:
        for tensor in kept:  # what was returned before belongs to the callback again
            spoil(tensor)
        kept.append(0.9 * x_0)
        spoil(x_0)
        return kept[-1]

    options = {"prediction": "data", "solver": SOLVERS[solver], "steps": 4}
    plain, rude = (sp.Sampler(each, corruption, **options) for each in (model, rough))
    x_1 = torch.randn(2, *SHAPE, generator=seeded(), dtype=torch.float64)
    start, arguments = x_1.clone(), {"dtype": torch.float64, "progress": False}
    expected = plain.sample(x_1.shape, x_1=x_1, generator=seeded(), denoised_callback=edit, **arguments)
    found = rude.sample(
        x_1.shape,
        x_1=x_1,
        generator=seeded(),
        denoised_callback=rough_edit,
        callback=lambda step: (spoil(step.x_t), spoil(step.x_0_hat)),
        **arguments,
    )
    assert torch.equal(found, expected)
    assert torch.equal(x_1, start)
    steps = []
    for step in rude.trajectory(x_1.shape, x_1=x_1, generator=seeded(), dtype=torch.float64):
        steps.append(step.x_t.clone())
        spoil(step.x_t)
    assert torch.equal(steps[-1], plain.sample(x_1.shape, x_1=x_1, generator=seeded(), **arguments))


@pytest.mark.parametrize("name", NAMES)
def test_images_are_not_written_to(name: str) -> None:
    x_0 = correlated_images(2)
    kept = x_0.clone()
    sampler = sp.Sampler(lambda x_t, t: spoil(x_t) * 0, make(name), prediction="data", steps=3)
    sampler.image_to_image(x_0, start=0.5)
    sampler.invert(x_0)
    sampler.interpolate(x_0, x_0)
    sp.Sampler(lambda x_t, t: 0.5 * x_t, make(name), prediction="data", steps=3).log_likelihood(x_0)
    assert torch.equal(x_0, kept)


def test_guidance_gives_both_calls_the_same_images() -> None:
    def model(x_t: Tensor, t: Tensor, *, label: Tensor) -> Tensor:
        answer = 0.3 * x_t + label.view(-1, 1, 1, 1)
        spoil(x_t)
        return answer

    def careful(x_t: Tensor, t: Tensor, *, label: Tensor) -> Tensor:
        return model(x_t.clone(), t, label=label)

    found = [
        sp.Sampler(
            each,
            sp.GaussianCorruption("flow"),
            prediction="data",
            steps=3,
            guidance_scale=2.0,
            null_conditioning={"label": 0.0},
        ).sample((2, *SHAPE), conditioning={"label": torch.ones(2)}, generator=torch.Generator().manual_seed(0))
        for each in (model, careful)
    ]
    assert torch.equal(*found)


def test_a_corruption_has_its_own_copy_of_the_spectrum() -> None:
    power = torch.rand(3, 8, 8, dtype=torch.float64) + 1
    data = sp.PowerSpectrum(sp.CosineBasis(2, torch.eye(3)), power)
    one, other = sp.ShortestPathCorruption(data), sp.ShortestPathCorruption(data)
    power.zero_()
    assert data.power.min() >= 1
    one.to("meta")
    x = torch.randn(2, *SHAPE)
    assert sp.corrupt(other, x, 0.5, torch.randn_like(x)).isfinite().all()
    assert data.basis.channel_rotation.device.type == "cpu"
