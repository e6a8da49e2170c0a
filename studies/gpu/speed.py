"""Speed and memory on the device: training and sampling of DDPM's network, and corruptions against their floor.

Each line of the record has the contenders that are compared with each other, timed side by side in one run: seconds of
a call (median and quartiles over repeats), the ratio to the first of them (median and quartiles of the ratios within
repeats), images per second, and the peak of the allocated memory.

- Training: a bare step (zero_grad, network on fixed inputs, mean squared error, backward, fused AdamW) against the
  trainer's step, compiled and not, in bfloat16 (in float32 on a CPU).
- Sampling: 20 calls of the network alone against 20 steps of the default solver.
- Corruptions at 32² … 1024², of about as many pixels each: drawing the normals and one complex FFT there and back (the
  floor), against `corrupt` and a training task with the same normals.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import shortest_path as sp
from benchmarks.timing import interleaved
from examples.recipe.dead_leaves import dead_leaves
from examples.recipe.images import to_unit
from examples.recipe.runs import make_network, unet_of
from examples.recipe.unet import Bf16
from studies.gpu.cases import CASES, WINNER, settings_of
from studies.gpu.limit import Limit, TimeUp
from studies.gpu.records import Record, show

SIDES = {"toy": (8, 16), "full": (32, 64, 128, 256, 512, 1024)}
PIXELS = {"toy": 4 * 16**2, "full": 2048 * 32**2}
BATCH = {"toy": (4, 4), "full": (256, 1000)}  # of training and sampling
STEPS = {"toy": 3, "full": 20}

Contenders = dict[str, Callable[[], object]]


def speed(args: argparse.Namespace, argv: Sequence[str], limit: Limit) -> None:
    """Make the measurements that the record has not, and write each."""
    device, size = torch.device(args.device), args.size
    record = Record(args.out / "speed.json", {"device": device.type, "size": size, "repeats": args.repeats})
    record.begin(device, argv)
    done = record.values.setdefault("timings", {})
    compiled = (False, True) if args.compile else (False,)
    training, drawn = BATCH[size]
    todo: dict[str, tuple[int, Callable[[], Contenders]]] = {}
    for yes in compiled:
        how = "compiled" if yes else "not compiled"
        todo[f"training step, batch {training}, {how}"] = (training, lambda yes=yes: steps(device, size, yes))
        todo[f"{STEPS[size]} steps of sampling, batch {drawn}, {how}"] = (
            drawn,
            lambda yes=yes: samplings(device, size, yes),
        )
    for side in SIDES[size]:
        count = max(1, PIXELS[size] // side**2)
        todo[f"{count} × 3 × {side} × {side}"] = (count, lambda side=side, n=count: corruptions(device, n, side))
    for name, (images, make) in todo.items():
        if name in done:
            continue
        if limit.left() <= min(20.0, 30 * args.minutes):
            raise TimeUp
        done[name] = measured(make(), images, device, args.repeats)
        record.write()
        show(line(name, done[name]))
        if device.type == "cuda":
            torch.cuda.empty_cache()


def line(name: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a measurement as a line of text."""
    parts = [f"{each} {one['seconds'][1]:.3g} s, ratio {one['ratio'][1]:.4g}" for each, one in found.items()]
    return f"{name}: " + "; ".join(parts)


def measured(contenders: Contenders, images: int, device: torch.device, repeats: int) -> dict[str, dict[str, Any]]:
    """Time contenders side by side, each call until the device has finished."""
    on_gpu = device.type == "cuda"

    def finished(call: Callable[[], object]) -> Callable[[], object]:
        def whole() -> None:
            call()
            if on_gpu:
                torch.cuda.synchronize(device)

        return whole

    timed = {name: finished(call) for name, call in contenders.items()}
    timings = interleaved(timed, repeats=repeats, shortest=2e-2 if on_gpu else 1e-4)
    first = next(iter(contenders))
    found = {}
    for name, call in timed.items():
        ratio = timings.ratio(name, first)
        seconds = _quartiles(timings.samples[name])
        entry: dict[str, Any] = {"seconds": seconds, "ratio": [ratio.low, ratio.median, ratio.high]}
        entry["images_per_second"] = images / seconds[1]
        entry["peak_bytes"] = None
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            call()
            entry["peak_bytes"] = torch.cuda.max_memory_allocated(device)
            entry["peak_bytes_of_the_call"] = entry["peak_bytes"] - before
        found[name] = entry
    return found


def _quartiles(seconds: Sequence[float]) -> list[float]:
    return list(statistics.quantiles(seconds, n=4)) if len(seconds) > 1 else list(seconds) * 3


def _parts(device: torch.device, size: str) -> tuple[nn.Module, sp.ShortestPathCorruption, sp.PowerSpectrum, Tensor]:
    """Return the network, a shortest path, its spectrum, and images."""
    settings = settings_of(CASES["shortest"], WINNER[size], "bf16")
    x_0 = to_unit(dead_leaves(max(64, BATCH[size][0]), settings.size))
    spectrum = sp.PowerSpectrum.estimate([x_0])
    corruption = sp.ShortestPathCorruption(spectrum)
    torch.manual_seed(0)
    network = make_network(settings, corruption, spectrum, 0).to(device)
    return network, corruption.to(device), spectrum, x_0[: BATCH[size][0]].to(device)


def steps(device: torch.device, size: str, compiled: bool) -> Contenders:
    """Return a bare training step and the trainer's."""
    network, corruption, _, x_0 = _parts(device, size)
    bare, trained, on_gpu = copy.deepcopy(network), network, device.type == "cuda"
    if compiled:
        for each in (bare, trained):
            each.compile()
    bare_adam, adam = (torch.optim.AdamW(each.parameters(), lr=1e-4, fused=on_gpu) for each in (bare, trained))
    trainer = sp.DiffusionTrainer(
        trained,
        corruption,
        optimizer=adam,
        prediction="whitened-velocity",
        precision="bf16" if on_gpu else "fp32",
        time_sampling="stratified",
    )
    t, eps = torch.rand(len(x_0), device=device), torch.randn_like(x_0)
    x_t = corruption.corrupt(x_0, t, eps)
    bare.train()

    def bare_step() -> None:
        bare_adam.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            output = bare(x_t, t)
        nn.functional.mse_loss(output.float(), eps).backward()
        bare_adam.step()

    return {"bare step": bare_step, "trainer": lambda: trainer.train_step([x_0])}


def samplings(device: torch.device, size: str, compiled: bool) -> Contenders:
    """Return calls of the network alone, and a sampling with as many."""
    network, corruption, spectrum, _ = _parts(device, size)
    network.eval().requires_grad_(False)
    if compiled:
        unet_of(network).compile()
    model = Bf16(network) if device.type == "cuda" else network
    sampler = sp.Sampler(
        model, corruption, prediction="whitened-velocity", spectrum=spectrum, steps=STEPS[size], solver="multistep"
    )
    shape = (BATCH[size][1], *spectrum.shape)
    x_t, t = torch.randn(shape, device=device), torch.rand(shape[0], device=device)

    @torch.no_grad()
    def alone() -> None:
        for _ in range(STEPS[size]):
            model(x_t, t)

    return {"network alone": alone, "sampler": lambda: sampler.sample(shape, device=device)}


def corruptions(device: torch.device, count: int, side: int) -> Contenders:
    """Return the floor, and corruptions and training tasks of a batch."""
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randn((count, 3, side, side), generator=generator).clamp(-3, 3).to(device) / 3
    law = sp.PowerSpectrum.power_law((3, side, side), amplitude=1.59, offset=0.0086, exponent=2.0)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    rotated = sp.PowerSpectrum(sp.CosineBasis(2, turn), law.power)
    cosine, fourier = (sp.ShortestPathCorruption(spectrum).to(device) for spectrum in (rotated, law))
    objective = sp.DiffusionLoss(cosine, "whitened-velocity")
    t = torch.rand(count, device=device)

    def floor() -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(torch.randn_like(x_0)))

    return {
        "floor": floor,
        "corrupt, rotated cosine": lambda: cosine.corrupt(x_0, t, torch.randn_like(x_0)),
        "corrupt, Fourier": lambda: fourier.corrupt(x_0, t, torch.randn_like(x_0)),
        "task, rotated cosine": lambda: objective.task(x_0, t, torch.randn_like(x_0)),
    }
