"""Sampling in batches, in other types, compiled, and without waiting for the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import shortest_path as sp
from tests.worlds import CORRUPTIONS, SHAPE, correlated_images, spectrum

SOLVERS = [{"solver": "ancestral"}, {"solver": sp.solvers.DDIM(eta=0.5)}, {"solver": "multistep"}]


def wave(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.sin(2 * x_t) * (1 - t.view(-1, 1, 1, 1))


class Net(nn.Module):
    """A small convolution that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.codes = nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)  # as quantised networks have
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.seen: list[tuple[torch.dtype, torch.dtype]] = []

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.seen.append((x_t.dtype, t.dtype))
        return self.layer(x_t)


# --- batches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", SOLVERS)
def test_an_image_depends_on_its_seed_and_index_alone(options: dict) -> None:
    sampler = sp.Sampler(wave, CORRUPTIONS["shortest-cosine"](), prediction="data", steps=4, **options)
    whole = torch.cat(list(sampler.batches(7, SHAPE, batch_size=7)))
    for size in (1, 3, 100):
        parts = list(sampler.batches(7, SHAPE, batch_size=size))
        assert [len(part) for part in parts] == [min(size, 7 - first) for first in range(0, 7, size)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    some = torch.cat(list(sampler.batches([5, 2], SHAPE, batch_size=2)))
    torch.testing.assert_close(some, whole[[5, 2]], rtol=0, atol=1e-6)
    other = torch.cat(list(sampler.batches(range(7), SHAPE, seed=1)))
    assert min((one - another).abs().max() for one in whole for another in other) > 0.05


def test_rows_of_conditioning_and_of_starting_images_go_with_their_images() -> None:
    def model(x_t: Tensor, t: Tensor, *, label: Tensor, scale: float) -> Tensor:
        return scale * label.view(-1, 1, 1, 1).expand_as(x_t) + 0 * x_t

    sampler = sp.Sampler(model, CORRUPTIONS["heat"](), prediction="data", solver="ddim", steps=2)
    labels = torch.arange(5.0)
    found = torch.cat(
        list(
            sampler.batches(
                5, SHAPE, batch_size=2, x_1=correlated_images(5), conditioning={"label": labels, "scale": 2.0}
            )
        )
    )
    torch.testing.assert_close(found.mean((1, 2, 3)), 2 * labels)


def test_one_generator_per_image() -> None:
    sampler = sp.Sampler(wave, sp.GaussianCorruption("flow"), prediction="data", solver="ancestral", steps=3)

    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    both = sampler.sample((2, *SHAPE), generator=generators(3, 4))
    alone = sampler.sample((1, *SHAPE), generator=generators(4))
    torch.testing.assert_close(both[1:], alone)
    with pytest.raises(ValueError, match="expected one generator for each of 2 images, got 1"):
        sampler.sample((2, *SHAPE), generator=generators(1))


def test_wrong_batches_are_explained() -> None:
    sampler = sp.Sampler(wave, sp.GaussianCorruption("flow"), prediction="data", steps=2)
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        next(sampler.batches(2, SHAPE, batch_size=0))
    for rows in (torch.zeros(3), np.zeros(3), [0, 1, 2]):
        with pytest.raises(ValueError, match=r"label must have one row for each of the 2 images, got shape \(3,\)"):
            sampler.batches(2, SHAPE, conditioning={"label": rows})


@pytest.mark.parametrize("rows", [torch.arange(5), np.arange(5), list(range(5))], ids=lambda rows: type(rows).__name__)
def test_conditioning_is_cut_with_the_images(rows: Any) -> None:
    seen: list[tuple[int, Any, Any]] = []

    def model(x_t: Tensor, t: Tensor, label: Any, size: Any) -> Tensor:
        seen.append((len(x_t), list(label), size))
        return x_t

    sampler = sp.Sampler(model, sp.GaussianCorruption("flow"), prediction="data", solver="ddim", steps=1)
    list(sampler.batches(5, SHAPE, batch_size=2, conditioning={"label": rows, "size": (8, 8)}))
    assert seen == [(2, [0, 1], (8, 8)), (2, [2, 3], (8, 8)), (1, [4], (8, 8))]


# --- starting in the middle -------------------------------------------------------------------------------


def test_starting_in_the_middle_goes_through_the_times_below() -> None:
    seen: list[float] = []

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(t[0].item())
        return x_t

    sampler = sp.Sampler(model, sp.GaussianCorruption("flow"), prediction="data", solver="ancestral", steps=4)
    sampler.sample((1, *SHAPE), x_1=torch.zeros(1, *SHAPE), start=0.6)
    assert seen == pytest.approx([0.6, 0.5, 0.25])
    with pytest.raises(ValueError, match=r"start must lie in \(0, 1\] and above the last time 0, got 0"):
        sampler.sample((1, *SHAPE), start=0.0)
    with pytest.raises(ValueError, match=r"keeps part of the image at t = 0.3"):
        sampler.sample((1, *SHAPE), start=0.3)
    with pytest.raises(ValueError, match=r"signal\(t\) = 0, here t = 1; train with .*, or start at t ≤ 0.9999"):
        sp.Sampler(model, sp.GaussianCorruption("flow"), steps=4).sample((1, *SHAPE), start=1.0)


def test_image_to_image_changes_more_the_earlier_it_starts(corruption: sp.Corruption) -> None:
    sampler = sp.Sampler(wave, corruption, prediction="data", solver="ddim", steps=40)
    x_0 = correlated_images(4).float()

    def change(start: float) -> float:
        found = sampler.image_to_image(x_0, start=start, generator=torch.Generator().manual_seed(0))
        assert (found.dtype, found.shape) == (x_0.dtype, x_0.shape)
        return (found - x_0).abs().mean().item()

    if corruption.signal(torch.ones(1)).max() < 0.5:  # heat dissipation always keeps the mean
        assert change(0.02) < change(1.0)
    with pytest.raises(TypeError, match="x_0 must be a floating-point tensor"):
        sampler.image_to_image(torch.zeros(1, *SHAPE, dtype=torch.uint8), start=0.5)


def test_image_to_image_with_a_model_that_knows_the_images_returns_them() -> None:
    x_0 = correlated_images(2)
    for options in SOLVERS:
        sampler = sp.Sampler(lambda x_t, t: x_0, CORRUPTIONS["shortest-cosine"](), prediction="data", **options)
        found = sampler.image_to_image(x_0, start=0.3, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(found, x_0, rtol=0, atol=2e-3)


@pytest.mark.parametrize("options", SOLVERS, ids=str)
@pytest.mark.parametrize("start", [1e-30, 1e-80, 1e-300])
def test_image_to_image_from_almost_no_noise_returns_the_images(options: dict[str, Any], start: float) -> None:
    x_0 = correlated_images(2).float()
    for corruption in CORRUPTIONS.values():
        sampler = sp.Sampler(lambda x_t, t: x_0, corruption(), prediction="data", **options)
        found = sampler.image_to_image(x_0, start=start, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(found, x_0, rtol=0, atol=1e-4)


def test_an_argument_that_sampling_does_not_have_is_told_by_the_public_name() -> None:
    sampler = sp.Sampler(wave, sp.GaussianCorruption(), steps=2)
    for call in (
        lambda: sampler.image_to_image(torch.zeros(1, *SHAPE), start=0.5, foo=1),
        lambda: sampler.sample((1, *SHAPE), foo=1),
    ):
        with pytest.raises(TypeError, match=r"^Sampler\.sample\(\) got an unexpected keyword argument 'foo'"):
            call()


# --- types, compilation, and the device -------------------------------------------------------------------


@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("state", [torch.float32, torch.float64])
def test_a_model_gets_its_own_type_and_the_state_keeps_its(weights: torch.dtype, state: torch.dtype) -> None:
    net = Net().to(weights)
    sampler = sp.Sampler(net, CORRUPTIONS["shortest-cosine"](), prediction="data", solver="multistep", steps=3)
    x_0 = sampler.sample((2, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=state)
    assert x_0.dtype == state
    assert net.seen == [(weights, torch.promote_types(weights, torch.float32))] * 3


def test_half_precision_costs_the_model_and_not_the_state() -> None:
    def sample(weights: torch.dtype, state: torch.dtype) -> Tensor:
        sampler = sp.Sampler(
            Net().to(weights), CORRUPTIONS["shortest-cosine"](), prediction="data", solver="ancestral", steps=20
        )
        return sampler.sample((2, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=state)

    exact = sample(torch.float32, torch.float32)
    assert sample(torch.float32, torch.bfloat16).dtype == torch.float32  # a state in bfloat16 would be lost
    torch.testing.assert_close(sample(torch.bfloat16, torch.float32), exact, rtol=0, atol=0.05)


def test_autocast_around_the_sampler() -> None:
    net = Net()
    sampler = sp.Sampler(net, CORRUPTIONS["shortest-cosine"](), prediction="data", solver="multistep", steps=3)
    plain = sampler.sample((2, *SHAPE), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = sampler.sample((2, *SHAPE), generator=torch.Generator().manual_seed(0))
    assert mixed.dtype == torch.float32
    assert not torch.equal(plain, mixed)
    torch.testing.assert_close(plain, mixed, rtol=0, atol=0.05)


@pytest.mark.parametrize("options", SOLVERS)
def test_a_compiled_model(options: dict) -> None:
    net = Net()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    plain, ours = (
        sp.Sampler(model, CORRUPTIONS["shortest-cosine"](), prediction="data", steps=3, **options).sample(
            (2, *SHAPE), generator=torch.Generator().manual_seed(0)
        )
        for model in (net, compiled)
    )
    torch.testing.assert_close(plain, ours)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch.export's own
def test_an_exported_model_is_passed_as_a_function() -> None:
    net, batch = Net().eval(), torch.export.Dim("batch")
    example = (torch.zeros(2, *SHAPE), torch.rand(2))
    exported = torch.export.export(net, example, dynamic_shapes=({0: batch}, {0: batch})).module()

    def sample(model: Any) -> Tensor:
        sampler = sp.Sampler(model, CORRUPTIONS["shortest-cosine"](), prediction="data", steps=3)
        return sampler.sample((3, *SHAPE), generator=torch.Generator().manual_seed(0))

    with pytest.raises(TypeError, match=r"export it in eval mode, and pass a function: lambda x, t: exported\(x, t\)"):
        sample(exported)
    torch.testing.assert_close(sample(lambda x, t: exported(x, t)), sample(net))


class Learned(nn.Module):
    """A schedule with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(1.3))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = torch.pi / 2 * t**self.power
        return angle.cos(), angle.sin()


def test_nothing_keeps_the_graph_of_a_learned_corruption() -> None:
    measured = sp.PowerSpectrum.estimate(
        [0.2 + correlated_images(32)], sp.PixelBasis(2), "independent"
    )  # its mean is not told
    sampler = sp.Sampler(Net(), sp.GaussianCorruption(Learned()), prediction="velocity", spectrum=measured, steps=3)
    x, times = torch.randn(2, *SHAPE), sampler.times.tolist()
    found = {
        "sample": sampler.sample(x.shape),
        "trajectory": next(sampler.trajectory(x.shape)).x_t,
        "step": sampler.step(x, times[0], times[1]).x_t,
        "initial_noise": sampler.initial_noise(x),
        "invert": sampler.invert(x),
        "interpolate": sampler.interpolate(x, x, [0.5]),
        "image_to_image": sampler.image_to_image(x, start=0.5),
        "log_likelihood": sampler.log_likelihood(x),
    }
    assert not {name for name, images in found.items() if images.requires_grad}


class Waits(TorchDispatchMode):
    """Notes operations that would make the host wait: reading values, and copies to or from the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(function)
        result = function(*args, **(kwargs or {}))
        devices = {value.device.type for value in (*args, result) if isinstance(value, Tensor) and value.ndim}
        if "_local_scalar_dense" in name or ("copy" in name and len(devices) > 1):
            self.found.append(name)
        return result


@pytest.mark.parametrize(
    "options", [*SOLVERS, {"solver": sp.solvers.Multistep(eta=0.5)}, {"solver": sp.solvers.Multistep(order=1)}]
)
@pytest.mark.parametrize("guided", [False, True])
def test_the_loop_never_waits_for_the_device(options: dict, guided: bool) -> None:
    # On the meta device no value exists, so reading one is an error, and copies stand out.
    corruption = sp.ShortestPathCorruption(spectrum()).to("meta")

    def model(x_t: Tensor, t: Tensor, *, label: Tensor) -> Tensor:
        return x_t * t.view(-1, 1, 1, 1) + label.view(-1, 1, 1, 1)

    cpu = sp.Sampler(model, CORRUPTIONS["shortest-cosine"](), prediction="data", steps=6, **options)
    if guided:
        options = {**options, "guidance_scale": 2.0, "null_conditioning": {"label": 0.0}}
    times, x_1 = cpu.times, torch.zeros(2, *SHAPE, device="meta")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shortest_path.sampling._base.check_along", lambda *_: None)  # once, when a sampler is made
        sampler = sp.Sampler(model, corruption, prediction="data", times=times, **options)
    watch, edit = Waits(), sp.edits.compose(sp.edits.dynamic_threshold(), lambda x_0, t: x_0.clamp(-1, 1))
    label = torch.zeros(2, device="meta")
    run = sampler.trajectory(x_1.shape, x_1=x_1, conditioning={"label": label}, denoised_callback=edit, device="meta")
    next(run)
    with watch:
        rest = list(run)
    assert len(rest) == 5
    assert watch.found == []


def test_the_spectrums_basis_follows_the_images_to_their_device() -> None:
    # An isotropic corruption has no tensors, so that nothing but the images tells the device.
    corruption, measured = sp.GaussianCorruption("flow"), spectrum()
    times = sp.grids.Cosine()(4)
    sampler = sp.Sampler(
        lambda x_t, t: x_t, corruption, prediction="data", solver="multistep", times=times, spectrum=measured
    )
    x_1 = torch.zeros(2, *SHAPE, device="meta")
    assert sampler.sample(x_1.shape, x_1=x_1, device="meta").device.type == "meta"
    assert sampler._process.basis.channel_rotation.device.type == "meta"
    assert sampler.sample(x_1.shape, device="cpu").isfinite().all()  # a rehearsal takes nothing away
    assert measured.basis.channel_rotation.device.type == "cpu"  # the spectrum's own stays
