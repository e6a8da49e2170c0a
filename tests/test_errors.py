"""Arguments of a wrong type: every error names the argument, and is raised on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.refusals import check_refused
from tests.worlds import SHAPE, spectrum

FLOW, DATA, IMAGES = sp.GaussianCorruption("flow"), spectrum(), torch.zeros(2, *SHAPE)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.layer(x_t)
        return output


def sampler(**options: object) -> sp.Sampler:
    return sp.Sampler(Net(), FLOW, **options)


def sample(**options: object) -> Tensor:
    return sampler(steps=2).sample(IMAGES.shape, **options)


def trainer(**options: object) -> sp.DiffusionTrainer:
    return sp.DiffusionTrainer(Net(), FLOW, **options)


def fit(batch: object = IMAGES, steps: int = 1, **options: object) -> None:
    trainer().fit([batch], steps=steps, **options)


def law(**options: object) -> sp.PowerSpectrum:
    return sp.PowerSpectrum.power_law(SHAPE, **{"amplitude": 1.0, "offset": 0.1, "exponent": 2.0, **options})


def loss(**options: object) -> Tensor:
    return sp.DiffusionLoss(FLOW)(Net(), IMAGES, **options)


def average(model: object = Net, decay: object = 0.9, **options: object) -> sp.training.ExponentialMovingAverage:
    return sp.training.ExponentialMovingAverage(Net() if model is Net else model, decay, **options)


NULL = {"y": 0}
CASES: dict[str, Callable[[], object]] = {
    "guidance_scale must be a number, got '2'": lambda: sampler(guidance_scale="2", null_conditioning=NULL),
    "guidance_interval[0] must be a number": lambda: sampler(
        guidance_scale=2.0, guidance_interval=("a", 1.0), null_conditioning=NULL
    ),
    "null_conditioning must have strings as names, got 3; pass e.g.": lambda: sampler(
        guidance_scale=2.0, null_conditioning={3: 1}
    ),
    "null_conditioning must have strings as names, got 4": lambda: trainer(
        drop_conditioning=0.1, null_conditioning={4: 1}
    ),
    "conditioning must have strings as names, got 3": lambda: sample(conditioning={3: 1}),
    "null_conditioning must be a mapping, got list": lambda: sampler(guidance_scale=2.0, null_conditioning=[1]),
    "got the class Uniform; make one, e.g. grid=Uniform()": lambda: sampler(grid=sp.grids.Uniform),
    "callback must be a function of a SampleStep, got int": lambda: sample(callback=1),
    "denoised_callback must be a function of (x_0_hat, t), got int": lambda: sample(denoised_callback=1),
    "every callback must be a function": lambda: sp.edits.compose(1),
    "start must be a number, got 'a'": lambda: sample(start="a", x_1=IMAGES),
    "conditioning must be a mapping, got list": lambda: sample(conditioning=[1]),
    "generator must be a torch.Generator or one per image, got int": lambda: sample(generator=0),
    "estimate the spectrum on images of this shape": lambda: sampler(spectrum=DATA).sample((1, 3, 16, 16)),
    "fractions must be a sequence of numbers in [0, 1], got 0.5": lambda: sampler().interpolate(IMAGES, IMAGES, 0.5),
    "every fraction must be a number": lambda: sampler().interpolate(IMAGES, IMAGES, ["a"]),
    "ema_decay must be a number, got 'a'": lambda: trainer(ema_decay="a"),
    "learning_rate must be a number, got 'a'": lambda: trainer(learning_rate="a"),
    "learning_rate must be positive, got -1": lambda: trainer(learning_rate=-1.0),
    "max_grad_norm must be a number": lambda: trainer(max_grad_norm="a"),
    "drop_conditioning must be a number": lambda: trainer(drop_conditioning="a"),
    "scheduler must be a torch.optim.lr_scheduler.LRScheduler, got int": lambda: trainer(scheduler=1),
    "metadata must be a mapping, got int": lambda: trainer(metadata=1),
    "null_conditioning must be a mapping": lambda: trainer(drop_conditioning=0.1, null_conditioning=[1]),
    "label_name must be a string or None, got 3": lambda: trainer(label_name=3),
    "check_range must be True or False, got 'a'": lambda: trainer(check_range="a"),
    "model must be a torch.nn.Module, got the class Net": lambda: sp.DiffusionTrainer(Net, FLOW),
    "model must be a torch.nn.Module, got NoneType": lambda: sp.DiffusionTrainer(None, FLOW),
    "model Identity has no parameters to train": lambda: sp.DiffusionTrainer(torch.nn.Identity(), FLOW),
    "model predicts 'noise', got prediction='data'": lambda: trainer().sampler(prediction="data"),
    "callbacks must be a sequence of functions": lambda: fit(callbacks=print),
    "every callback must be a function of (trainer, TrainStep), got int": lambda: fit(callbacks=[1]),
    "checkpoint_dir is empty": lambda: fit(checkpoint_dir=""),
    "checkpoint_dir must be a path, got int": lambda: fit(checkpoint_dir=3),
    "a state must be a mapping, as state_dict returns it, got NoneType": lambda: trainer().load_state_dict(None),
    "got the entries 'a'; load weights alone": lambda: trainer().load_state_dict({"a": 1}),
    "label_name='y' requires batches (images, labels)": lambda: trainer(label_name="y").fit([IMAGES], steps=1),
    "eps must be a torch.Tensor, got float": lambda: loss(eps=1.0),
    "generator must be a torch.Generator, got int": lambda: loss(generator=0),
    "model must be a function of (x_t, t), got int": lambda: sp.DiffusionLoss(FLOW)(1, IMAGES),
    "max_blur must be a number, got 'a'": lambda: sp.BlurCorruption("a"),
    "amplitude must be a number, got '1'": lambda: law(amplitude="1"),
    "floor must be a number, got 'a'": lambda: sp.PowerSpectrum.estimate([torch.randn(8, *SHAPE)], floor="a"),
    "quantile must be a number, got 'a'": lambda: sp.edits.dynamic_threshold("a"),
    "at_noise must be a number, got 'a'": lambda: sp.grids.Power("a"),
    "t must be a time in [0, 1], a number or a tensor (B,), got '0.5'": lambda: sp.corrupt(FLOW, IMAGES, "0.5", IMAGES),
    "analyzed must be True or False, got 'no'": lambda: sp.corrupt(FLOW, IMAGES, 0.5, IMAGES, analyzed="no"),
    "analyzed must be True or False, got None": lambda: sp.corrupt(FLOW, IMAGES, 0.5, IMAGES, analyzed=None),
    "got torch.complex64; pass its parts as channels, torch.cat([eps.real, eps.imag], 1)": lambda: sp.corrupt(
        FLOW, IMAGES, 0.5, IMAGES.cfloat()
    ),
    "eps must be a floating-point tensor, got torch.int32; convert it with eps.float()": lambda: sp.corrupt(
        FLOW, IMAGES, 0.5, IMAGES.int()
    ),
    "seed must be less than 2**63": lambda: trainer(seed=2**63),
    "delay is kept as a constant, got a tensor that requires a gradient": lambda: sp.StaggeredCorruption(
        FLOW, torch.nn.Parameter(torch.zeros(1, 8, 8)), spread=1.0
    ),
    "null_conditioning['y'] is kept as a constant": lambda: trainer(
        null_conditioning={"y": torch.nn.Parameter(torch.zeros(2))}, drop_conditioning=0.1
    ),
    "power is kept as a constant": lambda: sp.PowerSpectrum(DATA.basis, torch.nn.Parameter(DATA.power)),
    "mean is kept as a constant": lambda: sp.DiagonalCorruption(DATA.basis, mean=torch.zeros(SHAPE).requires_grad_()),
    "channel_rotation is kept as a constant": lambda: sp.CosineBasis(2, torch.nn.Parameter(torch.eye(3))),
    "steps must be less than 2**63, got 1000": lambda: sampler(steps=10**30),
    "shape must have sizes less than 2**63": lambda: sampler(steps=3).sample((10**30, *SHAPE)),
    "spatial must have sizes less than 2**63": lambda: sp.BlurCorruption(spatial=(10**30, 8)),
    "folder must be a path, which holds no null character": lambda: sampler().save_pretrained("a\0b"),
    # True and False, which Python takes for 1 and 0.
    "start must be a number, got True": lambda: sampler(start=True),
    "steps must be a whole number of 1 or more, got True": lambda: sampler(steps=True),
    "shape must be a sequence of whole numbers (B, C, *spatial), got (True, 3, 8, 8)": lambda: sampler(steps=2).sample(
        (True, 3, 8, 8)
    ),
    "times must be a 1-D tensor of real numbers that falls strictly, got torch.bool": lambda: sampler(
        times=torch.tensor([True, False])
    ),
    "seed must be a whole number of 0 or more, got tensor(True)": lambda: trainer(seed=torch.tensor(True)),
    "max_grad_norm must be a number, got": lambda: trainer(max_grad_norm=np.bool_(True)),
    "min_scale must be a number, got True": lambda: sp.BlurCorruption(4.0, True),
    "end must be a number, got True": lambda: sp.grids.LogSnr(FLOW, True),
    "count must be a whole number of 0 or more, got True": lambda: sp.PowerSpectrum(DATA.basis, DATA.power, count=True),
    "floored must be a whole number of 0 or more, got True": lambda: sp.PowerSpectrum(
        DATA.basis, DATA.power, floored=True
    ),
    "scale must be a number, got True": lambda: sp.bits_per_dim(torch.zeros(2), SHAPE, scale=True),
    "t must be a time in [0, 1], a number or a tensor (B,), got True": lambda: sp.corrupt(FLOW, IMAGES, True, IMAGES),
    "a number or a tensor (B,), got array(True)": lambda: sp.corrupt(FLOW, IMAGES, np.array(True), IMAGES),
    "times must be a tensor or a sequence of falling numbers, got (True, 0.5, 0.0)": lambda: sampler(
        times=(True, 0.5, 0.0)
    ),
    "times must be a tensor or a sequence of falling numbers, got array([ True, False])": lambda: sampler(
        times=np.array([True, False])
    ),
    "expected a PowerSpectrum, variances or a number, got True": lambda: sp.geometry.fisher_distance(DATA, True),
    "expected a PowerSpectrum, variances or a number, got [1.0, True]": lambda: sp.geometry.fisher_distance(
        [1.0, True], 1.0
    ),
    # Values that Python takes for True or False.
    "center must be True or False, got 'no'": lambda: sp.PowerSpectrum.estimate([IMAGES], center="no"),
    "check_range must be True or False, got None": lambda: sp.PowerSpectrum.estimate([IMAGES], check_range=None),
    "check_range must be True or False, got 0": lambda: trainer(check_range=0),
    "ema_warmup must be True, False or None, got 0": lambda: trainer(ema_warmup=0),
    "ema_warmup must be True, False or None, got np.False_; pass bool(ema_warmup)": lambda: trainer(
        ema_warmup=np.False_
    ),
    "warmup must be True or False, got 'no'": lambda: average(warmup="no"),
    "progress must be True, False or None, got 'x'": lambda: sample(progress="x"),
    "analyzed must be True or False, got 0": lambda: sp.DiffusionLoss(FLOW).task(IMAGES, 0.5, IMAGES, analyzed=0),
    "model must be True or False, got 'no'": lambda: sampler().save_pretrained("folder", model="no"),
    "corrector must be True, False or None, got 1": lambda: sp.solvers.Multistep(corrector=1),
    "model must be a torch.nn.Module, whose weights are averaged, got NoneType": lambda: average(None),
    "ema_decay must be a number, got '0.9'": lambda: average(decay="0.9"),
    "has the entries ('model', 'exact', 'updates'), got []; pass": lambda: average().load_state_dict({}),
    "eps must be on the device of x_0, cpu, got meta": lambda: loss(eps=torch.randn(2, *SHAPE, device="meta")),
    "x_0 holds no images": lambda: sp.DiffusionLoss(FLOW)(Net(), IMAGES[:0]),
    "images must be a floating-point tensor, got torch.float8_e5m2; convert it": lambda: sp.PowerSpectrum.estimate(
        [IMAGES.to(torch.float8_e5m2)]
    ),
    "x_0 must be a floating-point tensor, got torch.float8_e5m2; convert it": lambda: sp.corrupt(
        FLOW, IMAGES.to(torch.float8_e5m2), 0.5, IMAGES
    ),
    "image_to_image takes no x_1: it starts from x_0, corrupted; omit x_1": lambda: sampler().image_to_image(
        IMAGES, start=0.5, x_1=IMAGES
    ),
    "conditioning must be a mapping, got tuple": lambda: sampler().batches(1, SHAPE, conditioning=(1,)),
    "or a list or range of indices, got Tensor; pass its tolist()": lambda: sampler().batches(torch.arange(3), SHAPE),
    "or a list or range of indices, got ndarray; pass its tolist()": lambda: sampler().batches(np.arange(3), SHAPE),
    "step must be a whole number of 0 or more, got True": lambda: sp.training.save_checkpoint(".", True, {}, keep=1),
}


@pytest.mark.parametrize("message", CASES)
def test_the_error_names_the_argument(message: str) -> None:
    check_refused(CASES[message], message)


def test_a_model_that_requires_labels_says_how_to_pass_them() -> None:
    class Labelled(Net):
        def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
            return super().forward(x_t, t)

    with pytest.raises(TypeError, match=r"Labelled.forward requires y, got only x_t, t; .* set label_name='y'"):
        sp.DiffusionTrainer(Labelled(), FLOW).fit([(IMAGES, torch.zeros(2))], steps=1)


def test_fewer_steps_than_are_made_are_told() -> None:
    run = trainer()
    run.fit([IMAGES], steps=2)
    with pytest.warns(RuntimeWarning, match="steps=1 is the total to reach, and 2 steps are made"):
        run.fit([IMAGES], steps=1)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fit(checkpoint_dir="~/run")
    assert (tmp_path / "run" / "checkpoint-00000001.pt").exists()
