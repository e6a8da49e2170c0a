"""Checkpoints that change the device, and training in a process group of one process."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves

import shortest_path as sp
from shortest_path.training import load_latest
from studies.gpu.agreement import difference
from studies.gpu.outcomes import Check, Outcome, impossible, judged
from studies.gpu.steps import images, make_trainer


def checks(device: torch.device) -> dict[str, Check]:
    """Return the checks, by name."""
    kind = "NCCL" if device.type == "cuda" else "gloo"
    return {
        "checkpoint of the device, continued on the CPU": lambda: moved(device, torch.device("cpu")),
        "checkpoint of the CPU, continued on the device": lambda: moved(torch.device("cpu"), device),
        f"process group of one process ({kind})": lambda: one_rank(device, kind.lower()),
    }


def moved(here: torch.device, there: torch.device) -> Outcome:
    """Train and save on one device, compare the state read on another, and continue."""
    first, second = make_trainer(here), make_trainer(there)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            first.train_step([images().to(here)])
        first.save(folder)
        found = load_latest(folder)
    assert found is not None
    second.load_state_dict(found[1])
    ours, theirs = (_tensors(trainer.state_dict()) for trainer in (first, second))
    equal = len(ours) == len(theirs) and all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    done = second.train_step([images().to(there)])
    good = equal and done.step == 3 and bool(done.loss.isfinite()) and not done.skipped
    state = "equal" if equal else "not equal"
    return judged(good, f"{len(ours)} tensors {state}; step {done.step} on {there} has loss {float(done.loss):.4f}")


def _tensors(state: Mapping[str, Any]) -> list[Tensor]:
    """Return the weights, their averages and the optimizer's tensors, on the CPU, in order."""
    leaves = tree_leaves([state[name] for name in ("model", "ema", "optimizer")])
    return [leaf.detach().cpu() for leaf in leaves if isinstance(leaf, Tensor)]


def one_rank(device: torch.device, backend: str) -> Outcome:
    """Train with `DistributedDataParallel` in a group of one process, and compare with training without."""
    if dist.is_initialized() or not dist.is_backend_available(backend):
        return impossible("torch has a process group already" if dist.is_initialized() else f"torch has no {backend}")
    plain = make_trainer(device)
    store = dist.HashStore()
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        network = make_trainer(device).model
        wrapped = DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
        optimizer = torch.optim.AdamW(wrapped.parameters(), lr=2e-3, fused=device.type == "cuda")
        trainer = sp.DiffusionTrainer(
            wrapped, plain.corruption, optimizer=optimizer, prediction="whitened-velocity", max_grad_norm=1.0
        )
        losses = []
        for each in (plain, trainer):
            torch.manual_seed(0)
            losses.append(torch.stack([each.train_step([images().to(device)]).loss for _ in range(3)]).detach())
        with tempfile.TemporaryDirectory() as folder:
            trainer.save(folder)
            kept = load_latest(folder) is not None
        del wrapped, trainer, network, optimizer
    finally:
        gc.collect()  # what still refers to the group is let go first
        dist.destroy_process_group()
    far = difference(losses[1], losses[0])
    return judged(far < 1e-3 and kept, f"losses of 3 steps differ by {far:.1e} from those without a group", far)
