"""N processes are N processes under every wrapper that users put around a model, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import shortest_path as sp
from tests.training.processes import group, together


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.seen: list[Tensor] = []

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.seen.append(t.detach().clone())
        answer: Tensor = self.layer(x_t)
        return answer


class Around(nn.Module):
    """What Fabric and Accelerate do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._forward_module = module

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = self._forward_module(x_t, t)
        return answer


class Half(nn.Module):
    """Only a part of the model is wrapped."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner, self.outer = DistributedDataParallel(module), nn.Conv2d(3, 3, 1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = self.outer(self.inner(x_t, t))
        return answer


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend="eager")  # type: ignore[return-value]


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "ddp": DistributedDataParallel,
    "compiled ddp": lambda net: compiled(DistributedDataParallel(net)),
    "ddp of compiled": lambda net: DistributedDataParallel(compiled(net)),
    "around ddp": lambda net: Around(DistributedDataParallel(net)),
    "compiled around ddp": lambda net: compiled(Around(DistributedDataParallel(net))),
}


def work(rank: int, ranks: int, folder: str) -> None:
    found: dict[str, dict[str, Tensor]] = {}
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(rank)).clamp(-1, 1)
    with group(rank, ranks, f"{folder}/rendezvous"):
        for name, wrap in WRAPPERS.items():
            torch.manual_seed(0)
            net = Net()
            trainer = sp.DiffusionTrainer(wrap(net), sp.GaussianCorruption("flow"))
            trainer.fit([images], steps=3, checkpoint_dir=f"{folder}/{name}")
            assert type(trainer.ema_model) is Net
            weights = torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
            found[name] = {"times": torch.cat(net.seen), "weights": weights}
        with pytest.raises(ValueError, match="2 processes train Net, which is not in a DistributedDataParallel"):
            sp.DiffusionTrainer(Net(), sp.GaussianCorruption("flow"))
        with pytest.raises(ValueError, match="must hold the whole model once, got .*outer.weight"):
            sp.DiffusionTrainer(Half(Net()), sp.GaussianCorruption("flow"))
        torch.save(found, f"{folder}/rank{rank}.pt")


def test_weights_in_parts_are_refused() -> None:
    class FSDPModule:  # what torch's fully_shard adds to the class of a module
        pass

    class Sharded(FSDPModule, Net):
        pass

    with pytest.raises(ValueError, match="FSDPModule holds each weight in parts.*; use DistributedDataParallel"):
        sp.DiffusionTrainer(Sharded(), sp.GaussianCorruption("flow"))


@pytest.mark.slow
def test_every_wrapper_trains_as_ddp_alone(tmp_path: Path) -> None:
    together(work, tmp_path)
    one, other = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    for name in WRAPPERS:
        assert not torch.equal(one[name]["times"], other[name]["times"]), name
        assert torch.equal(one[name]["weights"], other[name]["weights"]), name
        torch.testing.assert_close(one[name]["weights"], one["ddp"]["weights"])
        assert [path.name for path in (tmp_path / name).iterdir()] == ["checkpoint-00000003.pt"]
