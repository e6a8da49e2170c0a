"""The public API as works that any device must do alike: `tests/test_devices.py`, and `studies.gpu` on a real one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import shortest_path as sp
from tests.worlds import CORRUPTIONS, GRIDS, INFORMED, SHAPE, SOLVERS, correlated_images, spectrum

Work = Callable[[str], Iterator[Tensor]]
IMAGES = correlated_images(8).float()
OWN_RANDOM = ("batches", "training")
"""Works that draw random numbers on the device: on a real one they differ from the CPU's."""


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
        yield made.step(known, 0.6, 0.4).x_t

    def in_batches(device: str) -> Iterator[Tensor]:
        yield torch.cat(list(sampler(device).batches(3, SHAPE, batch_size=2)))

    def encoding(device: str) -> Iterator[Tensor]:
        made, x_0 = sampler(device), IMAGES[:2].to(device)
        yield made.invert(x_0)
        yield made.interpolate(x_0, x_0.flip(0), (0.0, 0.3))
        yield made.log_likelihood(x_0, generator=seed())

    def estimating(device: str) -> Iterator[Tensor]:
        for basis in ("cosine", "fourier", "principal"):
            yield sp.PowerSpectrum.estimate([IMAGES.double().to(device)], basis).power

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

        model = Network().to(device)  # the device skips the step that is not finite
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
        trainer = sp.DiffusionTrainer(model, corruption("shortest-cosine", device), optimizer=optimizer, ema_decay=0.9)
        for images in (IMAGES, IMAGES * torch.nan, IMAGES):
            trainer.train_step([(images, torch.arange(8) % 4)])
        yield from (each.layer.weight.detach() for each in (model, trainer.ema_model))
        yield torch.tensor([trainer.skipped], dtype=torch.float64)

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
        "guidance": guided, "edits": edited, "batches": in_batches, "encoding": encoding, "spectra": estimating,
        "training": training, "analysis": analysing,
    }  # fmt: skip
