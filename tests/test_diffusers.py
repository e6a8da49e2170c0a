"""The scheduler, wrappers and pipelines of diffusers: what `Sampler` gives, by the loops of diffusers."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.models import WhitenedInput
from tests.worlds import spectrum

diffusers = pytest.importorskip("diffusers")
ours = pytest.importorskip("shortest_path.integrations.diffusers")

DATA = spectrum()


def unet(channels: int = 3) -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        8, 3, channels, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        norm_num_groups=4, layers_per_block=1,
    ).eval()  # fmt: skip


CASES = {
    "gaussian": (sp.GaussianCorruption("cosine"), {}),
    "path": (sp.ShortestPathCorruption(DATA), {"solver": "ddim"}),
    "path, whitened velocity": (sp.ShortestPathCorruption(DATA), {"prediction": "whitened-velocity"}),
    "blur": (sp.BlurCorruption(spatial=(8, 8)), {"prediction": "velocity", "spectrum": None}),
    "ancestral": (sp.GaussianCorruption("linear"), {"solver": "ancestral", "grid": "uniform"}),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_pipeline_gives_the_images_of_the_sampler(name: str, tmp_path: Path) -> None:
    corruption, options = CASES[name]
    model = unet()
    scheduler = ours.CorruptionScheduler(corruption, **options)
    end = scheduler.sampler.times[0]  # a pipeline begins with white noise, and so at the end of the corruption
    assert end == (1 if options.get("prediction") or name == "ancestral" else 0.999)
    scheduler.set_timesteps(6)
    times = {**options, "times": scheduler.sampler.times}
    times.pop("grid", None)
    sampler = sp.Sampler(ours.TimedModel(model), corruption, **times)
    pipeline = diffusers.DDPMPipeline(model, scheduler)
    pipeline.set_progress_bar_config(disable=True)

    def run(pipe: Any) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        found = pipe(batch_size=2, num_inference_steps=6, generator=generator, output_type="np")
        return torch.as_tensor(found.images).permute(0, 3, 1, 2)

    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(2, 3, 8, 8, generator=generator)
    expected = sampler.sample((2, 3, 8, 8), x_1=noise, generator=generator)
    torch.testing.assert_close(run(pipeline), (expected / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)
    pipeline.save_pretrained(tmp_path)
    again = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert isinstance(again.scheduler, ours.CorruptionScheduler)
    assert torch.equal(run(again), run(pipeline))


def test_a_loop_can_begin_where_a_sampler_does() -> None:
    corruption, noise = sp.ShortestPathCorruption(DATA), torch.randn(2, 3, 8, 8)
    model = ours.TimedModel(unet())
    sampler = sp.Sampler(model, corruption, steps=5)
    assert 0.5 < sampler.times[0] < 0.99
    scheduler = ours.CorruptionScheduler(corruption)
    scheduler.set_timesteps(5, start=float(sampler.times[0]))
    sample = scheduler.initial_noise(noise)
    with torch.no_grad():
        for t in scheduler.timesteps:
            sample = scheduler.step(model.model(sample, t).sample, t, sample).prev_sample
    expected = sampler.sample(noise.shape, x_1=sampler.initial_noise(noise))
    torch.testing.assert_close(sample, expected, atol=1e-5, rtol=1e-5)


def test_a_training_loop_of_diffusers_runs() -> None:
    scheduler = ours.CorruptionScheduler(sp.ShortestPathCorruption(DATA), prediction="velocity")
    assert (scheduler.config.num_train_timesteps, scheduler.config.prediction_type) == (1000, "v_prediction")
    model, clean = unet(), torch.rand(4, 3, 8, 8) * 2 - 1
    noise = torch.randn_like(clean)
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (4,)).long()
    noisy = scheduler.add_noise(clean, noise, timesteps)
    t = (timesteps.double() + 1) / 1000
    torch.testing.assert_close(noisy, sp.corrupt(scheduler.corruption, clean, t, noise))
    target = scheduler.get_velocity(clean, noise, timesteps)
    torch.nn.functional.mse_loss(model(scheduler.scale_model_input(noisy), timesteps).sample, target).backward()
    loss = sp.DiffusionLoss(scheduler.corruption, prediction="velocity", spectrum=DATA)
    whole = loss(ours.TimedModel(model), clean, t=t.float(), eps=noise)
    torch.testing.assert_close(
        whole, torch.nn.functional.mse_loss(model(noisy, 1000 * t.float() - 1).sample, target), atol=1e-4, rtol=1e-4
    )


def test_the_velocity_is_that_of_training_where_the_corruption_was_not_told_the_mean() -> None:
    clean = torch.rand(4, 3, 8, 8) + 1
    known = sp.PowerSpectrum.estimate([clean])
    for corruption in (sp.GaussianCorruption("flow"), sp.ShortestPathCorruption(known)):
        scheduler = ours.CorruptionScheduler(corruption, prediction="velocity", spectrum=known)
        noise = torch.randn_like(clean)
        task = sp.DiffusionLoss(corruption, "velocity", spectrum=known).task(clean, 0.5, noise)
        torch.testing.assert_close(scheduler.get_velocity(clean, noise, 499), task.target)


def test_gaussian_noise_is_that_of_diffusers() -> None:
    theirs = diffusers.DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="sample")
    corruption, prediction = ours.read_scheduler(theirs)
    assert prediction == "data"
    scheduler = ours.CorruptionScheduler(corruption, prediction)
    clean, noise = torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    timesteps = torch.tensor([3, 997])
    torch.testing.assert_close(
        scheduler.add_noise(clean, noise, timesteps), theirs.add_noise(clean, noise, timesteps), atol=1e-5, rtol=1e-5
    )
    again = sp.corruptions.corruption_from_state(sp.corruptions.corruption_state(corruption))
    t = torch.rand(9)
    assert torch.equal(again.signal(t), corruption.signal(t))
    assert corruption.signal(torch.zeros(1)).item() == 1
    assert corruption.noise(torch.zeros(1)).item() == 0


def test_a_changed_sample_is_followed() -> None:
    scheduler = ours.CorruptionScheduler(sp.GaussianCorruption("flow"), "data", solver="ddim")
    scheduler.set_timesteps(3)
    sample = torch.zeros(1, 3, 8, 8)
    for t in scheduler.timesteps:
        sample = scheduler.step(torch.ones_like(sample), t, sample.clone()).prev_sample  # a new tensor each time
    torch.testing.assert_close(sample, torch.ones_like(sample))
    output = scheduler.step(torch.ones_like(sample), scheduler.timesteps[1], 0 * sample, return_dict=False)
    sampler = sp.Sampler(
        lambda x, t: 0 * x + 1, sp.GaussianCorruption("flow"), prediction="data", solver="ddim", steps=3
    )
    expected = sampler.step(0 * sample, float(sampler.times[1]), float(sampler.times[2]))
    torch.testing.assert_close(output[0], expected.x_t)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_sample_that_was_changed_in_place_is_followed(mode: Callable[[], Any]) -> None:
    scheduler = ours.CorruptionScheduler(sp.GaussianCorruption("flow"), "data")
    with mode():
        for edit in (False, True):
            scheduler.set_timesteps(3)
            sample = torch.ones(1, 3, 8, 8)
            first = scheduler.step(0 * sample, scheduler.timesteps[0], sample).prev_sample
            given = first.zero_() if edit else first
            second = scheduler.step(0 * given, scheduler.timesteps[1], given).prev_sample
            assert bool((second == 0).all()) == edit


def test_a_sample_that_was_changed_past_the_counter_of_torch_is_followed() -> None:
    scheduler = ours.CorruptionScheduler(sp.GaussianCorruption("flow"), "data")
    for edit in (lambda each: each.data.zero_(), lambda each: each.numpy().fill(0)):
        scheduler.set_timesteps(3)
        sample = torch.ones(1, 3, 8, 8)
        sample = scheduler.step(0 * sample, scheduler.timesteps[0], sample).prev_sample
        version = sample._version
        edit(sample)
        assert sample._version == version
        assert bool((scheduler.step(0 * sample, scheduler.timesteps[1], sample).prev_sample == 0).all())


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (100, {"grid": "cosine", "num_train_timesteps": 1, "shift": 0.0}),
        (1000, {"grid": "power"}),
        (5, {"grid": sp.grids.Power(8.0)}),
    ],
    ids=str,
)
def test_a_step_is_taken_at_its_own_timestep_however_close_they_lie(
    steps: int, options: dict[str, Any], changed: bool
) -> None:
    corruption, data = sp.GaussianCorruption("cosine"), torch.full((1, 1, 2, 2), 0.3)
    scheduler = ours.CorruptionScheduler(corruption, "data", solver="ddim", **options)
    scheduler.set_timesteps(steps)
    times = scheduler.sampler.times
    assert float((scheduler.timesteps.diff() / scheduler.config.num_train_timesteps).abs().min()) < 3e-4
    sample = noise = torch.randn(1, 1, 2, 2)
    for t, s in zip(scheduler.timesteps, times[1:], strict=True):
        output = scheduler.step(data, t, sample.clone() if changed else sample)
        sample = output.prev_sample
        expected = sp.corrupt(corruption, data, s, noise)  # DDIM with the true image keeps the noise
        torch.testing.assert_close(sample, expected, atol=1e-4, rtol=1e-4)
    scheduler.set_begin_index(1)
    scheduler.step(data, scheduler.timesteps[1], noise)


def test_a_loop_over_a_part_of_the_timesteps_takes_their_own_times() -> None:
    corruption = sp.GaussianCorruption("cosine")
    scheduler = ours.CorruptionScheduler(corruption, "data", solver="ddim")
    clean, noise = torch.rand(2, 3, 8, 8) * 2 - 1, torch.randn(2, 3, 8, 8)
    for cut in (True, False):  # as some pipelines do: the list itself, or a part of it
        for said in (True, False):
            scheduler.set_timesteps(10)
            every, part = scheduler.timesteps, scheduler.timesteps[5:]
            if cut:
                scheduler.timesteps = part
            if said:
                scheduler.set_begin_index(0 if cut else 5)
            sample = scheduler.add_noise(clean, noise, part[0])
            for t, s in pairwise(part):
                sample = scheduler.step(clean, t, sample).prev_sample
                torch.testing.assert_close(sample, scheduler.add_noise(clean, noise, s), atol=1e-5, rtol=1e-5)
            with pytest.raises(ValueError, match=r"^sample is that of timestep .* \(10 of 10\), got .* \(9 of 10\)"):
                scheduler.step(clean, part[-2], sample)
            sample = scheduler.step(clean, part[-1], sample).prev_sample
            torch.testing.assert_close(sample, clean, atol=1e-5, rtol=1e-5)
            scheduler.set_begin_index(1)
            with pytest.raises(
                ValueError, match=rf"begin at timestep .* \({7 if cut else 2} of 10\) by set_begin_index"
            ):
                scheduler.step(clean, every[8], noise)
    scheduler.timesteps = torch.tensor([500.0])
    with pytest.raises(
        ValueError, match=r"timestep must be one of scheduler\.timesteps, as set_timesteps chose them, got"
    ):
        scheduler.set_begin_index(0)


def drawing(solver: Any) -> tuple[Any, Tensor, Callable[[Tensor], Tensor]]:
    """Return a scheduler of a solver that draws, the noise to begin with, and a model."""
    scheduler = ours.CorruptionScheduler(sp.GaussianCorruption("cosine"), "data", solver=solver)
    scheduler.set_timesteps(6)
    return scheduler, torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(9)), lambda x: 0.3 * x


@pytest.mark.parametrize("solver", ["ancestral", sp.solvers.Multistep(eta=0.5)], ids=str)
@pytest.mark.parametrize("several", [False, True])
def test_a_step_draws_from_the_generator_that_it_was_given(solver: Any, several: bool) -> None:
    scheduler, noise, model = drawing(solver)
    sampler = sp.Sampler(
        lambda x, t: model(x), scheduler.corruption, prediction="data", solver=solver, times=scheduler.sampler.times
    )

    def made(seed: int) -> Any:
        one, two = (torch.Generator().manual_seed(seed + each) for each in (0, 100))
        return [one, two] if several else one

    def run(generator_of: Callable[[int], Any]) -> Tensor:
        scheduler.set_timesteps(6)
        sample = noise
        for k, t in enumerate(scheduler.timesteps):
            sample = scheduler.step(model(sample), t, sample, generator_of(k)).prev_sample
        return sample

    one, same = made(1), made(1)
    torch.testing.assert_close(run(lambda k: one), sampler.sample(noise.shape, x_1=noise, generator=same))
    drawn = [torch.rand(3, generator=each) for each in (one if several else [one])]
    expected = [torch.rand(3, generator=each) for each in (same if several else [same])]
    assert all(map(torch.equal, drawn, expected))  # the caller's generator has moved on

    source, steps = made(0), []
    for step in sampler.trajectory(noise.shape, x_1=noise, generator=source):
        steps.append(step)
        for k, each in enumerate(source if several else [source]):
            each.manual_seed(len(steps) + 100 * k)
    torch.testing.assert_close(run(made), steps[-1].x_t)
    if several:
        shared = torch.Generator().manual_seed(3)
        again = torch.Generator().manual_seed(3)
        expected_shared = sampler.sample(noise.shape, x_1=noise, generator=[again, again])
        torch.testing.assert_close(run(lambda k: [shared, shared]), expected_shared)


def test_a_run_draws_from_one_kind_of_generator() -> None:
    scheduler, noise, model = drawing("ancestral")
    kinds: list[Any] = [None, torch.Generator(), [torch.Generator(), torch.Generator()]]
    names = ["None", "a torch.Generator on cpu", "a list of 2 generators"]
    first, second = scheduler.timesteps[:2]
    for begun, name in zip(kinds, names, strict=True):
        sample = scheduler.step(model(noise), first, noise, begun).prev_sample
        for other, named in zip(kinds, names, strict=True):
            if other is not begun:
                wrong = f"this run began with generator {name}, got {named}; pass the same kind to every step of a run"
                with pytest.raises(ValueError, match=wrong):
                    scheduler.step(model(sample), second, sample, other)
        scheduler.step(model(sample), second, sample, begun)  # what is refused leaves the run as it was
    with pytest.raises(TypeError, match="generator must be a torch.Generator or one per image, got int"):
        scheduler.step(model(noise), first, noise.clone(), 3)


def test_coloured_noise_begins_with_its_own_noise() -> None:
    corruption = sp.GaussianCorruption("cosine", noise=DATA)
    scheduler = ours.CorruptionScheduler(corruption, "whitened-velocity", spectrum=DATA)
    scheduler.set_timesteps(4)
    noise, nothing = torch.randn(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    with pytest.raises(
        ValueError,
        match=r"GaussianCorruption does not end in white noise; begin with sample = sched.*set_begin_index",
    ):
        scheduler.step(nothing, scheduler.timesteps[0], noise)
    sample = scheduler.initial_noise(noise)
    for t in scheduler.timesteps:
        sample = scheduler.step(nothing, t, sample).prev_sample
    sampler = sp.Sampler(lambda x, t: 0 * x, corruption, prediction="whitened-velocity", spectrum=DATA, steps=4)
    expected = sampler.sample((2, 3, 8, 8), x_1=scheduler.initial_noise(noise))
    torch.testing.assert_close(sample, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["heat", "path", "coloured"])
def test_a_loop_can_begin_with_corrupted_images(name: str) -> None:
    corruption = {
        "heat": sp.corruptions.HeatDissipationCorruption(2.0, spatial=(8, 8)),
        "path": sp.ShortestPathCorruption(DATA),
        "coloured": sp.GaussianCorruption("cosine", noise=DATA),
    }[name]
    scheduler = ours.CorruptionScheduler(corruption, "data", solver="ddim")
    scheduler.set_timesteps(4)
    clean, noise = torch.rand(2, 3, 8, 8) * 2 - 1, torch.randn(2, 3, 8, 8)
    times = scheduler.sampler.times
    sampler = sp.Sampler(lambda x, t: clean, corruption, prediction="data", solver="ddim", times=times)
    for place in (0, 2):
        scheduler.set_timesteps(4)
        sample = begun = scheduler.add_noise(clean, noise, scheduler.timesteps[place])
        if name != "path" and place == 0:
            with pytest.raises(ValueError, match=r"add_noise\(images, noise, scheduler.timesteps\[0\]\), after sch"):
                scheduler.step(clean, scheduler.timesteps[0], sample)
        scheduler.set_begin_index(place)
        for t in scheduler.timesteps[place:]:
            sample = scheduler.step(clean, t, sample).prev_sample
        expected = sampler.sample(clean.shape, x_1=begun, start=float(times[place]))
        torch.testing.assert_close(sample, expected, atol=1e-5, rtol=1e-5)
    scheduler.set_timesteps(4)
    if name != "path":
        with pytest.raises(ValueError, match="set_begin_index"):  # forgotten: the next run begins with noise
            scheduler.step(clean, scheduler.timesteps[0], noise)
    with pytest.raises(ValueError, match="less than the number of timesteps, 4, got 4"):
        scheduler.set_begin_index(4)
    with pytest.raises(TypeError, match="begin_index must be a whole number"):
        scheduler.set_begin_index(0.5)


def test_what_ends_in_images_has_no_noise_to_begin_with() -> None:
    corruption = sp.corruptions.HeatDissipationCorruption(2.0, spatial=(8, 8))
    scheduler = ours.CorruptionScheduler(corruption, "data", solver="ddim")
    noise = torch.randn(2, 3, 8, 8)
    mend = r"sample = scheduler.add_noise\(images, noise, .*timesteps\[0\]\), after scheduler.set_begin_index\(0\)"
    for begin in (scheduler.initial_noise, lambda noise: scheduler.step(noise, scheduler.timesteps[0], noise)):
        with pytest.raises(
            ValueError, match=f"^HeatDissipationCorruption keeps part of .*; begin with images: {mend}$"
        ):
            begin(noise)
    with pytest.raises(TypeError, match="noise must be a floating-point tensor"):
        scheduler.initial_noise(noise.int())
    coloured = ours.CorruptionScheduler(sp.GaussianCorruption("cosine", noise=DATA), "data", spectrum=DATA)
    with pytest.raises(ValueError, match=r"the data's power has shape \(3, 8, 8\), the images \(2, 3, 4, 4\)"):
        coloured.initial_noise(noise[..., :4, :4])


@pytest.mark.parametrize("name", ["heat", "path"])
def test_a_beginning_is_that_of_one_run(name: str) -> None:
    corruption = {
        "heat": sp.corruptions.HeatDissipationCorruption(2.0, spatial=(8, 8)),
        "path": sp.ShortestPathCorruption(DATA),
    }[name]
    scheduler = ours.CorruptionScheduler(corruption, "data", solver="ddim")
    scheduler.set_timesteps(4)
    clean, noise = torch.rand(2, 3, 8, 8) * 2 - 1, torch.randn(2, 3, 8, 8)
    first = scheduler.timesteps[0]
    scheduler.set_begin_index(0)
    copied = copy.deepcopy(scheduler)  # before the run: the copy begins as the scheduler would
    for each in (scheduler, copied):
        assert each.begin_index == 0
        sample = each.add_noise(clean, noise, first)
        with pytest.raises(ValueError, match="the model must return a tensor of the shape of x_t"):
            each.step(clean[..., :4], first, sample)  # no step: the run has not begun
        for t in each.timesteps:
            sample = each.step(clean, t, sample).prev_sample
        assert each.begin_index is None
        for later in (each, copy.deepcopy(each)):
            if name == "heat":
                with pytest.raises(ValueError, match=r"after scheduler.set_begin_index\(0\)"):
                    later.step(clean, first, noise)
            else:
                later.step(clean, first, noise)
    scheduler.set_begin_index(2)
    scheduler.set_timesteps(4)
    assert scheduler.begin_index is None


def test_sampling_begins_where_it_was_said_to_and_leaves_no_timestep_out() -> None:
    scheduler = ours.CorruptionScheduler(sp.ShortestPathCorruption(DATA), "data", solver="ddim")
    scheduler.set_timesteps(4)
    clean, noise = torch.zeros(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    times = scheduler.timesteps
    scheduler.set_begin_index(2)
    for place in (0, 1, 3):
        said = (
            rf"begin at timestep .* \(3 of 4\) by set_begin_index, got timestep .* \({place + 1} of 4\); loop over sch"
        )
        with pytest.raises(ValueError, match=said):
            scheduler.step(clean, times[place], noise)
    sample = scheduler.step(clean, times[2], noise).prev_sample
    with pytest.raises(ValueError, match=r"sample is that of timestep .* \(4 of 4\), got timestep .* \(1 of 4\); hand"):
        scheduler.step(clean, times[0], sample)
    with pytest.raises(ValueError, match="the data's power has shape"):
        scheduler.step(clean[..., :4], times[0], noise[..., :4])  # what is refused leaves the run as it was
    sample = scheduler.step(clean, times[3], sample).prev_sample
    with pytest.raises(
        ValueError, match=r"sample is that of the end, after the last timestep, got timestep .* \(4 of 4\)"
    ):
        scheduler.step(clean, times[3], sample)
    begun = scheduler.initial_noise(noise)  # of another run
    with pytest.raises(ValueError, match=r"sample is that of timestep .* \(1 of 4\), got timestep .* \(3 of 4\); hand"):
        scheduler.step(clean, times[2], begun)
    sample = scheduler.step(clean, times[0], begun).prev_sample
    begun = scheduler.initial_noise(2 * noise)  # of a third one, though the second is not over
    second = scheduler.step(clean, times[0], begun).prev_sample
    torch.testing.assert_close(second, 2 * sample)
    with pytest.raises(ValueError, match="the model must return a tensor of the shape of x_t"):
        scheduler.step(clean[..., :4], times[1], second)
    third = scheduler.step(clean, times[1], second).prev_sample  # after an error as after none
    torch.testing.assert_close(third, scheduler.step(clean, times[1], second.clone()).prev_sample)


@pytest.mark.parametrize(
    "kind",
    ["DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "LCMScheduler"],
)
def test_a_schedule_may_end_without_signal(kind: str) -> None:
    """Some schedulers have 2⁻²⁴ there, more than in the step before."""
    theirs = getattr(diffusers, kind)(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    corruption, prediction = ours.read_scheduler(theirs)
    exact = diffusers.DDPMScheduler(beta_schedule=theirs.config.beta_schedule, rescale_betas_zero_snr=True,
                                    beta_start=theirs.config.beta_start, beta_end=theirs.config.beta_end)  # fmt: skip
    assert torch.equal(corruption.alphas_cumprod[:-1], theirs.alphas_cumprod[:-1].double())
    k, (clean, noise) = torch.tensor([0, 500, 998, 999]), torch.randn(2, 4, 3, 8, 8)
    torch.testing.assert_close(
        sp.corrupt(corruption, clean, (k + 1) / 1000, noise), exact.add_noise(clean, noise, k), atol=1e-5, rtol=1e-5
    )
    signal, scale = corruption.scales(torch.linspace(0.9985, 1, 301, dtype=torch.float64))
    assert bool((signal.diff(dim=0) < 0).all())
    assert (signal[-1].item(), scale[-1].item()) == (0, 1)
    torch.testing.assert_close(signal.square() + scale.square(), torch.ones_like(signal))
    torch.testing.assert_close(signal[200].item(), signal[100].item() / 2)  # straight in the last step
    for t in (0.9, 0.9995, 1.0):
        at = torch.tensor([t], dtype=torch.float64, requires_grad=True)
        assert all(
            bool(torch.autograd.grad(each.sum(), at, retain_graph=True)[0].isfinite()) for each in corruption.scales(at)
        )
    again = sp.corruptions.corruption_from_state(sp.corruptions.corruption_state(corruption))
    assert again.signal(torch.ones(1)).item() == 0

    def model(x_t: Tensor, t: Tensor) -> Tensor:  # the velocity of data that are 0.5
        signal, scale = corruption.scales(t)
        return (signal * x_t - 0.5) / scale

    for solver in (sp.solvers.DDIM(), sp.solvers.Multistep()):
        made = sp.Sampler(model, corruption, prediction=prediction, steps=20, solver=solver)
        assert made.times[0] == 1
        torch.testing.assert_close(made.sample((2, 3, 8, 8), x_1=clean[:2]), torch.full((2, 3, 8, 8), 0.5))
    assert sp.Sampler(model, corruption, prediction="noise", steps=20).times[0] == 0.999  # nothing tells the image at 1


def test_wrappers_give_time_as_diffusers_counts_it(tmp_path: Path) -> None:
    x, t, labels = torch.randn(2, 4, 8, 8), torch.tensor([0.25, 1.0]), torch.tensor([1, 2])
    condition = diffusers.UNet2DConditionModel(
        8, 4, 4, block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), norm_num_groups=4,
        up_block_types=("CrossAttnUpBlock2D",), mid_block_type=None, cross_attention_dim=6, attention_head_dim=4,
    ).eval()  # fmt: skip
    words = torch.randn(2, 3, 6)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        num_embeds_ada_norm=10, norm_num_groups=4,
    ).eval()  # fmt: skip
    for model, conditioning in ((condition, {"encoder_hidden_states": words}), (transformer, {"class_labels": labels})):
        wrapped = ours.TimedModel(model)
        expected = model(x, timestep=torch.tensor([249.0, 999.0]), **conditioning).sample[:, :4]
        torch.testing.assert_close(wrapped(x, t, **conditioning), expected)
        sp.Sampler(wrapped, sp.GaussianCorruption(), steps=2).save_pretrained(tmp_path)
        again = sp.Sampler.from_pretrained(tmp_path)  # registered: no model has to be passed
        torch.testing.assert_close(again.model(x, t, **conditioning), expected)
    file = tmp_path / "model" / "timed_model.json"
    file.write_text(file.read_text().replace("DiTTransformer2DModel", "Other"))
    with pytest.raises(ValueError, match="is a Other, expected one of UNet2DModel"):
        sp.Sampler.from_pretrained(tmp_path)


class Own(torch.nn.Module):
    """A network called as those of diffusers are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor, timestep: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=torch.tanh(self.layer(x) + timestep.view(-1, 1, 1, 1) / 1000))


def wide_unet() -> Any:
    return diffusers.UNet2DModel(
        8, 6, 3, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        norm_num_groups=4, layers_per_block=1,
    )  # fmt: skip


@pytest.mark.parametrize("make", [Own, wide_unet])
def test_a_wrapper_around_a_wrapper_is_shared_with_any_network(make: Any, tmp_path: Path) -> None:
    corruption = sp.ShortestPathCorruption(DATA)

    def model(**options: float) -> WhitenedInput:
        return WhitenedInput(ours.TimedModel(make(), **options), corruption, DATA)

    trainer = sp.DiffusionTrainer(model(), corruption, prediction="whitened-velocity", spectrum=DATA)
    trainer.fit([torch.randn(2, 3, 8, 8).clamp(-1, 1)], steps=2, checkpoint_dir=tmp_path / "run")
    trainer.save_pretrained(tmp_path / "a", steps=2)
    noise = torch.randn(1, 3, 8, 8)
    expected = trainer.sampler(steps=2).sample((1, 3, 8, 8), x_1=noise)
    shared = sp.training.share_checkpoint(tmp_path / "run", tmp_path / "b", steps=2)
    assert isinstance(shared.model, WhitenedInput)  # made from its description
    known = make is wide_unet
    for folder in ("a", "b"):
        for given in (model(), make(), *([None] if known else [])):
            again = sp.Sampler.from_pretrained(tmp_path / folder, given)
            assert given in (None, again.model, again.model.network.model)
            assert torch.equal(again.sample((1, 3, 8, 8), x_1=noise), expected)
    with pytest.raises(ValueError, match="has steps=1000 and shift=-1, got a model with steps=4000 and shift=-1; pass"):
        sp.Sampler.from_pretrained(tmp_path / "a", model(steps=4000))
    if known:
        with pytest.raises(ValueError, match="(?s)the weights in .* do not fit this Conv2d"):
            sp.Sampler.from_pretrained(tmp_path / "a", torch.nn.Conv2d(6, 3, 1))
    else:
        with pytest.raises(TypeError, match=r"only the weights of the Own are known, .*; pass model=Own\(...\)"):
            shared.sample((1, 3, 8, 8))


def test_a_scheduler_is_not_made_of_a_configuration() -> None:
    scheduler = ours.CorruptionScheduler(sp.ShortestPathCorruption(DATA), "velocity")
    with pytest.raises(TypeError, match=r"neither its corruption nor its solver; use .* copy.deepcopy\(scheduler\)"):
        ours.CorruptionScheduler.from_config(scheduler.config)


@pytest.mark.parametrize("kind", ["DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "PNDMScheduler"])
def test_no_scheduler_of_betas_is_made_of_a_corruption(kind: str) -> None:
    scheduler = ours.CorruptionScheduler(sp.ShortestPathCorruption(DATA), "velocity")
    reason = r"a CorruptionScheduler has no betas: use it as it is, not from_config of it\) is not implemented for"
    with pytest.raises(NotImplementedError, match=reason):
        getattr(diffusers, kind).from_config(scheduler.config)
    if kind == "DDIMScheduler":
        with pytest.raises(NotImplementedError, match=reason):
            diffusers.DDIMPipeline(unet(), scheduler)
        with pytest.raises(
            ValueError, match="has a corruption of its own, and no table to read; run its pipeline as it"
        ):
            ours.read_scheduler(scheduler)


def test_timesteps_beyond_the_chain_are_refused_and_one_number_is_one_for_all() -> None:
    scheduler = ours.CorruptionScheduler(sp.ShortestPathCorruption(DATA), "velocity")
    clean, noise = torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    for function in (scheduler.add_noise, scheduler.get_velocity):
        for number in (5, 5.0, torch.tensor(5)):
            assert torch.equal(function(clean, noise, number), function(clean, noise, torch.tensor([5, 5])))
        for wrong in (1500, torch.tensor([3, -9]), float("nan"), 999.5):
            with pytest.raises(ValueError, match=r"timesteps must lie from -1, clean, to 999, noise, got \[.*; e\.g\."):
                function(clean, noise, wrong)
    torch.testing.assert_close(scheduler.add_noise(clean, noise, -1), clean)


def test_a_copy_of_a_scheduler_in_use_goes_on_as_a_new_one() -> None:
    scheduler = ours.CorruptionScheduler(sp.GaussianCorruption("flow"), "data", solver="ddim")
    scheduler.set_timesteps(4)
    noise = torch.randn(1, 3, 8, 8)
    sample = scheduler.step(0 * noise, scheduler.timesteps[0], noise).prev_sample
    for other in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        found = other.step(0 * noise, other.timesteps[1], sample.clone()).prev_sample
        torch.testing.assert_close(found, scheduler.step(0 * noise, scheduler.timesteps[1], sample).prev_sample)
        scheduler.step(0 * noise, scheduler.timesteps[0], noise)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("begun", [False, True])
def test_a_copy_is_independent(how: Callable[[Any], Any], begun: bool) -> None:
    corruption, noise = sp.GaussianCorruption("cosine"), torch.randn(2, 1, 3, 8, 8)
    scheduler = ours.CorruptionScheduler(corruption, "data", solver="ddim")
    scheduler.set_timesteps(4)
    if begun:
        scheduler.step(0 * noise[0], scheduler.timesteps[0], noise[0])
    both = (scheduler, how(scheduler))
    samples = list(noise)
    for t in scheduler.timesteps:  # in turns
        samples = [
            each.step((2 * k - 1) * torch.ones_like(sample), t, sample).prev_sample
            for k, (each, sample) in enumerate(zip(both, samples, strict=True))
        ]
    assert [bool((sample == 2 * k - 1).all()) for k, sample in enumerate(samples)] == [True, True]


def test_a_scheduler_is_saved_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Scheduler, gaussian = ours.CorruptionScheduler, sp.GaussianCorruption
    Scheduler(gaussian("flow"), num_train_timesteps=1000).save_pretrained(tmp_path)
    move = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if target == tmp_path / "sampler.json":
            raise OSError(28, "No space left on device")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="No space left"):
        Scheduler(gaussian("cosine"), num_train_timesteps=500).save_pretrained(tmp_path)
    monkeypatch.undo()
    with pytest.warns(RuntimeWarning, match="a save to .* was interrupted or is under way"):
        assert len(Scheduler.from_pretrained(tmp_path)) == 1000
    Scheduler(gaussian("cosine"), num_train_timesteps=500).save_pretrained(tmp_path)
    assert len(Scheduler.from_pretrained(tmp_path)) == 500
    with pytest.raises(ValueError, match="save_directory is empty; pass '.' for the present folder"):
        Scheduler(gaussian("flow")).save_pretrained("")
    file = tmp_path / "scheduler_config.json"
    for text, message in (
        ("{", r"scheduler_config\.json is not the configuration of a CorruptionScheduler \(JSONDecodeError"),
        ("{}", r"scheduler_config\.json requires 'num_train_timesteps', a whole number, got nothing; download"),
        ('{"num_train_timesteps": 9, "shift": "zz"}', r"scheduler_config\.json requires 'shift', a number, got 'zz'"),
        ('{"num_train_timesteps": 0, "shift": 0}', r"scheduler_config\.json: num_train_timesteps must be 1 or mo"),
        ('{"num_train_timesteps": 9, "shift": 0, "grid": "no"}', r"scheduler_config\.json: unknown grid 'no'; choose"),
        (
            '{"num_train_timesteps": 9, "shift": 0, "grid": 3}',
            r"scheduler_config\.json holds what cannot be used \(grid",
        ),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            Scheduler.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", [ours.CorruptionScheduler, ours.TimedModel])
def test_what_is_no_folder_is_refused_by_name(kind: Any) -> None:
    name = "folder" if kind is ours.TimedModel else "pretrained_model_name_or_path"
    with pytest.raises(TypeError, match=f"{name} must be a path, got NoneType"):
        kind.from_pretrained(None)
    with pytest.raises(ValueError, match=f"{name} is empty; pass"):
        kind.from_pretrained("")
    with pytest.raises(FileNotFoundError, match=r"holds no sampler\.json|timed_model\.json is missing"):
        kind.from_pretrained("absent")


def test_a_subfolder_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    ours.CorruptionScheduler(sp.GaussianCorruption("flow")).save_pretrained(tmp_path / "scheduler")
    assert len(ours.CorruptionScheduler.from_pretrained(tmp_path, "scheduler")) == 1000
    wrong: Any = 3
    with pytest.raises(TypeError, match="subfolder must be a path, got int"):
        ours.CorruptionScheduler.from_pretrained(tmp_path, wrong)


def test_a_wrapper_is_made_of_a_network_and_read_from_a_whole_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong: Any
    for wrong in (3, None, diffusers.UNet2DModel):
        for make in (ours.TimedModel, lambda each: WhitenedInput(each, sp.GaussianCorruption(), DATA)):
            with pytest.raises(TypeError, match=r"must be a network, called as .*\(x_t, t\), got .*; pass an instance"):
                make(wrong)
    with pytest.raises(TypeError, match="steps must be a number, got 'x'"):
        ours.TimedModel(Own(), steps="x")
    ours.TimedModel(unet()).save_pretrained(tmp_path)
    if os.name == "posix":  # others may read what one may, as any other file
        assert len({each.stat().st_mode for each in tmp_path.iterdir()}) == 1
    ours.TimedModel.from_pretrained(tmp_path)
    assert "accelerate" not in capfd.readouterr().err
    config = tmp_path / "config.json"
    text = config.read_text()
    for changed, message in (
        ("[]", r"config\.json is not the configuration of a UNet2DModel, but a list; download the folder again"),
        (text.replace("DownBlock2D", "Other"), r"config\.json: Other does not exist"),
        (
            text.replace('"in_channels": 3', '"in_channels": 4'),
            r"(?s)config\.json holds what cannot be used .*mismatch",
        ),
    ):
        config.write_text(changed)
        with pytest.raises(ValueError, match=message):
            ours.TimedModel.from_pretrained(tmp_path)
    config.write_text(text)
    ours.TimedModel(Own()).save_pretrained(tmp_path)  # over it: what the first one wrote is gone
    assert {each.name for each in tmp_path.iterdir()} == {"timed_model.json", "model.safetensors"}
    file = tmp_path / "timed_model.json"
    file.write_text('{"class": "Own", "steps": true, "shift": 0}')
    with pytest.raises(
        ValueError, match=r"timed_model\.json requires 'steps', a number, got True; download the folder"
    ):
        ours.TimedModel.from_pretrained(tmp_path, Own())
    file.write_text('{"class": "Own", "steps": 10, "shift": 0, "network": 3}')
    with pytest.raises(ValueError, match=r"timed_model\.json requires 'network', an object, got 3"):
        ours.TimedModel.from_pretrained(tmp_path, Own())
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"timed_model\.json is missing; download the folder whole"):
        ours.TimedModel.from_pretrained(tmp_path, Own())
    sp.Sampler(ours.TimedModel(Own()), sp.GaussianCorruption(), steps=2).save_pretrained(tmp_path / "a")
    text = (tmp_path / "a" / "sampler.json").read_text().replace("TimedModel", "Later")
    (tmp_path / "a" / "sampler.json").write_text(text)
    with pytest.raises(ValueError, match=r"or first import shortest_path\.integrations\.diffusers$"):
        sp.Sampler.from_pretrained(tmp_path / "a")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("whitened", [False, True])
def test_the_types_of_the_weights_come_back(whitened: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    corruption = sp.ShortestPathCorruption(DATA)

    def make(seed: int) -> Any:
        torch.manual_seed(seed)
        network = (wide_unet() if whitened else unet()).to(dtype)
        for parameter in network.parameters():
            parameter.data += torch.randn_like(parameter) / 100
        model = ours.TimedModel(network.requires_grad_(False))
        return WhitenedInput(model, corruption, DATA) if whitened else model

    sampler = sp.Sampler(make(0), corruption, prediction="data", steps=2)
    sampler.save_pretrained(tmp_path / "a")
    described = sp.Sampler(make(0), corruption, prediction="data", steps=2)
    x_1 = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    expected = sampler.sample((1, 3, 8, 8), x_1=x_1, dtype=dtype)
    shared = sp.DiffusionTrainer(make(0).requires_grad_(True), corruption, prediction="data")
    shared.save(tmp_path / "run")
    sp.training.share_checkpoint(tmp_path / "run", tmp_path / "b", times=described.times.tolist())
    for folder in ("a", "b"):
        for given in (None, make(1), make(2).network.model if whitened else make(2).model):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                again: Any = sp.Sampler.from_pretrained(tmp_path / folder, given)
            again.model.requires_grad_(False)
            assert torch.equal(again.sample((1, 3, 8, 8), x_1=x_1, dtype=dtype), expected)
    assert {each.dtype for each in again.model.parameters()} == {dtype}


@pytest.mark.parametrize("number", [np.int64(1000), np.float32(1000), torch.tensor(1000), torch.tensor(1e3), 1000])
def test_numbers_of_numpy_and_torch_count_time(number: Any, tmp_path: Path) -> None:
    ours.TimedModel(unet(), steps=number, shift=-number).save_pretrained(tmp_path)
    again = ours.TimedModel.from_pretrained(tmp_path)
    assert (again.steps, again.shift) == (1000, -1000)
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"steps must be a finite number, got (nan|inf)"):
            ours.TimedModel(unet(), steps=wrong)
        with pytest.raises(ValueError, match=r"shift must be a finite number, got (nan|inf)"):
            ours.TimedModel(unet(), shift=wrong)


def test_what_does_not_fit_is_refused_with_the_reason() -> None:
    scheduler = ours.CorruptionScheduler(sp.GaussianCorruption("flow"), "data")
    with pytest.raises(ValueError, match=r"timestep must be one of scheduler\.timesteps, .*, got 77777"):
        scheduler.step(torch.zeros(1, 3, 8, 8), 77777, torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler has no alphas_cumprod, so it is of no"):
        ours.read_scheduler(diffusers.FlowMatchEulerDiscreteScheduler())
    odd = diffusers.DDPMScheduler()
    odd.register_to_config(prediction_type="score")
    with pytest.raises(ValueError, match="prediction_type must be one of epsilon, sample, v_prediction, got 'score'"):
        ours.read_scheduler(odd)
    for wrong, message in (
        ([[0.5]], r"be \(N,\), got \(1, 1\); pass"),
        ([], r"be \(N,\), got \(0,\); pass"),
        ([0.5, 0.0, 0.0], r"lie in \(0, 1\], the last in \[0, 1\], got 0; pass scheduler.alphas_cumprod"),
        ([0.5, -0.1], "got -0.1"),
        ([1.5, 0.1], "got 1.5"),
        ([0.5, float("nan")], "got nan"),
    ):
        with pytest.raises(ValueError, match=f"alphas_cumprod must .*{message}"):
            ours.TableCorruption(torch.tensor(wrong))
    with pytest.raises(ValueError, match="alphas_cumprod must fall, got values that rise"):
        ours.TableCorruption(torch.tensor([0.5, 0.6]))
    with pytest.raises(TypeError, match=r"Louder overrides noise, but images are corrupted with `scales\(t\)`"):
        type("Louder", (ours.TableCorruption,), {"noise": lambda self, t: 2 * t})


def test_a_saved_scheduler_keeps_its_named_grid(tmp_path: Path) -> None:
    scheduler = ours.CorruptionScheduler(sp.GaussianCorruption("cosine"), "noise", grid="uniform")
    scheduler.save_pretrained(tmp_path)
    again = ours.CorruptionScheduler.from_pretrained(tmp_path)
    for each in (scheduler, again):
        each.set_timesteps(5)
    assert torch.equal(again.timesteps, scheduler.timesteps)


def test_the_images_of_a_grid_that_is_not_kept_are_told(tmp_path: Path) -> None:
    corruption = sp.GaussianCorruption("cosine")
    scheduler = ours.CorruptionScheduler(corruption, "data", grid=sp.grids.Power(5.0))
    message = r"grid Power\(at_noise=5.0, .* is not saved: .* set_timesteps\(n\) .*; pass a grid by name, or after load"
    with pytest.warns(RuntimeWarning, match=message) as told:
        scheduler.save_pretrained(tmp_path)
    assert told[0].filename == __file__
    again = ours.CorruptionScheduler.from_pretrained(tmp_path)
    assert torch.equal(again.timesteps, scheduler.timesteps)
    scheduler.set_timesteps(5)
    again.set_timesteps(5)
    assert not torch.equal(again.timesteps, scheduler.timesteps)


OF_DIFFUSERS = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # with numpy 2


def schedulers() -> list[Any]:
    """Return the schedulers of diffusers that can be made without arguments."""
    made = []
    for name in dir(diffusers):
        kind = getattr(diffusers, name) if name.endswith("Scheduler") else object
        if issubclass(kind, diffusers.SchedulerMixin):
            _, *arguments = inspect.signature(kind.__init__).parameters.values()
            if not any(each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD for each in arguments):
                made.append(kind())
    return made


@OF_DIFFUSERS
def test_every_scheduler_of_diffusers_is_read_or_refused_with_the_reason() -> None:
    every = schedulers()
    read = [each for each in every if hasattr(each, "alphas_cumprod") and "prediction_type" in each.config]
    assert len(every) > len(read) > 10
    for each in every:
        if each in read:
            corruption, prediction = ours.read_scheduler(each)
            assert prediction == "noise"
            torch.testing.assert_close(corruption.alphas_cumprod, each.alphas_cumprod.double())
        else:
            what = "prediction_type, one of epsilon.*" if hasattr(each, "alphas_cumprod") else "alphas_cumprod, so .*"
            with pytest.raises(ValueError, match=rf"^{type(each).__name__} has no {what}; pass the scheduler that the"):
                ours.read_scheduler(each)
    assert any(isinstance(each, diffusers.RePaintScheduler) for each in every)


@OF_DIFFUSERS
def test_no_scheduler_takes_its_own_option_from_a_corruption(tmp_path: Path) -> None:
    scheduler = ours.CorruptionScheduler(sp.GaussianCorruption("flow"), "velocity", num_train_timesteps=10, shift=-0.5)
    for each in schedulers():
        try:
            made = type(each).from_config(scheduler.config)
        except (NotImplementedError, ValueError):  # it has betas
            continue
        assert made.config.get("shift") == each.config.get("shift")
    scheduler.save_pretrained(tmp_path)
    file = tmp_path / "scheduler_config.json"
    former = file.read_text().replace('"timestep_shift"', '"shift"')
    assert former != file.read_text()
    for _ in range(2):
        again = ours.CorruptionScheduler.from_pretrained(tmp_path)
        assert torch.equal(again.timesteps, scheduler.timesteps)
        file.write_text(former)
