"""The public API on a device that is not the CPU: nothing is made on the wrong device, and the loops do not wait."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

import shortest_path as sp
from shortest_path import plots
from shortest_path.integrations.diffusers import CorruptionScheduler, TableCorruption
from tests.fake_gpu import FakeGPU, exists
from tests.training.processes import together
from tests.works import IMAGES, Network, corruption, sampler, works
from tests.worlds import CORRUPTIONS, INFORMED, SHAPE, SOLVERS


@pytest.mark.skipif(not exists(), reason="this version of torch cannot pretend to have a device")
@pytest.mark.parametrize("float64", [True, False], ids=["float64", "float32 only"])
def test_a_device_gives_what_the_cpu_gives_without_waits(tmp_path: Path, float64: bool) -> None:
    together(_compare, tmp_path, float64, ranks=1)


def _compare(rank: int, ranks: int, folder: str, float64: bool) -> None:
    torch.set_num_threads(1)
    gpu, wrong, todo = FakeGPU(float64=float64), [], works()
    if not float64:
        todo = {name: work for name, work in todo.items() if name.split()[0] in ("corrupt", "sample", "training")}
        todo.pop("sample gaussian-callable")  # cos(π/2) is 6e-17 in float64 and -4e-8 in float32
    for name, work in todo.items():
        expected = list(work("cpu"))
        try:
            with gpu:
                found = [each.to("cpu") for each in work("gpu")]
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
            continue
        for index, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            # On a device without float64 the tables are rounded once, and the steps are computed from them.
            far = float((mine.double() - theirs.double()).abs().max() / theirs.double().abs().max())
            if not far <= (1e-12 if float64 else 1e-4):
                wrong.append(f"{name}: result {index} differs by {far:.2g}")
    assert not wrong, "\n".join(wrong)
    _tables_come_back_exact(gpu)
    _loops_do_not_wait(gpu)


def _tables_come_back_exact(gpu: FakeGPU) -> None:
    made = CORRUPTIONS["shortest-cosine"]()
    before = {name: buffer.clone() for name, buffer in made.named_buffers()}
    with gpu:
        made.to("gpu").to("cpu")
    assert all(torch.equal(buffer, before[name]) for name, buffer in made.named_buffers())
    with gpu:
        made.to("gpu").log_ratio.fill_(1.0)  # given there: these are the values now
        assert float(made.to("cpu").log_ratio.mean()) == 1.0


def _loops_do_not_wait(gpu: FakeGPU) -> None:
    with gpu:
        for solver in (*SOLVERS.values(), *INFORMED.values()):
            steps = iter(sampler("gpu", solver=solver).trajectory((2, *SHAPE)))
            next(steps)  # with the tables of the basis, which are copied once
            gpu.forget()
            assert len(list(steps)) == 3
            assert gpu.waits + gpu.copies == [], solver
        for times, fused in itertools.product(("uniform", "loss-second-moment"), (False, True)):
            model, process = Network().to("gpu"), corruption("shortest-cosine", "gpu")
            optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, fused=fused)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)
            options = {"ema_decay": (0.999, 0.9), "max_grad_norm": 1.0, "optimizer": optimizer, "scheduler": schedule}
            trainer = sp.DiffusionTrainer(model, process, time_sampling=times, **options)
            trainer.train_step([IMAGES])
            gpu.forget()
            trainer.train_step([IMAGES])
            assert len(gpu.copies) == 1, gpu.copies  # the images
            assert len(gpu.waits) == (0 if fused else 1), gpu.waits  # is the step finite?


def test_a_default_device_moves_nothing(tmp_path: Path) -> None:
    made, x_t = sampler("cpu"), IMAGES[:2].clone()
    alphas = torch.linspace(0.99, 0.01, 10)
    scheduler = CorruptionScheduler(corruption("gaussian-cosine", "cpu"), "data", solver="ddim")
    scheduler.set_timesteps(4)
    with torch.device("meta"):
        data = sp.PowerSpectrum.estimate([IMAGES], check_range=False)
        data.save(tmp_path / "spectrum.npz")
        loaded = sp.PowerSpectrum.load(tmp_path / "spectrum.npz")
        shortest = sp.ShortestPathCorruption(loaded)
        made.save_pretrained(tmp_path / "sampler")
        again = sp.Sampler.from_pretrained(tmp_path / "sampler", made.model)
        lengths = sp.fisher_distance(data.power, 1.0), sp.path_length(shortest, data)
        kl = sp.gaussian_kl(shortest, data, steps=3)
        stepped = scheduler.step(x_t, float(scheduler.timesteps[0]), torch.randn(x_t.shape, device="cpu")).prev_sample
        read = TableCorruption(alphas)
        plots.spectrum(data, law=True)
        plots.scales(shortest, data)
        plots.path(shortest, data)
        plots.strip(IMAGES[0].clamp(-1, 1), {"path": shortest})
        plots.side_by_side(IMAGES[:3].clamp(-1, 1), IMAGES[:2].clamp(-1, 1))
        plots.power(IMAGES, data)
    expected = sp.PowerSpectrum.estimate([IMAGES], check_range=False)
    assert torch.equal(loaded.power, expected.power)
    assert torch.equal(loaded.basis.channel_rotation, expected.basis.channel_rotation)
    assert torch.equal(again.times, made.times)
    assert all(each > 0 for each in (*lengths, kl))
    assert stepped.device.type == read.alphas_cumprod.device.type == "cpu"
