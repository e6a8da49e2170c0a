"""The public API on a device that is not the CPU: nothing is made on the wrong device, and the loops do not wait."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from tests.fake_gpu import FakeGPU, exists
from tests.training.processes import together
from tests.worlds import CORRUPTIONS, GRIDS, INFORMED, SHAPE, SOLVERS, correlated_images, spectrum

Work = Callable[[str], Iterator[Tensor]]
IMAGES = correlated_images(8).float()


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(SHAPE[0], SHAPE[0], 3, padding=1)
        self.label = torch.nn.Embedding(4, SHAPE[0])

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        shift = 0.0 if label is None else self.label(label)[:, :, None, None]
        return self.layer(x_t) * (1 - t.view(-1, 1, 1, 1)) + shift


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def corruption(name: str, device: str) -> sp.Corruption:
    made = CORRUPTIONS[name]()
    return made.to(device) if isinstance(made, torch.nn.Module) else made


def sampler(device: str, name: str = "shortest-cosine", **options: object) -> sp.Sampler:
    return sp.Sampler(Network().to(device), corruption(name, device), **{"steps": 4, "prediction": "data", **options})


def works() -> dict[str, Work]:
    """What is done on both devices, by name; each yields its results."""
    data = spectrum()

    def corrupting(name: str) -> Work:
        def work(device: str) -> Iterator[Tensor]:
            x_0, eps = IMAGES.to(device), torch.randn(IMAGES.shape, generator=seed()).to(device)
            yield sp.corrupt(corruption(name, device), x_0, torch.linspace(0, 1, 8).to(device), eps)
            yield sp.corrupt(corruption(name, device), x_0, 0.5, eps)

        return work

    def sampling(**options: object) -> Work:
        def work(device: str) -> Iterator[Tensor]:
            yield sampler(device, **options).sample((2, *SHAPE), generator=seed())

        return work

    def on_a_grid(name: str) -> Work:
        def work(device: str) -> Iterator[Tensor]:
            made = corruption("shortest-cosine", device)
            yield sp.Sampler(Network().to(device), made, grid=GRIDS[name](made, data), steps=4).times

        return work

    def guided(device: str) -> Iterator[Tensor]:
        made = sampler(device, guidance_scale=2.0, null_conditioning={"label": 0})
        label = {"label": torch.tensor([1, 2]).to(device)}
        yield made.sample((2, *SHAPE), conditioning=label, generator=seed(), clip=(-1, 1))

    def edited(device: str) -> Iterator[Tensor]:
        known, mask = IMAGES[:2].to(device), (IMAGES[:2] > 0).float().to(device)
        edit = sp.edits.compose(sp.edits.inpaint(known, mask), sp.edits.dynamic_threshold(0.9))
        made = sampler(device)
        yield made.sample((2, *SHAPE), denoised_callback=edit, generator=seed())
        yield made.image_to_image(known, start=0.5, generator=seed())
        yield torch.cat(list(made.batches(3, SHAPE, batch_size=2)))
        yield made.step(known, 0.6, 0.4).x_t

    def encoding(device: str) -> Iterator[Tensor]:
        made, x_0 = sampler(device), IMAGES[:2].to(device)
        yield made.invert(x_0)
        yield made.interpolate(x_0, x_0.flip(0), (0.0, 0.3))
        yield made.log_likelihood(x_0, generator=seed())

    def estimating(device: str) -> Iterator[Tensor]:
        for basis in ("cosine", "fourier", "principal"):
            yield sp.PowerSpectrum.estimate([IMAGES.to(device)], basis).power

    def of_a_mean(device: str) -> Iterator[Tensor]:
        known = sp.PowerSpectrum(data.basis, data.power, mean=IMAGES[0])
        made = sp.ShortestPathCorruption(known).to(device)
        yield made.corrupt(IMAGES.to(device), 0.5, IMAGES.flip(0).to(device))
        model = Network().to(device)
        yield sp.Sampler(model, made, prediction="data", steps=3).sample((2, *SHAPE), generator=seed())
        yield sp.DiffusionLoss(made, "velocity")(
            model, IMAGES.to(device), t=0.4, eps=IMAGES.flip(0).to(device)
        ).detach()
        other = sp.Sampler(model, sp.GaussianCorruption(), prediction="data", steps=3, spectrum=known)
        yield other.sample((2, *SHAPE), generator=seed())

    def loss(prediction: str, **options: object) -> Work:
        def work(device: str) -> Iterator[Tensor]:
            objective = sp.DiffusionLoss(sp.GaussianCorruption().to(device), prediction, spectrum=data, **options)
            model, x_0 = Network().to(device), IMAGES.to(device)
            found = objective(model, x_0, t=torch.linspace(0.1, 0.9, 8).to(device), eps=x_0.flip(0))
            found.backward()
            yield found.detach()
            yield model.layer.weight.grad

        return work

    def training(device: str) -> Iterator[Tensor]:
        for name in ("shortest-cosine", "shortest-fourier", "blur"):
            model = Network().to(device)
            trainer = sp.DiffusionTrainer(model, corruption(name, device), label_name="label", max_grad_norm=1.0)
            trainer.fit([(IMAGES, torch.arange(8) % 4)], steps=2)
            yield model.layer.weight.detach()
            again = sp.DiffusionTrainer(
                Network().to(device), corruption(name, device), label_name="label", max_grad_norm=1.0
            )
            again.load_state_dict(copy.deepcopy(trainer.state_dict()))
            again.fit([(IMAGES, torch.arange(8) % 4)], steps=3)
            yield again.ema_model.layer.weight.detach()
            yield again.sampler(steps=3).sample((2, *SHAPE), generator=seed())

    def analysing(device: str) -> Iterator[Tensor]:
        made = corruption("shortest-cosine", device)
        yield torch.tensor([sp.path_length(made, data), sp.gaussian_kl(made, data, steps=3)], dtype=torch.float64)

    return {
        **{f"corrupt {name}": corrupting(name) for name in CORRUPTIONS if name != "own"},
        **{f"sample by {name}": sampling(solver=solver) for name, solver in SOLVERS.items() if "noisy" in name},
        **{f"sample by {name}": sampling(solver=solver) for name, solver in INFORMED.items()},
        **{f"sample {name}": sampling(name=name, spectrum=None) for name in CORRUPTIONS if name not in ("own", "heat")},
        "sample with a spectrum": sampling(name="gaussian-cosine", spectrum=data, prediction="whitened-velocity"),
        **{f"grid {name}": on_a_grid(name) for name in ("log-snr", "spectrum")},
        **{f"loss {name}": loss(name) for name in ("noise", "data", "velocity", "whitened-velocity")},
        "likelihood": loss("velocity", weighting="likelihood"), "mean": of_a_mean,
        "guidance": guided, "edits": edited, "encoding": encoding, "spectra": estimating, "training": training,
        "analysis": analysing,
    }  # fmt: skip


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
        for times in ("uniform", "loss-second-moment"):
            model, process = Network().to("gpu"), corruption("shortest-cosine", "gpu")
            trainer = sp.DiffusionTrainer(model, process, time_sampling=times, ema_decay=(0.999, 0.9))
            trainer.train_step([IMAGES])
            gpu.forget()
            trainer.train_step([IMAGES])
            assert len(gpu.waits) == len(gpu.copies) == 1, (gpu.waits, gpu.copies)  # is the step finite?; the images
