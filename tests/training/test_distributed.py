"""Two gloo processes do what one does."""

from __future__ import annotations

import enum
import functools
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import shortest_path as sp
from shortest_path.models import WhitenedInput
from shortest_path.training import load_checkpoint, write_checkpoint
from tests.training.processes import group, together
from tests.worlds import correlated_images


def model() -> nn.Module:
    torch.manual_seed(0)
    return _Model()


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1))
        self.embedding = nn.Embedding(3, 3)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.layers(x_t + self.embedding(y).view(-1, 3, 1, 1)) * (1 + t.view(-1, 1, 1, 1))


def data(rank: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Global batches of 8 images and labels, or the rows of one rank."""
    own = slice(None) if rank is None else slice(rank * 4, (rank + 1) * 4)
    return [(rows[own], (torch.arange(8) % 2)[own]) for rows in correlated_images(48).float().split(8)]


def train(network: nn.Module, batches: list[tuple[Tensor, Tensor]], folder: Path | None = None) -> sp.DiffusionTrainer:
    trainer = sp.DiffusionTrainer(
        network,
        sp.GaussianCorruption(),
        learning_rate=1e-2,
        ema_decay=0.5,
        accumulation=2,
        time_sampling="stratified",
        label_name="y",
        drop_conditioning=0.5,
        null_conditioning={"y": 2},
    )
    trainer.fit(batches, steps=5, checkpoint_dir=folder)
    return trainer


class _Dropping(_Model):
    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x_t, t, y), 0.3, self.training)


def regroup(rank: int, ranks: int, folder: str, steps: int, size: int) -> None:
    """Train to a step, and note what was warned of."""
    with group(rank, ranks, f"{folder}/rendezvous{steps}"):
        torch.manual_seed(0)
        trainer = sp.DiffusionTrainer(DistributedDataParallel(_Dropping()), sp.GaussianCorruption(), label_name="y")
        images = correlated_images(24).float().split(size)
        rows = [(own, torch.zeros(size, dtype=torch.long)) for own in images[rank::ranks]]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.fit(rows, steps=steps, checkpoint_dir=f"{folder}/checkpoints", keep_checkpoints=9)
        said = "\n".join(str(warning.message) for warning in caught)
        Path(f"{folder}/warnings-{steps}-{rank}").write_text(said)
        trainer.save(f"{folder}/saved")


@pytest.mark.slow
def test_another_number_of_processes_goes_on_and_says_so(tmp_path: Path) -> None:
    # Passes of 3, of 6, and of 2 batches: where the last begins, the pass of the one before was further than its end.
    for ranks, steps, size in ((2, 2, 4), (1, 7, 4), (3, 10, 4)):
        together(regroup, tmp_path, steps, size, ranks=ranks)
        state = load_checkpoint(tmp_path / "checkpoints" / f"checkpoint-{steps:08d}.pt")
        assert (state["step"], state["ranks"], state["images"]) == (steps, ranks, ranks * size)
        assert list(state["random"]["ranks"]) == list(range(ranks))
        saved = load_checkpoint(tmp_path / "saved" / f"checkpoint-{steps:08d}.pt")
        for rank, own in state["random"]["ranks"].items():
            assert torch.equal(saved["random"]["ranks"][rank]["cpu"], own["cpu"])
    said = {path.name: path.read_text() for path in tmp_path.glob("warnings-*")}
    one = said.pop("warnings-7-0")
    assert one.startswith("the checkpoint was written by 2 processes with 8 images per step, training continues on 1 w")
    assert "by 1 processes with 4 images per step, training continues on 3 with 12 images: the order" in said.pop(
        "warnings-10-0"
    )
    assert not any(said.values())  # the first process speaks for all


def work(rank: int, ranks: int, folder: str) -> None:
    with group(rank, ranks, f"{folder}/rendezvous"):
        estimator = sp.spectra.SpectrumEstimator(center=True)
        for images, _ in data(rank):
            estimator.update(images)
        estimator.all_reduce()
        trainer = train(DistributedDataParallel(model()), data(rank), Path(folder) / "checkpoints")
        results = {
            "weights": trainer.model.module.state_dict(),
            "ema": trainer.ema_model.state_dict(),
            "power": estimator.spectrum().power,
            "count": estimator.count,
        }
        torch.save(results, f"{folder}/rank{rank}.pt")


@pytest.mark.slow
def test_two_processes_equal_one_with_the_same_global_batch(tmp_path: Path) -> None:
    together(work, tmp_path)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    single = train(model(), data())
    estimator = sp.spectra.SpectrumEstimator(center=True)
    for images, _ in data():
        estimator.update(images)
    for result in ranks:
        for name, value in single.model.state_dict().items():
            torch.testing.assert_close(result["weights"][name], value, atol=1e-5, rtol=0)
            torch.testing.assert_close(result["ema"][name], single.ema_model.state_dict()[name], atol=1e-5, rtol=0)
        torch.testing.assert_close(result["power"], estimator.spectrum().power)
        assert result["count"] == 48
    assert all(torch.equal(ranks[0]["ema"][name], ranks[1]["ema"][name]) for name in ranks[0]["ema"])
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-00000005.pt"]


class _Learned(sp.DiagonalCorruption):
    """The log-SNR of every coefficient bends by a trained amount."""

    def __init__(self, first: float) -> None:
        super().__init__(sp.CosineBasis())
        self.bend = nn.Parameter(torch.full((3, 8, 8), first))

    def log_snr(self, t: Tensor) -> Tensor:
        t = sp.corruptions.per_sample(t, 2)
        return 7 - 14 * (t + self.bend.tanh() * t * (1 - t))

    def signal(self, t: Tensor) -> Tensor:
        return self.log_snr(t).sigmoid().sqrt()

    def noise(self, t: Tensor) -> Tensor:
        return (-self.log_snr(t)).sigmoid().sqrt()


def train_corruption(network: nn.Module, batches: list[tuple[Tensor, Tensor]], first: float) -> dict[str, Tensor]:
    corruption = _Learned(first)
    inner = network.module if isinstance(network, DistributedDataParallel) else network
    trainer = sp.DiffusionTrainer(
        network,
        corruption,
        prediction="velocity",
        weighting="likelihood",
        optimizer=torch.optim.SGD([*inner.parameters(), *corruption.parameters()], lr=1.0),
        accumulation=2,
        max_grad_norm=0.05,
        label_name="y",
    )
    trainer.fit(batches, steps=4)
    return {"bend": corruption.bend.detach(), "bias": inner.layers[0].bias.detach()}


def learn(rank: int, ranks: int, folder: str) -> None:
    """Train a corruption beside the wrapped model, which begins elsewhere on each rank."""
    with group(rank, ranks, f"{folder}/rendezvous"):
        found = train_corruption(DistributedDataParallel(model()), data(rank), first=0.1 + rank)
        torch.save(found, f"{folder}/rank{rank}.pt")


@pytest.mark.slow
def test_processes_train_one_corruption(tmp_path: Path) -> None:
    together(learn, tmp_path)
    expected = train_corruption(model(), data(), first=0.1)
    assert expected["bend"].std() > 1e-4
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-5, rtol=0)


class _Plain:
    """A corruption without a `repr` of its own."""

    max_time = 1.0

    def __init__(self, basis: sp.bases.Basis | None = None, mean: Tensor | None = None) -> None:
        self.basis, self.mean = basis or sp.PixelBasis(), mean

    def signal(self, t: Tensor) -> Tensor:
        return (1 - t).view(-1, 1, 1, 1)

    def noise(self, t: Tensor) -> Tensor:
        return t.view(-1, 1, 1, 1)


DIFFERENT = "different corruptions, spectra or options: process 1 says .*(other|in the first process).* call all_reduce"


def differ(rank: int, ranks: int, folder: str) -> None:
    """Make trainers of what differs between the processes, such as spectra that each measures on its own images."""
    with group(rank, ranks, f"{folder}/rendezvous"):
        estimator = sp.spectra.SpectrumEstimator()
        for images, _ in data(rank):
            estimator.update(images)
        apart = estimator.spectrum()
        estimator.all_reduce()
        whole = estimator.spectrum()
        path, mean = sp.ShortestPathCorruption(whole), torch.full(whole.shape, float(rank))
        moved = sp.PowerSpectrum(whole.basis, whole.power, mean=mean)
        turned = sp.CosineBasis(2, torch.eye(3).roll(rank, 0))
        other_basis = (sp.CosineBasis(), sp.bases.WaveletBasis())[rank]
        delays = torch.linspace(0, 1, 8).view(1, 8, 1)
        delays[0, 1] -= 0.07 * rank
        sp.DiffusionTrainer(DistributedDataParallel(model()), path, spectrum=whole)
        for corruption, options in (
            (sp.ShortestPathCorruption(apart), {"spectrum": apart}),
            (sp.GaussianCorruption(), {"spectrum": apart}),
            (sp.GaussianCorruption(), {"spectrum": moved}),
            (sp.GaussianCorruption(), {"spectrum": sp.PowerSpectrum(whole.basis, whole.power * (1 + rank))}),
            (sp.GaussianCorruption(), {"spectrum": whole if rank else None}),
            (sp.ShortestPathCorruption(moved), {}),
            (sp.ShortestPathCorruption(sp.PowerSpectrum(turned, torch.rand(1, 8, 8).add(1).expand(3, 8, 8))), {}),
            (sp.BlurCorruption(1.0 + rank, spatial=(8, 8)), {}),
            (path, {"prediction": "noise" if rank else "data"}),
            (path, {"learning_rate": 1e-3 * (1 + rank)}),
            (path, {"max_skipped": 1 + rank}),
            (path, {"seed": (843, 20076)[rank], "ema_decay": 0.9}),
            (sp.ShortestPathCorruption(sp.PowerSpectrum(other_basis, whole.power)), {}),
            (sp.StaggeredCorruption(sp.GaussianCorruption("flow"), delays, spread=7.0), {"prediction": "data"}),
            (_Plain(turned), {"prediction": "data"}),
            (_Plain(mean=mean), {"prediction": "data"}),
        ):
            with pytest.raises(ValueError, match=DIFFERENT):
                sp.DiffusionTrainer(DistributedDataParallel(model()), corruption, **options)
        network = DistributedDataParallel(model())
        faster = torch.optim.SGD(network.parameters(), lr=0.1 * (1 + rank))
        with pytest.raises(ValueError, match=r"process 1 says optimizer.param_groups.0.lr: 0.1 in .*, 0.2 here"):
            sp.DiffusionTrainer(network, path, optimizer=faster)
        network = DistributedDataParallel(model())
        trained = list(network.parameters())
        for parameters in (trained[rank:], trained[:: 1 - 2 * rank]):  # fewer; in another order
            optimizer = torch.optim.SGD(parameters, lr=0.1)
            with pytest.raises(ValueError, match=r"process 1 says parameters of the optimizer in group 0: "):
                sp.DiffusionTrainer(network, path, optimizer=optimizer)
        fused = torch.optim.AdamW(network.parameters(), lr=0.1, fused=bool(rank))
        with pytest.raises(ValueError, match=r"process 1 says fused: False in the first process, True here"):
            sp.DiffusionTrainer(network, path, optimizer=fused)
        inside = WhitenedInput(model(), sp.ShortestPathCorruption(apart), apart, alone=True)
        with pytest.raises(ValueError, match=r"process 1 says spectrum.*call all_reduce"):
            sp.DiffusionTrainer(DistributedDataParallel(inside), inside.corruption, spectrum=apart)
        plain = torch.optim.SGD(network.parameters(), lr=0.1)
        uneven = torch.optim.lr_scheduler.LambdaLR(plain, lambda step: 1 - step / (10 + rank))
        trainer = sp.DiffusionTrainer(network, path, optimizer=plain, scheduler=uneven, label_name="y")
        with pytest.raises(ValueError, match=r"different learning rates after step 2, this one \[0.08"):
            trainer.fit(data(rank), steps=2)
        network, learned = model(), _Learned(0.1)
        optimizer = torch.optim.SGD([*network.parameters(), *(learned.parameters() if rank else ())], lr=0.1)
        with pytest.raises(ValueError, match=r"train different parameters of the corruption, here [01] \("):
            sp.DiffusionTrainer(DistributedDataParallel(network), learned, optimizer=optimizer)
        learned.bend = nn.Parameter(learned.bend.detach().to(torch.float64 if rank else torch.float32))
        optimizer = torch.optim.SGD([*network.parameters(), *learned.parameters()], lr=0.1)
        with pytest.raises(ValueError, match=r"train different parameters of the corruption, here 1 \("):
            sp.DiffusionTrainer(DistributedDataParallel(network), learned, optimizer=optimizer)


@pytest.mark.slow
def test_processes_that_differ_are_refused(tmp_path: Path) -> None:
    together(differ, tmp_path)


class _WithState(sp.GaussianCorruption):
    def get_extra_state(self) -> dict[str, float]:
        return {"of": 1.0}

    def set_extra_state(self, state: object) -> None:
        pass


class _Kind(enum.Enum):
    SLOW = 1


class _Factor:
    def __init__(self) -> None:
        self.table = {_Kind.SLOW: 0.5}

    def __call__(self, step: int) -> float:
        return self.table[_Kind.SLOW]


def alike(rank: int, ranks: int, folder: str) -> None:
    """Make trainers of what differs between processes by rounding, order or place in memory alone."""
    with group(rank, ranks, f"{folder}/rendezvous"):
        power = (3 * torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(57))).exp()
        rounded = sp.PowerSpectrum(sp.CosineBasis(), power.float() if rank else power)
        images = correlated_images(100).double()
        centred, grey = images - images.mean(0), images[:, :1].expand(-1, 3, -1, -1)
        unlike = [object() for _ in range(1 + 50 * rank)]  # so that what follows lies elsewhere
        rows = torch.linspace(0, 1, 8).view(1, 8, 1)
        warp = functools.partial(lambda shape, u: shape(u), lambda u: u)
        near = torch.ones(3, 8, 8, dtype=torch.float64)
        near[0, 0, 0] = 1.065  # shown as 1.06 or 1.07
        told = sp.PowerSpectrum(sp.CosineBasis(), near.float() if rank else near)
        nulls = {"y": 2, "z": 1} if rank else {"z": 1, "y": 2}
        for corruption, options in (
            (sp.ShortestPathCorruption(rounded), {"spectrum": rounded}),
            *((sp.ShortestPathCorruption(_estimate(each, rank)), {}) for each in (centred, grey)),
            (sp.GaussianCorruption(), {"time_sampling": warp}),
            (sp.StaggeredCorruption(_Plain(), rows, spread=2.0), {"prediction": "data"}),
            (sp.GaussianCorruption(), {"drop_conditioning": 0.1, "null_conditioning": nulls}),
            (sp.GaussianCorruption(), {"max_grad_norm": 1.0 if rank else 1}),
            (sp.GaussianCorruption(), {"spectrum": told}),
            (sp.GaussianCorruption(), {"drop_conditioning": 0.1, "null_conditioning": {"y": math.nan}}),
            (_WithState(), {}),
        ):
            sp.DiffusionTrainer(DistributedDataParallel(model()), corruption, **options)
        network = DistributedDataParallel(model())
        optimizer = torch.optim.SGD([{"params": list(network.parameters()), "rank": rank}], lr=0.1)
        sp.DiffusionTrainer(network, sp.GaussianCorruption(), optimizer=optimizer)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _Factor())
        sp.DiffusionTrainer(network, sp.GaussianCorruption(), optimizer=optimizer, scheduler=scheduler)
        assert unlike


def _estimate(images: Tensor, rank: int) -> sp.PowerSpectrum:
    return sp.PowerSpectrum.estimate(images.split((50, 40)[rank]), progress=False)


@pytest.mark.slow
def test_processes_that_are_alike_are_not_refused(tmp_path: Path) -> None:
    together(alike, tmp_path)


def train_apart(rank: int, ranks: int, folder: str) -> None:
    """Resume where each process has a folder of its own, which the first alone has written to."""
    with group(rank, ranks, f"{folder}/rendezvous"):
        own = Path(folder) / str(rank)
        own.mkdir()
        train(DistributedDataParallel(model()), data(rank), own)
        here = "no checkpoint;" if rank else ".*00000005.pt of step 5;"
        with pytest.raises(ValueError, match=f"from different checkpoints, this one from {here}"):
            train(DistributedDataParallel(model()), data(rank), own)
        if rank:
            first = load_checkpoint(own.parent / "0" / "checkpoint-00000005.pt")
            write_checkpoint(own / "checkpoint-00000005.pt", first | {"metadata": {"of": "another training"}})
        dist.barrier()
        with pytest.raises(ValueError, match="from different checkpoints, this one from .*00000005.pt of step 5;"):
            train(DistributedDataParallel(model()), data(rank), own)


def set_apart(rank: int, ranks: int, folder: str) -> None:
    """Set a learning rate in one process alone between two calls of `fit`."""
    with group(rank, ranks, f"{folder}/rendezvous"):
        trainer = train(DistributedDataParallel(model()), data(rank), Path(folder) / "checkpoints")
        if rank:
            trainer.optimizer.param_groups[0]["lr"] = 0.2
        error, told = (ValueError, "0.2 here") if rank else (RuntimeError, "another process cannot continue from the")
        with pytest.raises(error, match=told):
            trainer.fit(data(rank), steps=9, checkpoint_dir=Path(folder) / "checkpoints")


@pytest.mark.slow
def test_a_rate_that_one_process_sets_is_told_in_all(tmp_path: Path) -> None:
    together(set_apart, tmp_path)


@pytest.mark.slow
def test_processes_that_find_different_checkpoints_are_refused(tmp_path: Path) -> None:
    together(train_apart, tmp_path)


def resume_uneven(rank: int, ranks: int, folder: str) -> None:
    """Train at once, and in two parts, with other numbers of batches on each rank."""
    with group(rank, ranks, f"{folder}/rendezvous"):
        for counts, stop in (((3, 4), 5), ((4, 3), 4)):
            own, found = data()[: counts[rank]], []
            for steps in ((12,), (stop, 12)):
                for last in steps:
                    network = DistributedDataParallel(model())
                    trainer = sp.DiffusionTrainer(network, sp.GaussianCorruption(), learning_rate=0.01, label_name="y")
                    folder_of = f"{folder}/{counts}" if len(steps) > 1 else None
                    trainer.fit(own, steps=last, checkpoint_dir=folder_of)
                found.append(network.module.state_dict())
            for name, weight in found[0].items():
                assert torch.equal(weight, found[1][name]), (counts, stop, name)


@pytest.mark.slow
def test_uneven_batches_resume_exactly(tmp_path: Path) -> None:
    together(resume_uneven, tmp_path)


def train_loader(rank: int, ranks: int, folder: str, steps: int) -> None:
    """Train on a loader that has a generator of its own where one process trains, and none where there are more."""
    with group(rank, ranks, f"{folder}/rendezvous{steps}"):
        images = torch.utils.data.TensorDataset(correlated_images(32).float(), torch.zeros(32, dtype=torch.long))
        if ranks == 1:
            loader = DataLoader(images, 4, shuffle=True, generator=torch.Generator().manual_seed(3))
        else:
            loader = DataLoader(images, 4, sampler=DistributedSampler(images, ranks, rank))
        trainer = sp.DiffusionTrainer(DistributedDataParallel(model()), sp.GaussianCorruption(), label_name="y")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the checkpoint was written by 1 processes")
            trainer.fit(loader, steps=steps, checkpoint_dir=f"{folder}/checkpoints")


@pytest.mark.slow
def test_more_processes_go_on_in_the_middle_of_a_pass(tmp_path: Path) -> None:
    together(train_loader, tmp_path, 3, ranks=1)
    together(train_loader, tmp_path, 8, ranks=2)
    assert load_checkpoint(tmp_path / "checkpoints" / "checkpoint-00000008.pt")["ranks"] == 2


def estimate_apart(rank: int, ranks: int, folder: str) -> None:
    """Sum what are no parts of one estimate."""
    with group(rank, ranks, f"{folder}/rendezvous"):
        wide, empty = torch.rand(4, 3, 4, 8), dict[str, Any]()
        turned = torch.linalg.qr(torch.rand(96, 96, dtype=torch.float64) + rank).Q
        for images, options in (
            (wide.mT if rank else wide, {}),
            (wide, {"center": bool(rank)}),
            (wide, {"basis": "cosine" if rank else "fourier"}),
            (wide, {"basis": sp.bases.WaveletBasis(levels=1 + rank)}),
            (wide, {"basis": sp.bases.PrincipalBasis(turned, dims=2)}),
            (wide if rank else None, empty),
        ):
            estimator = sp.spectra.SpectrumEstimator(**options)
            if images is not None:
                estimator.update(images)
            said = "estimate different spectra, this one of images"
            if options is empty:
                said = "another process has seen no images" if rank else "no images were seen"
            with pytest.raises(ValueError, match=said):
                estimator.all_reduce()


@pytest.mark.slow
def test_estimates_of_other_kinds_are_not_summed(tmp_path: Path) -> None:
    together(estimate_apart, tmp_path)


def uneven(rank: int, ranks: int, folder: str) -> None:
    """Train with another number of batches, and smaller last ones, on every rank; then measure spectra the same way."""
    images = correlated_images(21).float()
    own = (images[:13] if rank == 0 else images[13:]).split(5)  # 5, 5, 3 against 5, 3
    with group(rank, ranks, f"{folder}/rendezvous"):
        wrapped = DistributedDataParallel(model())
        trainer = sp.DiffusionTrainer(wrapped, sp.GaussianCorruption(), label_name="y")
        trainer.fit([(rows, torch.zeros(len(rows), dtype=torch.long)) for rows in own], steps=7)
        estimator = sp.spectra.SpectrumEstimator()
        for rows in own:
            estimator.update(rows)
        estimator.all_reduce()
        found = {"weights": dict(wrapped.module.state_dict()), "power": estimator.spectrum().power}
        torch.save(found, f"{folder}/rank{rank}.pt")


@pytest.mark.slow
def test_uneven_batches_neither_hang_nor_part_the_processes(tmp_path: Path) -> None:
    together(uneven, tmp_path)
    one, other = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    for name, weight in one["weights"].items():
        assert torch.equal(weight, other["weights"][name]), name
    images = correlated_images(21).float()
    # One process with the batches of both put together: no image counts more, and none shares its noise.
    single = sp.DiffusionTrainer(model(), sp.GaussianCorruption(), label_name="y")
    parts = images[:13].split(5), images[13:].split(5)
    for step in range(7):
        rows = torch.cat([part[step % len(part)] for part in parts])
        single.train_step([(rows, torch.zeros(len(rows), dtype=torch.long))])
    for name, weight in single.model.state_dict().items():
        torch.testing.assert_close(one["weights"][name], weight, atol=2e-6, rtol=0)
    alone = sp.PowerSpectrum.estimate([images[:13], images[13:]])
    torch.testing.assert_close(one["power"], alone.power, rtol=1e-6, atol=0)
    torch.testing.assert_close(one["power"], other["power"], rtol=0, atol=0)
