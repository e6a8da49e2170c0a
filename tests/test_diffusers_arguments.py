"""Slips in a loop of diffusers: every one is refused with the reason, before the scheduler changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.refusals import check_refused
from tests.worlds import spectrum

diffusers = pytest.importorskip("diffusers")
ours = pytest.importorskip("shortest_path.integrations.diffusers")

NOISE, COSINE, NAN = torch.randn(2, 3, 8, 8), sp.GaussianCorruption("cosine"), float("nan")
OUTPUT = diffusers.models.unets.unet_2d.UNet2DOutput(sample=NOISE)
ONE = torch.Generator()


def new(solver: str = "multistep", **options: Any) -> Any:
    made = ours.CorruptionScheduler(COSINE, "velocity", solver, **options)
    made.set_timesteps(5)
    return made


def step(output: Any = NOISE, timestep: Any = 999, sample: Any = NOISE, **options: Any) -> Tensor:
    found: Tensor = new(options.pop("solver", "multistep")).step(output, timestep, sample, **options).prev_sample
    return found


def table(**options: Any) -> None:
    new().set_timesteps(**options)


def timed(output: Any) -> Tensor:
    found: Tensor = ours.TimedModel(lambda x, t: output)(NOISE, torch.zeros(2))
    return found


MODULES = "model_output must be a torch.Tensor, got "
WRONG: dict[str, Callable[[], object]] = {
    f"{MODULES}UNet2DOutput; pass model_output.sample": lambda: step(OUTPUT),
    f"{MODULES}tuple; pass model_output[0]": lambda: step((NOISE,)),
    f"{MODULES}ndarray; convert it with torch.as_tensor": lambda: step(NOISE.numpy()),
    f"{MODULES}NoneType": lambda: step(None),
    "model_output must be a floating-point tensor, got torch.complex64; pass its parts": lambda: step(NOISE.cfloat()),
    "model_output must be a floating-point tensor, got torch.int64": lambda: step(NOISE.long()),
    "sample must be a torch.Tensor, got ndarray": lambda: step(sample=NOISE.numpy()),
    "sample must be a torch.Tensor, got NoneType": lambda: step(sample=None),
    "sample must be a floating-point tensor, got torch.complex64": lambda: step(sample=NOISE.cfloat()),
    "timestep must be a number, one of scheduler.timesteps, got None": lambda: step(timestep=None),
    "timestep must be a number, one of scheduler.timesteps, got '999'": lambda: step(timestep="999"),
    "timestep must be a number, one of scheduler.timesteps, got True": lambda: step(timestep=True),
    "timestep must be a number, one of scheduler.timesteps, got tensor(999.+1.j)": lambda: step(
        timestep=torch.tensor(999 + 1j)
    ),
    "timestep must be one, and the same for all images, got 799, 999; take a step": lambda: step(
        timestep=torch.tensor([999, 799])
    ),
    "timestep must be one, and the same for all images, got 94.4915, 344.492, 653.508, 903.508, 999;": lambda: step(
        timestep=new().timesteps
    ),
    "timestep must be one, and the same for all images, got none": lambda: step(timestep=torch.tensor([])),
    "timestep is on the meta device": lambda: step(timestep=torch.tensor(999, device="meta")),
    "generator must be a torch.Generator or one per image, got int": lambda: step(generator=3),
    "generator must be a torch.Generator or one per image, got a list with int": lambda: step(generator=[3, 3]),
    "generator must be a torch.Generator or one per image, got str": lambda: step(generator="33"),
    "expected one generator for each of 2 images, got 1": lambda: step(generator=[ONE]),
    "expected one generator for each of 2 images, got 3": lambda: step(generator=[ONE] * 3, solver="ancestral"),
    "timesteps must be a number or a tensor (B,), e.g. torch.randint(0, 1000, (batch,)), got None": lambda: (
        new().add_noise(NOISE, NOISE, None)
    ),
    "timesteps must be a number or a tensor (B,), e.g. torch.randint(0, 1000, (batch,)), got 'a'": lambda: (
        new().get_velocity(NOISE, NOISE, "a")
    ),
    "original_samples must be a torch.Tensor, got ndarray": lambda: new().add_noise(NOISE.numpy(), NOISE, 5),
    "original_samples must be a floating-point tensor, got torch.uint8; convert 8-bit": lambda: new().add_noise(
        NOISE.byte(), NOISE, 5
    ),
    "noise must be a torch.Tensor, got NoneType": lambda: new().add_noise(NOISE, None, 5),
    "noise must have the shape of original_samples, (2, 3, 8, 8), got (1, 3, 8, 8); use torch.randn_like(": lambda: (
        new().add_noise(NOISE, NOISE[:1], 5)
    ),
    "sample must be a torch.Tensor, got NoneType; convert": lambda: new().get_velocity(None, NOISE, 5),
    "noise must have the shape of sample, (2, 3, 8, 8), got (1, 3, 8, 8); use torch.randn_like(sample)": lambda: (
        new().get_velocity(NOISE, NOISE[:1], 5)
    ),
    "noise must be on the device of sample, cpu, got meta; use torch.randn_like(sample)": lambda: new().get_velocity(
        NOISE, NOISE.to("meta"), 5
    ),
    "`corruption` does not implement `Corruption`: NoneType has no": lambda: ours.CorruptionScheduler(None),
    "`corruption` does not implement `Corruption`: str has no": lambda: ours.CorruptionScheduler("cosine"),
    "unknown prediction 'epsilon'": lambda: ours.CorruptionScheduler(COSINE, "epsilon"),
    "shift must be a finite number, got nan": lambda: new(shift=NAN),
    "shift must be a finite number, got inf": lambda: ours.TimedModel(torch.nn.Module(), shift=float("inf")),
    "steps must be a finite number, got nan": lambda: ours.TimedModel(torch.nn.Module(), steps=NAN),
    "shift must be a number, got None": lambda: new(shift=None),
    "set_timesteps has no timesteps=; pass times=[(k + 1) / 1000 for k in timesteps] + [0.0]": lambda: table(
        timesteps=[999, 500, 0]
    ),
    "set_timesteps has no sigmas=; pass times=, which fall from 1, noise, to 0, data": lambda: table(sigmas=[1.0]),
    "device 'gpu' cannot be used; use 'cpu', or 'cuda'": lambda: table(num_inference_steps=3, device="gpu"),
    "steps must be a whole number of 1 or more, got [999, 500]": lambda: table(num_inference_steps=[999, 500]),
    "must return an output with .sample, as those of diffusers, got Tensor; a model that returns": lambda: timed(NOISE),
    "must return an output with .sample, as those of diffusers, got tuple": lambda: timed((NOISE,)),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_slip_is_refused_with_the_reason(message: str) -> None:
    check_refused(WRONG[message], message)


@pytest.mark.parametrize("kind", [int, float, np.float32, torch.tensor])
def test_a_step_takes_one_timestep_for_all_images_in_any_form(kind: Callable[[int], Any]) -> None:
    expected = step()
    assert torch.equal(step(timestep=kind(999)), expected)
    for count in (1, 2):
        assert torch.equal(step(timestep=torch.full((count,), 999)), expected)


def test_a_step_that_is_refused_leaves_the_run_as_it_was() -> None:
    def run(*, slips: bool) -> Tensor:
        scheduler, sample = new(), NOISE
        for t in scheduler.timesteps:
            for wrong in [(OUTPUT, t), (NOISE, None), (NOISE, scheduler.timesteps)] if slips else []:
                with pytest.raises((TypeError, ValueError)):
                    scheduler.step(*wrong, sample)
            sample = scheduler.step(0.1 * sample, t, sample).prev_sample
        return sample

    assert torch.equal(run(slips=True), run(slips=False))


def test_new_timesteps_that_are_refused_leave_the_old_ones() -> None:
    scheduler = new()
    before = scheduler.timesteps
    with pytest.raises(ValueError, match="device 'gpu' cannot be used"):
        scheduler.set_timesteps(3, device="gpu")
    assert scheduler.num_inference_steps == len(scheduler.sampler.times) - 1 == 5
    assert scheduler.timesteps is before


def test_the_times_that_an_error_advises_are_those_timesteps() -> None:
    scheduler, timesteps = ours.CorruptionScheduler(COSINE, "velocity"), [999, 500, 0]
    scheduler.set_timesteps(times=[(k + 1) / 1000 for k in timesteps] + [0.0])
    torch.testing.assert_close(scheduler.timesteps, torch.tensor(timesteps, dtype=torch.float32))


def test_generators_of_a_run_are_as_many_at_every_step() -> None:
    scheduler = new()
    first, second = scheduler.timesteps[:2]
    sample = scheduler.step(NOISE, first, NOISE, [ONE, ONE]).prev_sample
    with pytest.raises(ValueError, match="this run began with generator a list of 2 generators, got a list of 3 gen"):
        scheduler.step(NOISE, second, sample, [ONE] * 3)
    with pytest.raises(ValueError, match="this run began with generator a list of 2 generators, got a list with int"):
        scheduler.step(NOISE, second, sample, [3, 3])


@pytest.mark.parametrize("wrong", [3, "33", [3, 3], [[ONE], [ONE]]])
def test_a_sampler_refuses_what_is_no_generator_also_where_it_draws_nothing(wrong: Any) -> None:
    sampler = sp.Sampler(lambda x, t: x, sp.ShortestPathCorruption(spectrum()), prediction="velocity", steps=2)
    for x_1 in (None, NOISE):
        with pytest.raises(TypeError, match="generator must be a torch.Generator or one per image, got"):
            sampler.sample(NOISE.shape, x_1=x_1, generator=wrong)
    with pytest.raises(TypeError, match="generator must be a torch.Generator or one per image, got"):
        sampler.step(NOISE, 1.0, 0.5, generator=wrong)
    with pytest.raises(TypeError, match="generator must be a torch.Generator"):
        sampler.log_likelihood(NOISE, generator=wrong)
