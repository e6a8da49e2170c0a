"""One step on the device: in each precision, compiled, and the host's waits for the device in it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import shortest_path as sp
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.images import to_unit
from examples.recipe.unet import small_unet
from shortest_path.training import Precision
from studies.gpu.agreement import difference, full_precision
from studies.gpu.outcomes import Check, Outcome, impossible, judged, wrong

SIZE, BATCH = 8, 16
STEPS = 20
FALL = 0.97  # of the loss in STEPS steps
NEAR = {"fp32": 1e-4, "bf16": 3e-2, "fp16": 5e-3}  # of the loss before the first step, relative to the CPU's in float32
COMPILED = 1e-4


def checks(device: torch.device, backend: str) -> dict[str, Check]:
    """Return the checks, by name; `backend` is that of `torch.compile`."""
    spectrum = sp.PowerSpectrum.estimate([images()])
    corruptions: dict[str, Callable[[], sp.DiagonalCorruption]] = {
        "Gaussian, cosine": sp.GaussianCorruption,
        "shortest path, rotated cosine": lambda: sp.ShortestPathCorruption(spectrum),
        "shortest path, Fourier": lambda: sp.ShortestPathCorruption(
            sp.PowerSpectrum.power_law((3, SIZE, SIZE), amplitude=1.59, offset=0.0086, exponent=2.0)
        ),
    }
    found: dict[str, Check] = {}
    for precision in NEAR:
        found[f"training in {precision}"] = lambda precision=precision: trains(precision, device)
    for name, make in corruptions.items():
        found[f"compiled whole: corrupt, {name}"] = lambda make=make: compiled_corrupt(make(), device, backend)
        found[f"compiled whole: loss, {name}"] = lambda make=make: compiled_loss(make(), spectrum, device, backend)
    for what, allowed in (("corrupt", 0), ("loss", 0), ("training step", 1), ("sampling step", 0)):
        found[f"waits and copies: {what}"] = lambda what=what, allowed=allowed: waits(what, allowed, device)
    return found


def images(count: int = BATCH) -> Tensor:
    """Return generated images in [-1, 1]."""
    return to_unit(dead_leaves(count, SIZE))


def make_trainer(device: torch.device | str, precision: Precision = "fp32", **options: Any) -> sp.DiffusionTrainer:
    """Return a trainer of a small network; its initial weights are the same on every device."""
    torch.manual_seed(0)
    network = small_unet(size=SIZE, widths=(16, 16)).to(device)
    spectrum = sp.PowerSpectrum.estimate([images()])
    corruption = sp.ShortestPathCorruption(spectrum).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, fused=torch.device(device).type == "cuda")
    options = {"prediction": "whitened-velocity", "max_grad_norm": 1.0, **options}
    return sp.DiffusionTrainer(network, corruption, optimizer=optimizer, precision=precision, **options)


def trains(precision: Precision, device: torch.device) -> Outcome:
    """Compare the first loss with the CPU's in float32, and see whether it falls."""

    def loss(trainer: sp.DiffusionTrainer) -> float:
        x_0, generator = images(), torch.Generator().manual_seed(0)
        t, eps = torch.rand(BATCH, generator=generator), torch.randn(x_0.shape, generator=generator)
        with torch.no_grad(), full_precision():
            return float(trainer.loss(x_0.to(trainer.device), t=t.to(trainer.device), eps=eps.to(trainer.device)))

    trainer = make_trainer(device, precision)
    exact, first = loss(make_trainer("cpu")), loss(trainer)
    x_0 = images().to(device)
    for _ in range(STEPS):
        trainer.train_step([x_0])
    last, far = loss(trainer), abs(first / exact - 1)
    good = far <= NEAR[precision] and last < FALL * first and not trainer.skipped
    report = f"first loss off by {far:.1e}, {NEAR[precision]:.0e} allowed; {first:.3f} → {last:.3f} in {STEPS} steps"
    return judged(good, f"{report}; {trainer.skipped} skipped", far)


def compiled_corrupt(corruption: sp.DiagonalCorruption, device: torch.device, backend: str) -> Outcome:
    """Compile `corrupt` as one graph."""
    corruption.to(device)
    return _compiled(corruption.corrupt, device, backend)


def compiled_loss(
    corruption: sp.DiagonalCorruption, spectrum: sp.PowerSpectrum, device: torch.device, backend: str
) -> Outcome:
    """Compile the loss of a given task as one graph, with a network of one layer."""
    white = isinstance(corruption, sp.GaussianCorruption)
    objective = sp.DiffusionLoss(corruption.to(device), "whitened-velocity", spectrum=spectrum if white else None)
    layer = torch.nn.Conv2d(3, 3, 3, padding=1).to(device)
    return _compiled(lambda x_0, t, eps: objective(lambda x_t, t: layer(x_t), x_0, t=t, eps=eps), device, backend)


def _compiled(function: Callable[..., Tensor], device: torch.device, backend: str) -> Outcome:
    x_0, generator = images(), torch.Generator().manual_seed(0)
    t, eps = torch.rand(BATCH, generator=generator), torch.randn(x_0.shape, generator=generator)
    given = [each.to(device) for each in (x_0, t, eps)]
    with warnings.catch_warnings(), full_precision():
        warnings.simplefilter("ignore")  # inductor's, of complex numbers
        expected = function(*given)  # makes the tables, which a graph finds
        torch._dynamo.reset()
        breaks = torch._dynamo.explain(function)(*given).graph_break_count
        torch._dynamo.reset()
        if breaks:
            return wrong(f"{breaks} graph breaks, 0 wanted", breaks)
        far = difference(torch.compile(function, fullgraph=True, backend=backend)(*given), expected)
    return judged(far <= COMPILED, f"0 graph breaks; {backend}'s result differs by {far:.1e}", far)


def waits(what: str, allowed: int, device: torch.device) -> Outcome:
    """Count the host's waits for the device, and the copies between them, in one call after the first."""
    if device.type != "cuda":
        return impossible("only CUDA counts them; tests/test_devices.py does on a device that is not there")
    trainer = make_trainer(device, max_grad_norm=None)
    x_0 = images().to(device)
    t, eps = torch.rand(BATCH, device=device), torch.randn_like(x_0)
    corruption = trainer.corruption
    steps = iter(trainer.sampler(steps=9).trajectory((BATCH, *x_0.shape[1:]), device=device))
    calls: dict[str, Callable[[], object]] = {
        "corrupt": lambda: sp.corrupt(corruption, x_0, t, eps),
        "loss": lambda: trainer.loss(x_0),
        "training step": lambda: trainer.train_step([x_0]),
        "sampling step": lambda: next(steps),
    }
    call = calls[what]
    for _ in range(2):
        call()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    counted = [str(each.message) for each in said if "called a synchronizing" in str(each.message)]
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        call()
        torch.cuda.synchronize()
    copies = {each.key: each.count for each in profile.key_averages() if "HtoD" in each.key or "DtoH" in each.key}
    most = max(len(counted), sum(copies.values()))
    listed = ", ".join(f"{count} × {key}" for key, count in copies.items()) or "no copies"
    return judged(most <= allowed, f"{len(counted)} waits; {listed}; at most {allowed} of each wanted", most)
